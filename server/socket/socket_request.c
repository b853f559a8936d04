#include "server/socket/socket_request.h"

#include "runtime/base/clock.h"
#include "runtime/wire/rpc_answer.h"
#include "runtime/wire/rpc_request.h"
#include "server/socket/socket_answer.h"
#include "server/socket/socket_connection.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct pr_socket_request {
    pr_socket_connection *connection;
    pr_socket_shared *shared;
    pr_rpc_head head;
    char *payload; /* owned: [n_payload]; rpc's texts lie in it */
    size_t n_payload;
    pr_rpc_request rpc;
    const pr_model *model; /* NULL: not loaded */
    pr_request *items;     /* owned: the call's */
    pr_call call;
    uint64_t begin_ns;
    bool is_calling; /* the call is with the service */
    bool is_cancelled, is_dropped;
    pr_error err; /* status PR_OK: none */
    int64_t i_item; /* whose error it is; -1: not one item's */
    uv_work_t work;
    pr_buffer frame; /* the answer */
};

pr_socket_request *pr_socket_request_create(pr_socket_connection *connection,
                                            const pr_rpc_head *head, const char *payload, size_t n)
{
    pr_socket_request *r = calloc(1, sizeof *r);
    char *copy = malloc(n);
    if (!r || !copy) {
        free(r);
        free(copy);
        return NULL;
    }
    memcpy(copy, payload, n);
    r->connection = connection;
    r->shared = pr_socket_connection_shared(connection);
    r->head = *head;
    r->payload = copy;
    r->n_payload = n;
    r->begin_ns = pr_clock_ns();
    r->i_item = -1;
    pr_call_init(&r->call);
    pr_buffer_init(&r->frame);
    return r;
}

size_t pr_socket_request_bytes(const pr_socket_request *r)
{
    return r->n_payload;
}

/* ---- the end ---- */

static void report(const pr_socket_request *r, int code)
{
    const pr_socket_shared *s = r->shared;
    double seconds = (double)(pr_clock_ns() - r->begin_ns) * 1e-9;
    pr_metrics_request(s->c.metrics, pr_socket_route(s, r->head.kind), code, seconds);
    if (!pr_log_takes(s->c.log, PR_LOG_INFO)) return;
    const char *key = pr_socket_connection_key_name(r->connection);
    const pr_log_field fields[] = {
        pr_log_text("request_id", r->call.id),
        pr_log_text("route", pr_rpc_kind_name(r->head.kind)),
        pr_log_integer("status", code),
        pr_log_number("ms", seconds * 1e3),
        pr_log_integer("items", (int64_t)r->rpc.n_items),
        pr_log_text("key", key[0] ? key : NULL),
    };
    pr_log_event(s->c.log, PR_LOG_INFO, fields, sizeof fields / sizeof *fields, "socket request");
}

static void error_pack(pr_socket_request *r)
{
    const pr_rpc_error error = {
        .has_id = true,
        .id = r->head.id,
        .status = r->err.status,
        .message = r->err.message,
        .n_message = strlen(r->err.message),
        .retry_after_s = r->call.retry_after_s,
        .i_item = r->i_item,
        .request_id = r->call.id,
        .n_request_id = strlen(r->call.id),
    };
    pr_buffer_clear(&r->frame);
    if (pr_rpc_error_pack(&error, &r->frame, NULL) != PR_OK) pr_buffer_clear(&r->frame);
}

/* Answers, and frees the request. */
static void finish(pr_socket_request *r)
{
    if (r->is_dropped) {
        pr_buffer_clear(&r->frame);
    } else if (r->err.status != PR_OK) {
        error_pack(r);
    }
    pr_status st = r->is_dropped ? PR_E_CANCELLED : r->err.status;
    if (st != PR_OK && st != PR_E_CANCELLED) pr_metrics_rejected(r->shared->c.metrics, st);
    report(r, pr_status_describe(st)->http_status);
    pr_socket_connection_answer(r->connection, r, &r->frame);
    pr_call_deinit(&r->call);
    pr_rpc_request_deinit(&r->rpc);
    pr_buffer_deinit(&r->frame);
    free(r->items);
    free(r->payload);
    free(r);
}

/* Work for a pool thread, and what comes behind it on the loop thread. */
static void work_start(pr_socket_request *r, uv_work_cb work, uv_after_work_cb after)
{
    r->work.data = r;
    int rc = uv_queue_work(r->shared->c.loop, &r->work, work, after);
    assert(rc == 0);
    (void)rc;
}

/* ---- packing ---- */

static void pack(pr_socket_request *r)
{
    pr_socket_answer_pack(&r->rpc, &r->call, r->model, &r->frame, &r->i_item, &r->err);
}

