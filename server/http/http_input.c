#include "server/http/http_input.h"

#include "runtime/base/json.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHERE_BYTES = 64 };

/* "where: message" with key as the parameter at fault. */
static bool refuse_at(pr_http_exchange *x, const char *key, const char *where, const json_t *found,
                      const char *expected)
{
    pr_error err;
    pr_error_set(&err, PR_E_INPUT, "%s: found %s, expected %s", where, pr_json_type_name(found),
                 expected);
    return pr_http_fail(x, key, &err);
}

bool pr_http_items_create(pr_http_exchange *x, const char *key, size_t n)
{
    size_t n_max = (size_t)pr_service_settings(x->service)->max_client_batch_size;
    pr_error err;
    assert(!x->call.items);
    x->params->input_key = key;
    if (n == 0) return pr_http_refuse(x, key, "found an empty array, expected at least one text");
    if (n > n_max) {
        pr_error_set(&err, PR_E_TOO_LARGE,
                     "%s: found %zu texts, expected at most %zu (--max-client-batch-size)", key, n,
                     n_max);
        return pr_http_fail(x, key, &err);
    }
    x->call.items = malloc(n * sizeof *x->call.items);
    if (!x->call.items) {
        pr_error_nomem(&err, "texts", n * sizeof *x->call.items);
        return pr_http_fail(x, key, &err);
    }
    x->call.n_items = n;
    for (size_t i = 0; i < n; i++) x->call.items[i] = x->params->item;
    return true;
}

/* ---- texts ---- */

/* Jina's items are objects of one text. */
static const json_t *text_of(const json_t *value)
{
    const json_t *text = json_is_object(value) ? json_object_get(value, "text") : NULL;
    return text && json_object_size(value) == 1 ? text : value;
}

static bool text_take(pr_http_exchange *x, const char *key, size_t i, const json_t *value,
                      const char **text, size_t *n)
{
    value = text_of(value);
    if (json_is_string(value)) {
        *text = json_string_value(value);
        *n = json_string_length(value);
        return true;
    }
    char where[WHERE_BYTES];
    snprintf(where, sizeof where, "%s[%zu]", key, i);
    return refuse_at(x, key, where, value, "a string");
}

static bool array_texts_read(pr_http_exchange *x, const char *key, const json_t *array)
{
    if (!pr_http_items_create(x, key, json_array_size(array))) return false;
    for (size_t i = 0; i < x->call.n_items; i++) {
        pr_request *r = &x->call.items[i];
        if (!text_take(x, key, i, json_array_get(array, i), &r->text, &r->n_text)) return false;
    }
    return true;
}

static bool single_text_read(pr_http_exchange *x, const char *key, const json_t *value)
{
    if (!pr_http_items_create(x, key, 1)) return false;
    x->params->is_single = true;
    x->call.items[0].text = json_string_value(value);
    x->call.items[0].n_text = json_string_length(value);
    return true;
}

bool pr_http_texts_read(pr_http_exchange *x, const char *key)
{
    const json_t *value = pr_http_value(x, key);
    if (json_is_string(value)) return single_text_read(x, key, value);
    if (json_is_array(value)) return array_texts_read(x, key, value);
    return refuse_at(x, key, key, value, "a string or an array of strings");
}

/* ---- token ids ---- */

bool pr_http_ids_read(pr_http_exchange *x, const char *key, const char *where, const json_t *array,
                      int32_t *ids)
{
    size_t n = json_array_size(array);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(array, i);
        json_int_t number = json_integer_value(id);
        if (json_is_integer(id) && number >= 0 && number <= INT32_MAX) {
            ids[i] = (int32_t)number;
            continue;
        }
        char expected[WHERE_BYTES], place[2 * WHERE_BYTES];
        snprintf(expected, sizeof expected, "a token id of 0 to %d", INT32_MAX);
        snprintf(place, sizeof place, "%s[%zu]", where, i);
        return refuse_at(x, key, place, id, expected);
    }
    return true;
}

static bool tokens_are_taken(pr_http_exchange *x, const char *key)
{
    if (pr_service_settings(x->service)->allow_token_input) return true;
    return pr_http_refuse(x, key,
                          "found token ids, expected texts: some clients send ids of another "
                          "model's vocabulary by default, which would give wrong numbers. With "
                          "LangChain set check_embedding_ctx_length=False; if the ids are this "
                          "model's, start the server with --allow-token-input");
}

