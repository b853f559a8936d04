#include "include/poolrank/client.h"

#include "client/answer.h"
#include "client/transport.h"
#include "runtime/base/sized.h"
#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_info.h"
#include "runtime/wire/rpc_request.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 256 << 10, TIMEOUT_MS = 0 };

/* A request that was sent and is not answered. */
typedef struct open_request {
    uint64_t id;
    size_t n_inputs;
} open_request;

/* An answer that was not asked for yet. */
typedef struct waiting {
    struct waiting *next;
    pr_client_answer *answer;
} waiting;

struct pr_client {
    pr_transport *transport;
    pr_frame_reader reader;
    char *read_bytes; /* [READ_BYTES] */
    uint64_t n_sent;  /* ids are 1, 2, … */
    open_request *open; /* [n_open] */
    size_t n_open, n_open_max;
    waiting *first, *last;
    size_t n_waiting;
    bool is_greeted;
    /* a ping or info that is waited for; 0: none */
    uint64_t reply_id;
    bool has_reply;
    pr_error reply_error; /* status PR_OK: it was answered */
    pr_client_info info;  /* of the last hello or info */
    pr_error broken;      /* status PR_OK: all is well */
};

static pr_status client_break(pr_client *c, const pr_error *why, pr_error *err)
{
    if (c->broken.status == PR_OK) c->broken = *why;
    return pr_error_set(err, c->broken.status, "%s", c->broken.message);
}

/* ---- what comes in ---- */

static size_t open_find(const pr_client *c, uint64_t id)
{
    size_t i = 0;
    while (i < c->n_open && c->open[i].id != id) i++;
    return i;
}

static pr_status waiting_add(pr_client *c, pr_client_answer *answer, pr_error *err)
{
    waiting *w = calloc(1, sizeof *w);
    if (!w) {
        pr_client_answer_free(answer);
        return pr_error_nomem(err, "answer", sizeof *w);
    }
    w->answer = answer;
    *(c->last ? &c->last->next : &c->first) = w;
    c->last = w;
    c->n_waiting++;
    c->open[open_find(c, answer->id)] = c->open[--c->n_open];
    return PR_OK;
}

static pr_status answer_take(pr_client *c, const char *payload, size_t n, pr_error *err)
{
    pr_rpc_answer rpc;
    pr_client_answer *answer = NULL;
    pr_status st = pr_rpc_answer_unpack(payload, n, &rpc, err);
    if (st != PR_OK) return st;
    size_t i = open_find(c, rpc.id);
    if (i == c->n_open || c->open[i].n_inputs != rpc.n_items) {
        st = pr_error_set(err, PR_E_INPUT, "answer: found one to a request that was not sent");
    } else {
        st = pr_client_answer_make(&rpc, &answer, err);
    }
    pr_rpc_answer_deinit(&rpc);
    return st == PR_OK ? waiting_add(c, answer, err) : st;
}

static pr_status error_take(pr_client *c, const char *payload, size_t n, pr_error *err)
{
    pr_rpc_error e;
    pr_client_answer *answer = NULL;
    pr_status st = pr_rpc_error_unpack(payload, n, &e, err);
    if (st != PR_OK) return st;
    int n_message = e.n_message < PR_ERROR_BYTES ? (int)e.n_message : PR_ERROR_BYTES;
    if (!e.has_id) return pr_error_set(err, e.status, "%.*s", n_message, e.message);
    if (e.id == c->reply_id) {
        pr_error_set(&c->reply_error, e.status, "%.*s", n_message, e.message);
        c->has_reply = true;
        return PR_OK;
    }
    if (open_find(c, e.id) == c->n_open) return PR_OK; /* of a cancel that came too late */
    st = pr_client_answer_fail(&e, &answer, err);
    return st == PR_OK ? waiting_add(c, answer, err) : st;
}

static void text_take(char *out, size_t n_out, pr_rpc_text text)
{
    snprintf(out, n_out, "%.*s", (int)(text.n < n_out ? text.n : n_out), text.s ? text.s : "");
}

