#include "runtime/text/tokenizer/auto_tokens.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const attributes[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};
enum { N_ATTRIBUTES = sizeof attributes / sizeof *attributes };

static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
enum { N_FLAGS = sizeof flags / sizeof *flags, FLAG_NORMALIZED = 3, FLAG_SPECIAL = 4 };

void pr_auto_tokens_deinit(pr_auto_tokens *t)
{
    json_decref(t->keywords);
    json_decref(t->decoder);
    json_decref(t->named);
    json_decref(t->extra);
    *t = (pr_auto_tokens){0};
}

static pr_status no_memory(pr_error *err)
{
    return pr_error_nomem(err, "special tokens", 0);
}

/* ---- one token ---- */

static bool is_added_token(const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "__type"));
    return type && strcmp(type, "AddedToken") == 0;
}

static bool is_token(const json_t *value)
{
    return json_is_string(value) || is_added_token(value);
}

static const char *content_of(const json_t *token)
{
    return json_string_value(json_is_string(token) ? token : json_object_get(token, "content"));
}

static bool flag_of(const json_t *token, int flag)
{
    const json_t *value = json_object_get(token, flags[flag]);
    if (value || flag != FLAG_NORMALIZED) return json_is_true(value);
    return !json_is_true(json_object_get(token, flags[FLAG_SPECIAL]));
}

static bool is_equal(const json_t *a, const json_t *b)
{
    if (strcmp(content_of(a), content_of(b)) != 0) return false;
    for (int i = 0; i < N_FLAGS; i++) {
        if (flag_of(a, i) != flag_of(b, i)) return false;
    }
    return true;
}

/* value: an object with content and flags. *out: owned, marked. */
static pr_status token_make(const json_t *value, const char *where, const char *key, json_t **out,
                            pr_error *err)
{
    if (!json_is_object(value) || !json_is_string(json_object_get(value, "content"))) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: %.80s: found %s, expected a string or a token's object", where,
                            key, pr_json_type_name(value));
    }
    json_t *token = json_pack("{s:s, s:O}", "__type", "AddedToken", "content",
                              json_object_get(value, "content"));
    if (!token) return no_memory(err);
    for (int i = 0; i < N_FLAGS; i++) {
        json_t *flag = json_object_get(value, flags[i]);
        if (!flag) continue;
        if (!json_is_boolean(flag)) {
            json_decref(token);
            return pr_error_set(err, PR_E_MODEL, "%s: %.80s: %s: found %s, expected a boolean",
                                where, key, flags[i], pr_json_type_name(flag));
        }
        json_object_set(token, flags[i], flag);
    }
    *out = token;
    return PR_OK;
}

/* ---- keywords ---- */

static bool is_attribute(const char *key)
{
    for (int i = 0; i < N_ATTRIBUTES; i++) {
        if (strcmp(key, attributes[i]) == 0) return true;
    }
    return false;
}

static bool is_token_key(const char *key)
{
    size_t n = strlen(key);
    return n >= 6 && strcmp(key + n - 6, "_token") == 0 && !is_attribute(key);
}

/* The old name of extra_special_tokens, where the new one is not there. */
static void rename_extra(json_t *keywords)
{
    json_t *old = json_object_get(keywords, "additional_special_tokens");
    if (!old) return;
    if (!json_object_get(keywords, "extra_special_tokens")) {
        json_object_set(keywords, "extra_special_tokens", old);
    }
    json_object_del(keywords, "additional_special_tokens");
}

/* Tokens with names of the model's own: strings under keys "…_token", and extra_special_tokens
 * where that is an object. */
static void gather_own(json_t *keywords)
{
    json_t *own = json_object();
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(keywords, next, key, value)
    {
        if (!is_token_key(key) || !json_is_string(value)) continue;
        json_object_set(own, key, value);
        json_object_del(keywords, key);
    }
    json_t *extra = json_object_get(keywords, "extra_special_tokens");
    if (json_is_object(extra)) {
        json_object_update(own, extra);
        json_object_del(keywords, "extra_special_tokens");
    }
    if (json_object_size(own)) json_object_set(keywords, "model_specific_special_tokens", own);
    json_decref(own);
}