static bool ids_create(pr_http_exchange *x, const char *key, size_t n)
{
    x->params->ids = malloc((n ? n : 1) * sizeof *x->params->ids);
    if (x->params->ids) return true;
    pr_error err;
    pr_error_nomem(&err, "token ids", n * sizeof *x->params->ids);
    return pr_http_fail(x, key, &err);
}

static bool item_tokens_take(pr_http_exchange *x, const char *key, const char *where,
                             const json_t *array, int32_t *ids, pr_request *r)
{
    if (json_array_size(array) == 0) {
        return refuse_at(x, key, where, array, "at least one token id");
    }
    if (!pr_http_ids_read(x, key, where, array, ids)) return false;
    r->tokens = ids;
    r->n_tokens = json_array_size(array);
    return true;
}

/* [1, 2, 3]: one item. */
static bool single_tokens_read(pr_http_exchange *x, const char *key, const json_t *array)
{
    if (!tokens_are_taken(x, key) || !pr_http_items_create(x, key, 1)) return false;
    x->params->is_single = true;
    return ids_create(x, key, json_array_size(array)) &&
           item_tokens_take(x, key, key, array, x->params->ids, &x->call.items[0]);
}

/* [[1, 2], [3]]: an item each. */
static bool array_tokens_read(pr_http_exchange *x, const char *key, const json_t *array)
{
    size_t n_ids = 0;
    if (!tokens_are_taken(x, key) || !pr_http_items_create(x, key, json_array_size(array))) {
        return false;
    }
    for (size_t i = 0; i < x->call.n_items; i++) n_ids += json_array_size(json_array_get(array, i));
    if (!ids_create(x, key, n_ids)) return false;
    int32_t *ids = x->params->ids;
    for (size_t i = 0; i < x->call.n_items; i++) {
        const json_t *one = json_array_get(array, i);
        char where[WHERE_BYTES];
        snprintf(where, sizeof where, "%s[%zu]", key, i);
        if (!json_is_array(one)) return refuse_at(x, key, where, one, "an array of token ids");
        if (!item_tokens_take(x, key, where, one, ids, &x->call.items[i])) return false;
        ids += json_array_size(one);
    }
    return true;
}

/* ---- a conversation ---- */

static bool chat_dump(pr_http_exchange *x)
{
    static const char *const keys[] = {"messages",      "tools",
                                       "documents",     "chat_template_kwargs",
                                       "chat_template", "add_generation_prompt",
                                       "continue_final_message"};
    json_t *chat = json_object();
    for (size_t i = 0; chat && i < sizeof keys / sizeof *keys; i++) {
        json_t *value = pr_http_value(x, keys[i]);
        if (value && json_object_set(chat, keys[i], value) != 0) break;
    }
    x->params->messages = chat ? json_dumps(chat, JSON_COMPACT) : NULL;
    json_decref(chat);
    if (x->params->messages) return true;
    pr_error err;
    pr_error_nomem(&err, "messages", 0);
    return pr_http_fail(x, "messages", &err);
}

bool pr_http_messages_read(pr_http_exchange *x, const char *key, bool *ok)
{
    if (!pr_http_value(x, "messages")) return false;
    *ok = false;
    if (pr_http_value(x, key)) {
        pr_http_refuse(x, "messages", "found %s too, expected one of them", key);
        return true;
    }
    if (!pr_http_items_create(x, "messages", 1) || !chat_dump(x)) return true;
    x->params->is_single = true;
    x->call.items[0].messages = x->params->messages;
    x->call.items[0].n_messages = strlen(x->params->messages);
    *ok = true;
    return true;
}

/* ---- other shapes ---- */

bool pr_http_unwrap(pr_http_exchange *x, const char *key)
{
    json_t *inner = json_object_get(x->json, key);
    if (!json_is_object(inner)) return refuse_at(x, key, key, inner, "an object");
    assert(!x->whole);
    json_incref(inner);
    x->whole = x->json; /* whose strings parameters may borrow */
    x->json = inner;
    return true;
}

/* One text, or the two of a pair. */
static bool sequence_read(pr_http_exchange *x, const char *key, size_t i, const json_t *value)
{
    pr_request *r = &x->call.items[i];
    size_t n = json_array_size(value);
    if (!json_is_array(value)) return text_take(x, key, i, value, &r->text, &r->n_text);
    if (n < 1 || n > 2) {
        return pr_http_refuse(x, key, "element %zu: found %zu texts, expected one or a pair", i, n);
    }
    if (!text_take(x, key, i, json_array_get(value, 0), &r->text, &r->n_text)) return false;
    return n == 1 || text_take(x, key, i, json_array_get(value, 1), &r->text_pair, &r->n_text_pair);
}

