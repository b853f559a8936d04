#include "server/http/http_params.h"

#include "runtime/base/json.h"
#include "runtime/model/pooling_spec.h"
#include "runtime/base/number.h"
#include "runtime/wire/request_params.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool pr_http_fail(pr_http_exchange *x, const char *key, const pr_error *err)
{
    pr_http_exchange_error(x, 0, NULL, err, key, 0);
    return false;
}

bool pr_http_refuse(pr_http_exchange *x, const char *key, const char *fmt, ...)
{
    char message[PR_ERROR_BYTES];
    pr_error err;
    va_list ap;
    va_start(ap, fmt);
    pr_text_format(message, sizeof message, fmt, ap);
    va_end(ap);
    pr_error_set(&err, PR_E_INPUT, "%s%s%s", key ? key : "", key ? ": " : "", message);
    return pr_http_fail(x, key, &err);
}

json_t *pr_http_value(const pr_http_exchange *x, const char *key)
{
    json_t *value = json_object_get(x->json, key);
    return json_is_null(value) ? NULL : value;
}

static void params_free(pr_http_params *params)
{
    if (!params) return;
    free(params->ids);
    free(params->returned_ids);
    free(params->messages);
    free(params);
}

/* ---- how a value is read ---- */

typedef struct key_row key_row;
typedef bool (*key_reader)(pr_http_exchange *x, const key_row *row, const json_t *value);

struct key_row {
    const char *key;
    unsigned bodies;    /* pr_http_body bits */
    key_reader read;    /* NULL: the route reads it, as input */
    size_t field;       /* of pr_http_params */
    const char *reason; /* of a refusal */
};

static bool wrong(pr_http_exchange *x, const char *key, const json_t *value, const char *expected)
{
    return pr_http_refuse(x, key, "found %s, expected %s", pr_json_type_name(value), expected);
}

static void *field_of(const pr_http_exchange *x, const key_row *row)
{
    return (char *)x->params + row->field;
}

static bool read_nothing(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    (void)x, (void)row, (void)value;
    return true;
}

static bool read_refused(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    (void)value;
    return pr_http_refuse(x, row->key, "%s", row->reason);
}

/* A parameter of the request itself, by its row in runtime/wire/request_params.h. */
static bool param_read(pr_http_exchange *x, const pr_param_row *row, const json_t *value)
{
    pr_error err;
    pr_status st = pr_param_json_read(row, value, &x->params->item, &x->params->returned_ids, &err);
    x->call.priority = x->params->item.priority;
    return st == PR_OK || pr_http_fail(x, row->key, &err);
}

/* pr_request's form of a switch: int8_t, -1 is unset. */
static bool read_switch(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (!json_is_boolean(value)) return wrong(x, row->key, value, "true or false");
    *(int8_t *)field_of(x, row) = json_is_true(value) ? 1 : 0;
    return true;
}

static bool read_bool(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (!json_is_boolean(value)) return wrong(x, row->key, value, "true or false");
    *(bool *)field_of(x, row) = json_is_true(value);
    return true;
}

static bool read_int(pr_http_exchange *x, const key_row *row, const json_t *value, int32_t min)
{
    json_int_t i = json_integer_value(value);
    if (!json_is_integer(value)) return wrong(x, row->key, value, "an integer");
    if (i < min || i > INT32_MAX) {
        return pr_http_refuse(x, row->key, "found %lld, expected %d to %d", (long long)i, min,
                              INT32_MAX);
    }
    *(int32_t *)field_of(x, row) = (int32_t)i;
    return true;
}

static bool read_count(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    return read_int(x, row, value, 1);
}

static bool read_natural(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    return read_int(x, row, value, 0);
}

/* What would have to be 0, which clients send as the default. */
static bool read_zero(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (json_is_integer(value) && json_integer_value(value) == 0) return true;
    return pr_http_refuse(x, row->key, "%s", row->reason);
}

