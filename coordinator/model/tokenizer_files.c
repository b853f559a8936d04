#include "coordinator/model/tokenizer_files.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 16 << 20 };

static pr_status find(const pr_config *config, const char *model, const char *below,
                      pr_tokenizer_source *s, char **folder, pr_error *err)
{
    pr_status st;
    if (config->tokenizer) {
        st = pr_hub_cache_find(&config->hub, config->tokenizer, config->tokenizer_revision, folder,
                               err);
        if (st == PR_OK) st = pr_file_resolve(*folder, "tokenizer.json", &s->path, err);
    } else {
        const char *found = below;
        st = pr_file_resolve(found, "tokenizer.json", &s->path, err);
        if (st == PR_E_NOT_FOUND) {
            found = model;
            st = pr_file_resolve(found, "tokenizer.json", &s->path, err);
        }
        *folder = strdup(found);
        if (!*folder) st = pr_error_nomem(err, "folder", strlen(found));
    }
    if (st != PR_E_NOT_FOUND || s->path) return st;
    return pr_error_context(err, st,
                            "no tokenizer.json (python3 -c \"from transformers import "
                            "AutoTokenizer as T; T.from_pretrained('DIR').save_pretrained('DIR')\""
                            " writes one)");
}

/* A file beside tokenizer.json that holds an object; *out stays NULL where there is none. */
static pr_status read_beside(const char *folder, const char *name, json_t **out, pr_error *err)
{
    char *path = NULL;
    pr_status st = pr_file_resolve(folder, name, &path, err);
    if (st == PR_E_NOT_FOUND) return PR_OK;
    if (st == PR_OK) st = pr_json_load(path, FILE_BYTES_MAX, out, err);
    if (st == PR_OK && !json_is_object(*out)) {
        st = pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", path,
                          pr_json_type_name(*out));
    }
    free(path);
    return st;
}

/* A keyword of the tokenizer: an argument of Sentence Transformers goes before the file. */
static const json_t *keyword(const pr_tokenizer_source *s, const pr_st_files *st, const char *key)
{
    const json_t *value = json_object_get(st->tokenizer_args, key);
    return value ? value : json_object_get(s->config, key);
}

static pr_status read_limits(pr_tokenizer_source *s, const pr_st_files *files, pr_error *err)
{
    static const char where[] = "tokenizer_config.json: truncation_side";
    const json_t *side = keyword(s, files, "truncation_side");
    s->has_side = side != NULL;
    if (side && !json_is_null(side)) {
        const char *name = json_string_value(side);
        s->truncate_left = name && strcmp(name, "left") == 0;
        if (!name) {
            return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected a string", where,
                                pr_json_type_name(side));
        }
        if (!s->truncate_left && strcmp(name, "right") != 0) {
            return pr_error_set(err, PR_E_MODEL, "%s: found \"%.40s\", expected left or right",
                                where, name);
        }
    }
    /* "No limit" is a huge number there, also one that no int64 holds: not an error. */
    const json_t *length = keyword(s, files, "model_max_length");
    if (!length) length = keyword(s, files, "max_len");
    if (json_is_integer(length)) s->length_max = json_integer_value(length);
    return PR_OK;
}

pr_status pr_tokenizer_source_open(const pr_config *config, const char *folder, const char *below,
                                   const pr_st_files *files, pr_tokenizer_source *out,
                                   pr_error *err)
{
    assert(out);
    char *at = NULL;
    *out = (pr_tokenizer_source){.ignore_auto_map = config->ignore_auto_map};
    pr_status st = find(config, folder, below, out, &at, err);
    if (st == PR_OK) st = read_beside(at, "tokenizer_config.json", &out->config, err);
    if (st == PR_OK) st = read_beside(at, "special_tokens_map.json", &out->special_map, err);
    if (st == PR_OK) st = read_beside(at, "added_tokens.json", &out->added, err);
    if (st == PR_OK) st = read_beside(at, "config.json", &out->model_config, err);
    if (st == PR_OK) st = read_limits(out, files, err);
    free(at);
    return st;
}

void pr_tokenizer_source_close(pr_tokenizer_source *s)
{
    if (!s) return;
    free(s->path);
    json_decref(s->config);
    json_decref(s->special_map);
    json_decref(s->added);
    json_decref(s->model_config);
    *s = (pr_tokenizer_source){0};
}

pr_status pr_tokenizer_source_load(const pr_tokenizer_source *s, const pr_st_files *st,
                                   pr_tokenizer **out, pr_error *err)
{
    const pr_tokenizer_files files = {
        .config = s->config,
        .special_map = s->special_map,
        .added = s->added,
        .arguments = st->tokenizer_args,
        .model_type = json_string_value(json_object_get(s->model_config, "model_type")),
        .model_class = json_string_value(json_object_get(s->model_config, "tokenizer_class")),
        .lowercase = st->do_lower_case,
        .ignore_auto_map = s->ignore_auto_map,
    };
    return pr_tokenizer_load_auto(s->path, &files, out, err);
}
