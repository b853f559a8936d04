#include "subject.h"

#include "batches.h"
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"
#include "tests/parity/golden.h"
#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_SHORT = 40, TEXT_LONG = 72, N_SHORT = 4 }; /* a tile of attention has 64 rows */

/* Options of a golden group that only choose a pooler. */
static bool is_pooler_option(const char *name)
{
    static const char *const names[] = {"task", "override-pooler-config", "hf-overrides",
                                        "dimensions"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static bool is_pooler_group(const json_t *group)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(group, "options"), name, value)
    {
        if (!is_pooler_option(name)) return false;
    }
    return true;
}

/* ---- poolers ---- */

static bool model_open(const char *folder, const json_t *options, pr_config *config,
                       pr_model **out)
{
    pr_options *all = pr_options_create();
    pr_error err = {0};
    pr_status st = all ? pr_options_set(all, "model", folder, &err) : PR_E_NOMEM;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)options, name, value)
    {
        if (st == PR_OK) st = pr_options_set(all, name, json_string_value(value), &err);
    }
    if (st == PR_OK) st = pr_config_build(all, config, &err);
    if (st == PR_OK) st = pr_model_open_files(config, out, &err);
    pr_options_free(all);
    if (st != PR_OK) printf("%s: %s\n", folder, err.message);
    return st == PR_OK;
}

static bool params_apply(const pr_model *model, const pr_pooling *base, const json_t *params,
                         pr_pooling *out)
{
    golden_request asked;
    json_t *nothing = json_object();
    pr_error err = {0};
    bool is_good = golden_request_init(nothing, params, &asked);
    json_decref(nothing);
    if (!is_good) return false;
    const pr_request *r = &asked.request;
    const pr_pooling_request request = {
        .normalize = r->normalize, .softmax = r->softmax, .use_activation = r->use_activation,
        .dimensions = r->dimensions, .step_tag_id = r->step_tag_id,
        .returned_tokens = r->returned_token_ids,
        .n_returned_tokens = (int32_t)r->n_returned_token_ids,
    };
    pr_status st = pr_pooling_apply(&model->spec, base, model->n_width, &request, out, &err);
    if (st != PR_OK) printf("%s: %s\n", model->folder, err.message);
    golden_request_deinit(&asked);
    return st == PR_OK;
}

static bool pooling_add(subject *s, const json_t *group)
{
    pr_config config = {0};
    pr_model *model = NULL;
    const pr_pooling *base = NULL;
    pr_error err = {0};
    bool is_good = model_open(s->folder, json_object_get(group, "options"), &config, &model);
    if (is_good && pr_model_pooling(model, model->task, &base, &err) != PR_OK) {
        printf("%s: %s\n", s->folder, err.message);
        is_good = false;
    }
    if (is_good) {
        pr_pooling *to = &s->poolings[s->n_poolings];
        is_good = params_apply(model, base, json_object_get(group, "params"), to);
        s->n_poolings += is_good;
    }
    pr_model_close(model);
    pr_config_deinit(&config);
    return is_good;
}

static bool poolings_load(subject *s, const json_t *groups)
{
    s->poolings = calloc(SUBJECT_POOLINGS_MAX, sizeof *s->poolings);
    if (!s->poolings) return false;
    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *group = json_array_get(groups, i);
        if (!is_pooler_group(group)) continue;
        if (s->n_poolings == SUBJECT_POOLINGS_MAX || !pooling_add(s, group)) return false;
    }
    return s->n_poolings > 0;
}

/* ---- texts ---- */

static bool has_step(const subject *s, const json_t *ids)
{
    for (uint32_t p = 0; p < s->n_poolings; p++) {
        if (s->poolings[p].type != PR_POOL_STEP) continue;
        for (size_t i = 0; i < json_array_size(ids); i++)
            if (json_integer_value(json_array_get(ids, i)) == s->poolings[p].step_tag_id)
                return true;
    }
    return false;
}

