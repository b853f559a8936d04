/* POST /pooling: the rows of the model's pooler, as vLLM's route gives them. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "runtime/base/json_write.h"

bool pr_http_pooling_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_POOLING)) return false;
    /* The score of an embedding model takes two texts; /score reads them. */
    if (x->params->item.task == PR_TASK_SCORE && x->model && pr_model_scores_by_cosine(x->model)) {
        return pr_http_refuse(x, "task", "this model's scores take two texts: POST /score");
    }
    return pr_http_input_read(x, "input");
}

static void rows_base64(pr_buffer *b, const pr_result *r)
{
    pr_http_base64(b, r->data, (size_t)r->n_rows * r->n_columns);
    pr_buffer_append_str(b, ",\"shape\":[");
    if (r->is_token_wise) {
        pr_json_write_int(b, r->n_rows);
        pr_buffer_append_char(b, ',');
    }
    pr_json_write_int(b, r->n_columns);
    pr_buffer_append_char(b, ']');
}

static void rows_write(pr_buffer *b, const pr_result *r)
{
    if (!r->is_token_wise) {
        pr_json_write_floats(b, r->data, r->n_columns);
        return;
    }
    pr_buffer_append_char(b, '[');
    for (uint32_t i = 0; i < r->n_rows; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_floats(b, r->data + (size_t)i * r->n_columns, r->n_columns);
    }
    pr_buffer_append_char(b, ']');
}

void pr_http_pooling_format(pr_http_exchange *x)
{
    pr_buffer *b = pr_http_list_begin(x, "pooling");
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (!pr_http_item_begin(x, i)) continue;
        pr_buffer_append_str(b, ",\"object\":\"pooling\",\"data\":");
        if (x->params->is_base64) {
            rows_base64(b, x->call.results[i]);
        } else {
            rows_write(b, x->call.results[i]);
        }
        pr_buffer_append_char(b, '}');
    }
    pr_http_list_end(x);
}
