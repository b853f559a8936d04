#include "runtime/model/st_files.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/model/activation.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ST_FILE_BYTES_MAX = 4 << 20, ST_MODULES_MAX = 32, WIDTH_MAX = 1 << 16 };

/* A JSON object of the folder, or NULL when there is no such file and `optional`. */
static pr_status file_load(const char *folder, const char *path, const char *name, bool optional,
                           json_t **out, pr_error *err)
{
    char relative[192];
    int n = snprintf(relative, sizeof relative, "%s%s%s", path, path[0] ? "/" : "", name);
    assert(n > 0 && (size_t)n < sizeof relative);
    char *real = NULL;
    pr_status st = pr_file_resolve(folder, relative, &real, err);
    if (st == PR_E_NOT_FOUND && optional) {
        *out = NULL;
        return PR_OK;
    }
    if (st == PR_OK) st = pr_json_load(real, ST_FILE_BYTES_MAX, out, err);
    free(real);
    return st;
}

static pr_status object_load(const char *folder, const char *path, const char *name, bool optional,
                             json_t **out, pr_error *err)
{
    pr_status st = file_load(folder, path, name, optional, out, err);
    if (st != PR_OK || !*out || json_is_object(*out)) return st;
    st = pr_error_set(err, PR_E_MODEL, "%s%s%s: found %s, expected an object", path,
                      path[0] ? "/" : "", name, pr_json_type_name(*out));
    json_decref(*out);
    *out = NULL;
    return st;
}

/* ---- Pooling ---- */

static const struct {
    const char *old_key; /* versions 2 to 4: one flag each */
    const char *mode;    /* version 5 and later: "pooling_mode" */
    bool is_built;
    pr_pool pool;
} pooling_modes[] = {
    {"pooling_mode_cls_token", "cls", true, PR_POOL_CLS},
    {"pooling_mode_mean_tokens", "mean", true, PR_POOL_MEAN},
    {"pooling_mode_lasttoken", "lasttoken", true, PR_POOL_LAST},
    {"pooling_mode_max_tokens", "max", false, PR_POOL_MEAN},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", false, PR_POOL_MEAN},
    {"pooling_mode_weightedmean_tokens", "weightedmean", false, PR_POOL_MEAN},
};
enum { POOLING_MODES = sizeof pooling_modes / sizeof *pooling_modes };

static pr_status pooling_refuse(const char *where, const char *found, pr_error *err)
{
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: pooling mode: found %.80s, expected one of cls, mean, lasttoken "
                        "(others are not built)",
                        where, found);
}

static pr_status pooling_mode_new(const json_t *mode, const char *where, pr_pool *out,
                                  pr_error *err)
{
    if (json_is_array(mode)) {
        if (json_array_size(mode) != 1) return pooling_refuse(where, "several at once", err);
        mode = json_array_get(mode, 0);
    }
    const char *name = json_string_value(mode);
    if (!name) {
        return pr_error_set(err, PR_E_MODEL, "%s: pooling_mode: found %s, expected a string", where,
                            pr_json_type_name(mode));
    }
    for (size_t i = 0; i < POOLING_MODES; i++) {
        if (strcmp(pooling_modes[i].mode, name) != 0 || !pooling_modes[i].is_built) continue;
        *out = pooling_modes[i].pool;
        return PR_OK;
    }
    return pooling_refuse(where, name, err);
}

/* No flag set at all means the mean, as Sentence Transformers reads it. */
static pr_status pooling_mode_old(const json_t *config, const char *where, pr_pool *out,
                                  pr_error *err)
{
    int i_found = -1;
    for (int i = 0; i < (int)POOLING_MODES; i++) {
        bool is_set = false;
        pr_status st = pr_json_get_bool_opt(config, where, pooling_modes[i].old_key, &is_set, err);
        if (st != PR_OK) return st;
        if (!is_set) continue;
        if (i_found >= 0) return pooling_refuse(where, "several at once", err);
        i_found = i;
    }
    *out = PR_POOL_MEAN;
    if (i_found < 0) return PR_OK;
    if (!pooling_modes[i_found].is_built) {
        return pooling_refuse(where, pooling_modes[i_found].old_key, err);
    }
    *out = pooling_modes[i_found].pool;
    return PR_OK;
}