/* Which of the choices, "a|b", the value is; -1: none, and the answer says so. */
static int choice(pr_http_exchange *x, const char *key, const json_t *value, const char *choices)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    size_t n_text = strlen(text);
    int i = 0;
    for (const char *at = choices; at; i++) {
        const char *end = strchr(at, '|');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        if (n == n_text && n > 0 && memcmp(at, text, n) == 0) return i;
        at = end ? end + 1 : NULL;
    }
    if (!json_is_string(value)) {
        wrong(x, key, value, choices);
    } else {
        pr_http_refuse(x, key, "found \"%.40s\", expected %s", text, choices);
    }
    return -1;
}

static bool read_direction(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    int i = choice(x, row->key, value, "Right|Left|right|left");
    if (i >= 0) x->params->item.truncation_side = (int8_t)(i % 2);
    return i >= 0;
}

static bool read_padding(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (json_is_false(value) || strcmp(text, "do_not_pad") == 0) return true;
    return pr_http_refuse(x, row->key, "texts are never padded here, expected do_not_pad");
}

static bool read_on_error(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    int i = choice(x, row->key, value, "fail|per_item");
    x->params->is_per_item = i == 1;
    return i >= 0;
}

static bool read_encoding(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    int i = choice(x, row->key, value, "float|base64");
    x->params->is_base64 = i == 1;
    return i >= 0;
}

static bool read_embed_dtype(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    return choice(x, row->key, value, "float32|float") >= 0;
}

static bool read_endianness(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    return choice(x, row->key, value, "little|native") >= 0;
}

static bool read_reduce(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    static_assert(PR_REDUCE_LAST == 0 && PR_REDUCE_PRODUCT == 3 && PR_REDUCE_COUNT == 4, "order");
    int i = choice(x, row->key, value, "last|mean|min|product");
    if (i >= 0) x->params->reduce = (pr_reduce)i;
    return i >= 0;
}

static bool read_model(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (!json_is_string(value)) return wrong(x, row->key, value, "a string");
    const char *name = json_string_value(value);
    bool is_whole = strlen(name) == json_string_length(value);
    if (is_whole && pr_service_model_is_known(x->service, name)) {
        x->params->model_name = name;
        return true;
    }
    pr_error err;
    pr_error_set(&err, PR_E_NOT_FOUND, "The model `%.200s` does not exist.", name);
    return pr_http_fail(x, row->key, &err);
}

/* An id that log lines cannot take leaves the one that the request has. */
static bool read_request_id(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (!json_is_string(value)) return wrong(x, row->key, value, "a string");
    char id[PR_REQUEST_ID_BYTES_MAX + 1];
    pr_request_id_take(id, json_string_value(value), json_string_length(value));
    if (strcmp(id, json_string_value(value)) == 0) memcpy(x->call.id, id, sizeof id);
    return true;
}

static bool read_timeout(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    enum { SECONDS_MAX = 1 << 20 };
    double seconds = json_number_value(value);
    if (!json_is_number(value)) return wrong(x, row->key, value, "a number of seconds");
    if (!(seconds > 0 && seconds <= SECONDS_MAX)) {
        return pr_http_refuse(x, row->key, "found %g, expected more than 0 and at most %d seconds",
                              seconds, SECONDS_MAX);
    }
    x->call.timeout_ms = seconds < 0.001 ? 1 : (uint32_t)(seconds * 1000);
    return true;
}

static bool read_priority(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    (void)row;
    return param_read(x, pr_param_describe(PR_PARAM_PRIORITY), value);
}

/* vLLM's newer names beside poolrank's own. What pools each token is the model's reward task. */
static bool read_task(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    static const pr_task tasks[] = {PR_TASK_AUTO,  PR_TASK_AUTO,   PR_TASK_EMBED, PR_TASK_CLASSIFY,
                                    PR_TASK_SCORE, PR_TASK_REWARD, PR_TASK_REWARD};
    int i = choice(x, row->key, value, "auto|encode|embed|classify|score|reward|token_classify");
    if (i >= 0) x->params->item.task = tasks[i];
    return i >= 0;
}

