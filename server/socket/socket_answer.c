#include "server/socket/socket_answer.h"

#include "coordinator/model/reward.h"
#include "runtime/wire/rpc_answer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* An answer that is being made. Lists have an element for each item. */
typedef struct answer {
    const pr_rpc_request *request;
    const pr_call *call;
    pr_pool pool; /* of reward */
    int32_t step_tag_id;
    uint32_t *n_prompt_tokens;
    pr_rpc_span *data, *steps, *token_data; /* NULL: not wanted */
    float *rewards;
    float *step_values;      /* of all items one after the other */
    pr_error *reward_errors; /* NULL until one is needed */
    pr_rpc_item_error *errors;
    size_t n_errors;
    pr_rpc_answer_out out;
} answer;

static void answer_deinit(answer *a)
{
    free(a->n_prompt_tokens);
    free(a->data);
    free(a->steps);
    free(a->token_data);
    free(a->rewards);
    free(a->step_values);
    free(a->reward_errors);
    free(a->errors);
}

static size_t n_rows_of(const pr_call *call)
{
    size_t n = 0;
    for (size_t i = 0; i < call->n_items; i++) n += call->results[i]->n_rows;
    return n;
}

static pr_status lists_create(answer *a, pr_error *err)
{
    size_t n = a->call->n_items;
    bool is_reward = a->request->kind == PR_RPC_REWARD;
    bool has_steps = is_reward && a->pool == PR_POOL_STEP;
    bool has_tokens = is_reward && a->request->params.return_tokens;
    a->n_prompt_tokens = calloc(n, sizeof *a->n_prompt_tokens);
    a->data = calloc(n, sizeof *a->data);
    a->errors = calloc(n, sizeof *a->errors);
    bool is_made = a->n_prompt_tokens && a->data && a->errors;
    if (is_reward) is_made &= (a->rewards = calloc(n, sizeof *a->rewards)) != NULL;
    if (has_steps) {
        a->steps = calloc(n, sizeof *a->steps);
        a->step_values = calloc(n_rows_of(a->call) + 1, sizeof *a->step_values);
        is_made &= a->steps && a->step_values;
    }
    if (has_tokens) is_made &= (a->token_data = calloc(n, sizeof *a->token_data)) != NULL;
    return is_made ? PR_OK : pr_error_nomem(err, "answer", n * sizeof *a->data);
}

static void error_add(answer *a, size_t i, pr_status st, const char *message)
{
    a->errors[a->n_errors++] = (pr_rpc_item_error){
        .i_item = i, .status = st, .message = message, .n_message = strlen(message)};
}

/* Rows of one width; it is the same for all items, whose parameters are. */
static void rows_add(pr_rpc_rows_out *rows, pr_rpc_span *span, const pr_result *result)
{
    assert(rows->n_columns == 0 || rows->n_columns == result->n_columns);
    rows->n_columns = result->n_columns;
    *span = (pr_rpc_span){.data = result->data, .n_rows = result->n_rows};
}

static pr_status reward_add(answer *a, size_t i, size_t *n_steps, pr_error *err)
{
    const pr_result *result = a->call->results[i];
    float *steps = a->steps ? a->step_values + *n_steps : NULL;
    pr_error why = {0};
    pr_status st = pr_reward_of(result, a->pool, a->step_tag_id,
                                (pr_reduce)a->request->params.reduce, steps, &a->rewards[i], &why);
    if (st != PR_OK) { /* its message is kept until the answer is packed */
        size_t bytes = a->call->n_items * sizeof *a->reward_errors;
        if (!a->reward_errors) a->reward_errors = malloc(bytes);
        if (!a->reward_errors) return pr_error_nomem(err, "errors", bytes);
        a->reward_errors[i] = why;
        error_add(a, i, st, a->reward_errors[i].message);
        return PR_OK;
    }
    a->data[i] = (pr_rpc_span){.data = &a->rewards[i], .n_rows = 1};
    if (steps) {
        a->steps[i] = (pr_rpc_span){.data = steps, .n_rows = result->n_rows};
        *n_steps += result->n_rows;
    }
    if (a->token_data) rows_add(&a->out.token_data, &a->token_data[i], result);
    return PR_OK;
}

static pr_status items_add(answer *a, pr_error *err)
{
    size_t n_steps = 0;
    pr_status st = PR_OK;
    for (size_t i = 0; i < a->call->n_items && st == PR_OK; i++) {
        const pr_result *result = a->call->results[i];
        a->n_prompt_tokens[i] = result->n_prompt_tokens;
        if (result->status != PR_OK) {
            error_add(a, i, result->status, result->message ? result->message : "");
        } else if (a->request->kind == PR_RPC_TOKENIZE) {
            a->data[i] = (pr_rpc_span){.data = result->tokens, .n_rows = result->n_prompt_tokens};
        } else if (a->request->kind == PR_RPC_REWARD) {
            st = reward_add(a, i, &n_steps, err);
        } else {
            rows_add(&a->out.data, &a->data[i], result);
            a->out.is_token_wise |= a->request->kind == PR_RPC_ENCODE && result->is_token_wise;
        }
    }
    return st;
}

static void out_fill(answer *a)
{
    pr_rpc_kind kind = a->request->kind;
    a->out.id = a->request->id;
    a->out.request_id = a->call->id;
    a->out.n_items = a->call->n_items;
    a->out.n_prompt_tokens = a->n_prompt_tokens;
    a->out.errors = a->errors;
    a->out.n_errors = a->n_errors;
    a->out.data.spans = a->data;
    a->out.data.format = kind == PR_RPC_TOKENIZE ? PR_RPC_I32 : a->request->params.format;
    if (kind == PR_RPC_TOKENIZE || kind == PR_RPC_REWARD) a->out.data.n_columns = 1;
    a->out.steps.spans = a->steps;
    a->out.steps.n_columns = 1;
    a->out.token_data.spans = a->token_data;
}

pr_status pr_socket_answer_pack(const pr_rpc_request *request, const pr_call *call,
                                const pr_model *model, pr_buffer *out, int64_t *i_item,
                                pr_error *err)
{
    answer a = {.request = request, .call = call};
    const pr_pooling *pooling = NULL;
    *i_item = -1;
    pr_status st = PR_OK;
    if (request->kind == PR_RPC_REWARD) {
        st = pr_model_pooling(model, PR_TASK_REWARD, &pooling, err);
        if (st != PR_OK) return st;
        a.pool = pooling->type;
        a.step_tag_id = request->params.request.step_tag_id >= 0
                            ? request->params.request.step_tag_id
                            : pooling->step_tag_id;
    }
    st = lists_create(&a, err);
    if (st == PR_OK) st = items_add(&a, err);
    if (st == PR_OK && a.n_errors > 0 && !request->params.per_item) {
        *i_item = (int64_t)a.errors[0].i_item;
        st = pr_error_set(err, a.errors[0].status, "%s", a.errors[0].message);
    }
    if (st == PR_OK) {
        out_fill(&a);
        st = pr_rpc_answer_pack(&a.out, out, err);
    }
    answer_deinit(&a);
    return st;
}

size_t pr_socket_answer_bytes(const pr_call *call)
{
    size_t n = 0;
    for (size_t i = 0; call->results && i < call->n_items; i++) {
        const pr_result *result = call->results[i];
        n += (size_t)result->n_rows * result->n_columns * sizeof *result->data;
        if (result->tokens) n += result->n_prompt_tokens * sizeof *result->tokens;
    }
    return n;
}
