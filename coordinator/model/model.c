#include "coordinator/model/model.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 16 << 20 };

static pr_status folders_find(pr_model *m, const pr_config *config, pr_error *err)
{
    if (!config->model) return pr_error_set(err, PR_E_ARGUMENT, "no model given (--model DIR)");
    pr_status st =
        pr_hub_cache_find(&config->hub, config->model, config->revision, &m->folder, err);
    if (st == PR_OK) st = pr_st_files_read(m->folder, &m->st, err);
    if (st != PR_OK) return st;
    const char *below = m->st.transformer_path;
    m->weights_folder = below[0] ? pr_path_join(m->folder, below) : strdup(m->folder);
    return m->weights_folder ? PR_OK : pr_error_nomem(err, "folder", strlen(m->folder));
}

/* A file that holds one JSON object. *out: owned. */
static pr_status object_load(const char *path, json_t **out, pr_error *err)
{
    json_t *json = NULL;
    pr_status st = pr_json_load(path, CONFIG_BYTES_MAX, &json, err);
    if (st == PR_OK && !json_is_object(json)) {
        st = pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", path,
                          pr_json_type_name(json));
    }
    if (st == PR_OK) {
        *out = json;
        return PR_OK;
    }
    json_decref(json);
    return st;
}

/* A folder with pooling files is read as AutoModel reads it: the base model, whatever head its
 * architecture has. model_type says which. */
static void head_leave_out(const pr_model *m, json_t *config)
{
    static const char end[] = "ForSequenceClassification";
    const json_t *names = json_object_get(config, "architectures");
    const char *name = json_string_value(json_array_get(names, 0));
    size_t n = name ? strlen(name) : 0, n_end = sizeof end - 1;
    if (!m->st.has_pooling || n < n_end || strcmp(name + n - n_end, end) != 0) return;
    if (json_object_get(config, "model_type")) json_object_del(config, "architectures");
}

/* path: of config.json. */
static pr_status spec_load(pr_model *m, const char *path, const pr_config *config, pr_error *err)
{
    json_t *json = NULL;
    pr_status st = object_load(path, &json, err);
    if (st == PR_OK && config->hf_overrides)
        st = pr_config_override(json, config->hf_overrides, err);
    if (st == PR_OK && config->ignore_auto_map) json_object_del(json, "auto_map");
    if (st == PR_OK) head_leave_out(m, json);
    if (st == PR_OK) st = pr_model_spec_parse(json, "config.json", &m->spec, err);
    m->spec.ignores_unread_tensors = config->ignore_unread_tensors;
    json_decref(json);
    return st;
}

/* An adapter beside its base model: without its weights the numbers are another model's. */
static pr_status adapter_refuse(const pr_model *m, pr_error *err)
{
    static const char name[] = "adapter_config.json";
    char *path = NULL;
    pr_status st = pr_file_resolve(m->weights_folder, name, &path, err);
    free(path);
    if (st == PR_E_NOT_FOUND) return PR_OK;
    if (st != PR_OK) return st;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: found an adapter (PEFT), expected a whole model; merge it into its "
                        "base model (merge_and_unload) and save that",
                        name);
}

static pr_status spec_read(pr_model *m, const pr_config *config, pr_error *err)
{
    char *path = NULL;
    pr_status refused = adapter_refuse(m, err);
    if (refused != PR_OK) return refused;
    pr_status st = pr_file_resolve(m->weights_folder, "config.json", &path, err);
    if (st == PR_OK) st = spec_load(m, path, config, err);
    free(path);
    return st;
}

static pr_status tokenizer_locate(pr_model *m, const pr_config *config, pr_error *err)
{
    pr_status st = pr_tokenizer_source_open(config, m->folder, m->weights_folder, &m->st,
                                            &m->tokenizer_source, err);
    if (st == PR_OK) st = pr_chat_open(config, &m->tokenizer_source, &m->chat, err);
    m->truncate_left = m->tokenizer_source.truncate_left;
    m->has_truncation_side = m->tokenizer_source.has_side;
    if (config->truncation_side != PR_TRUNCATION_SIDE_AUTO) {
        m->truncate_left = config->truncation_side == PR_TRUNCATION_SIDE_LEFT;
        m->has_truncation_side = true;
    }
    return st;
}

