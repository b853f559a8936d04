/* POST /v1/embeddings: OpenAI's. POST /embed: text-embeddings-inference's. POST /v2/embed:
 * Cohere's. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "runtime/base/json_write.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* A model with a head gives no embeddings. verl's reward loop asks SGLang's engine for rewards
 * here, as embedding[-1]; what else has a head is told where to go. */
static bool head_check(pr_http_exchange *x)
{
    const pr_model *m = x->model;
    if (!m || m->is_served[PR_TASK_EMBED]) return true;
    bool has_one = m->spec.n_labels == 1 && m->poolings[PR_TASK_REWARD].type == PR_POOL_LAST;
    if (m->is_served[PR_TASK_REWARD] && (m->task == PR_TASK_REWARD || has_one)) {
        x->params->item.task = PR_TASK_REWARD;
        x->params->item.last_row_only = true;
        return true;
    }
    return pr_http_refuse(x, NULL,
                          "this model has no embeddings: POST /classify for its labels, /score or "
                          "/rerank for pairs, /pooling for what its head gives");
}

bool pr_http_embeddings_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_EMBEDDINGS)) return false;
    x->params->item.task = PR_TASK_EMBED;
    if (!head_check(x)) return false;
    if (x->params->item.task == PR_TASK_REWARD) return pr_http_input_read(x, "input");
    return pr_http_one_row_check(x, PR_TASK_EMBED, "/v1/embeddings") &&
           pr_http_input_read(x, "input");
}

/* Room for all rows at once: what is not copied while it grows need not be written twice. */
static void rows_reserve(pr_http_exchange *x)
{
    size_t bytes_float = x->params->is_base64 ? 6 : 13, n_floats = 0;
    for (size_t i = 0; i < x->call.n_items; i++) n_floats += x->call.results[i]->n_columns;
    pr_buffer_reserve(&x->answer.body, n_floats * bytes_float + x->call.n_items * 64 + 512);
}

void pr_http_embeddings_format(pr_http_exchange *x)
{
    rows_reserve(x);
    pr_buffer *b = pr_http_list_begin(x, "embd");
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (!pr_http_item_begin(x, i)) continue;
        pr_buffer_append_str(b, ",\"object\":\"embedding\",\"embedding\":");
        pr_http_row(x, x->call.results[i]);
        pr_buffer_append_char(b, '}');
    }
    pr_http_list_end(x);
}

/* ---- text-embeddings-inference ---- */

bool pr_http_tei_embed_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_TEI_EMBED)) return false;
    pr_http_params *p = x->params;
    p->item.task = PR_TASK_EMBED;
    if (p->truncate) p->item.truncate_prompt_tokens = -1;
    if (p->item.normalize < 0) p->item.normalize = 1; /* its default, whatever the model's is */
    return pr_http_one_row_check(x, PR_TASK_EMBED, "/embed") && pr_http_input_read(x, "inputs");
}

void pr_http_tei_embed_format(pr_http_exchange *x)
{
    rows_reserve(x);
    pr_buffer *b = pr_http_answer_begin(x);
    for (size_t i = 0; i < x->call.n_items; i++) {
        pr_buffer_append_char(b, i > 0 ? ',' : '[');
        pr_http_row(x, x->call.results[i]);
    }
    pr_buffer_append_char(b, ']');
}

/* ---- Cohere ---- */

static bool is_v1(const pr_http_exchange *x)
{
    return strncmp(x->path, "/v1/", 4) == 0;
}

/* v2's {"content": [{"type": "text", "text": …}]} become the texts of "texts". */
static bool inputs_flatten(pr_http_exchange *x)
{
    const json_t *inputs = pr_http_value(x, "inputs");
    json_t *texts = json_array();
    bool ok = texts != NULL;
    if (pr_http_value(x, "texts")) ok = false;
    for (size_t i = 0; ok && i < json_array_size(inputs); i++) {
        const json_t *content = json_object_get(json_array_get(inputs, i), "content");
        json_t *text = json_object_get(json_array_get(content, 0), "text");
        ok = json_array_size(content) == 1 && json_is_string(text) &&
             json_array_append(texts, text) == 0;
    }
    ok = ok && json_is_array(inputs) && json_object_set(x->json, "texts", texts) == 0;
    json_decref(texts);
    return ok || pr_http_refuse(x, "inputs",
                                "expected [{\"content\": [{\"type\": \"text\", \"text\": "
                                "…}]}, …], one text each, and no texts beside it");
}

