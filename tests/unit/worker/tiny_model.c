#define _GNU_SOURCE
#include "tests/unit/worker/tiny_model.h"

#include "runtime/base/json.h"
#include "tests/unit/worker/weight_file.h"

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

static void header_write(const pr_weight_list *list, pr_buffer *header)
{
    size_t at = weight_file_header(list, PR_DTYPE_F32, header);
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
        for (size_t j = 0; j < weight_file_elements(w); j++) {
            float x = random_unit(&seed) * scale + (weight_file_is_norm(w) ? 1.0f : 0.0f);
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