/* ---- limits and poolers ---- */

static pr_status limits_set(pr_model *m, const pr_config *config, pr_error *err)
{
    m->n_tokens_max = (uint32_t)m->spec.n_positions;
    m->n_tokens_max_source = "max_position_embeddings";
    if (m->st.max_seq_length > 0 && m->st.max_seq_length < m->spec.n_positions) {
        m->n_tokens_max = (uint32_t)m->st.max_seq_length;
        m->n_tokens_max_source = "max_seq_length of Sentence Transformers";
    }
    bool says_length = m->st.is_present && m->st.max_seq_length == 0;
    if (says_length && m->tokenizer_source.length_max > 0 &&
        m->tokenizer_source.length_max < m->spec.n_positions) {
        m->n_tokens_max = (uint32_t)m->tokenizer_source.length_max;
        m->n_tokens_max_source = "model_max_length of tokenizer_config.json";
    }
    if (config->max_model_len > m->spec.n_positions) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "--max-model-len %d: more than the model's %d positions "
                            "(max_position_embeddings of config.json)",
                            config->max_model_len, m->spec.n_positions);
    }
    /* It may raise what other files limit, as model.max_seq_length = N of Sentence Transformers. */
    if (config->max_model_len > 0) {
        m->n_tokens_max = (uint32_t)config->max_model_len;
        m->n_tokens_max_source = "--max-model-len";
    }
    if (config->truncate_prompt_tokens > 0 &&
        (uint32_t)config->truncate_prompt_tokens > m->n_tokens_max) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "--truncate-prompt-tokens %d: more than the limit of %u tokens (%s)",
                            config->truncate_prompt_tokens, m->n_tokens_max,
                            m->n_tokens_max_source);
    }
    return PR_OK;
}

static pr_status pooling_of(const pr_model *m, const pr_config *config, pr_task task,
                            pr_pooling *out, pr_error *err)
{
    pr_pooling base;
    pr_status st = pr_task_check(&m->spec, &m->st, task, err);
    if (st == PR_OK) st = pr_task_meant_check(&m->spec, &m->st, config->task, task, err);
    if (st == PR_OK) {
        st = pr_pooling_resolve(&m->spec, &m->st, task, config->override_pooler_config, &base, err);
    }
    if (st != PR_OK) return st;
    const pr_pooling_request request = {.normalize = -1, .softmax = -1, .use_activation = -1,
                                        .dimensions = config->dimensions, .step_tag_id = -1};
    return pr_pooling_apply(&m->spec, &base, m->n_width, &request, out, err);
}

static pr_status poolings_resolve(pr_model *m, const pr_config *config, pr_error *err)
{
    const char *prompt = m->st.default_prompt;
    if (prompt && prompt[0] && !m->st.include_prompt) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "a default prompt together with include_prompt false (pooling without "
                            "the prompt's tokens) is not built");
    }
    if (config->needs_reward_head) {
        pr_status st = pr_reward_check(&m->spec, err);
        if (st != PR_OK) return st;
    }
    m->n_width = pr_pooling_width(&m->spec, &m->st);
    m->asked = config->task;
    m->task = config->task != PR_TASK_AUTO ? config->task : pr_task_resolve(&m->spec, &m->st);
    for (int t = PR_TASK_AUTO + 1; t < PR_TASK_COUNT; t++) {
        pr_error why;
        pr_status st = pooling_of(m, config, (pr_task)t, &m->poolings[t], &why);
        m->is_served[t] = st == PR_OK;
        if (st != PR_OK && ((pr_task)t == m->task || st == PR_E_NOMEM)) {
            return pr_error_set(err, st, "%s", why.message);
        }
    }
    return PR_OK;
}