#define EMBEDDING_TYPES "float|int8|uint8|binary|ubinary|base64"

static bool embedding_type_add(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    static_assert(PR_HTTP_EMBEDDING_COUNT == 6, "EMBEDDING_TYPES");
    int type = choice(x, row->key, value, EMBEDDING_TYPES);
    if (type >= 0) x->params->embedding_types |= 1u << type;
    return type >= 0;
}

static bool read_embedding_types(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (json_is_string(value)) return embedding_type_add(x, row, value);
    if (!json_is_array(value)) return wrong(x, row->key, value, "an array of strings");
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!embedding_type_add(x, row, json_array_get(value, i))) return false;
    }
    if (x->params->embedding_types) return true;
    return pr_http_refuse(x, row->key, "found an empty array, expected " EMBEDDING_TYPES);
}

/* Jina's and Voyage's; with base64 it is encoding_format's. */
static bool read_embedding_type(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    int i = choice(x, row->key, value, "float|base64");
    if (i == 1) x->params->is_base64 = true;
    return i >= 0;
}

/* Voyage's and Xinference's switch: true cuts at the model's limit. */
static bool read_truncation(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (!json_is_boolean(value)) return wrong(x, row->key, value, "true or false");
    if (json_is_true(value) && x->params->item.truncate_prompt_tokens == 0) {
        x->params->item.truncate_prompt_tokens = -1;
    }
    x->params->is_voyage = true;
    return true;
}

static bool read_top_k(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    x->params->is_voyage = true;
    return read_int(x, row, value, 1);
}

/* What is only served when it is off. */
static bool read_false(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (json_is_false(value)) return true;
    return pr_http_refuse(x, row->key, "%s", row->reason);
}

/* Cohere cuts a document that is longer. 0: nothing is cut. */
static bool read_doc_limit(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value)) return wrong(x, row->key, value, "an integer");
    if (n == 0) return true;
    if (x->model && n >= (json_int_t)x->model->n_tokens_max) {
        if (x->params->item.truncate_prompt_tokens == 0)
            x->params->item.truncate_prompt_tokens = -1;
        return true;
    }
    return pr_http_refuse(x, row->key,
                          "expected 0, or at least the model's limit: documents are not cut by "
                          "themselves here; truncate_prompt_tokens cuts query and document "
                          "together, the longer first");
}

/* Documents are read by "text" only, which is what Cohere's clients mean by default. */
static bool read_rank_fields(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    const json_t *first = json_array_get(value, 0);
    if (json_array_size(value) == 1 && json_is_string(first) &&
        strcmp(json_string_value(first), "text") == 0) {
        return true;
    }
    return pr_http_refuse(x, row->key, "expected [\"text\"]: other fields are not read");
}

/* Xinference's client sends its further arguments twice, here as the JSON of them. */
static bool read_no_arguments(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    if (json_is_string(value)) return true;
    return wrong(x, row->key, value, "a string");
}

static bool key_read(pr_http_exchange *x, pr_http_body body, const char *key, const json_t *value);

/* The keys inside are the body's own. */
static bool read_inner(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    const char *key;
    json_t *one;
    if (!json_is_object(value)) return wrong(x, row->key, value, "an object");
    json_object_foreach((json_t *)value, key, one)
    {
        if (json_is_object(one)) return wrong(x, key, one, "a plain value");
        if (!key_read(x, x->params->body, key, one)) return false;
    }
    return true;
}

/* Cohere's: END unless said otherwise. */
static bool read_cohere_truncate(pr_http_exchange *x, const key_row *row, const json_t *value)
{
    int i = choice(x, row->key, value, "END|START|NONE");
    x->params->truncate = i != 2;
    x->params->item.truncation_side = i == 1 ? 1 : 0;
    return i >= 0;
}

/* ---- the keys ---- */

