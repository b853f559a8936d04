#include "runtime/model/pooling_spec.h"

#include "runtime/base/json.h"
#include "runtime/model/families.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

/* ---- names ---- */

static const char *const pool_names[PR_POOL_COUNT] = {
    [PR_POOL_LAST] = "LAST", [PR_POOL_CLS] = "CLS",   [PR_POOL_MEAN] = "MEAN",
    [PR_POOL_ALL] = "ALL",   [PR_POOL_STEP] = "STEP",
};

const char *pr_pool_name(pr_pool pool)
{
    assert((unsigned)pool < PR_POOL_COUNT);
    return pool_names[pool];
}

bool pr_pool_parse(const char *name, pr_pool *out)
{
    for (int i = 0; i < PR_POOL_COUNT; i++) {
        if (strcasecmp(pool_names[i], name) != 0) continue;
        *out = (pr_pool)i;
        return true;
    }
    return false;
}

const char *pr_source_name(pr_source source)
{
    static const char *const names[PR_SOURCE_COUNT] = {
        [PR_SOURCE_TASK] = "task default",
        [PR_SOURCE_FAMILY] = "model family",
        [PR_SOURCE_CONFIG] = "config.json",
        [PR_SOURCE_SENTENCE_TRANSFORMERS] = "Sentence Transformers files",
        [PR_SOURCE_OVERRIDE] = "override",
        [PR_SOURCE_REQUEST] = "request",
    };
    assert((unsigned)source < PR_SOURCE_COUNT);
    return names[source];
}

/* ---- the model's own ---- */

static bool is_row_pool(pr_pool type)
{
    return type == PR_POOL_ALL || type == PR_POOL_STEP;
}

static bool is_embedder(const pr_model_spec *spec, pr_task task)
{
    return spec->head == PR_HEAD_NONE && task != PR_TASK_REWARD;
}

static void type_set(pr_pooling *p, pr_pool type, pr_source source)
{
    p->type = type;
    p->source.type = source;
}

static void activation_set(pr_pooling *p, pr_activation activation, bool softmax, pr_source source)
{
    p->activation = activation;
    p->softmax = softmax;
    p->source.activation = source;
}

/* Design, section 4: pooling, normalization and softmax of a task when nothing else says. */
static void task_defaults(pr_task task, pr_pooling *p)
{
    p->task = task;
    p->step_tag_id = PR_STEP_TAG_DEFAULT;
    p->type = task == PR_TASK_REWARD ? PR_POOL_ALL : PR_POOL_LAST;
    p->normalize = task == PR_TASK_EMBED || task == PR_TASK_SCORE;
    p->softmax = task == PR_TASK_CLASSIFY;
}

/* One label: what Sentence Transformers or config.json keep for a cross-encoder, else sigmoid. */
static void one_label_activation(const pr_model_spec *spec, const pr_st_files *st, pr_pooling *p)
{
    if (st && st->ce_set) {
        activation_set(p, st->ce_activation, st->ce_softmax, PR_SOURCE_SENTENCE_TRANSFORMERS);
    } else if (spec->ce_set) {
        activation_set(p, spec->ce_activation, spec->ce_softmax, PR_SOURCE_CONFIG);
    } else if (spec->problem == PR_PROBLEM_REGRESSION) {
        activation_set(p, PR_ACTIVATION_NONE, false, PR_SOURCE_CONFIG);
    } else {
        bool is_told = spec->problem != PR_PROBLEM_UNSET;
        activation_set(p, PR_ACTIVATION_SIGMOID, false,
                       is_told ? PR_SOURCE_CONFIG : PR_SOURCE_FAMILY);
    }
}

static void labels_activation(const pr_model_spec *spec, pr_pooling *p)
{
    switch (spec->problem) {
    case PR_PROBLEM_UNSET:
        activation_set(p, PR_ACTIVATION_NONE, true, PR_SOURCE_TASK);
        break;
    case PR_PROBLEM_SINGLE_LABEL:
        activation_set(p, PR_ACTIVATION_NONE, true, PR_SOURCE_CONFIG);
        break;
    case PR_PROBLEM_MULTI_LABEL:
        activation_set(p, PR_ACTIVATION_SIGMOID, false, PR_SOURCE_CONFIG);
        break;
    case PR_PROBLEM_REGRESSION:
        activation_set(p, PR_ACTIVATION_NONE, false, PR_SOURCE_CONFIG);
        break;
    }
}