static pr_status pooling_read(const json_t *config, const char *where, pr_st_files *out,
                              pr_error *err)
{
    int64_t width = 0;
    pr_status st = PR_OK;
    if ((st = pr_json_get_i64_opt(config, where, "word_embedding_dimension", 1, WIDTH_MAX, &width,
                                  err)) != PR_OK ||
        (st = pr_json_get_i64_opt(config, where, "embedding_dimension", 1, WIDTH_MAX, &width,
                                  err)) != PR_OK ||
        (st = pr_json_get_bool_opt(config, where, "include_prompt", &out->include_prompt, err)) !=
            PR_OK) {
        return st;
    }
    const json_t *mode = json_object_get(config, "pooling_mode");
    st = mode ? pooling_mode_new(mode, where, &out->pooling, err)
              : pooling_mode_old(config, where, &out->pooling, err);
    if (st != PR_OK) return st;
    out->pooling_width = (int32_t)width;
    out->has_pooling = true;
    return PR_OK;
}

/* ---- Dense ---- */

static pr_status dense_name_check(const json_t *config, const char *where, const char *key,
                                  pr_error *err)
{
    const char *name = "sentence_embedding";
    pr_status st = pr_json_get_str_opt(config, where, key, &name, err);
    if (st != PR_OK || strcmp(name, "sentence_embedding") == 0) return st;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: %s: found \"%.60s\", expected sentence_embedding (others are not "
                        "built)",
                        where, key, name);
}

static pr_status dense_activation_read(const json_t *config, const char *where, pr_dense *dense,
                                       pr_error *err)
{
    const char *name = "torch.nn.modules.activation.Tanh";
    bool softmax = false;
    pr_status st = pr_json_get_str_opt(config, where, "activation_function", &name, err);
    if (st != PR_OK) return st;
    if (pr_activation_parse_torch(name, &dense->activation, &softmax) && !softmax) return PR_OK;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: activation_function: found \"%.80s\", expected Identity, Tanh, "
                        "Sigmoid, ReLU, GELU or SiLU of torch.nn",
                        where, name);
}

static pr_status dense_read(const json_t *config, const char *where, const char *path,
                            pr_st_files *out, pr_error *err)
{
    if (out->n_dense == PR_DENSE_MAX) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: found more than %d Dense modules", where,
                            PR_DENSE_MAX);
    }
    pr_dense dense = {.bias = true};
    int64_t n_in = 0, n_out = 0;
    bool residual = false;
    pr_status st = PR_OK;
    if ((st = pr_json_get_i64(config, where, "in_features", 1, WIDTH_MAX, &n_in, err)) != PR_OK ||
        (st = pr_json_get_i64(config, where, "out_features", 1, WIDTH_MAX, &n_out, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(config, where, "bias", &dense.bias, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(config, where, "use_residual", &residual, err)) != PR_OK ||
        (st = dense_name_check(config, where, "module_input_name", err)) != PR_OK ||
        (st = dense_name_check(config, where, "module_output_name", err)) != PR_OK ||
        (st = dense_activation_read(config, where, &dense, err)) != PR_OK) {
        return st;
    }
    if (residual) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: use_residual: found true, expected false (it is not built)",
                            where);
    }
    dense.n_in = (int32_t)n_in;
    dense.n_out = (int32_t)n_out;
    snprintf(dense.path, sizeof dense.path, "%s", path);
    out->dense[out->n_dense++] = dense;
    return PR_OK;
}

/* ---- modules.json ---- */

