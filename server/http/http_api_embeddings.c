/* POST /v1/embeddings: OpenAI's. POST /embed: text-embeddings-inference's. POST /v2/embed:
 * Cohere's. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "runtime/base/json_write.h"

bool pr_http_embeddings_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_EMBEDDINGS)) return false;
    x->params->item.task = PR_TASK_EMBED;
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

bool pr_http_cohere_embed_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_COHERE_EMBED)) return false;
    pr_http_params *p = x->params;
    p->item.task = PR_TASK_EMBED;
    if (!p->truncate && p->item.truncate_prompt_tokens > 0) {
        return pr_http_refuse(x, "max_tokens", "found it with truncate NONE, expected one of both");
    }
    if (p->truncate && p->item.truncate_prompt_tokens == 0) p->item.truncate_prompt_tokens = -1;
    return pr_http_one_row_check(x, PR_TASK_EMBED, "/v2/embed") && pr_http_texts_read(x, "texts");
}

static void cohere_rows(pr_http_exchange *x, const char *type, bool is_base64)
{
    pr_buffer *b = &x->answer.body;
    x->params->is_base64 = is_base64;
    pr_buffer_printf(b, "\"%s\":[", type);
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_http_row(x, x->call.results[i]);
    }
    pr_buffer_append_char(b, ']');
}

void pr_http_cohere_embed_format(pr_http_exchange *x)
{
    const pr_http_params *p = x->params;
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_char(b, '{');
    pr_http_id(x, "embd");
    pr_buffer_append_str(b, ",\"embeddings\":{");
    if (p->wants_float) cohere_rows(x, "float", false);
    if (p->wants_float && p->wants_base64) pr_buffer_append_char(b, ',');
    if (p->wants_base64) cohere_rows(x, "base64", true);
    pr_buffer_append_str(b, "},\"texts\":[");
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_str(b, x->call.items[i].text, x->call.items[i].n_text);
    }
    pr_buffer_append_str(b, "],\"meta\":{\"api_version\":{\"version\":\"2\"},\"billed_units\":"
                            "{\"input_tokens\":");
    pr_json_write_int(b, (int64_t)pr_http_prompt_tokens(x));
    pr_buffer_append_str(b, "}},\"response_type\":\"embeddings_by_type\"}");
}