/* What the head gives when its activation is on. */
static void head_activation(const pr_model_spec *spec, const pr_st_files *st, pr_pooling *p)
{
    switch (spec->head) {
    case PR_HEAD_SCORE:
    case PR_HEAD_BERT_CLASSIFIER:
    case PR_HEAD_ROBERTA_CLASSIFIER:
        if (spec->n_labels == 1) {
            one_label_activation(spec, st, p);
        } else {
            labels_activation(spec, p);
        }
        break;
    case PR_HEAD_PROCESS_REWARD:
        activation_set(p, PR_ACTIVATION_NONE, true, PR_SOURCE_FAMILY);
        break;
    case PR_HEAD_REWARD:
        activation_set(p, PR_ACTIVATION_NONE, false, PR_SOURCE_FAMILY);
        break;
    case PR_HEAD_NONE:
    case PR_HEAD_COUNT:
        activation_set(p, PR_ACTIVATION_NONE, false, PR_SOURCE_TASK);
        break;
    }
    p->head_activation = p->activation;
    p->head_softmax = p->softmax;
}

static void family_apply(const pr_model_spec *spec, const pr_st_files *st, pr_pooling *p)
{
    static const pr_pool head_pools[PR_HEAD_COUNT] = {
        [PR_HEAD_SCORE] = PR_POOL_LAST,
        [PR_HEAD_BERT_CLASSIFIER] = PR_POOL_CLS,
        [PR_HEAD_ROBERTA_CLASSIFIER] = PR_POOL_CLS,
        [PR_HEAD_REWARD] = PR_POOL_ALL,
        [PR_HEAD_PROCESS_REWARD] = PR_POOL_STEP,
    };
    head_activation(spec, st, p);
    if (is_embedder(spec, p->task)) {
        type_set(p, pr_family_describe(spec->family)->pooling, PR_SOURCE_FAMILY);
    } else if (spec->head != PR_HEAD_NONE) {
        type_set(p, head_pools[spec->head], PR_SOURCE_FAMILY);
        p->normalize = false;
        p->source.normalize = PR_SOURCE_FAMILY;
        p->skips_pad = spec->head == PR_HEAD_SCORE && spec->pad_token_id >= 0;
        p->pad_token_id = spec->pad_token_id;
        if (spec->head == PR_HEAD_PROCESS_REWARD) p->source.step_tag_id = PR_SOURCE_FAMILY;
        bool is_classifier = spec->head != PR_HEAD_PROCESS_REWARD && spec->head != PR_HEAD_REWARD;
        if (is_classifier && p->task == PR_TASK_REWARD) {
            activation_set(p, PR_ACTIVATION_NONE, false, PR_SOURCE_TASK);
        }
    }
}

/* A folder with a Pooling module but no Normalize one says that nothing is normalized. */
static void st_apply(const pr_model_spec *spec, const pr_st_files *st, pr_pooling *p)
{
    if (!st || !st->has_pooling || !is_embedder(spec, p->task)) return;
    type_set(p, st->pooling, PR_SOURCE_SENTENCE_TRANSFORMERS);
    p->normalize = st->normalize;
    p->source.normalize = PR_SOURCE_SENTENCE_TRANSFORMERS;
    if (st->truncate_dim > 0 && st->truncate_dim < pr_pooling_width(spec, st)) {
        p->dimensions = st->truncate_dim;
        p->source.dimensions = PR_SOURCE_SENTENCE_TRANSFORMERS;
        /* The modules run on the whole vector, Normalize among them; then it is cut. */
        p->cuts_last = st->normalize;
    }
}

/* ---- fields that an override or a request sets ---- */