static pr_status keywords_start(const pr_tokenizer_files *files, pr_auto_tokens *out, pr_error *err)
{
    out->keywords = files->config ? json_deep_copy(files->config) : json_object();
    out->decoder = json_array();
    out->named = json_object();
    out->extra = json_array();
    if (!out->keywords || !out->decoder || !out->named || !out->extra) return no_memory(err);
    json_object_del(out->keywords, "tokenizer_class");
    /* A tokenizer.json says itself what stands around a text. */
    json_object_del(out->keywords, "add_bos_token");
    json_object_del(out->keywords, "add_eos_token");
    json_t *arguments = json_deep_copy(files->arguments);
    if (arguments) json_object_update(out->keywords, arguments);
    json_decref(arguments);
    rename_extra(out->keywords);
    gather_own(out->keywords);
    return PR_OK;
}

/* ---- special_tokens_map.json ---- */

/* Marks the tokens that the map's objects became; no file says it. */
static const char from_map[] = "__made";

/* The tokens of the map behind those of the configuration; *out: owned. */
static pr_status merge_extra(const json_t *existing, const json_t *list, const char *where,
                             json_t **out, pr_error *err)
{
    json_t *all = json_is_array(existing) ? json_copy((json_t *)(uintptr_t)existing) : json_array();
    pr_status st = all ? PR_OK : no_memory(err);
    for (size_t i = 0; st == PR_OK && i < json_array_size(list); i++) {
        json_t *token = NULL;
        json_t *value = json_array_get(list, i);
        if (json_is_string(value)) {
            token = json_incref(value);
        } else if ((st = token_make(value, where, "extra_special_tokens", &token, err)) == PR_OK) {
            json_object_set_new(token, flags[FLAG_SPECIAL], json_true());
            json_object_set_new(token, from_map, json_true());
        }
        bool is_there = false;
        for (size_t k = 0; token && k < json_array_size(all); k++) {
            is_there = is_there || json_equal(json_array_get(all, k), token);
        }
        if (token && !is_there) json_array_append(all, token);
        json_decref(token);
    }
    if (st == PR_OK) {
        *out = all;
        return PR_OK;
    }
    json_decref(all);
    return st;
}

static pr_status merge_special_map(pr_auto_tokens *t, const pr_tokenizer_files *files,
                                   pr_error *err)
{
    static const char where[] = "special_tokens_map.json";
    json_t *map = (json_t *)(uintptr_t)files->special_map;
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        const json_t *argument = json_object_get(files->arguments, key);
        if (argument && !json_is_null(argument) && !json_is_false(argument)) continue;
        json_t *merged = NULL;
        pr_status st = PR_OK;
        bool is_extra = strcmp(key, "extra_special_tokens") == 0;
        if (json_is_object(value) && !is_extra) {
            st = token_make(value, where, key, &merged, err);
            if (st == PR_OK) {
                json_object_set_new(merged, flags[FLAG_SPECIAL], json_true());
                json_object_set_new(merged, from_map, json_true());
            }
        } else if (json_is_array(value) && is_extra) {
            st = merge_extra(json_object_get(t->keywords, key), value, where, &merged, err);
        } else {
            merged = json_deep_copy(value);
        }
        if (st != PR_OK) return st;
        if (json_object_set_new(t->keywords, key, merged)) return no_memory(err);
    }
    json_t *extra = json_object_get(t->keywords, "extra_special_tokens");
    if (json_is_object(extra)) {
        json_t *own = json_object_get(t->keywords, "model_specific_special_tokens");
        if (json_is_object(own)) {
            json_object_update(own, extra);
        } else {
            json_object_set(t->keywords, "model_specific_special_tokens", extra);
        }
        json_object_del(t->keywords, "extra_special_tokens");
    }
    return PR_OK;
}

/* ---- added_tokens_decoder ---- */

