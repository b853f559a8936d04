#include "golden.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool values_load(const char *folder, size_t n, float **out)
{
    char path[GOLDEN_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/golden.f32", folder);
    FILE *file = fopen(path, "rb");
    float *values = malloc((n + 1) * sizeof *values);
    /* One more than there should be, to notice a longer file. */
    bool is_whole = file && values && fread(values, sizeof *values, n + 1, file) == n;
    if (file) fclose(file);
    if (!is_whole) {
        printf("%s: missing, or not of %zu numbers\n", path, n);
        free(values);
        return false;
    }
    *out = values;
    return true;
}

bool golden_load(const char *folder, golden *out)
{
    assert(strlen(folder) < GOLDEN_PATH_BYTES);
    *out = (golden){0};
    strcpy(out->folder, folder);
    char path[GOLDEN_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/golden.json", folder);
    json_error_t error;
    out->json = json_load_file(path, 0, &error);
    if (!out->json) {
        printf("%s: line %d: %s\n", path, error.line, error.text);
        return false;
    }
    out->n_values = (size_t)json_integer_value(json_object_get(out->json, "n_values"));
    if (values_load(folder, out->n_values, &out->values)) return true;
    golden_unload(out);
    return false;
}

void golden_unload(golden *g)
{
    json_decref(g->json);
    free(g->values);
    *g = (golden){0};
}

const char *golden_string(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static bool option_set(pr_options *options, const char *name, const char *value)
{
    pr_error error = {0};
    if (!value || pr_options_set(options, name, value, &error) == PR_OK) return true;
    printf("option %s=%s: %s\n", name, value, error.message);
    return false;
}

static bool options_fill(pr_options *options, const char *folder, const json_t *group,
                         const golden_setting *setting)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)group, name, value)
    {
        if (!option_set(options, name, json_string_value(value))) return false;
    }
    return option_set(options, "model", folder) && option_set(options, "log-level", "error") &&
           option_set(options, "cpu-isa", setting->cpu_isa) &&
           option_set(options, "dtype", setting->dtype) &&
           option_set(options, "matmul-precision", setting->precision) &&
           option_set(options, "threads", setting->threads);
}

pr_engine *golden_engine_open(const char *folder, const json_t *options,
                              const golden_setting *setting)
{
    pr_engine *engine = NULL;
    if (setting->ranks) setenv(GOLDEN_RANKS_VARIABLE, setting->ranks, 1);
    pr_options *all = pr_options_create();
    pr_error error = {0};
    if (all && options_fill(all, folder, options, setting) &&
        pr_engine_open(all, &engine, &error) != PR_OK) {
        printf("%s: cannot be opened: %s\n", folder, error.message);
    }
    pr_options_free(all);
    return engine;
}

bool golden_ranks_fit(const char *folder, const golden_setting *setting)
{
    int tp_size = 0, n_stages = 0;
    char path[GOLDEN_PATH_BYTES + 16];
    if (!setting->ranks) return true;
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = json_load_file(path, 0, NULL);
    int n_heads = (int)json_integer_value(json_object_get(config, "num_attention_heads"));
    int n_kv_heads = (int)json_integer_value(json_object_get(config, "num_key_value_heads"));
    int n_layers = (int)json_integer_value(json_object_get(config, "num_hidden_layers"));
    json_decref(config);
    if (n_kv_heads == 0) n_kv_heads = n_heads;
    bool is_read = sscanf(setting->ranks, "%dx%d", &tp_size, &n_stages) == 2 && tp_size >= 1;
    if (is_read && n_heads % tp_size == 0 && n_stages <= n_layers &&
        (n_kv_heads % tp_size == 0 || tp_size % n_kv_heads == 0)) {
        return true;
    }
    printf("not run: %s: %d heads, %d KV heads, %d layers, for %s ranks\n", folder, n_heads,
           n_kv_heads, n_layers, setting->ranks);
    return false;
}