pr_status pr_model_error(const pr_model *m, pr_status st, pr_error *err)
{
    bool is_named = !err || !m->folder || strstr(err->message, m->folder);
    /* Limits and parameters are about what the caller wrote, not about a file. */
    if (is_named || st == PR_E_ARGUMENT) return st;
    return pr_error_context(err, st, "%s", m->folder);
}

/* An encoder without pooling files: nothing says how it is pooled, and others choose otherwise. */
static void pooling_warn(const pr_model *m, const pr_log *log)
{
    const pr_pooling *p = &m->poolings[PR_TASK_EMBED];
    bool is_said = m->st.has_pooling || p->source.type == PR_SOURCE_OVERRIDE ||
                   p->source.normalize == PR_SOURCE_OVERRIDE;
    if (m->task != PR_TASK_EMBED || m->spec.head != PR_HEAD_NONE || m->spec.causal || is_said ||
        p->type != PR_POOL_CLS) {
        return;
    }
    pr_log_line(log, PR_LOG_WARNING,
                "no file says how %s is pooled: by the first token, normalized, as vLLM does; "
                "sentence-transformers takes the mean and does not normalize: "
                "--override-pooler-config '{\"pooling_type\":\"MEAN\",\"normalize\":false}'",
                m->spec.architecture);
}

void pr_model_warn(const pr_model *m, const pr_log *log)
{
    pooling_warn(m, log);
    int32_t n_ids = pr_tokenizer_n_ids(m->tokenizer);
    if (n_ids <= m->spec.vocab_size) return;
    pr_log_line(log, PR_LOG_WARNING,
                "%s has ids up to %d, the model's vocab_size is %d: a text that yields an id "
                "outside it gets an error",
                m->tokenizer_source.path, n_ids - 1, m->spec.vocab_size);
}

