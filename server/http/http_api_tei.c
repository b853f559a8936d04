/* POST /predict, /similarity, /embed_sparse: text-embeddings-inference's. POST /: one of its
 * shapes, by the body and the model's task, as Hugging Face's clients send them. POST /invocations:
 * SageMaker's, any route's body. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "runtime/base/json_write.h"

#include <stdlib.h>
#include <string.h>

/* ---- /predict ---- */

bool pr_http_predict_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_TEI_PREDICT)) return false;
    pr_http_params *p = x->params;
    p->item.task = PR_TASK_CLASSIFY;
    if (p->truncate) p->item.truncate_prompt_tokens = -1;
    if (p->raw_scores) p->item.use_activation = 0;
    return pr_http_one_row_check(x, PR_TASK_CLASSIFY, "/predict") &&
           pr_http_sequences_read(x, "inputs");
}

/* Every label once, the best first; of equal ones the first. */
static void labels_write(pr_buffer *b, const pr_model *model, const pr_result *r)
{
    float last = 0;
    uint32_t i_last = 0;
    pr_buffer_append_char(b, '[');
    for (uint32_t k = 0; k < r->n_columns; k++) {
        uint32_t i_best = r->n_columns;
        for (uint32_t i = 0; i < r->n_columns; i++) {
            float value = r->data[i];
            bool is_left = k == 0 || value < last || (value == last && i > i_last);
            if (is_left && (i_best == r->n_columns || value > r->data[i_best])) i_best = i;
        }
        if (i_best == r->n_columns) break; /* what is no number has no place */
        last = r->data[i_best];
        i_last = i_best;
        bool has_name = model && (int32_t)i_best < model->spec.n_labels && model->spec.labels;
        const char *label = has_name ? model->spec.labels[i_best] : NULL;
        pr_buffer_append_str(b, k > 0 ? ",{\"score\":" : "{\"score\":");
        pr_json_write_float(b, last);
        pr_buffer_append_str(b, ",\"label\":");
        if (label)
            pr_json_write_str(b, label, strlen(label));
        else
            pr_buffer_printf(b, "\"LABEL_%u\"", i_best);
        pr_buffer_append_char(b, '}');
    }
    pr_buffer_append_char(b, ']');
}

/* At "/" an array of arrays in every case, which is what huggingface_hub reads. */
void pr_http_predict_format(pr_http_exchange *x)
{
    const pr_model *model = pr_service_model_of(x->service)->model;
    bool is_bare = x->params->is_single && !x->format;
    pr_buffer *b = pr_http_answer_begin(x);
    if (!is_bare) pr_buffer_append_char(b, '[');
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        labels_write(b, model, x->call.results[i]);
    }
    if (!is_bare) pr_buffer_append_char(b, ']');
}

/* ---- /similarity ---- */

bool pr_http_similarity_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_TEI_SIMILARITY)) return false;
    pr_http_params *p = x->params;
    p->item.task = PR_TASK_SCORE;
    if (p->truncate) p->item.truncate_prompt_tokens = -1;
    if (x->model && !pr_model_scores_by_cosine(x->model)) {
        return pr_http_refuse(x, NULL, "this model has no embeddings to compare: POST /rerank");
    }
    return pr_http_one_row_check(x, PR_TASK_SCORE, "/similarity") && pr_http_unwrap(x, "inputs") &&
           pr_http_documents_read(x, "source_sentence", "sentences", false);
}

void pr_http_similarity_format(pr_http_exchange *x)
{
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_char(b, '[');
    for (size_t i = 0; i < x->call.n_items; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_float(b, x->call.results[i]->data[0]);
    }
    pr_buffer_append_char(b, ']');
}

/* ---- / and /invocations ---- */

bool pr_http_sparse(pr_http_exchange *x)
{
    pr_error err;
    pr_error_set(&err, PR_E_UNSUPPORTED, "sparse embeddings are not served; POST /embed");
    return pr_http_fail(x, NULL, &err);
}

typedef struct shape {
    bool (*parse)(pr_http_exchange *x);
    void (*format)(pr_http_exchange *x);
} shape;

static bool shape_parse(pr_http_exchange *x, shape s)
{
    x->format = s.format;
    return s.parse(x);
}

static bool has_head(const pr_http_exchange *x)
{
    return x->model && !x->model->is_served[PR_TASK_EMBED];
}

bool pr_http_root_parse(pr_http_exchange *x)
{
    const json_t *inputs = pr_http_value(x, "inputs");
    if (pr_http_value(x, "texts")) {
        return shape_parse(x, (shape){pr_http_rerank_parse, pr_http_rerank_format});
    }
    if (json_object_get(inputs, "texts")) { /* litellm's */
        return pr_http_unwrap(x, "inputs") &&
               shape_parse(x, (shape){pr_http_rerank_parse, pr_http_rerank_format});
    }
    if (json_is_object(inputs)) {
        return shape_parse(x, (shape){pr_http_similarity_parse, pr_http_similarity_format});
    }
    if (has_head(x)) {
        return shape_parse(x, (shape){pr_http_predict_parse, pr_http_predict_format});
    }
    return shape_parse(x, (shape){pr_http_tei_embed_parse, pr_http_tei_embed_format});
}

bool pr_http_invocations_parse(pr_http_exchange *x)
{
    if (pr_http_value(x, "inputs") || pr_http_value(x, "texts")) return pr_http_root_parse(x);
    if (pr_http_value(x, "documents") && pr_http_value(x, "query")) {
        return shape_parse(x, (shape){pr_http_rerank_parse, pr_http_rerank_format});
    }
    if (!pr_http_value(x, "input") && !pr_http_value(x, "messages")) {
        return shape_parse(x, (shape){pr_http_score_parse, pr_http_score_format});
    }
    if (!has_head(x)) {
        return shape_parse(x, (shape){pr_http_embeddings_parse, pr_http_embeddings_format});
    }
    if (x->model->task == PR_TASK_REWARD) {
        return shape_parse(x, (shape){pr_http_pooling_parse, pr_http_pooling_format});
    }
    return shape_parse(x, (shape){pr_http_classify_parse, pr_http_classify_format});
}