static void pack_work(uv_work_t *work)
{
    pack(work->data);
}

static void pack_after(uv_work_t *work, int status)
{
    (void)status;
    finish(work->data);
}

static void items_report(const pr_socket_request *r)
{
    const pr_socket_shared *s = r->shared;
    size_t i_route = pr_socket_route(s, r->head.kind);
    for (size_t i = 0; r->call.results && i < r->call.n_items; i++) {
        const pr_result *result = r->call.results[i];
        const double seconds[PR_STAGE_COUNT] = {
            [PR_STAGE_TOKENIZE] = (double)result->tokenize_ns * 1e-9,
            [PR_STAGE_QUEUE] = (double)result->queue_ns * 1e-9,
            [PR_STAGE_RUN] = (double)result->run_ns * 1e-9,
        };
        pr_metrics_item(s->c.metrics, i_route, result->n_prompt_tokens, seconds);
    }
}

static void call_done(pr_call *call)
{
    pr_socket_request *r = call->context;
    r->is_calling = false;
    items_report(r);
    if (call->error.status != PR_OK) {
        r->err = call->error;
        if (r->is_cancelled) pr_error_set(&r->err, PR_E_CANCELLED, "the client cancelled it");
    } else if (!r->is_dropped) {
        if (pr_socket_answer_bytes(call) > PR_SOCKET_POOL_BYTES) {
            work_start(r, pack_work, pack_after);
            return;
        }
        pack(r);
    }
    finish(r);
}

/* ---- detokenize: no part of the engine, only its tokenizer ---- */

/* All texts one behind the other in *out; ends[i]: where the i-th ends. */
static pr_status texts_decode(const pr_socket_request *r, pr_buffer *out, size_t *ends,
                              pr_error *err)
{
    pr_status st = PR_OK;
    for (size_t i = 0; i < r->rpc.n_items && st == PR_OK; i++) {
        const pr_rpc_item *item = &r->rpc.items[i];
        st = pr_tokenizer_decode(r->model->tokenizer, item->tokens, item->n_tokens,
                                 r->rpc.params.skip_special_tokens, out, err);
        ends[i] = out->n;
    }
    return st;
}

static void texts_pack(pr_socket_request *r, const pr_buffer *all, const char **texts, size_t *ends)
{
    size_t begin = 0;
    for (size_t i = 0; i < r->rpc.n_items; i++) { /* ends become lengths */
        size_t end = ends[i];
        texts[i] = end > begin ? all->data + begin : "";
        ends[i] = end - begin;
        begin = end;
    }
    const pr_rpc_answer_out out = {.id = r->head.id,
                                   .request_id = r->call.id,
                                   .n_items = r->rpc.n_items,
                                   .texts = texts,
                                   .n_texts = ends};
    pr_rpc_answer_pack(&out, &r->frame, &r->err);
}

static void detokenize_work(uv_work_t *work)
{
    pr_socket_request *r = work->data;
    size_t n = r->rpc.n_items;
    pr_buffer all;
    pr_buffer_init(&all);
    const char **texts = calloc(n, sizeof *texts);
    size_t *ends = calloc(n, sizeof *ends);
    pr_status st = texts && ends ? texts_decode(r, &all, ends, &r->err)
                                 : pr_error_nomem(&r->err, "texts", n * sizeof *texts);
    if (st == PR_OK) texts_pack(r, &all, texts, ends);
    free(texts);
    free(ends);
    pr_buffer_deinit(&all);
}

/* ---- the call ---- */

static pr_task task_of(const pr_rpc_request *q)
{
    switch (q->kind) {
    case PR_RPC_EMBED: return PR_TASK_EMBED;
    case PR_RPC_CLASSIFY: return PR_TASK_CLASSIFY;
    case PR_RPC_SCORE: return PR_TASK_SCORE;
    case PR_RPC_REWARD: return PR_TASK_REWARD;
    default: return q->params.task; /* AUTO but for encode */
    }
}

/* What the model can do of what is asked; the engine checks the rest. */
static pr_status model_check(const pr_socket_request *r, bool *last_row_only, pr_error *err)
{
    const pr_pooling *pooling = NULL;
    pr_rpc_kind kind = r->rpc.kind;
    *last_row_only = false;
    if (!r->model || kind == PR_RPC_TOKENIZE) return PR_OK;
    pr_status st = pr_model_pooling(r->model, task_of(&r->rpc), &pooling, err);
    if (st == PR_OK && kind == PR_RPC_REWARD) st = pr_reward_check(&r->model->spec, err);
    if (st != PR_OK) return st;
    bool has_rows = pooling->type == PR_POOL_ALL || pooling->type == PR_POOL_STEP;
    if (kind == PR_RPC_REWARD) {
        *last_row_only = pooling->type == PR_POOL_ALL && !r->rpc.params.return_tokens;
    } else if (kind != PR_RPC_ENCODE && has_rows) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: pooling %s gives several rows a text; \"encode\" answers them",
                            pr_rpc_kind_name(kind), pr_pool_name(pooling->type));
    }
    return PR_OK;
}