static pr_status info_take(pr_client *c, pr_rpc_kind kind, const char *payload, size_t n,
                           pr_error *err)
{
    pr_rpc_info rpc;
    pr_client_info *info = &c->info;
    pr_status st = pr_rpc_info_unpack(payload, n, &rpc, err);
    if (st != PR_OK) return st;
    *info = (pr_client_info){.is_loaded = rpc.is_loaded,
                             .task = rpc.task,
                             .dimensions = rpc.dimensions,
                             .max_model_len = rpc.max_model_len,
                             .frame_bytes = rpc.frame_bytes_max,
                             .n_inputs = rpc.items_max,
                             .n_requests = rpc.requests_max};
    text_take(info->server, sizeof info->server, rpc.server);
    text_take(info->state, sizeof info->state, rpc.state);
    text_take(info->model, sizeof info->model, rpc.model);
    text_take(info->pooling, sizeof info->pooling, rpc.pooling);
    if (kind == PR_RPC_HELLO) c->is_greeted = true;
    if (kind == PR_RPC_INFO && rpc.id == c->reply_id) c->has_reply = true;
    return PR_OK;
}

static pr_status message_take(pr_client *c, const char *payload, size_t n, pr_error *err)
{
    pr_rpc_head head;
    pr_status st = pr_rpc_head_read(payload, n, &head, err);
    if (st != PR_OK) return st;
    switch (head.kind) {
    case PR_RPC_ANSWER: return answer_take(c, payload, n, err);
    case PR_RPC_ERROR: return error_take(c, payload, n, err);
    case PR_RPC_HELLO:
    case PR_RPC_INFO: return info_take(c, head.kind, payload, n, err);
    case PR_RPC_PONG:
        if (head.has_id && head.id == c->reply_id) c->has_reply = true;
        return PR_OK;
    default: return PR_OK; /* "alive", and what newer servers have */
    }
}

static pr_status frames_take(pr_client *c, pr_error *err)
{
    for (;;) {
        const char *payload = NULL;
        size_t n = 0;
        pr_status st = pr_frame_reader_next(&c->reader, &payload, &n, err);
        if (st != PR_OK || !payload) return st;
        st = message_take(c, payload, n, err);
        if (st != PR_OK) return st;
    }
}

/* Sends what it can of src, takes in what comes. */
static pr_status move(pr_client *c, const char *src, size_t n_src, size_t *n_sent, pr_error *err)
{
    pr_error why = {0};
    size_t n_received = 0;
    *n_sent = 0;
    if (c->broken.status != PR_OK) return client_break(c, &c->broken, err);
    pr_status st = pr_transport_move(c->transport, src, n_src, n_sent, c->read_bytes, READ_BYTES,
                                     &n_received, &why);
    if (st == PR_OK && n_received > 0) {
        st = pr_frame_reader_feed(&c->reader, c->read_bytes, n_received, &why);
        if (st == PR_OK) st = frames_take(c, &why);
    }
    return st == PR_OK ? st : client_break(c, &why, err);
}

static pr_status frame_send(pr_client *c, const pr_buffer *frame, pr_error *err)
{
    pr_status st = PR_OK;
    for (size_t at = 0, n_sent = 0; at < frame->n && st == PR_OK; at += n_sent) {
        st = move(c, frame->data + at, frame->n - at, &n_sent, err);
    }
    return st;
}

/* ---- open and close ---- */

void pr_client_options_init_size(pr_client_options *options, size_t struct_bytes)
{
    const pr_client_options full = {.timeout_ms = TIMEOUT_MS};
    pr_sized_give(options, struct_bytes, &full, sizeof full);
}

static pr_status greet(pr_client *c, const pr_client_options *o, pr_error *err)
{
    pr_buffer frame;
    size_t n_sent = 0;
    const pr_rpc_hello hello = {.key = o->key, .n_key = o->key ? strlen(o->key) : 0,
                                .client = o->name, .n_client = o->name ? strlen(o->name) : 0};
    if (hello.n_key > PR_RPC_KEY_BYTES_MAX || hello.n_client > PR_RPC_NAME_BYTES_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT, "key or name: too long, expected at most %d and %d",
                            (int)PR_RPC_KEY_BYTES_MAX, (int)PR_RPC_NAME_BYTES_MAX);
    }
    pr_buffer_init(&frame);
    pr_status st = pr_rpc_hello_pack(&hello, &frame, err);
    if (st == PR_OK) st = frame_send(c, &frame, err);
    while (st == PR_OK && !c->is_greeted) st = move(c, NULL, 0, &n_sent, err);
    pr_buffer_deinit(&frame);
    return st;
}