static void use_activation_set(const pr_model_spec *spec, pr_pooling *p, bool on, pr_source source)
{
    if (spec->head == PR_HEAD_NONE) { /* the activation of an embedding is its normalization */
        p->normalize = on && p->task != PR_TASK_REWARD;
        p->source.normalize = source;
        if (!on) activation_set(p, PR_ACTIVATION_NONE, false, source);
    } else if (on) {
        activation_set(p, p->head_activation, p->head_softmax, source);
    } else {
        activation_set(p, PR_ACTIVATION_NONE, false, source);
    }
}

/* Over one label a softmax would always say 1: there it means the head's own activation. */
static void softmax_set(const pr_model_spec *spec, pr_pooling *p, bool on, pr_source source)
{
    if (on && spec->n_labels == 1) {
        activation_set(p, p->head_activation, p->head_softmax, source);
    } else {
        activation_set(p, PR_ACTIVATION_NONE, on, source);
    }
}

static pr_status normalize_set(const pr_model_spec *spec, pr_pooling *p, bool on, pr_source source,
                               pr_error *err)
{
    if (on && spec->head != PR_HEAD_NONE) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "normalize: found true, expected false: %s gives labels, not a vector",
                            spec->architecture);
    }
    p->normalize = on;
    p->source.normalize = source;
    return PR_OK;
}

static pr_status dimensions_set(const pr_model_spec *spec, pr_pooling *p, int64_t dimensions,
                                int32_t n_width, pr_source source, pr_error *err)
{
    if (spec->head != PR_HEAD_NONE) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "dimensions: found %lld, expected none: %s gives labels, not a vector",
                            (long long)dimensions, spec->architecture);
    }
    if (dimensions < 1 || dimensions > n_width) {
        return pr_error_set(err, PR_E_ARGUMENT, "dimensions: found %lld, expected 1 to %d",
                            (long long)dimensions, n_width);
    }
    bool is_listed = spec->n_matryoshka == 0;
    for (int32_t i = 0; i < spec->n_matryoshka && !is_listed; i++) {
        is_listed = spec->matryoshka[i] == dimensions;
    }
    if (!is_listed) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "dimensions: found %lld, expected one of the %d in "
                            "matryoshka_dimensions (%d …)",
                            (long long)dimensions, spec->n_matryoshka, spec->matryoshka[0]);
    }
    p->dimensions = (int32_t)dimensions;
    p->cuts_last = false;
    p->source.dimensions = source;
    return PR_OK;
}

static pr_status step_tag_set(const pr_model_spec *spec, pr_pooling *p, int64_t id,
                              pr_source source, pr_error *err)
{
    if (id < 0 || id >= spec->vocab_size) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "step_tag_id: found %lld, expected 0 to %d (vocab_size - 1)",
                            (long long)id, spec->vocab_size - 1);
    }
    p->step_tag_id = (int32_t)id;
    p->source.step_tag_id = source;
    return PR_OK;
}

static pr_status returned_token_check(int64_t id, int32_t n_width, pr_error *err)
{
    if (id >= 0 && id < n_width) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "returned_token_ids: found %lld, expected a column from 0 to %d",
                        (long long)id, n_width - 1);
}

static pr_status returned_count_check(size_t n, pr_error *err)
{
    if (n <= PR_RETURNED_TOKENS_MAX) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "returned_token_ids: found %zu entries, expected at most %d", n,
                        PR_RETURNED_TOKENS_MAX);
}

/* ---- override ---- */

/* What the getters of json.h call a broken model is here a wrong argument. */
static pr_status as_argument(pr_status st, pr_error *err)
{
    if (st != PR_E_MODEL) return st;
    if (err) err->status = PR_E_ARGUMENT;
    return PR_E_ARGUMENT;
}

static const char override_where[] = "pooler config";

static pr_status pool_type_get(const json_t *o, const char *key, bool *is_set, pr_pool *out,
                               pr_error *err)
{
    const char *name = NULL;
    pr_status st = as_argument(pr_json_get_str_opt(o, override_where, key, &name, err), err);
    *is_set = name != NULL;
    if (st != PR_OK || !name || pr_pool_parse(name, out)) return st;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "%s: %s: found \"%.40s\", expected LAST, CLS, MEAN, ALL or STEP",
                        override_where, key, name);
}