bool pr_http_sequences_read(pr_http_exchange *x, const char *key)
{
    const json_t *all = pr_http_value(x, key);
    bool is_single = json_is_string(all) || json_is_string(json_array_get(all, 0));
    if (!json_is_string(all) && !json_is_array(all)) {
        return refuse_at(x, key, key, all, "a string, a pair, or an array of arrays of them");
    }
    if (!pr_http_items_create(x, key, is_single ? 1 : json_array_size(all))) return false;
    x->params->is_single = is_single;
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (!sequence_read(x, key, i, is_single ? all : json_array_get(all, i))) return false;
    }
    return true;
}

bool pr_http_input_read(pr_http_exchange *x, const char *key)
{
    bool ok = false;
    if (pr_http_messages_read(x, key, &ok)) return ok;
    const json_t *value = pr_http_value(x, key);
    const json_t *first = json_array_get(value, 0);
    if (json_is_integer(first)) return single_tokens_read(x, key, value);
    if (json_is_array(first)) return array_tokens_read(x, key, value);
    return pr_http_texts_read(x, key);
}

/* ---- pairs ---- */

/* Elements of a text or an array of texts. */
static size_t side_size(const json_t *side)
{
    return json_is_array(side) ? json_array_size(side) : 1;
}

static bool side_take(pr_http_exchange *x, const char *key, const json_t *side, size_t i,
                      const char **text, size_t *n)
{
    if (json_is_array(side)) {
        if (json_array_size(side) == 1) i = 0;
        return text_take(x, key, i, json_array_get(side, i), text, n);
    }
    if (!json_is_string(side)) {
        return refuse_at(x, key, key, side, "a string or an array of strings");
    }
    *text = json_string_value(side);
    *n = json_string_length(side);
    return true;
}

bool pr_http_pairs_read(pr_http_exchange *x, const char *first, const char *second)
{
    const json_t *a = pr_http_value(x, first), *b = pr_http_value(x, second);
    size_t n_a = side_size(a), n_b = side_size(b);
    if (n_a == 0 || n_b == 0) {
        return pr_http_refuse(x, n_a ? second : first,
                              "found an empty array, expected at least one text");
    }
    if (n_a != 1 && n_a != n_b) {
        return pr_http_refuse(x, second,
                              "found %zu texts for %zu. Input lengths must be either 1:1, 1:N or "
                              "N:N",
                              n_b, n_a);
    }
    if (!pr_http_items_create(x, second, n_b)) return false;
    x->params->is_single = json_is_string(b);
    for (size_t i = 0; i < n_b; i++) {
        pr_request *r = &x->call.items[i];
        if (!side_take(x, first, a, i, &r->text, &r->n_text) ||
            !side_take(x, second, b, i, &r->text_pair, &r->n_text_pair)) {
            return false;
        }
    }
    return true;
}

const char *pr_http_document_text(const json_t *document, size_t *n)
{
    if (json_is_object(document)) document = json_object_get(document, "text");
    if (!json_is_string(document)) return NULL;
    *n = json_string_length(document);
    return json_string_value(document);
}

bool pr_http_documents_read(pr_http_exchange *x, const char *query, const char *documents,
                            bool takes_objects)
{
    const json_t *q = pr_http_value(x, query), *all = pr_http_value(x, documents);
    if (!json_is_string(q)) return refuse_at(x, query, query, q, "a string");
    if (!json_is_array(all)) return refuse_at(x, documents, documents, all, "an array");
    if (!pr_http_items_create(x, documents, json_array_size(all))) return false;
    x->params->documents = all;
    for (size_t i = 0; i < x->call.n_items; i++) {
        const json_t *document = json_array_get(all, i);
        pr_request *r = &x->call.items[i];
        r->text = json_string_value(q);
        r->n_text = json_string_length(q);
        if (takes_objects || json_is_string(document)) {
            r->text_pair = pr_http_document_text(document, &r->n_text_pair);
        }
        if (r->text_pair) continue;
        char where[WHERE_BYTES];
        snprintf(where, sizeof where, "%s[%zu]", documents, i);
        return refuse_at(x, documents, where, document,
                         takes_objects ? "a string or {\"text\": string}" : "a string");
    }
    return true;
}