static void item_fill(const pr_rpc_request *q, const pr_rpc_item *item, bool last_row_only,
                      pr_request *out)
{
    pr_request_init(out);
    out->task = task_of(q);
    out->text = item->text;
    out->n_text = item->n_text;
    out->text_pair = item->pair;
    out->n_text_pair = item->n_pair;
    out->tokens = item->tokens;
    out->n_tokens = item->n_tokens;
    pr_params_apply(&q->params.request, out);
    out->tokenize_only = q->kind == PR_RPC_TOKENIZE;
    out->last_row_only = last_row_only;
}

static pr_status call_begin(pr_socket_request *r, pr_error *err)
{
    bool last_row_only = false;
    size_t n = r->rpc.n_items;
    pr_status st = model_check(r, &last_row_only, err);
    if (st != PR_OK) return st;
    r->items = malloc(n * sizeof *r->items);
    if (!r->items) return pr_error_nomem(err, "request", n * sizeof *r->items);
    for (size_t i = 0; i < n; i++) {
        item_fill(&r->rpc, &r->rpc.items[i], last_row_only, &r->items[i]);
    }
    r->call.items = r->items;
    r->call.n_items = n;
    r->call.priority = r->rpc.params.request.priority;
    r->call.timeout_ms = r->rpc.params.timeout_ms;
    r->call.wait_ms = r->rpc.params.wait_ms;
    r->call.done = call_done;
    r->call.context = r;
    r->is_calling = true;
    pr_service_call_begin(r->shared->c.service, &r->call);
    return PR_OK;
}

/* Unpacked, or refused already. */
static void start(pr_socket_request *r)
{
    r->model = pr_service_model_of(r->shared->c.service)->model;
    if (r->err.status == PR_OK && (r->is_cancelled || r->is_dropped)) {
        pr_error_set(&r->err, PR_E_CANCELLED, "the client cancelled it");
    }
    if (r->err.status == PR_OK && r->head.kind == PR_RPC_DETOKENIZE) {
        if (r->model) {
            work_start(r, detokenize_work, pack_after);
            return;
        }
        r->call.retry_after_s = 1;
        pr_error_set(&r->err, PR_E_UNAVAILABLE, "the model is being loaded");
    } else if (r->err.status == PR_OK) {
        if (call_begin(r, &r->err) == PR_OK) return;
    }
    finish(r);
}

/* ---- unpacking ---- */

static void unpack(pr_socket_request *r)
{
    char name[PR_RPC_NAME_BYTES_MAX + 1];
    const pr_service *service = r->shared->c.service;
    size_t n_items_max = (size_t)r->shared->c.config->max_client_batch_size;
    pr_status st = pr_rpc_request_unpack(r->payload, r->n_payload, r->head.kind, n_items_max,
                                         &r->rpc, &r->err);
    pr_request_id_take(r->call.id, st == PR_OK ? r->rpc.request_id : NULL, r->rpc.n_request_id);
    if (st != PR_OK || !r->rpc.model) return;
    memcpy(name, r->rpc.model, r->rpc.n_model);
    name[r->rpc.n_model] = '\0';
    if (strlen(name) == r->rpc.n_model && pr_service_model_is_known(service, name)) return;
    pr_error_set(&r->err, PR_E_NOT_FOUND, "%s: model: no model of this name is served",
                 pr_rpc_kind_name(r->head.kind));
}

static void unpack_work(uv_work_t *work)
{
    unpack(work->data);
}

static void unpack_after(uv_work_t *work, int status)
{
    (void)status;
    start(work->data);
}

void pr_socket_request_begin(pr_socket_request *r)
{
    if (r->n_payload > PR_SOCKET_POOL_BYTES) {
        work_start(r, unpack_work, unpack_after);
        return;
    }
    unpack(r);
    start(r);
}

void pr_socket_request_cancel(pr_socket_request *r)
{
    r->is_cancelled = true;
    if (r->is_calling) pr_service_call_cancel(r->shared->c.service, &r->call);
}

void pr_socket_request_drop(pr_socket_request *r)
{
    r->is_dropped = true;
    if (r->is_calling) pr_service_call_cancel(r->shared->c.service, &r->call);
}