/* pooling_type sets it; seq_pooling_type and tok_pooling_type only where the pooling is of their
 * kind (one row a text, or rows of tokens), as in vLLM. */
static pr_status override_type(const json_t *o, pr_pooling *p, pr_error *err)
{
    static const struct {
        const char *key;
        bool any, rows;
    } keys[] = {{"pooling_type", true, false},
                {"seq_pooling_type", false, false},
                {"tok_pooling_type", false, true}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool is_set = false;
        pr_pool type = PR_POOL_LAST;
        pr_status st = pool_type_get(o, keys[i].key, &is_set, &type, err);
        if (st != PR_OK) return st;
        if (!is_set) continue;
        if (!keys[i].any && is_row_pool(type) != keys[i].rows) {
            return pr_error_set(err, PR_E_ARGUMENT, "%s: %s: found %s, expected %s", override_where,
                                keys[i].key, pool_names[type],
                                keys[i].rows ? "ALL or STEP" : "LAST, CLS or MEAN");
        }
        if (keys[i].any || is_row_pool(p->type) == keys[i].rows) {
            type_set(p, type, PR_SOURCE_OVERRIDE);
        }
    }
    return PR_OK;
}

/* -1: missing or null. */
static pr_status flag_get(const json_t *o, const char *key, int *out, pr_error *err)
{
    bool value = false;
    *out = -1;
    if (!json_object_get(o, key) || json_is_null(json_object_get(o, key))) return PR_OK;
    pr_status st = as_argument(pr_json_get_bool_opt(o, override_where, key, &value, err), err);
    if (st == PR_OK) *out = value;
    return st;
}

static pr_status override_flags(const pr_model_spec *spec, const json_t *o, pr_pooling *p,
                                pr_error *err)
{
    int activation = -1, use = -1, normalize = -1, softmax = -1;
    pr_status st = PR_OK;
    if ((st = flag_get(o, "activation", &activation, err)) != PR_OK ||
        (st = flag_get(o, "use_activation", &use, err)) != PR_OK ||
        (st = flag_get(o, "normalize", &normalize, err)) != PR_OK ||
        (st = flag_get(o, "softmax", &softmax, err)) != PR_OK) {
        return st;
    }
    if (use < 0) use = activation; /* the word between vLLM 0.8 and 0.33 */
    if (use >= 0) use_activation_set(spec, p, use == 1, PR_SOURCE_OVERRIDE);
    if (normalize >= 0 &&
        (st = normalize_set(spec, p, normalize == 1, PR_SOURCE_OVERRIDE, err)) != PR_OK) {
        return pr_error_context(err, st, "%s", override_where);
    }
    if (softmax >= 0) softmax_set(spec, p, softmax == 1, PR_SOURCE_OVERRIDE);
    return PR_OK;
}

static pr_status override_returned(const json_t *o, int32_t n_width, pr_pooling *p, pr_error *err)
{
    json_t *list = NULL;
    pr_status st = as_argument(
        pr_json_get_node_opt(o, override_where, "returned_token_ids", JSON_ARRAY, &list, err), err);
    if (st != PR_OK || !list) return st;
    size_t n = json_array_size(list);
    if ((st = returned_count_check(n, err)) != PR_OK) {
        return pr_error_context(err, st, "%s", override_where);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        if (!json_is_integer(entry)) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "%s: returned_token_ids[%zu]: found %s, expected an integer",
                                override_where, i, pr_json_type_name(entry));
        }
        int64_t id = json_integer_value(entry);
        if ((st = returned_token_check(id, n_width, err)) != PR_OK) {
            return pr_error_context(err, st, "%s", override_where);
        }
        p->returned_tokens[i] = (int32_t)id;
    }
    p->n_returned_tokens = (int32_t)n;
    p->source.returned_tokens = PR_SOURCE_OVERRIDE;
    return PR_OK;
}