enum {
    TEI_INPUTS = PR_HTTP_BODY_TEI_EMBED | PR_HTTP_BODY_TEI_PREDICT | PR_HTTP_BODY_TEI_SIMILARITY,
    TEI = PR_HTTP_BODY_TEI_RERANK | TEI_INPUTS,
    RERANK = PR_HTTP_BODY_RERANK,
    SCORE = PR_HTTP_BODY_SCORE | RERANK,
    COHERE = PR_HTTP_BODY_COHERE_EMBED,
    ROWS = PR_HTTP_BODY_EMBEDDINGS | PR_HTTP_BODY_POOLING,
    INPUT = ROWS | PR_HTTP_BODY_CLASSIFY,
    REWARD = PR_HTTP_BODY_REWARD,
    TALK = INPUT | PR_HTTP_BODY_TOKENIZE, /* bodies that take messages in place of texts */
    MODEL = INPUT | SCORE | REWARD | TEI | COHERE, /* bodies that a model is run for */
    TEXT = INPUT | SCORE | REWARD,
    TOKENS = PR_HTTP_BODY_TOKENIZE | PR_HTTP_BODY_DETOKENIZE,
    ALL = MODEL | TOKENS
};

#define PARAM(name) offsetof(pr_http_params, name)
#define CHAT                                                                                       \
    "a conversation stands for one text: POST /pooling, /classify, /v1/embeddings and /tokenize "  \
    "take it"

