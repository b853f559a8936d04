#define _GNU_SOURCE
#include "tests/unit/worker/tiny_model.h"

#include "runtime/base/buffer.h"
#include "runtime/base/json.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A small generator of its own, so that the weights are the same everywhere. */
static float random_unit(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((*state >> 33) & 0xFFFFFF) / (float)0x800000 - 1.0f;
}

static bool is_norm(pr_role role)
{
    return role == PR_ROLE_EMBED_NORM || role == PR_ROLE_ATTENTION_NORM ||
           role == PR_ROLE_MLP_NORM || role == PR_ROLE_FINAL_NORM || role == PR_ROLE_Q_NORM ||
           role == PR_ROLE_K_NORM;
}

static size_t n_elements(const pr_weight *w)
{
    return (size_t)w->shape[0] * (size_t)(w->n_dims > 1 ? w->shape[1] : 1);
}

static void header_write(const pr_weight_list *list, pr_buffer *header)
{
    size_t at = 0;
    pr_buffer_append_char(header, '{');
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        size_t n_bytes = n_elements(w) * sizeof(float);
        pr_buffer_printf(header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%lld", i ? "," : "",
                         w->name, (long long)w->shape[0]);
        if (w->n_dims > 1) pr_buffer_printf(header, ",%lld", (long long)w->shape[1]);
        pr_buffer_printf(header, "],\"data_offsets\":[%zu,%zu]}", at, at + n_bytes);
        at += n_bytes;
    }
    /* a tensor that no model here has a use for, as a causal language model's file would hold */
    pr_buffer_printf(header, ",\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[%d,%d],"
                     "\"data_offsets\":[%zu,%zu]}}", TINY_UNUSED, TINY_UNUSED, at,
                     at + TINY_UNUSED * TINY_UNUSED * sizeof(float));
    assert(!header->failed);
}

void tiny_model_make(tiny_model *m, const char *config, float scale)
{
    pr_error err;
    json_t *json = NULL;
    pr_weight_list *list = NULL;
    strcpy(m->folder, "/tmp/poolrank-tiny-XXXXXX");
    char *made = mkdtemp(m->folder);
    assert(made);
    pr_status st = pr_json_parse(config, strlen(config), "config", &json, &err);
    assert(st == PR_OK);
    st = pr_model_spec_parse(json, "config", &m->spec, &err);
    if (st != PR_OK) fprintf(stderr, "%s\n", err.message);
    assert(st == PR_OK);
    st = pr_weight_list_build(&m->spec, &list, &err);
    assert(st == PR_OK);
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    FILE *f = fopen(path, "wb");
    assert(f);
    pr_buffer header;
    pr_buffer_init(&header);
    header_write(list, &header);
    uint64_t n_header = header.n, seed = 20260101;
    fwrite(&n_header, 8, 1, f);
    fwrite(header.data, header.n, 1, f);
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        for (size_t j = 0; j < n_elements(w); j++) {
            float x = random_unit(&seed) * scale + (is_norm(w->role) ? 1.0f : 0.0f);
            fwrite(&x, sizeof x, 1, f);
        }
    }
    for (int i = 0; i < TINY_UNUSED * TINY_UNUSED; i++) {
        float x = 1e30f;
        fwrite(&x, sizeof x, 1, f);
    }
    int failed = fclose(f);
    assert(failed == 0);
    (void)failed, (void)made, (void)st;
    pr_buffer_deinit(&header);
    pr_weight_list_free(list);
    json_decref(json);
}

void tiny_model_remove(tiny_model *m)
{
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    unlink(path);
    rmdir(m->folder);
    pr_model_spec_deinit(&m->spec);
}