bool pr_http_cohere_embed_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_COHERE_EMBED)) return false;
    pr_http_params *p = x->params;
    p->item.task = PR_TASK_EMBED;
    if (!p->truncate && p->item.truncate_prompt_tokens > 0) {
        return pr_http_refuse(x, "max_tokens", "found it with truncate NONE, expected one of both");
    }
    if (p->truncate && p->item.truncate_prompt_tokens == 0) p->item.truncate_prompt_tokens = -1;
    if (pr_http_value(x, "inputs") && !inputs_flatten(x)) return false;
    return pr_http_one_row_check(x, PR_TASK_EMBED, "/v2/embed") && pr_http_texts_read(x, "texts");
}

/* A bit for each value, 1 where it is 0 or more, the first value the highest bit; signed: 128 less.
 * sentence-transformers' quantize_embeddings and Cohere's API do the same but for 0 itself. */
static void bits_write(pr_buffer *b, const float *x, uint32_t n, int offset)
{
    pr_buffer_append_char(b, '[');
    for (uint32_t i = 0; i < n; i += 8) {
        int byte = 0;
        for (uint32_t k = 0; k < 8; k++) byte = 2 * byte + (i + k < n && x[i + k] >= 0);
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_int(b, byte - offset);
    }
    pr_buffer_append_char(b, ']');
}

/* 127 times the value, rounded to the nearest, of -128 to 127; unsigned: 128 more. */
static void bytes_write(pr_buffer *b, const float *x, uint32_t n, int offset)
{
    pr_buffer_append_char(b, '[');
    for (uint32_t i = 0; i < n; i++) {
        float value = nearbyintf(127.0f * x[i]);
        int byte = value >= 127 ? 127 : value > -128 ? (int)value : -128;
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_int(b, byte + offset);
    }
    pr_buffer_append_char(b, ']');
}

static void cohere_row(pr_buffer *b, pr_http_embedding_type type, const pr_result *r)
{
    switch (type) {
    case PR_HTTP_EMBEDDING_INT8:
        bytes_write(b, r->data, r->n_columns, 0);
        break;
    case PR_HTTP_EMBEDDING_UINT8:
        bytes_write(b, r->data, r->n_columns, 128);
        break;
    case PR_HTTP_EMBEDDING_BINARY:
        bits_write(b, r->data, r->n_columns, 128);
        break;
    case PR_HTTP_EMBEDDING_UBINARY:
        bits_write(b, r->data, r->n_columns, 0);
        break;
    case PR_HTTP_EMBEDDING_BASE64:
        pr_http_base64(b, r->data, r->n_columns);
        break;
    case PR_HTTP_EMBEDDING_FLOAT:
    case PR_HTTP_EMBEDDING_COUNT:
        pr_json_write_floats(b, r->data, r->n_columns);
        break;
    }
}

static void cohere_rows(pr_http_exchange *x, pr_http_embedding_type type)
{
    pr_buffer *b = &x->answer.body;
    pr_buffer_append_char(b, '[');
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        cohere_row(b, type, x->call.results[i]);
    }
    pr_buffer_append_char(b, ']');
}

static void cohere_embeddings(pr_http_exchange *x, unsigned types)
{
    static const char *const names[] = {"float", "int8", "uint8", "binary", "ubinary", "base64"};
    static_assert(sizeof names / sizeof *names == PR_HTTP_EMBEDDING_COUNT, "one name per type");
    pr_buffer *b = &x->answer.body;
    bool is_first = true;
    pr_buffer_append_char(b, '{');
    for (int type = 0; type < PR_HTTP_EMBEDDING_COUNT; type++) {
        if (!(types & 1u << type)) continue;
        pr_buffer_printf(b, is_first ? "\"%s\":" : ",\"%s\":", names[type]);
        cohere_rows(x, (pr_http_embedding_type)type);
        is_first = false;
    }
    pr_buffer_append_char(b, '}');
}

/* v1 without embedding_types has a bare list. */
void pr_http_cohere_embed_format(pr_http_exchange *x)
{
    unsigned types = x->params->embedding_types;
    bool is_bare = is_v1(x) && types == 0;
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_char(b, '{');
    pr_http_id(x, "embd");
    pr_buffer_append_str(b, ",\"embeddings\":");
    if (is_bare)
        cohere_rows(x, PR_HTTP_EMBEDDING_FLOAT);
    else
        cohere_embeddings(x, types ? types : 1u << PR_HTTP_EMBEDDING_FLOAT);
    pr_buffer_append_str(b, ",\"texts\":[");
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_str(b, x->call.items[i].text, x->call.items[i].n_text);
    }
    pr_buffer_printf(b,
                     "],\"meta\":{\"api_version\":{\"version\":\"%d\"},\"billed_units\":"
                     "{\"input_tokens\":",
                     is_v1(x) ? 1 : 2);
    pr_json_write_int(b, (int64_t)pr_http_prompt_tokens(x));
    pr_buffer_printf(b, "}},\"response_type\":\"embeddings_%s\"}", is_bare ? "floats" : "by_type");
}