pr_status pr_model_open_files(const pr_config *config, pr_model **out, pr_error *err)
{
    pr_model *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "model", sizeof *m);
    pr_status st = folders_find(m, config, err);
    if (st == PR_OK) st = spec_read(m, config, err);
    if (st == PR_OK) st = poolings_resolve(m, config, err);
    if (st == PR_OK) st = tokenizer_locate(m, config, err);
    if (st == PR_OK) st = limits_set(m, config, err);
    if (st != PR_OK) {
        pr_model_error(m, st, err);
        pr_model_close(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

/* Whether every type id that the tokenizer gives, to one text and to a pair, has its row. */
static pr_status types_check(const pr_model *m, pr_error *err)
{
    static const int32_t token[] = {0};
    for (int is_pair = 0; m->spec.type_vocab_size > 0 && is_pair < 2; is_pair++) {
        pr_encoding e = {0};
        pr_status st = pr_tokenizer_assemble(m->tokenizer, token, 1, is_pair ? token : NULL,
                                             is_pair, true, &e, err);
        uint8_t greatest = 0;
        for (size_t i = 0; st == PR_OK && i < e.n; i++) {
            if (e.type_ids[i] > greatest) greatest = e.type_ids[i];
        }
        pr_encoding_deinit(&e);
        if (st == PR_OK && greatest >= m->spec.type_vocab_size) {
            st = pr_error_set(err, PR_E_MODEL,
                              "%s: post_processor: gives type id %d, the model has %d types "
                              "(config.json: type_vocab_size)",
                              m->tokenizer_source.path, greatest, m->spec.type_vocab_size);
        }
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

pr_status pr_model_load_tokenizer(pr_model *m, pr_error *err)
{
    assert(!m->tokenizer);
    pr_status st = pr_tokenizer_source_load(&m->tokenizer_source, &m->st, &m->tokenizer, err);
    if (st == PR_OK) st = types_check(m, err);
    if (st != PR_OK) return pr_model_error(m, st, err);
    if (!m->has_truncation_side) {
        m->truncate_left = pr_tokenizer_origin_of(m->tokenizer)->truncates_left;
    }
    return PR_OK;
}

pr_status pr_model_open(const pr_config *config, pr_model **out, pr_error *err)
{
    pr_model *m = NULL;
    pr_status st = pr_model_open_files(config, &m, err);
    if (st == PR_OK) st = pr_model_load_tokenizer(m, err);
    if (st != PR_OK) {
        pr_model_close(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

/* A folder without config.json has no limits but its tokenizer's own. */
static pr_status tokenizer_alone(pr_model *m, const pr_config *config, pr_error *err)
{
    m->spec.vocab_size = INT32_MAX;
    m->spec.n_positions = INT32_MAX;
    pr_status st = tokenizer_locate(m, config, err);
    if (st != PR_OK) return st;
    int64_t own = m->tokenizer_source.length_max;
    if (own > 0 && own < INT32_MAX) m->spec.n_positions = (int32_t)own;
    st = limits_set(m, config, err);
    m->n_tokens_max_source = "model_max_length of tokenizer_config.json";
    return st;
}

pr_status pr_model_open_tokenizer(const pr_config *config, pr_model **out, pr_error *err)
{
    pr_model *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "model", sizeof *m);
    char *path = NULL;
    pr_status st = folders_find(m, config, err);
    bool has_config =
        st == PR_OK && pr_file_resolve(m->weights_folder, "config.json", &path, NULL) == PR_OK;
    free(path);
    if (st == PR_OK && has_config) {
        pr_model_close(m);
        return pr_model_open(config, out, err);
    }
    if (st == PR_OK) st = tokenizer_alone(m, config, err);
    if (st == PR_OK) st = pr_model_load_tokenizer(m, err);
    if (st != PR_OK) {
        pr_model_error(m, st, err);
        pr_model_close(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

static pr_status config_open(pr_model *m, const pr_config *config, pr_error *err)
{
    bool is_file = config->model && pr_file_exists(config->model) &&
                   !pr_file_is_folder(config->model);
    if (!is_file) {
        pr_status st = folders_find(m, config, err);
        return st == PR_OK ? spec_read(m, config, err) : st;
    }
    m->folder = strdup(config->model);
    if (!m->folder) return pr_error_nomem(err, "path", strlen(config->model) + 1);
    return spec_load(m, config->model, config, err);
}

pr_status pr_model_open_config(const pr_config *config, pr_model **out, pr_error *err)
{
    pr_model *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "model", sizeof *m);
    pr_status st = config_open(m, config, err);
    if (st == PR_OK) st = limits_set(m, config, err);
    if (st != PR_OK) {
        pr_model_error(m, st, err);
        pr_model_close(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

void pr_model_close(pr_model *m)
{
    if (!m) return;
    free(m->folder);
    free(m->weights_folder);
    pr_chat_close(m->chat);
    pr_tokenizer_source_close(&m->tokenizer_source);
    pr_model_spec_deinit(&m->spec);
    pr_st_files_deinit(&m->st);
    pr_tokenizer_free(m->tokenizer);
    free(m);
}

pr_status pr_model_pooling(const pr_model *m, pr_task task, const pr_pooling **out, pr_error *err)
{
    if (task == PR_TASK_AUTO) task = m->task;
    if (!m->is_served[task]) {
        pr_status st = pr_task_check(&m->spec, &m->st, task, err);
        if (st == PR_OK) st = pr_task_meant_check(&m->spec, &m->st, m->asked, task, err);
        if (st != PR_OK) return st;
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "task %s: not served with the pooler that was configured (%s)",
                            pr_task_name(task), pr_task_name(m->task));
    }
    *out = &m->poolings[task];
    return PR_OK;
}

bool pr_model_scores_by_cosine(const pr_model *m)
{
    return m->spec.head == PR_HEAD_NONE;
}
