/* POST /get_reward: what OpenRLHF's trainers ask of their reward model. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "coordinator/model/reward.h"
#include "runtime/base/json_write.h"

static bool head_check(pr_http_exchange *x)
{
    if (!x->model || x->model->spec.head != PR_HEAD_NONE) return true;
    pr_error err;
    pr_error_set(&err, PR_E_UNSUPPORTED, "task reward: the model has no reward head");
    return pr_http_fail(x, NULL, &err);
}

bool pr_http_reward_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_REWARD) || !head_check(x)) return false;
    pr_request *item = &x->params->item;
    item->task = PR_TASK_REWARD;
    if (item->truncate_prompt_tokens == 0) item->truncate_prompt_tokens = -1;
    if (item->add_special_tokens < 0) item->add_special_tokens = 0;
    item->last_row_only = x->params->reduce == PR_REDUCE_LAST;
    /* Its clients try again five times only, a second apart. */
    x->call.wait_ms = (uint32_t)pr_service_settings(x->service)->queue_timeout * 1000;
    return pr_http_texts_read(x, "query");
}

/* What an item's rows become; an item without a step fails with this error. */
static pr_status reward_of(const pr_http_exchange *x, const pr_result *r, float *out, pr_error *err)
{
    const pr_model *model = pr_service_model_of(x->service)->model;
    const pr_pooling *pooling = NULL;
    int32_t step_tag_id = x->params->item.step_tag_id;
    pr_pool pool = PR_POOL_LAST;
    if (model && pr_model_pooling(model, PR_TASK_REWARD, &pooling, NULL) == PR_OK) {
        pool = pooling->type;
        if (step_tag_id < 0) step_tag_id = pooling->step_tag_id;
    }
    if (r->n_rows == 0) pool = PR_POOL_STEP;
    return pr_reward_of(r, pool, step_tag_id, x->params->reduce, NULL, out, err);
}

static bool steps_check(pr_http_exchange *x)
{
    if (x->params->is_per_item) return true;
    for (size_t i = 0; i < x->call.n_items; i++) {
        float reward;
        pr_error err;
        if (reward_of(x, x->call.results[i], &reward, &err) == PR_OK) continue;
        if (!x->params->is_single) pr_error_context(&err, err.status, "query[%zu]", i);
        return pr_http_fail(x, "query", &err);
    }
    return true;
}

static void rewards_write(pr_http_exchange *x)
{
    pr_buffer *b = &x->answer.body;
    pr_buffer_append_char(b, '[');
    for (size_t i = 0; i < x->call.n_items; i++) {
        const pr_result *r = x->call.results[i];
        float reward = 0;
        bool is_good = r->status == PR_OK && reward_of(x, r, &reward, NULL) == PR_OK;
        if (i > 0) pr_buffer_append_char(b, ',');
        if (is_good) {
            pr_json_write_float(b, reward);
        } else {
            pr_buffer_append_str(b, "null");
        }
    }
    pr_buffer_append_char(b, ']');
}

/* on_error per_item: the items whose reward is null, with their reasons. */
static void errors_write(pr_http_exchange *x)
{
    pr_buffer *b = &x->answer.body;
    bool is_first = true;
    pr_buffer_append_str(b, ",\"errors\":[");
    for (size_t i = 0; i < x->call.n_items; i++) {
        const pr_result *r = x->call.results[i];
        float reward;
        pr_error err = {0};
        if (r->status == PR_OK && reward_of(x, r, &reward, &err) == PR_OK) continue;
        pr_buffer_append_str(b, is_first ? "{\"index\":" : ",{\"index\":");
        is_first = false;
        pr_json_write_int(b, (int64_t)i);
        if (r->status == PR_OK) {
            pr_http_status_error(x, err.status, err.message);
        } else {
            pr_http_item_error(x, i);
        }
    }
    pr_buffer_append_char(b, ']');
}

void pr_http_reward_format(pr_http_exchange *x)
{
    if (!steps_check(x)) return;
    pr_buffer *b = pr_http_answer_begin(x);
    static const char *const keys[] = {
        "{\"rewards\":", ",\"scores\":", ",\"extra_logs\":{\"dummy_scores\":"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        pr_buffer_append_str(b, keys[i]);
        rewards_write(x);
    }
    pr_buffer_append_char(b, '}');
    if (x->params->is_per_item) errors_write(x);
    pr_buffer_append_char(b, '}');
}
