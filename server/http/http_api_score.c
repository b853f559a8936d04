/* POST /score: vLLM's. POST /rerank: vLLM's, Jina's and Cohere's shape, or, when the body has
 * "texts", that of text-embeddings-inference. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "runtime/base/json_write.h"

#include <stdlib.h>

/* ---- /score ---- */

/* The names that the two sides may have. */
static const struct {
    const char *first, *second;
} sides[] = {
    {"text_1", "text_2"}, {"queries", "documents"}, {"queries", "items"}, {"data_1", "data_2"}};
enum { N_SIDES = sizeof sides / sizeof *sides };

static bool has_side(const pr_http_exchange *x, size_t i)
{
    return pr_http_value(x, sides[i].first) && pr_http_value(x, sides[i].second);
}

/* Which two keys the body has: exactly two of all of them. */
static bool sides_find(pr_http_exchange *x, size_t *out)
{
    static const char *const keys[] = {"text_1", "text_2", "queries", "documents",
                                       "items",  "data_1", "data_2"};
    size_t n_keys = 0, i_found = N_SIDES;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        n_keys += pr_http_value(x, keys[i]) != NULL;
    }
    for (size_t i = 0; i < N_SIDES; i++) {
        if (has_side(x, i)) i_found = i;
    }
    *out = i_found;
    if (n_keys == 2 && i_found < N_SIDES) return true;
    return pr_http_refuse(x, NULL,
                          "expected text_1 with text_2, queries with documents or items, or data_1 "
                          "with data_2, and one of these only");
}

bool pr_http_score_parse(pr_http_exchange *x)
{
    size_t i_sides;
    if (!pr_http_params_read(x, PR_HTTP_BODY_SCORE)) return false;
    x->params->item.task = PR_TASK_SCORE;
    return pr_http_one_row_check(x, PR_TASK_SCORE, "/score") && sides_find(x, &i_sides) &&
           pr_http_pairs_read(x, sides[i_sides].first, sides[i_sides].second);
}

void pr_http_score_format(pr_http_exchange *x)
{
    pr_buffer *b = pr_http_list_begin(x, "score");
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (!pr_http_item_begin(x, i)) continue;
        pr_buffer_append_str(b, ",\"object\":\"score\",\"score\":");
        pr_json_write_float(b, x->call.results[i]->data[0]);
        pr_buffer_append_char(b, '}');
    }
    pr_http_list_end(x);
}

/* ---- /rerank ---- */

static bool tei_rerank_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_TEI_RERANK)) return false;
    pr_http_params *p = x->params;
    p->item.task = PR_TASK_SCORE;
    if (p->truncate) p->item.truncate_prompt_tokens = -1;
    if (p->raw_scores) p->item.use_activation = 0;
    return pr_http_one_row_check(x, PR_TASK_SCORE, "/rerank") &&
           pr_http_documents_read(x, "query", "texts", false);
}

static bool is_tei(const pr_http_exchange *x)
{
    return json_object_get(x->json, "texts") != NULL;
}

bool pr_http_rerank_parse(pr_http_exchange *x)
{
    if (is_tei(x)) return tei_rerank_parse(x);
    if (!pr_http_params_read(x, PR_HTTP_BODY_RERANK)) return false;
    x->params->item.task = PR_TASK_SCORE;
    return pr_http_one_row_check(x, PR_TASK_SCORE, "/rerank") &&
           pr_http_documents_read(x, "query", "documents", true);
}

static void document_write(pr_http_exchange *x, size_t i)
{
    size_t n = 0;
    const char *text = pr_http_document_text(json_array_get(x->params->documents, i), &n);
    pr_json_write_str(&x->answer.body, text, n);
}

static void result_write(pr_http_exchange *x, size_t i)
{
    pr_buffer *b = &x->answer.body;
    pr_buffer_append_str(b, "{\"index\":");
    pr_json_write_int(b, (int64_t)i);
    if (x->params->return_documents) {
        pr_buffer_append_str(b, ",\"document\":{\"text\":");
        document_write(x, i);
        pr_buffer_append_char(b, '}');
    }
    if (x->call.results[i]->status != PR_OK) {
        pr_http_item_error(x, i);
        return;
    }
    pr_buffer_append_str(b, ",\"relevance_score\":");
    pr_json_write_float(b, x->call.results[i]->data[0]);
    pr_buffer_append_char(b, '}');
}

static void meta_write(pr_http_exchange *x)
{
    pr_buffer *b = &x->answer.body;
    pr_buffer_append_str(b, ",\"meta\":{\"api_version\":{\"version\":\"2\"},\"billed_units\":"
                            "{\"search_units\":1},\"tokens\":{\"input_tokens\":");
    pr_json_write_int(b, (int64_t)pr_http_prompt_tokens(x));
    pr_buffer_append_str(b, ",\"output_tokens\":0}}");
}

/* Voyage's clients read "data". */
static void list_write(pr_http_exchange *x, const char *name, const size_t *order, size_t n_good)
{
    pr_buffer *b = &x->answer.body;
    size_t top_n = (size_t)x->params->top_n;
    bool is_first = true;
    pr_buffer_printf(b, ",\"%s\":[", name);
    for (size_t k = 0; k < x->call.n_items; k++) {
        if (top_n > 0 && k >= top_n && k < n_good) continue; /* errors are all told */
        if (!is_first) pr_buffer_append_char(b, ',');
        is_first = false;
        result_write(x, order[k]);
    }
    pr_buffer_append_char(b, ']');
}

static void results_write(pr_http_exchange *x, const size_t *order, size_t n_good)
{
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_char(b, '{');
    pr_http_id(x, "rerank");
    pr_buffer_append_char(b, ',');
    pr_http_model(x);
    pr_buffer_append_char(b, ',');
    pr_http_usage(x);
    meta_write(x);
    list_write(x, "results", order, n_good);
    if (x->params->is_voyage) list_write(x, "data", order, n_good);
    pr_buffer_append_char(b, '}');
}

static void tei_results_write(pr_http_exchange *x, const size_t *order)
{
    pr_buffer *b = pr_http_answer_begin(x);
    for (size_t k = 0; k < x->call.n_items; k++) {
        pr_buffer_append_str(b, k > 0 ? ",{\"index\":" : "[{\"index\":");
        pr_json_write_int(b, (int64_t)order[k]);
        if (x->params->return_text) {
            pr_buffer_append_str(b, ",\"text\":");
            document_write(x, order[k]);
        }
        pr_buffer_append_str(b, ",\"score\":");
        pr_json_write_float(b, x->call.results[order[k]]->data[0]);
        pr_buffer_append_char(b, '}');
    }
    pr_buffer_append_char(b, ']');
}

void pr_http_rerank_format(pr_http_exchange *x)
{
    size_t n_good;
    size_t *order = pr_http_order(x, &n_good);
    if (!order) return;
    if (is_tei(x)) {
        tei_results_write(x, order);
    } else {
        results_write(x, order, n_good);
    }
    free(order);
}