typedef enum module_kind {
    MODULE_TRANSFORMER,
    MODULE_POOLING,
    MODULE_DENSE,
    MODULE_NORMALIZE,
    MODULE_DROPOUT, /* does nothing outside training */
    MODULE_COUNT
} module_kind;

/* "sentence_transformers.models.Pooling" of older versions, "sentence_transformers.
 * sentence_transformer.modules.pooling.Pooling" of newer ones: the last word decides. */
static bool module_kind_parse(const char *type, module_kind *out)
{
    static const char *const names[MODULE_COUNT] = {
        [MODULE_TRANSFORMER] = "Transformer",
        [MODULE_POOLING] = "Pooling",
        [MODULE_DENSE] = "Dense",
        [MODULE_NORMALIZE] = "Normalize",
        [MODULE_DROPOUT] = "Dropout",
    };
    static const char package[] = "sentence_transformers.";
    const char *name = strrchr(type, '.');
    if (strncmp(type, package, sizeof package - 1) != 0 || !name) return false;
    for (int i = 0; i < MODULE_COUNT; i++) {
        if (strcmp(names[i], name + 1) != 0) continue;
        *out = (module_kind)i;
        return true;
    }
    return false;
}

/* Modules must stand in the one order that is built: Transformer, Pooling, Dense …, Normalize. */
static pr_status module_order_check(module_kind kind, size_t i, const char *where,
                                    const pr_st_files *st_files, pr_error *err)
{
    bool fits = true;
    switch (kind) {
    case MODULE_TRANSFORMER:
        fits = i == 0;
        break;
    case MODULE_POOLING:
        fits = i > 0 && !st_files->has_pooling;
        break;
    case MODULE_DENSE:
        fits = st_files->has_pooling && !st_files->normalize;
        break;
    case MODULE_NORMALIZE:
        fits = st_files->has_pooling;
        break;
    case MODULE_DROPOUT:
    case MODULE_COUNT:
        break;
    }
    if (fits) return PR_OK;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: found at place %zu, expected the order Transformer, Pooling, Dense, "
                        "Normalize",
                        where, i);
}

static pr_status module_read(const char *folder, module_kind kind, const char *path,
                             const char *where, pr_st_files *out, pr_error *err)
{
    if (kind == MODULE_TRANSFORMER) {
        snprintf(out->transformer_path, sizeof out->transformer_path, "%s", path);
        char *real = NULL; /* refuses a path that leaves the folder */
        pr_status st = pr_file_resolve(folder, path[0] ? path : ".", &real, err);
        free(real);
        return st == PR_OK ? st : pr_error_context(err, st, "%s", where);
    }
    if (kind == MODULE_NORMALIZE) out->normalize = true;
    if (kind != MODULE_POOLING && kind != MODULE_DENSE) return PR_OK;
    json_t *config = NULL;
    pr_status st = object_load(folder, path, "config.json", false, &config, err);
    if (st != PR_OK) return pr_error_context(err, st, "%s", where);
    char inside[192];
    snprintf(inside, sizeof inside, "%s/config.json", path);
    st = kind == MODULE_POOLING ? pooling_read(config, inside, out, err)
                                : dense_read(config, inside, path, out, err);
    json_decref(config);
    return st;
}

static pr_status module_entry_read(const char *folder, const json_t *entry, size_t i,
                                   pr_st_files *out, pr_error *err)
{
    char where[64];
    snprintf(where, sizeof where, "modules.json[%zu]", i);
    if (!json_is_object(entry)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", where,
                            pr_json_type_name(entry));
    }
    const char *type = NULL;
    const char *path = "";
    module_kind kind = MODULE_COUNT;
    pr_status st = PR_OK;
    if ((st = pr_json_get_str(entry, where, "type", &type, err)) != PR_OK ||
        (st = pr_json_get_str_opt(entry, where, "path", &path, err)) != PR_OK) {
        return st;
    }
    if (!module_kind_parse(type, &kind)) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: type: found \"%.100s\", expected Transformer, Pooling, Dense or "
                            "Normalize of sentence_transformers",
                            where, type);
    }
    if (strlen(path) >= sizeof out->transformer_path) {
        return pr_error_set(err, PR_E_MODEL, "%s: path: found %zu bytes, expected at most %zu",
                            where, strlen(path), sizeof out->transformer_path - 1);
    }
    if ((st = module_order_check(kind, i, where, out, err)) != PR_OK) return st;
    return module_read(folder, kind, path, where, out, err);
}