static pr_status override_numbers(const pr_model_spec *spec, const json_t *o, int32_t n_width,
                                  pr_pooling *p, pr_error *err)
{
    int64_t dimensions = -1, tag = -1;
    pr_status st = PR_OK;
    if ((st = pr_json_get_i64_opt(o, override_where, "dimensions", 1, INT32_MAX, &dimensions,
                                  err)) != PR_OK ||
        (st = pr_json_get_i64_opt(o, override_where, "step_tag_id", 0, INT32_MAX, &tag, err)) !=
            PR_OK) {
        return as_argument(st, err);
    }
    if (dimensions >= 0) {
        st = dimensions_set(spec, p, dimensions, n_width, PR_SOURCE_OVERRIDE, err);
    }
    if (st == PR_OK && tag >= 0) st = step_tag_set(spec, p, tag, PR_SOURCE_OVERRIDE, err);
    return st == PR_OK ? st : pr_error_context(err, st, "%s", override_where);
}

/* The task is chosen before; here it can only agree. */
static pr_status override_task(const json_t *o, pr_task task, pr_error *err)
{
    const char *name = NULL;
    pr_task told = PR_TASK_AUTO;
    pr_status st = as_argument(pr_json_get_str_opt(o, override_where, "task", &name, err), err);
    if (st != PR_OK || !name || (pr_task_parse(name, &told) && told == task)) return st;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "%s: task: found \"%.40s\", expected %s (the task is set by --task or the "
                        "command)",
                        override_where, name, pr_task_name(task));
}

/* Every key must be known; those that are not built may only say that they are off. */
static pr_status override_keys_check(const json_t *o, pr_error *err)
{
    static const char *const built[] = {
        "task",       "pooling_type", "seq_pooling_type",   "tok_pooling_type",
        "normalize",  "softmax",      "activation",         "use_activation",
        "dimensions", "step_tag_id",  "returned_token_ids",
    };
    static const char *const off[] = {
        "logit_mean",    "logit_sigma", "logit_bias", "logit_scale", "enable_chunked_processing",
        "max_embed_len",
    };
    void *it = json_object_iter((json_t *)o);
    for (; it; it = json_object_iter_next((json_t *)o, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *value = json_object_iter_value(it);
        bool is_built = false, is_off = false;
        for (size_t i = 0; i < sizeof built / sizeof *built; i++) {
            is_built = is_built || strcmp(built[i], key) == 0;
        }
        for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
            is_off = is_off || strcmp(off[i], key) == 0;
        }
        /* Chooses a kernel in vLLM, never a result. */
        if (is_built || strcmp(key, "enable_flash_late_interaction") == 0) continue;
        if (is_off && (json_is_null(value) || json_is_false(value))) continue;
        return pr_error_set(err, PR_E_ARGUMENT, "%s: %.60s: %s", override_where, key,
                            is_off ? "is not built, expected null"
                                   : "unknown key, expected pooling_type, normalize, softmax, "
                                     "use_activation, step_tag_id, returned_token_ids, "
                                     "dimensions, seq_pooling_type, tok_pooling_type or task");
    }
    return PR_OK;
}

static pr_status override_apply(const pr_model_spec *spec, const json_t *o, int32_t n_width,
                                pr_pooling *p, pr_error *err)
{
    if (!o || json_is_null(o)) return PR_OK;
    if (!json_is_object(o)) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: found %s, expected an object", override_where,
                            pr_json_type_name(o));
    }
    pr_status st = PR_OK;
    if ((st = override_keys_check(o, err)) != PR_OK ||
        (st = override_task(o, p->task, err)) != PR_OK ||
        (st = override_type(o, p, err)) != PR_OK ||
        (st = override_flags(spec, o, p, err)) != PR_OK ||
        (st = override_numbers(spec, o, n_width, p, err)) != PR_OK ||
        (st = override_returned(o, n_width, p, err)) != PR_OK) {
        return st;
    }
    return PR_OK;
}

/* ---- resolve and apply ---- */

int32_t pr_pooling_width(const pr_model_spec *spec, const pr_st_files *st)
{
    if (spec->head != PR_HEAD_NONE) return spec->n_labels;
    if (st && st->n_dense > 0) return st->dense[st->n_dense - 1].n_out;
    return spec->hidden_size;
}