static const key_row rows[] = {
    {"model", ALL, read_model, 0, NULL},
    /* input */
    {"input", INPUT, NULL, 0, NULL},
    {"text_1", PR_HTTP_BODY_SCORE, NULL, 0, NULL},
    {"text_2", PR_HTTP_BODY_SCORE, NULL, 0, NULL},
    {"queries", PR_HTTP_BODY_SCORE, NULL, 0, NULL},
    {"documents", SCORE, NULL, 0, NULL},
    {"items", PR_HTTP_BODY_SCORE, NULL, 0, NULL},
    {"data_1", PR_HTTP_BODY_SCORE, NULL, 0, NULL},
    {"data_2", PR_HTTP_BODY_SCORE, NULL, 0, NULL},
    {"query", RERANK | REWARD | PR_HTTP_BODY_TEI_RERANK, NULL, 0, NULL},
    {"texts", PR_HTTP_BODY_TEI_RERANK | COHERE, NULL, 0, NULL},
    {"inputs", TEI_INPUTS | COHERE, NULL, 0, NULL},
    {"prompt", PR_HTTP_BODY_TOKENIZE, NULL, 0, NULL},
    {"tokens", PR_HTTP_BODY_DETOKENIZE, NULL, 0, NULL},
    /* tokens */
    {"padding", TEXT, read_padding, 0, NULL},
    {"truncate", TEI, read_bool, PARAM(truncate), NULL},
    {"truncate", COHERE, read_cohere_truncate, 0, NULL},
    {"max_tokens", COHERE, read_count, PARAM(item.truncate_prompt_tokens), NULL},
    {"truncation_direction", TEI, read_direction, 0, NULL},
    {"max_tokens_per_doc", SCORE, read_doc_limit, 0, NULL},
    {"max_tokens_per_query", SCORE, read_zero, 0,
     "queries are not cut by themselves here; truncate_prompt_tokens cuts query and document "
     "together, the longer first"},
    /* pooling */
    {"task", PR_HTTP_BODY_POOLING, read_task, 0, NULL},
    {"dimensions", PR_HTTP_BODY_TEI_EMBED, read_count, PARAM(item.dimensions), NULL},
    {"output_dimension", COHERE, read_count, PARAM(item.dimensions), NULL},
    {"normalize", PR_HTTP_BODY_TEI_EMBED, read_switch, PARAM(item.normalize), NULL},
    {"raw_scores", PR_HTTP_BODY_TEI_RERANK | PR_HTTP_BODY_TEI_PREDICT, read_bool, PARAM(raw_scores),
     NULL},
    {"reduce", REWARD, read_reduce, 0, NULL},
    /* form of the answer */
    {"encoding_format", ROWS, read_encoding, 0, NULL},
    {"embed_dtype", ROWS, read_embed_dtype, 0, NULL},
    {"endianness", ROWS, read_endianness, 0, NULL},
    {"embedding_types", COHERE, read_embedding_types, 0, NULL},
    {"top_n", RERANK, read_natural, PARAM(top_n), NULL},
    {"return_documents", RERANK, read_bool, PARAM(return_documents), NULL},
    {"return_text", PR_HTTP_BODY_TEI_RERANK, read_bool, PARAM(return_text), NULL},
    {"return_token_strs", PR_HTTP_BODY_TOKENIZE, read_bool, PARAM(return_token_strs), NULL},
    {"skip_special_tokens", PR_HTTP_BODY_DETOKENIZE, read_bool, PARAM(skip_special_tokens), NULL},
    {"on_error", TEXT, read_on_error, 0, NULL},
    /* a conversation: read with the input (pr_http_messages_read) */
    {"messages", TALK, read_nothing, 0, NULL},
    {"tools", TALK, read_nothing, 0, NULL},
    {"documents", TALK, read_nothing, 0, NULL},
    {"chat_template", TALK, read_nothing, 0, NULL},
    {"chat_template_kwargs", TALK, read_nothing, 0, NULL},
    {"add_generation_prompt", TALK, read_nothing, 0, NULL},
    {"continue_final_message", TALK, read_nothing, 0, NULL},
    /* the request's course */
    {"request_id", ALL, read_request_id, 0, NULL},
    {"priority", TEI | COHERE, read_priority, 0, NULL},
    {"timeout", ALL, read_timeout, 0, NULL},
    /* known to change no answer */
    {"user", ALL, read_nothing, 0, NULL},
    {"metadata", ALL, read_nothing, 0, NULL},
    {"additional_data", ALL, read_nothing, 0, NULL},
    {"prompts", REWARD, read_nothing, 0, NULL}, /* OpenRLHF sends them; query holds them already */
    {"labels", REWARD, read_nothing, 0, NULL},
    {"input_type", COHERE, read_nothing, 0, NULL},
    {"options", TEI, read_nothing, 0, NULL}, /* use_cache, wait_for_model */
    /* what other servers' clients call it */
    {"activation", INPUT | SCORE, read_switch, PARAM(item.use_activation), NULL}, /* verl's */
    {"parameters", TEI, read_inner, 0, NULL}, /* huggingface_hub's */
    {"top_k", RERANK, read_top_k, PARAM(top_n), NULL},
    {"truncation", RERANK | PR_HTTP_BODY_EMBEDDINGS, read_truncation, 0, NULL},
    {"max_chunks_per_doc", RERANK, read_nothing, 0, NULL}, /* documents are not chunked */
    {"rank_fields", RERANK, read_rank_fields, 0, NULL},
    {"return_len", RERANK, read_false, 0, "the answer's usage counts tokens of all documents"},
    {"kwargs", RERANK, read_no_arguments, 0, NULL},
    {"output_dimension", PR_HTTP_BODY_EMBEDDINGS, read_count, PARAM(item.dimensions), NULL},
    {"output_dtype", PR_HTTP_BODY_EMBEDDINGS, read_embedding_type, 0, NULL},
    {"embedding_type", PR_HTTP_BODY_EMBEDDINGS, read_embedding_type, 0, NULL},
    {"normalized", PR_HTTP_BODY_EMBEDDINGS, read_switch, PARAM(item.normalize), NULL},
    {"late_chunking", PR_HTTP_BODY_EMBEDDINGS, read_false, 0, "late chunking is not served"},
    /* understood, and not served */
    {"messages", ALL, read_refused, 0, CHAT},
    {"tools", ALL, read_refused, 0, CHAT},
    {"chat_template", ALL, read_refused, 0, CHAT},
    {"chat_template_kwargs", ALL, read_refused, 0, CHAT},
    {"add_generation_prompt", ALL, read_refused, 0, CHAT},
    {"continue_final_message", ALL, read_refused, 0, CHAT},
    {"instruction", SCORE, read_refused, 0, CHAT},
    {"media_io_kwargs", ALL, read_refused, 0, "models that read images or sound are not served"},
    {"mm_processor_kwargs", ALL, read_refused, 0,
     "models that read images or sound are not served"},
    {"images", COHERE, read_refused, 0, "models that read images are not served; expected texts"},
    {"cache_salt", ALL, read_refused, 0,
     "nothing is kept from one batch to the next, so there is no cache to salt"},
    {"prompt_name", TEI_INPUTS, read_refused, 0,
     "prompts are not chosen by name yet; put the prompt in front of the text"},
    {"input_type", PR_HTTP_BODY_EMBEDDINGS, read_refused, 0,
     "prompts are not chosen by name yet; put the prompt in front of the text"},
    {"return_tokens", REWARD, read_refused, 0, "POST /pooling gives the values of every token"},
};

