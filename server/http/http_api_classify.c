/* POST /classify: vLLM's. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "runtime/base/json_write.h"

#include <string.h>

bool pr_http_classify_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_CLASSIFY)) return false;
    x->params->item.task = PR_TASK_CLASSIFY;
    return pr_http_one_row_check(x, PR_TASK_CLASSIFY, "/classify") &&
           pr_http_input_read(x, "input");
}

/* The label of the largest value; null when the model has none for it. */
static void label_write(pr_buffer *b, const pr_model *model, const pr_result *r)
{
    int32_t i_best = 0;
    for (uint32_t i = 1; i < r->n_columns; i++) {
        if (r->data[i] > r->data[i_best]) i_best = (int32_t)i;
    }
    const char *label = model && i_best < model->spec.n_labels ? model->spec.labels[i_best] : NULL;
    if (label) {
        pr_json_write_str(b, label, strlen(label));
    } else {
        pr_buffer_append_str(b, "null");
    }
}

void pr_http_classify_format(pr_http_exchange *x)
{
    const pr_model *model = pr_service_model_of(x->service)->model;
    pr_buffer *b = pr_http_list_begin(x, "classify");
    for (size_t i = 0; i < x->call.n_items; i++) {
        const pr_result *r = x->call.results[i];
        if (!pr_http_item_begin(x, i)) continue;
        pr_buffer_append_str(b, ",\"label\":");
        label_write(b, model, r);
        pr_buffer_append_str(b, ",\"probs\":");
        pr_json_write_floats(b, r->data, r->n_columns);
        pr_buffer_append_str(b, ",\"num_classes\":");
        pr_json_write_int(b, r->n_columns);
        pr_buffer_append_char(b, '}');
    }
    pr_http_list_end(x);
}
