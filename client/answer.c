#include "client/answer.h"

#include "runtime/wire/rpc_rows.h"

#include <stdlib.h>
#include <string.h>

void pr_client_answer_free(pr_client_answer *a)
{
    if (!a) return;
    for (size_t i = 0; a->messages && i < a->n_inputs; i++) free(a->messages[i]);
    free(a->messages);
    free(a->message);
    free(a->request_id);
    free(a->n_prompt_tokens);
    free(a->statuses);
    free(a->row_begin);
    free(a->data);
    free(a->tokens);
    free(a->steps);
    free(a->step_begin);
    free(a->token_data);
    free(a->token_begin);
    free(a);
}

/* A copy with a NUL behind it; NULL: no memory. */
static char *text_copy(const char *s, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy) return NULL;
    if (n > 0) memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

/* [n + 1] where each input's rows begin; NULL: no memory. */
static size_t *begins_make(const pr_rpc_rows *rows, size_t n)
{
    size_t *begin = malloc((n + 1) * sizeof *begin);
    if (!begin) return NULL;
    begin[0] = 0;
    for (size_t i = 0; i < n; i++) begin[i + 1] = begin[i] + rows->rows[i];
    return begin;
}

static float *floats_make(const pr_rpc_rows *rows)
{
    size_t n = rows->n_rows * rows->n_columns;
    float *data = malloc((n + 1) * sizeof *data);
    if (data) {
        pr_rpc_rows_read(rows->bytes, rows->scales, rows->n_rows, rows->n_columns, rows->format,
                         data);
    }
    return data;
}

/* False: no memory. */
static bool rows_make(const pr_rpc_answer *from, pr_client_answer *a)
{
    const pr_rpc_rows *rows = &from->data;
    size_t n = from->n_items;
    a->n_rows = rows->n_rows;
    a->n_columns = rows->n_columns;
    if (!(a->row_begin = begins_make(rows, n))) return false;
    if (rows->format == PR_RPC_I32) {
        size_t n_ids = rows->n_rows * rows->n_columns;
        if (!(a->tokens = malloc((n_ids + 1) * sizeof *a->tokens))) return false;
        pr_rpc_ids_read(rows->bytes, n_ids, a->tokens);
    } else if (!(a->data = floats_make(rows))) {
        return false;
    }
    if (from->steps.is_there) {
        a->step_begin = begins_make(&from->steps, n);
        a->steps = floats_make(&from->steps);
        if (!a->step_begin || !a->steps) return false;
    }
    if (from->token_data.is_there) {
        a->token_begin = begins_make(&from->token_data, n);
        a->token_data = floats_make(&from->token_data);
        a->n_token_columns = from->token_data.n_columns;
        if (!a->token_begin || !a->token_data) return false;
    }
    return true;
}

static bool items_make(const pr_rpc_answer *from, pr_client_answer *a)
{
    size_t n = from->n_items;
    a->n_prompt_tokens = calloc(n + 1, sizeof *a->n_prompt_tokens);
    a->statuses = calloc(n + 1, sizeof *a->statuses);
    a->messages = calloc(n + 1, sizeof *a->messages);
    if (!a->n_prompt_tokens || !a->statuses || !a->messages) return false;
    a->n_inputs = n;
    if (from->n_prompt_tokens) {
        memcpy(a->n_prompt_tokens, from->n_prompt_tokens, n * sizeof *a->n_prompt_tokens);
    }
    for (size_t i = 0; i < from->n_errors; i++) {
        const pr_rpc_item_error *e = &from->errors[i];
        a->statuses[e->i_item] = e->status == PR_OK ? PR_E_INTERNAL : e->status;
        free(a->messages[e->i_item]);
        if (!(a->messages[e->i_item] = text_copy(e->message, e->n_message))) return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!a->messages[i] && !(a->messages[i] = text_copy("", 0))) return false;
    }
    return true;
}

static pr_client_answer *answer_create(uint64_t id, const char *message, size_t n_message,
                                       const char *request_id, size_t n_request_id)
{
    pr_client_answer *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->id = id;
    a->i_input = -1;
    a->message = text_copy(message, n_message);
    a->request_id = text_copy(request_id, request_id ? n_request_id : 0);
    if (a->message && a->request_id) return a;
    pr_client_answer_free(a);
    return NULL;
}

pr_status pr_client_answer_make(const pr_rpc_answer *from, pr_client_answer **out, pr_error *err)
{
    bool has_floats = from->data.is_there;
    if (!has_floats || (from->steps.is_there && from->steps.format == PR_RPC_I32) ||
        (from->token_data.is_there && from->token_data.format == PR_RPC_I32)) {
        return pr_error_set(err, PR_E_INPUT, "answer: found no data, or data of another kind");
    }
    pr_client_answer *a =
        answer_create(from->id, "", 0, from->request_id, from->n_request_id);
    if (!a || !items_make(from, a) || !rows_make(from, a)) {
        pr_client_answer_free(a);
        return pr_error_nomem(err, "answer", from->n_items * sizeof(size_t));
    }
    a->is_token_wise = from->is_token_wise;
    *out = a;
    return PR_OK;
}

pr_status pr_client_answer_fail(const pr_rpc_error *from, pr_client_answer **out, pr_error *err)
{
    pr_client_answer *a = answer_create(from->id, from->message, from->n_message, from->request_id,
                                        from->n_request_id);
    if (!a) return pr_error_nomem(err, "answer", sizeof *a);
    a->status = from->status;
    a->i_input = from->i_item;
    a->retry_after_s = from->retry_after_s;
    *out = a;
    return PR_OK;
}