pr_status pr_client_open(const char *address, const pr_client_options *options, pr_client **out,
                         pr_error *err)
{
    pr_client_options o;
    pr_client_options_init(&o);
    pr_status st = options ? pr_sized_take("pr_client_options", options,
                                           offsetof(pr_client_options, ca_file), &o, sizeof o, err)
                           : PR_OK;
    if (st != PR_OK) return st;
    if (!address) return pr_error_set(err, PR_E_ARGUMENT, "address: found none");
    pr_client *c = calloc(1, sizeof *c);
    if (!c) return pr_error_nomem(err, "client", sizeof *c);
    pr_frame_reader_init(&c->reader, PR_FRAME_BYTES_MAX);
    c->read_bytes = malloc(READ_BYTES);
    st = c->read_bytes ? PR_OK : pr_error_nomem(err, "client", READ_BYTES);
    if (st == PR_OK) {
        st = pr_transport_open(address, o.ca_file, o.timeout_ms, &c->transport, err);
    }
    if (st == PR_OK) st = greet(c, &o, err);
    if (st == PR_OK) {
        *out = c;
        return st;
    }
    pr_client_close(c);
    return pr_error_context(err, st, "%s", address);
}

void pr_client_close(pr_client *c)
{
    if (!c) return;
    pr_transport_close(c->transport);
    pr_frame_reader_deinit(&c->reader);
    while (c->first) {
        waiting *w = c->first;
        c->first = w->next;
        pr_client_answer_free(w->answer);
        free(w);
    }
    free(c->read_bytes);
    free(c->open);
    free(c);
}

/* ---- requests ---- */

void pr_client_params_init_size(pr_client_params *params, size_t struct_bytes)
{
    const pr_client_params full = {.truncation_side = -1, .add_special_tokens = -1,
                                   .normalize = -1, .softmax = -1, .use_activation = -1,
                                   .step_tag_id = -1};
    pr_sized_give(params, struct_bytes, &full, sizeof full);
}

static const pr_rpc_kind kinds[] = {
    [PR_CLIENT_EMBED] = PR_RPC_EMBED,   [PR_CLIENT_CLASSIFY] = PR_RPC_CLASSIFY,
    [PR_CLIENT_SCORE] = PR_RPC_SCORE,   [PR_CLIENT_REWARD] = PR_RPC_REWARD,
    [PR_CLIENT_ENCODE] = PR_RPC_ENCODE, [PR_CLIENT_TOKENIZE] = PR_RPC_TOKENIZE,
};
static_assert(sizeof kinds / sizeof *kinds == PR_CLIENT_KIND_COUNT, "one row per kind");

/* What a server would refuse in another way than by name, or this side could not pack. */
static pr_status request_check(pr_client_kind kind, const pr_client_input *inputs, size_t n,
                               const pr_client_params *p, pr_error *err)
{
    if ((unsigned)kind >= PR_CLIENT_KIND_COUNT || n == 0 || n > UINT32_MAX || !inputs) {
        return pr_error_set(err, PR_E_ARGUMENT, "request: found no input, or no such kind");
    }
    if ((unsigned)p->task >= PR_TASK_COUNT || (unsigned)p->format > PR_CLIENT_INT8 ||
        (unsigned)p->reduce > PR_CLIENT_REDUCE_PRODUCT) {
        return pr_error_set(err, PR_E_ARGUMENT, "params: task, format or reduce: a choice that "
                                                "does not exist");
    }
    for (size_t i = 0; i < n; i++) {
        if (inputs[i].text || (inputs[i].tokens && !inputs[i].text_pair)) continue;
        return pr_error_set(err, PR_E_ARGUMENT, "input %zu: found neither text nor tokens", i);
    }
    return PR_OK;
}