/* What the rows of parameters call a body. */
static unsigned use_of(pr_http_body body)
{
    switch (body) {
    case PR_HTTP_BODY_EMBEDDINGS:
        return PR_USE_EMBED;
    case PR_HTTP_BODY_POOLING:
        return PR_USE_ENCODE;
    case PR_HTTP_BODY_CLASSIFY:
        return PR_USE_CLASSIFY;
    case PR_HTTP_BODY_SCORE:
    case PR_HTTP_BODY_RERANK:
        return PR_USE_SCORE;
    case PR_HTTP_BODY_REWARD:
        return PR_USE_REWARD;
    case PR_HTTP_BODY_TOKENIZE:
        return PR_USE_TOKENIZE;
    default:
        return 0;
    }
}

static void known_add(char *known, size_t n_max, size_t *n, const char *key)
{
    size_t n_more = strlen(key) + (*n ? 2 : 0);
    if (n_more >= n_max - *n) return;
    *n += (size_t)snprintf(known + *n, n_max - *n, "%s%s", *n ? ", " : "", key);
}

static bool refuse_unknown(pr_http_exchange *x, pr_http_body body, const char *key)
{
    char known[PR_ERROR_BYTES / 2] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(rows[i].bodies & body) || rows[i].read == read_refused) continue;
        known_add(known, sizeof known, &n, rows[i].key);
    }
    for (int i = 0; i < PR_PARAM_COUNT; i++) {
        const pr_param_row *row = pr_param_describe((pr_param_id)i);
        if (row->uses & use_of(body)) known_add(known, sizeof known, &n, row->key);
    }
    pr_error err;
    pr_error_set(&err, PR_E_INPUT, "unknown parameter \"%.100s\", expected one of %.*s", key,
                 (int)n, known);
    return pr_http_fail(x, key, &err);
}

static bool key_read(pr_http_exchange *x, pr_http_body body, const char *key, const json_t *value)
{
    if (json_is_null(value)) return true; /* as if it were not there, whatever it is */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const key_row *row = &rows[i];
        if (row->key[0] != key[0] || !(row->bodies & body) || strcmp(row->key, key) != 0) continue;
        if (!row->read) return true;
        return row->read(x, row, value);
    }
    const pr_param_row *row = pr_param_find(key, strlen(key), use_of(body));
    if (!row) return refuse_unknown(x, body, key);
    return param_read(x, row, value);
}

bool pr_http_params_read(pr_http_exchange *x, pr_http_body body)
{
    assert(!x->params);
    const char *key;
    json_t *value;
    x->params = calloc(1, sizeof *x->params);
    if (!x->params) {
        pr_error err;
        pr_error_nomem(&err, "parameters", sizeof *x->params);
        return pr_http_fail(x, NULL, &err);
    }
    x->params_free = params_free;
    pr_request_init(&x->params->item);
    x->params->return_documents = true;
    x->params->truncate = true;
    x->params->body = body;
    x->params->reduce = pr_service_settings(x->service)->reduce;
    json_object_foreach(x->json, key, value)
    {
        if (!key_read(x, body, key, value)) return false;
    }
    return true;
}