static pr_status modules_read(const char *folder, pr_st_files *out, pr_error *err)
{
    json_t *modules = NULL;
    pr_status st = file_load(folder, "", "modules.json", true, &modules, err);
    if (st != PR_OK || !modules) return st;
    if (!json_is_array(modules) || json_array_size(modules) > ST_MODULES_MAX) {
        st = pr_error_set(err, PR_E_MODEL,
                          "modules.json: found %s of %zu, expected an array of at "
                          "most %d modules",
                          pr_json_type_name(modules), json_array_size(modules), ST_MODULES_MAX);
    }
    for (size_t i = 0; st == PR_OK && i < json_array_size(modules); i++) {
        st = module_entry_read(folder, json_array_get(modules, i), i, out, err);
    }
    out->is_present = true;
    json_decref(modules);
    return st;
}

/* ---- the other files ---- */

static pr_status transformer_config_read(const char *folder, pr_st_files *out, pr_error *err)
{
    /* Version 2 named the file after the model; the newer ones always say bert. */
    static const char *const names[] = {
        "sentence_bert_config.json",       "sentence_roberta_config.json",
        "sentence_distilbert_config.json", "sentence_camembert_config.json",
        "sentence_albert_config.json",     "sentence_xlm-roberta_config.json",
        "sentence_xlnet_config.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *config = NULL;
        pr_status st = object_load(folder, out->transformer_path, names[i], true, &config, err);
        if (st != PR_OK) return st;
        if (!config) continue;
        int64_t n_max = 0;
        st = pr_json_get_i64_opt(config, names[i], "max_seq_length", 1, INT32_MAX, &n_max, err);
        if (st == PR_OK) {
            st = pr_json_get_bool_opt(config, names[i], "do_lower_case", &out->do_lower_case, err);
        }
        out->max_seq_length = (int32_t)n_max;
        json_t *args = NULL;
        if (st == PR_OK) {
            /* The newer name of tokenizer_args. */
            st = pr_json_get_node_opt(config, names[i], "processor_kwargs", JSON_OBJECT, &args,
                                      err);
        }
        if (st == PR_OK) {
            st = pr_json_get_node_opt(config, names[i], "tokenizer_args", JSON_OBJECT, &args, err);
        }
        out->tokenizer_args = json_incref(args);
        json_decref(config);
        return st;
    }
    return PR_OK;
}

static pr_status prompts_read(const json_t *config, const char *where, pr_st_files *out,
                              pr_error *err)
{
    json_t *prompts = NULL;
    const char *name = NULL;
    pr_status st = PR_OK;
    if ((st = pr_json_get_node_opt(config, where, "prompts", JSON_OBJECT, &prompts, err)) !=
            PR_OK ||
        (st = pr_json_get_str_opt(config, where, "default_prompt_name", &name, err)) != PR_OK) {
        return st;
    }
    void *it = json_object_iter(prompts);
    for (; it; it = json_object_iter_next(prompts, it)) {
        const json_t *value = json_object_iter_value(it);
        if (json_is_string(value)) continue;
        return pr_error_set(err, PR_E_MODEL, "%s: prompts: %.60s: found %s, expected a string",
                            where, json_object_iter_key(it), pr_json_type_name(value));
    }
    if (name) {
        out->default_prompt = json_string_value(json_object_get(prompts, name));
        if (!out->default_prompt) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: default_prompt_name: found \"%.60s\", expected a key of "
                                "prompts",
                                where, name);
        }
    }
    out->prompts = json_incref(prompts);
    return PR_OK;
}