static void params_fill(const pr_client_params *p, pr_rpc_request *q)
{
    pr_rpc_params_init(&q->params);
    q->params.task = p->task;
    q->params.request.truncate_prompt_tokens = p->truncate_prompt_tokens;
    q->params.request.truncation_side = p->truncation_side;
    q->params.request.add_special_tokens = p->add_special_tokens;
    q->params.request.normalize = p->normalize;
    q->params.request.softmax = p->softmax;
    q->params.request.use_activation = p->use_activation;
    q->params.request.dimensions = p->dimensions;
    q->params.request.step_tag_id = p->step_tag_id;
    q->params.request.returned_token_ids = p->returned_token_ids;
    q->params.request.n_returned_token_ids = p->n_returned_token_ids;
    q->params.request.priority = p->priority;
    q->params.timeout_ms = p->timeout_ms;
    q->params.wait_ms = p->wait_ms;
    q->params.reduce = (pr_rpc_reduce)p->reduce;
    q->params.return_tokens = p->return_tokens;
    q->params.format = (pr_rpc_format)p->format;
    q->params.per_item = p->per_item;
    q->model = p->model;
    q->n_model = p->model ? strlen(p->model) : 0;
    q->request_id = p->request_id;
    q->n_request_id = p->request_id ? strlen(p->request_id) : 0;
}

static pr_status open_room(pr_client *c, pr_error *err)
{
    if (c->n_open < c->n_open_max) return PR_OK;
    size_t n_max = c->n_open_max ? 2 * c->n_open_max : 16;
    open_request *open = realloc(c->open, n_max * sizeof *open);
    if (!open) return pr_error_nomem(err, "requests", n_max * sizeof *open);
    c->open = open;
    c->n_open_max = n_max;
    return PR_OK;
}

static pr_status request_pack(pr_client_kind kind, const pr_client_input *inputs, size_t n,
                              const pr_client_params *p, uint64_t id, pr_buffer *frame,
                              pr_error *err)
{
    pr_rpc_request q = {.kind = kinds[kind], .id = id, .n_items = n};
    params_fill(p, &q);
    q.items = calloc(n, sizeof *q.items);
    if (!q.items) return pr_error_nomem(err, "request", n * sizeof *q.items);
    for (size_t i = 0; i < n; i++) {
        q.items[i] = (pr_rpc_item){.text = inputs[i].text,
                                   .n_text = inputs[i].n_text,
                                   .pair = inputs[i].text_pair,
                                   .n_pair = inputs[i].n_text_pair,
                                   .tokens = inputs[i].tokens,
                                   .n_tokens = inputs[i].n_tokens};
    }
    pr_status st = pr_rpc_request_pack(&q, frame, err);
    free(q.items);
    return st;
}

pr_status pr_client_send(pr_client *c, pr_client_kind kind, const pr_client_input *inputs,
                         size_t n_inputs, const pr_client_params *params, uint64_t *id,
                         pr_error *err)
{
    pr_buffer frame;
    pr_client_params p;
    pr_client_params_init(&p);
    pr_status st = params ? pr_sized_take("pr_client_params", params,
                                          offsetof(pr_client_params, truncate_prompt_tokens), &p,
                                          sizeof p, err)
                          : PR_OK;
    if (st == PR_OK) st = request_check(kind, inputs, n_inputs, &p, err);
    if (st == PR_OK) st = open_room(c, err);
    if (st != PR_OK) return st;
    pr_buffer_init(&frame);
    st = request_pack(kind, inputs, n_inputs, &p, c->n_sent + 1, &frame, err);
    if (st == PR_OK && frame.n - PR_FRAME_HEADER_BYTES > c->info.frame_bytes) {
        st = pr_error_set(err, PR_E_TOO_LARGE,
                          "request: found %zu bytes, expected at most %llu (the server's "
                          "--max-body-bytes)",
                          frame.n, (unsigned long long)c->info.frame_bytes);
    }
    if (st == PR_OK) {
        c->n_sent++;
        c->open[c->n_open++] = (open_request){.id = c->n_sent, .n_inputs = n_inputs};
        uint64_t mine = c->n_sent;
        st = frame_send(c, &frame, err);
        if (st == PR_OK) *id = mine;
    }
    pr_buffer_deinit(&frame);
    return st;
}

/* ---- answers ---- */

/* Takes the first waiting answer, or the one of that id; NULL: it is not there yet. */
static pr_client_answer *waiting_take(pr_client *c, const uint64_t *id)
{
    waiting *before = NULL;
    for (waiting *w = c->first; w; before = w, w = w->next) {
        if (id && w->answer->id != *id) continue;
        *(before ? &before->next : &c->first) = w->next;
        if (c->last == w) c->last = before;
        c->n_waiting--;
        pr_client_answer *answer = w->answer;
        free(w);
        return answer;
    }
    return NULL;
}