/* The widths of the Sentence Transformers modules must chain from the model's. */
static pr_status widths_check(const pr_model_spec *spec, const pr_st_files *st, pr_error *err)
{
    if (!st || spec->head != PR_HEAD_NONE) return PR_OK;
    if (st->pooling_width != 0 && st->pooling_width != spec->hidden_size) {
        return pr_error_set(err, PR_E_MODEL,
                            "Pooling module: embedding dimension: found %d, expected %d "
                            "(hidden_size)",
                            st->pooling_width, spec->hidden_size);
    }
    int32_t width = spec->hidden_size;
    for (int32_t i = 0; i < st->n_dense; i++) {
        if (st->dense[i].n_in != width) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s/config.json: in_features: found %d, expected %d (the width "
                                "before it)",
                                st->dense[i].path, st->dense[i].n_in, width);
        }
        width = st->dense[i].n_out;
    }
    return PR_OK;
}

static pr_status type_check(const pr_model_spec *spec, const pr_pooling *p, pr_error *err)
{
    if (p->task == PR_TASK_SCORE && is_row_pool(p->type)) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "task score: pooling type: found %s, expected LAST, CLS or MEAN",
                            pool_names[p->type]);
    }
    /* vLLM takes columns of the hidden states here, silently (its issue 16545). */
    if (p->type == PR_POOL_STEP && spec->head == PR_HEAD_NONE) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "pooling type: found STEP, expected another: %s has no head that "
                            "judges steps",
                            spec->architecture);
    }
    return PR_OK;
}

pr_status pr_pooling_resolve(const pr_model_spec *spec, const pr_st_files *st, pr_task task,
                             const json_t *override, pr_pooling *out, pr_error *err)
{
    assert(spec);
    assert(out);
    assert(task != PR_TASK_AUTO);
    pr_status status = PR_OK;
    if ((status = pr_task_check(spec, st, task, err)) != PR_OK ||
        (status = widths_check(spec, st, err)) != PR_OK) {
        return status;
    }
    pr_pooling p = {0};
    task_defaults(task, &p);
    family_apply(spec, st, &p);
    st_apply(spec, st, &p);
    if ((status = override_apply(spec, override, pr_pooling_width(spec, st), &p, err)) != PR_OK ||
        (status = type_check(spec, &p, err)) != PR_OK) {
        return status;
    }
    *out = p;
    return PR_OK;
}

static pr_status request_returned(const pr_pooling_request *request, int32_t n_width, pr_pooling *p,
                                  pr_error *err)
{
    if (!request->returned_tokens) return PR_OK;
    pr_status st = returned_count_check((size_t)request->n_returned_tokens, err);
    for (int32_t i = 0; st == PR_OK && i < request->n_returned_tokens; i++) {
        st = returned_token_check(request->returned_tokens[i], n_width, err);
        if (st == PR_OK) p->returned_tokens[i] = request->returned_tokens[i];
    }
    if (st != PR_OK) return st;
    p->n_returned_tokens = request->n_returned_tokens;
    p->source.returned_tokens = PR_SOURCE_REQUEST;
    return PR_OK;
}

pr_status pr_pooling_apply(const pr_model_spec *spec, const pr_pooling *base, int32_t n_width,
                           const pr_pooling_request *request, pr_pooling *out, pr_error *err)
{
    assert(base);
    assert(out);
    pr_pooling p = *base;
    pr_status st = PR_OK;
    if (request->use_activation >= 0) {
        use_activation_set(spec, &p, request->use_activation == 1, PR_SOURCE_REQUEST);
    }
    if (request->normalize >= 0) {
        st = normalize_set(spec, &p, request->normalize == 1, PR_SOURCE_REQUEST, err);
    }
    if (request->softmax >= 0) {
        softmax_set(spec, &p, request->softmax == 1, PR_SOURCE_REQUEST);
    }
    if (st == PR_OK && request->dimensions != 0) {
        st = dimensions_set(spec, &p, request->dimensions, n_width, PR_SOURCE_REQUEST, err);
    }
    if (st == PR_OK && request->step_tag_id != -1) {
        st = step_tag_set(spec, &p, request->step_tag_id, PR_SOURCE_REQUEST, err);
    }
    if (st == PR_OK) st = request_returned(request, n_width, &p, err);
    if (st == PR_OK) *out = p;
    return st;
}