static pr_status cross_encoder_read(const json_t *config, const char *where, pr_st_files *out,
                                    pr_error *err)
{
    const char *name = NULL;
    out->is_cross_encoder = true;
    pr_status st = pr_json_get_str_opt(config, where, "activation_fn", &name, err);
    if (st != PR_OK || !name) return st;
    if (!pr_activation_parse_torch(name, &out->ce_activation, &out->ce_softmax)) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: activation_fn: found \"%.80s\", expected Identity, Sigmoid, "
                            "Softmax, Tanh, ReLU, GELU or SiLU of torch.nn",
                            where, name);
    }
    out->ce_set = true;
    return PR_OK;
}

static pr_status similarity_read(const json_t *config, const char *where, pr_st_files *out,
                                 pr_error *err)
{
    static const char *const names[PR_SIMILARITY_COUNT] = {"cosine", "dot", "euclidean",
                                                           "manhattan"};
    const char *name = names[PR_SIMILARITY_COSINE];
    pr_status st = pr_json_get_str_opt(config, where, "similarity_fn_name", &name, err);
    if (st != PR_OK) return st;
    for (int i = 0; i < PR_SIMILARITY_COUNT; i++) {
        if (strcmp(names[i], name) != 0) continue;
        out->similarity = (pr_similarity)i;
        return PR_OK;
    }
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: similarity_fn_name: found \"%.60s\", expected cosine, dot, euclidean "
                        "or manhattan",
                        where, name);
}

static pr_status truncate_read(const json_t *config, const char *where, pr_st_files *out,
                               pr_error *err)
{
    int64_t n = 0;
    pr_status st = pr_json_get_i64_opt(config, where, "truncate_dim", 1, WIDTH_MAX, &n, err);
    if (st == PR_OK) out->truncate_dim = (int32_t)n;
    return st;
}

static pr_status package_config_read(const char *folder, pr_st_files *out, pr_error *err)
{
    static const char where[] = "config_sentence_transformers.json";
    json_t *config = NULL;
    const char *type = "SentenceTransformer";
    pr_status st = object_load(folder, "", where, true, &config, err);
    if (st != PR_OK || !config) return st;
    if ((st = pr_json_get_str_opt(config, where, "model_type", &type, err)) != PR_OK) goto cleanup;
    if (strcmp(type, "CrossEncoder") == 0) {
        if ((st = cross_encoder_read(config, where, out, err)) != PR_OK) goto cleanup;
    } else if (strcmp(type, "SentenceTransformer") != 0) {
        st = pr_error_set(err, PR_E_UNSUPPORTED,
                          "%s: model_type: found \"%.60s\", expected SentenceTransformer or "
                          "CrossEncoder",
                          where, type);
        goto cleanup;
    }
    st = prompts_read(config, where, out, err);
    if (st == PR_OK && !out->is_cross_encoder) st = similarity_read(config, where, out, err);
    if (st == PR_OK && !out->is_cross_encoder) st = truncate_read(config, where, out, err);
cleanup:
    json_decref(config);
    return st;
}

pr_status pr_st_files_read(const char *folder, pr_st_files *out, pr_error *err)
{
    assert(folder);
    assert(out);
    pr_st_files files = {.include_prompt = true};
    pr_status st = modules_read(folder, &files, err);
    if (st == PR_OK) st = transformer_config_read(folder, &files, err);
    if (st == PR_OK) st = package_config_read(folder, &files, err);
    if (st == PR_OK) {
        *out = files;
    } else {
        pr_st_files_deinit(&files);
    }
    return st;
}

void pr_st_files_deinit(pr_st_files *st)
{
    if (!st) return;
    json_decref(st->prompts);
    json_decref(st->tokenizer_args);
    st->prompts = NULL;
    st->tokenizer_args = NULL;
    st->default_prompt = NULL;
}