static pr_status answer_wait(pr_client *c, const uint64_t *id, pr_client_answer **out,
                             pr_error *err)
{
    for (;;) {
        size_t n_sent = 0;
        pr_client_answer *answer = waiting_take(c, id);
        if (answer) {
            *out = answer;
            return PR_OK;
        }
        pr_status st = move(c, NULL, 0, &n_sent, err);
        if (st != PR_OK) return st;
    }
}

pr_status pr_client_receive(pr_client *c, pr_client_answer **out, pr_error *err)
{
    if (pr_client_n_open(c) == 0) {
        return pr_error_set(err, PR_E_ARGUMENT, "receive: no request is open");
    }
    return answer_wait(c, NULL, out, err);
}

size_t pr_client_n_open(const pr_client *c)
{
    return c->n_open + c->n_waiting;
}

pr_status pr_client_ask(pr_client *c, pr_client_kind kind, const pr_client_input *inputs,
                        size_t n_inputs, const pr_client_params *params, pr_client_answer **out,
                        pr_error *err)
{
    uint64_t id = 0;
    pr_client_answer *answer = NULL;
    pr_status st = pr_client_send(c, kind, inputs, n_inputs, params, &id, err);
    if (st == PR_OK) st = answer_wait(c, &id, &answer, err);
    if (st != PR_OK) return st;
    if (answer->status == PR_OK) {
        *out = answer;
        return PR_OK;
    }
    st = pr_error_set(err, answer->status, "%s", answer->message);
    if (answer->i_input >= 0) {
        pr_error_context(err, st, "input %lld", (long long)answer->i_input);
    }
    pr_client_answer_free(answer);
    return st;
}

#define ASK(name, kind)                                                                          \
    pr_status name(pr_client *c, const pr_client_input *inputs, size_t n_inputs,                 \
                   const pr_client_params *params, pr_client_answer **out, pr_error *err)        \
    {                                                                                            \
        return pr_client_ask(c, kind, inputs, n_inputs, params, out, err);                       \
    }
ASK(pr_client_embed, PR_CLIENT_EMBED)
ASK(pr_client_classify, PR_CLIENT_CLASSIFY)
ASK(pr_client_score, PR_CLIENT_SCORE)
ASK(pr_client_reward, PR_CLIENT_REWARD)
ASK(pr_client_encode, PR_CLIENT_ENCODE)
ASK(pr_client_tokenize, PR_CLIENT_TOKENIZE)

/* ---- small ones ---- */

static pr_status small_send(pr_client *c, pr_rpc_kind kind, uint64_t id, pr_error *err)
{
    pr_buffer frame;
    pr_rpc_request q = {.kind = kind, .id = id};
    pr_rpc_params_init(&q.params);
    pr_buffer_init(&frame);
    pr_status st = pr_rpc_request_pack(&q, &frame, err);
    if (st == PR_OK) st = frame_send(c, &frame, err);
    pr_buffer_deinit(&frame);
    return st;
}

static pr_status small_ask(pr_client *c, pr_rpc_kind kind, pr_error *err)
{
    size_t n_sent = 0;
    c->reply_id = ++c->n_sent;
    c->has_reply = false;
    c->reply_error.status = PR_OK;
    pr_status st = small_send(c, kind, c->reply_id, err);
    while (st == PR_OK && !c->has_reply) st = move(c, NULL, 0, &n_sent, err);
    c->reply_id = 0;
    if (st != PR_OK || c->reply_error.status == PR_OK) return st;
    return pr_error_set(err, c->reply_error.status, "%s", c->reply_error.message);
}

pr_status pr_client_cancel(pr_client *c, uint64_t id, pr_error *err)
{
    if (open_find(c, id) == c->n_open) return PR_OK;
    return small_send(c, PR_RPC_CANCEL, id, err);
}

pr_status pr_client_info_get_size(pr_client *c, pr_client_info *out, size_t struct_bytes,
                                  pr_error *err)
{
    pr_status st = small_ask(c, PR_RPC_INFO, err);
    if (st == PR_OK) pr_sized_give(out, struct_bytes, &c->info, sizeof c->info);
    return st;
}

pr_status pr_client_ping(pr_client *c, pr_error *err)
{
    return small_ask(c, PR_RPC_PING, err);
}

const char *pr_client_status_name(pr_status status)
{
    return (unsigned)status < PR_STATUS_COUNT ? pr_status_describe(status)->name : "internal";
}
