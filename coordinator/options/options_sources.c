#include "coordinator/options/options.h"

#include "coordinator/options/options_handle.h"
#include "runtime/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum { CONFIG_BYTES_MAX = 1 << 20 };

/* The library reads the environment here, once, for the places of the Hugging Face cache. */
pr_options *pr_options_create(void)
{
    pr_options *options = pr_options_create_for(PR_COMMAND_LIBRARY);
    if (!options) return NULL;
    if (pr_options_read_environment(options, environ, false, NULL) != PR_OK) {
        pr_options_free(options);
        return NULL;
    }
    return options;
}

/* ---- environment ---- */

/* The value of NAME in "NAME=value"; NULL when the entry is another's. */
static const char *entry_value(const char *entry, const char *name)
{
    size_t n = strlen(name);
    return strncmp(entry, name, n) == 0 && entry[n] == '=' ? entry + n + 1 : NULL;
}

static pr_status copy_to(char **field, const char *value, pr_error *err)
{
    char *copy = strdup(value);
    if (!copy) return pr_error_nomem(err, "environment value", strlen(value) + 1);
    free(*field);
    *field = copy;
    return PR_OK;
}

/* A positive number of another program's; anything else counts as unset. */
static void number_read(const char *entry, const char *name, int32_t *out)
{
    const char *value = entry_value(entry, name);
    if (!value) return;
    char *end;
    long n = strtol(value, &end, 10);
    if (end > value && !*end && n > 0 && n <= 65536) *out = (int32_t)n;
}

/* What is not poolrank's own: Hugging Face's places, Slurm's allowance. Empty values count as
 * unset, as they do there. */
static pr_status foreign_entry_read(pr_options *options, const char *entry, pr_error *err)
{
    const struct {
        const char *name;
        char **field;
    } places[] = {
        {"HF_HUB_CACHE", &options->hf_hub_cache},
        {"HF_HOME", &options->hf_home},
        {"XDG_CACHE_HOME", &options->xdg_cache_home},
        {"HOME", &options->home},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = entry_value(entry, places[i].name);
        if (value && *value) return copy_to(places[i].field, value, err);
    }
    const char *older = entry_value(entry, "HUGGINGFACE_HUB_CACHE");
    if (older && *older && !options->hf_hub_cache) {
        return copy_to(&options->hf_hub_cache, older, err);
    }
    number_read(entry, "SLURM_CPUS_PER_TASK", &options->slurm_cpus_per_task);
    number_read(entry, "OMPI_COMM_WORLD_SIZE", &options->launcher_size);
    const char *job = entry_value(entry, "SLURM_JOB_ID");
    if (job && *job) options->is_in_allocation = true;
    return PR_OK;
}

/* POOLRANK_<NAME> of one row. A service that is called poolrank makes Kubernetes and Docker inject
 * POOLRANK_PORT=tcp://…, which is not meant as an option. */
static pr_status own_entry_read(pr_options *options, const char *entry, pr_error *err)
{
    static const char prefix[] = "POOLRANK_";
    if (strncmp(entry, prefix, sizeof prefix - 1) != 0) return PR_OK;
    const char *equals = strchr(entry, '=');
    char name[64];
    if (!equals || (size_t)(equals - entry) >= sizeof name) return PR_OK;
    size_t n = 0;
    for (const char *p = entry + sizeof prefix - 1; p < equals; p++) {
        name[n++] = *p == '_' ? '-' : *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
    }
    name[n] = '\0';
    bool is_negated;
    const pr_option_row *row = pr_option_find(name, &is_negated);
    if (!row || is_negated || name[0] == '-' || strcmp(name, "help") == 0 ||
        strcmp(name, "version") == 0) {
        return PR_OK; /* other programs' variables may share the prefix */
    }
    if (strcmp(name, "port") == 0 && strncmp(equals + 1, "tcp://", 6) == 0) {
        return pr_options_warn(options,
                               "POOLRANK_PORT is ignored: it holds tcp://…, which a cluster sets "
                               "for a service of that name",
                               err);
    }
    return pr_options_set_from(options, PR_OPTION_SOURCE_ENVIRONMENT, name, equals + 1, err);
}

pr_status pr_options_read_environment(pr_options *options, char *const *env, bool take_options,
                                      pr_error *err)
{
    for (; *env; env++) {
        pr_status st = foreign_entry_read(options, *env, err);
        if (st == PR_OK && take_options) st = own_entry_read(options, *env, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* ---- files ---- */

/* A JSON value as the text that the command line would have. */
static pr_status json_value_set(pr_options *options, const char *key, const json_t *value,
                                pr_error *err)
{
    if (json_is_null(value)) return PR_OK;
    if (strcmp(key, "config") == 0 || strcmp(key, "help") == 0 || strcmp(key, "version") == 0) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: it has no meaning in a file", key);
    }
    if (json_is_string(value)) {
        return pr_options_set_from(options, PR_OPTION_SOURCE_FILE, key, json_string_value(value),
                                   err);
    }
    bool is_negated;
    const pr_option_row *row = pr_option_find(key, &is_negated);
    if (json_is_array(value) && row && row->kind == PR_OPTION_LIST) {
        size_t i;
        json_t *item;
        json_array_foreach(value, i, item) {
            if (json_is_array(item)) {
                return pr_error_set(err, PR_E_ARGUMENT, "%s: found an array in an array", key);
            }
            pr_status st = json_value_set(options, key, item, err);
            if (st != PR_OK) return st;
        }
        return PR_OK;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!text) return pr_error_nomem(err, key, 0);
    pr_status st = pr_options_set_from(options, PR_OPTION_SOURCE_FILE, key, text, err);
    free(text);
    return st;
}

pr_status pr_options_read_file(pr_options *options, const char *path, pr_error *err)
{
    json_t *root = NULL;
    pr_status st = pr_json_load(path, CONFIG_BYTES_MAX, &root, err);
    if (st == PR_E_MODEL) st = PR_E_ARGUMENT; /* it is the caller's file, not the model's */
    if (st == PR_OK && !json_is_object(root)) {
        st = pr_error_set(err, PR_E_ARGUMENT, "%s: found %s, expected an object", path,
                          pr_json_type_name(root));
    } else if (st == PR_OK) {
        const char *key;
        json_t *value;
        json_object_foreach(root, key, value) {
            st = json_value_set(options, key, value, err);
            if (st != PR_OK) {
                pr_error_context(err, st, "%s", path);
                break;
            }
        }
    }
    if (st != PR_OK && err) err->status = st;
    json_decref(root);
    return st;
}