bool golden_integers(const json_t *list, int32_t **out, size_t *n)
{
    *n = json_array_size(list);
    *out = NULL;
    if (*n == 0) return true;
    *out = malloc(*n * sizeof **out);
    if (!*out) return false;
    for (size_t i = 0; i < *n; i++)
        (*out)[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return true;
}

static void text_set(const json_t *value, const char **text, size_t *n)
{
    *text = json_string_value(value);
    *n = json_string_length(value);
}

/* Numbers of a request, by their name in golden.json; which are 8 and which 32 bits wide. */
static const struct {
    const char *name;
    size_t offset;
    bool is_wide;
} number_fields[] = {
    {"truncate_prompt_tokens", offsetof(pr_request, truncate_prompt_tokens), true},
    {"truncation_side", offsetof(pr_request, truncation_side), false},
    {"add_special_tokens", offsetof(pr_request, add_special_tokens), false},
    {"normalize", offsetof(pr_request, normalize), false},
    {"softmax", offsetof(pr_request, softmax), false},
    {"use_activation", offsetof(pr_request, use_activation), false},
    {"dimensions", offsetof(pr_request, dimensions), true},
    {"step_tag_id", offsetof(pr_request, step_tag_id), true},
};

static bool number_set(pr_request *request, const char *name, json_int_t number)
{
    for (size_t i = 0; i < sizeof number_fields / sizeof *number_fields; i++) {
        char *field = (char *)request + number_fields[i].offset;
        if (strcmp(name, number_fields[i].name) != 0) continue;
        int32_t wide = (int32_t)number;
        int8_t narrow = (int8_t)number;
        if (number_fields[i].is_wide) {
            memcpy(field, &wide, sizeof wide);
        } else {
            memcpy(field, &narrow, sizeof narrow);
        }
        return true;
    }
    printf("golden.json: a request has a parameter %s that this test does not know\n", name);
    return false;
}

static bool field_set(golden_request *r, const char *name, const json_t *value)
{
    pr_request *q = &r->request;
    if (strcmp(name, "ids") == 0) return true; /* the expected ids */
    if (strcmp(name, "tokens") == 0) return golden_integers(value, &r->tokens, &q->n_tokens);
    if (strcmp(name, "returned_token_ids") == 0)
        return golden_integers(value, &r->columns, &q->n_returned_token_ids);
    if (strcmp(name, "text") == 0) {
        text_set(value, &q->text, &q->n_text);
        return true;
    }
    if (strcmp(name, "text_pair") == 0) {
        text_set(value, &q->text_pair, &q->n_text_pair);
        return true;
    }
    return number_set(q, name, json_integer_value(value));
}

static bool fields_set(golden_request *r, const json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        if (!field_set(r, name, value)) return false;
    }
    return true;
}

bool golden_request_init(const json_t *request, const json_t *params, golden_request *out)
{
    *out = (golden_request){0};
    pr_request_init(&out->request);
    if (!fields_set(out, request) || !fields_set(out, params)) {
        golden_request_deinit(out);
        return false;
    }
    out->request.tokens = out->tokens;
    out->request.returned_token_ids = out->columns;
    return true;
}

void golden_request_deinit(golden_request *r)
{
    free(r->tokens);
    free(r->columns);
    *r = (golden_request){0};
}

pr_result *golden_ask(pr_engine *engine, const pr_request *request)
{
    pr_ticket *ticket = NULL;
    pr_result *result = NULL;
    pr_error error = {0};
    if (pr_engine_submit(engine, request, &ticket, &error) != PR_OK ||
        pr_engine_wait(engine, ticket, &result, &error) != PR_OK) {
        printf("request refused: %s\n", error.message);
        return NULL;
    }
    return result;
}

/* Whether Linux lists the processor's bf16 tiles: an instruction set of their own for it too. */
static bool processor_has_tiles(void)
{
    char line[8192];
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && !found && fgets(line, sizeof line, f)) found = strstr(line, " amx_bf16") != NULL;
    if (f) fclose(f);
    return found;
}

bool golden_isa_runs_here(const char *isa)
{
    if (strcmp(isa, "amx") == 0) return processor_has_tiles();
#if defined(__x86_64__)
    if (strcmp(isa, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (strcmp(isa, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return true;
#else
    return strcmp(isa, "avx2") != 0 && strcmp(isa, "avx512") != 0;
#endif
}