static bool text_add(subject *s, const json_t *ids)
{
    subject_text *to = &s->texts[s->n_texts];
    size_t n = 0;
    if (!ids) return true;
    if (s->n_texts == SUBJECT_TEXTS_MAX || !golden_integers(ids, &to->ids, &n)) return false;
    to->n = n < TEXT_LONG ? (uint32_t)n : TEXT_LONG;
    s->n_texts++;
    return true;
}

/* A few short texts, the shortest and the longest of all, and one with the tag of a step where
 * steps are pooled; no longer than TEXT_LONG. */
static bool texts_choose(subject *s, const json_t *requests)
{
    const json_t *shortest = NULL, *longest = NULL, *step = NULL;
    size_t n = json_array_size(requests);
    for (size_t i = 0; i < n; i++) {
        const json_t *ids = json_object_get(json_array_get(requests, i), "ids");
        size_t n_ids = json_array_size(ids);
        if (n_ids == 0) continue;
        if (!shortest || n_ids < json_array_size(shortest)) shortest = ids;
        if (!longest || n_ids > json_array_size(longest)) longest = ids;
        if (!step && has_step(s, ids)) step = ids;
        if (s->n_texts < N_SHORT && n_ids <= TEXT_SHORT && n_ids > 1 && !text_add(s, ids))
            return false;
    }
    return text_add(s, shortest) && text_add(s, longest) && text_add(s, step);
}

/* ---- the whole ---- */

bool subject_load(const char *folder, subject *out)
{
    golden g;
    *out = (subject){0};
    snprintf(out->folder, sizeof out->folder, "%s", folder);
    const char *slash = strrchr(out->folder, '/');
    out->name = slash ? slash + 1 : out->folder;
    if (!golden_load(folder, &g)) return false;
    const json_t *groups = json_object_get(g.json, "groups");
    bool is_good = model_open(folder, NULL, &out->config, &out->model) &&
                   poolings_load(out, groups) &&
                   texts_choose(out, json_object_get(g.json, "requests")) && batches_make(out);
    golden_unload(&g);
    return is_good;
}

void subject_unload(subject *s)
{
    for (uint32_t i = 0; i < s->n_batches; i++) batch_deinit(&s->batches[i]);
    for (uint32_t i = 0; i < s->n_texts; i++) free(s->texts[i].ids);
    free(s->poolings);
    pr_model_close(s->model);
    pr_config_deinit(&s->config);
    *s = (subject){0};
}

bool subject_compute(subject *s, pr_dtype dtype)
{
    const pr_worker_config config = {
        .folder = s->model->folder, .weights_folder = s->model->weights_folder,
        .spec = &s->model->spec, .st = &s->model->st, .cpu = {.n_threads = 1}, .dtype = dtype,
        .n_rows_max = s->n_rows_max, .n_positions_max = s->model->n_tokens_max,
    };
    pr_worker *w = NULL;
    pr_error err = {0};
    pr_status st = pr_worker_open(&config, &w, &err);
    for (uint32_t i = 0; st == PR_OK && i < s->n_batches; i++) {
        subject_batch *b = &s->batches[i];
        pr_pooled_deinit(&b->want);
        st = pr_worker_run(w, &b->plan, b->poolings, NULL, &b->want, &err);
    }
    pr_worker_close(w);
    if (st != PR_OK) printf("%s: on the CPU: %s\n", s->name, err.message);
    return st == PR_OK;
}

bool subject_fits(const subject *s, int tp_size, int n_stages)
{
    const pr_model_spec *m = &s->model->spec;
    if (m->n_heads % tp_size == 0 && n_stages <= m->n_layers &&
        (m->n_kv_heads % tp_size == 0 || tp_size % m->n_kv_heads == 0)) {
        return true;
    }
    printf("not run: %s: %d heads, %d KV heads, %d layers, for %dx%d ranks\n", s->name,
           m->n_heads, m->n_kv_heads, m->n_layers, tp_size, n_stages);
    return false;
}