/* Sorted by id; of two with one id the later stays. token: consumed. */
static pr_status decoder_put(json_t *decoder, int64_t id, json_t *token, pr_error *err)
{
    json_t *row = json_pack("[I, o]", (json_int_t)id, token);
    if (!row) return no_memory(err);
    size_t low = 0;
    size_t high = json_array_size(decoder);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (json_integer_value(json_array_get(json_array_get(decoder, middle), 0)) < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const json_t *there = json_array_get(decoder, low);
    bool is_same = there && json_integer_value(json_array_get(there, 0)) == id;
    int failed =
        is_same ? json_array_set_new(decoder, low, row) : json_array_insert_new(decoder, low, row);
    return failed ? no_memory(err) : PR_OK;
}

static pr_status decoder_from_config(pr_auto_tokens *t, const json_t *decoder, pr_error *err)
{
    static const char where[] = "tokenizer_config.json: added_tokens_decoder";
    if (!json_is_object(decoder)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", where,
                            pr_json_type_name(decoder));
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)decoder, key, value)
    {
        char *end = NULL;
        errno = 0;
        long long id = strtoll(key, &end, 10);
        if (*key == 0 || *end || errno) {
            return pr_error_set(err, PR_E_MODEL, "%s: found key \"%.40s\", expected a token id",
                                where, key);
        }
        json_t *token = NULL;
        pr_status st = token_make(value, where, key, &token, err);
        if (st == PR_OK) st = decoder_put(t->decoder, id, token, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* Objects of tokenizer_config.json are no tokens yet where transformers looks. */
static bool is_of_content(const json_t *value, const char *content)
{
    if (!json_is_string(value) && !json_object_get(value, from_map)) return false;
    const char *found = content_of(value);
    return found && strcmp(found, content) == 0;
}

static bool is_special_content(const pr_auto_tokens *t, const char *content)
{
    for (int i = 0; i < N_ATTRIBUTES; i++) {
        if (is_of_content(json_object_get(t->keywords, attributes[i]), content)) return true;
    }
    const json_t *extra = json_object_get(t->keywords, "extra_special_tokens");
    for (size_t i = 0; i < json_array_size(extra); i++) {
        if (is_of_content(json_array_get(extra, i), content)) return true;
    }
    return false;
}

static pr_status decoder_from_added(pr_auto_tokens *t, const json_t *added, pr_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)added, key, value)
    {
        if (!json_is_integer(value)) {
            return pr_error_set(err, PR_E_MODEL,
                                "added_tokens.json: %.80s: found %s, expected an integer", key,
                                pr_json_type_name(value));
        }
        bool is_special = is_special_content(t, key);
        json_t *token = json_pack("{s:s, s:s, s:b, s:b}", "__type", "AddedToken", "content", key,
                                  "normalized", !is_special, "special", is_special);
        if (!token) return no_memory(err);
        pr_status st = decoder_put(t->decoder, json_integer_value(value), token, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static pr_status decoder_from_file(pr_auto_tokens *t, const json_t *root, pr_error *err)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(root, "added_tokens"), i, value)
    {
        json_t *token = NULL;
        pr_status st = token_make(value, "tokenizer.json", "added_tokens", &token, err);
        if (st != PR_OK) return st;
        st = decoder_put(t->decoder, json_integer_value(json_object_get(value, "id")), token, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* The named tokens with the flags that the decoder has for them. */
static void take_flags(pr_auto_tokens *t)
{
    for (int a = 0; a < N_ATTRIBUTES; a++) {
        const char *content = content_of(json_object_get(t->keywords, attributes[a]));
        json_t *found = NULL;
        for (size_t i = 0; content && i < json_array_size(t->decoder); i++) {
            json_t *token = json_array_get(json_array_get(t->decoder, i), 1);
            if (strcmp(content_of(token), content) == 0) found = token;
        }
        if (found) json_object_set(t->keywords, attributes[a], found);
    }
}

pr_status pr_auto_tokens_read(const pr_tokenizer_files *files, const json_t *root,
                              pr_auto_tokens *out, pr_error *err)
{
    *out = (pr_auto_tokens){0};
    pr_status st = keywords_start(files, out, err);
    if (st != PR_OK) return st;
    const json_t *decoder = json_object_get(out->keywords, "added_tokens_decoder");
    if (decoder) {
        st = decoder_from_config(out, decoder, err);
    } else {
        if (files->special_map) st = merge_special_map(out, files, err);
        if (st == PR_OK && files->added) st = decoder_from_added(out, files->added, err);
        if (st == PR_OK) st = decoder_from_file(out, root, err);
    }
    if (st == PR_OK) take_flags(out);
    return st;
}

/* ---- names ---- */

static pr_status name_token(pr_auto_tokens *t, const char *key, json_t *value, pr_error *err)
{
    if (!is_token(value)) {
        return pr_error_set(err, PR_E_MODEL,
                            "tokenizer_config.json: %.80s: found %s, expected a string or an "
                            "object with \"__type\": \"AddedToken\"",
                            key, pr_json_type_name(value));
    }
    json_t *token = NULL;
    pr_status st = PR_OK;
    if (json_is_string(value)) {
        token = json_incref(value);
    } else {
        st = token_make(value, "tokenizer_config.json", key, &token, err);
    }
    if (st == PR_OK && json_object_set_new(t->named, key, token)) st = no_memory(err);
    return st;
}

static pr_status name_attributes(pr_auto_tokens *t, const pr_auto_default *defaults, size_t n,
                                 pr_error *err)
{
    for (int a = 0; a < N_ATTRIBUTES; a++) {
        json_t *value = json_object_get(t->keywords, attributes[a]);
        pr_status st = PR_OK;
        if (value && !json_is_null(value)) st = name_token(t, attributes[a], value, err);
        for (size_t i = 0; !value && i < n; i++) {
            if (strcmp(defaults[i].attribute, attributes[a]) != 0) continue;
            json_object_set_new(t->named, attributes[a], json_string(defaults[i].content));
        }
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static pr_status name_own(pr_auto_tokens *t, pr_error *err)
{
    const char *key;
    json_t *value;
    pr_status st = PR_OK;
    json_object_foreach(t->keywords, key, value)
    {
        if (!is_token_key(key) || !is_token(value)) continue;
        if ((st = name_token(t, key, value, err)) != PR_OK) return st;
    }
    json_t *own = json_object_get(t->keywords, "model_specific_special_tokens");
    if (own && !json_is_null(own) && !json_is_object(own)) {
        return pr_error_set(err, PR_E_MODEL,
                            "tokenizer_config.json: model_specific_special_tokens: found %s, "
                            "expected an object",
                            pr_json_type_name(own));
    }
    json_object_foreach(own, key, value)
    {
        if ((st = name_token(t, key, value, err)) != PR_OK) return st;
    }
    return PR_OK;
}

pr_status pr_auto_tokens_name(pr_auto_tokens *t, const pr_auto_default *defaults, size_t n,
                              pr_error *err)
{
    rename_extra(t->keywords);
    pr_status st = name_attributes(t, defaults, n, err);
    if (st == PR_OK) st = name_own(t, err);
    const json_t *extra = json_object_get(t->keywords, "extra_special_tokens");
    if (st == PR_OK && extra && !json_is_null(extra) && !json_is_array(extra)) {
        return pr_error_set(err, PR_E_MODEL,
                            "tokenizer_config.json: extra_special_tokens: found %s, expected an "
                            "array or an object",
                            pr_json_type_name(extra));
    }
    for (size_t i = 0; st == PR_OK && i < json_array_size(extra); i++) {
        json_t *value = json_array_get(extra, i);
        json_t *token = NULL;
        if (json_is_string(value)) {
            token = json_incref(value);
        } else if (is_added_token(value)) {
            st = token_make(value, "tokenizer_config.json", "extra_special_tokens", &token, err);
        } else {
            st = pr_error_set(err, PR_E_MODEL,
                              "tokenizer_config.json: extra_special_tokens[%zu]: found %s, "
                              "expected a string or an object with \"__type\": \"AddedToken\"",
                              i, pr_json_type_name(value));
        }
        if (st == PR_OK && json_array_append_new(t->extra, token)) st = no_memory(err);
    }
    return st;
}

const char *pr_auto_tokens_content(const pr_auto_tokens *t, const char *attribute)
{
    return content_of(json_object_get(t->named, attribute));
}

bool pr_auto_keyword_is_true(const pr_auto_tokens *t, const char *key, bool if_absent)
{
    const json_t *value = json_object_get(t->keywords, key);
    if (!value) return if_absent;
    if (json_is_number(value)) return json_number_value(value) != 0;
    if (json_is_string(value)) return json_string_length(value) > 0;
    if (json_is_array(value)) return json_array_size(value) > 0;
    if (json_is_object(value)) return json_object_size(value) > 0;
    return json_is_true(value);
}

/* ---- adding ---- */

/* By content the last entry of an array of tokens: the one that counts. NULL: no memory. */
static json_t *index_make(const json_t *tokens)
{
    json_t *index = json_object();
    for (size_t i = 0; index && i < json_array_size(tokens); i++) {
        json_t *token = json_array_get(tokens, i);
        json_object_set(index, content_of(token), token);
    }
    return index;
}

static pr_status append(json_t *added, json_t *index, const json_t *token, pr_error *err)
{
    const char *content = content_of(token);
    if (!*content) return PR_OK;
    const json_t *there = json_object_get(index, content);
    if (there && is_equal(there, token)) return PR_OK;
    json_t *entry = json_pack("{s:i, s:s}", "id", 0, "content", content);
    if (!entry) return no_memory(err);
    for (int i = 0; i < N_FLAGS; i++) {
        json_object_set_new(entry, flags[i], json_boolean(flag_of(token, i)));
    }
    json_object_set(index, content, entry);
    return json_array_append_new(added, entry) ? no_memory(err) : PR_OK;
}

/* A token of the list with this content, or one equal to it. */
static bool is_listed(const json_t *list, const json_t *token)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *other = json_array_get(list, i);
        if (json_is_string(other) != json_is_string(token)) continue;
        if (json_is_string(token) ? json_equal(other, token) : is_equal(other, token)) return true;
    }
    return false;
}

/* What is not among `added` as it should be: of the decoder, then of the named and extra tokens.
 * list: empty array. */
static pr_status collect(const pr_auto_tokens *t, const json_t *added, json_t *list, pr_error *err)
{
    for (size_t i = 0; i < json_array_size(t->decoder); i++) {
        json_t *token = json_array_get(json_array_get(t->decoder, i), 1);
        const json_t *there = json_object_get(added, content_of(token));
        if (!there || !is_equal(there, token)) json_array_append(list, token);
    }
    json_t *known = index_make(list);
    if (!known) return no_memory(err);
    const char *key;
    json_t *token;
    json_object_foreach(t->named, key, token)
    {
        const char *content = content_of(token);
        if (json_object_get(added, content) || json_object_get(known, content)) continue;
        if (!is_listed(list, token)) json_array_append(list, token);
    }
    size_t i;
    json_array_foreach(t->extra, i, token)
    {
        const char *content = content_of(token);
        if (json_object_get(added, content) || json_object_get(known, content)) continue;
        if (!is_listed(list, token)) json_array_append(list, token);
    }
    json_decref(known);
    return PR_OK;
}

static json_t *as_special(const json_t *token)
{
    json_t *special = json_is_object(token) ? json_copy((json_t *)(uintptr_t)token)
                                         : json_pack("{s:s, s:s}", "__type", "AddedToken",
                                                     "content", json_string_value(token));
    if (special) json_object_set_new(special, flags[FLAG_SPECIAL], json_true());
    return special;
}

static bool is_named(const pr_auto_tokens *t, const char *content)
{
    const char *key;
    json_t *token;
    json_object_foreach(t->named, key, token)
    {
        if (strcmp(content_of(token), content) == 0) return true;
    }
    return false;
}

pr_status pr_auto_tokens_add(const pr_auto_tokens *t, json_t *added, pr_error *err)
{
    json_t *index = index_make(added);
    json_t *list = json_array();
    pr_status st = index && list ? collect(t, index, list, err) : no_memory(err);
    for (size_t i = 0; st == PR_OK && i < json_array_size(list); i++) {
        json_t *token = json_array_get(list, i);
        bool is_special = json_is_string(token) || is_named(t, content_of(token));
        json_t *special = is_special ? as_special(token) : json_incref(token);
        st = special ? append(added, index, special, err) : no_memory(err);
        json_decref(special);
    }
    json_decref(list);
    json_decref(index);
    return st;
}

static pr_status add_special(const json_t *token, json_t *added, json_t *index, pr_error *err)
{
    json_t *plain = json_string(content_of(token));
    json_t *special = plain ? as_special(plain) : NULL;
    pr_status st = special ? append(added, index, special, err) : no_memory(err);
    json_decref(special);
    json_decref(plain);
    return st;
}

pr_status pr_auto_tokens_add_special(const pr_auto_tokens *t, json_t *added, pr_error *err)
{
    json_t *index = index_make(added);
    pr_status st = index ? PR_OK : no_memory(err);
    const char *key;
    json_t *token;
    json_object_foreach(t->named, key, token)
    {
        if (st == PR_OK) st = add_special(token, added, index, err);
    }
    size_t i;
    json_array_foreach(t->extra, i, token)
    {
        if (st == PR_OK) st = add_special(token, added, index, err);
    }
    json_decref(index);
    return st;
}
