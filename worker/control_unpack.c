#include "worker/control.h"

#include "runtime/wire/msgpack_read.h"
#include "worker/control_fields.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

static pr_status no_memory(pr_msgpack_reader *r, const char *what, size_t n_bytes)
{
    if (r->status == PR_OK) {
        pr_error_nomem(r->err, what, n_bytes);
        r->status = PR_E_NOMEM;
    }
    return r->status;
}

static uint32_t u32_read(pr_msgpack_reader *r, const char *field, uint32_t min, uint32_t max)
{
    return (uint32_t)pr_msgpack_read_u64(r, field, min, max);
}

/* A bin of whole items of `size` bytes; *n of them. */
static const char *items_read(pr_msgpack_reader *r, const char *field, size_t size, uint32_t n_min,
                              uint32_t *n)
{
    size_t n_bytes = 0;
    const char *p = pr_msgpack_read_bin(r, field, n_min * size, UINT32_MAX, &n_bytes);
    if (n_bytes % size != 0) {
        pr_msgpack_fail(r, field, "found %zu bytes, expected a multiple of %zu", n_bytes, size);
    }
    *n = r->status == PR_OK ? (uint32_t)(n_bytes / size) : 0;
    return r->status == PR_OK ? p : NULL;
}

static void hello_unpack(pr_msgpack_reader *r, pr_control_hello *h)
{
    h->protocol = u32_read(r, "protocol", 0, UINT32_MAX);
    pr_msgpack_read_text(r, "version", h->version, sizeof h->version);
    if (r->status == PR_OK && h->protocol != PR_CONTROL_PROTOCOL) {
        r->at = r->n; /* what follows may mean anything */
        return;
    }
    pr_msgpack_read_text(r, "group", h->group, sizeof h->group);
    h->rank = u32_read(r, "rank", 0, UINT32_MAX);
    h->n_ranks = u32_read(r, "n_ranks", 0, UINT32_MAX);
    pr_msgpack_read_text(r, "host", h->host, sizeof h->host);
    h->pid = pr_msgpack_read_i64(r, "pid", INT64_MIN, INT64_MAX);
    pr_msgpack_read_fixed(r, "nonce", h->nonce, sizeof h->nonce);
}

static pr_status status_read(pr_msgpack_reader *r, const char *field)
{
    char name[32];
    pr_msgpack_read_text(r, field, name, sizeof name);
    for (int i = PR_OK + 1; i < PR_STATUS_COUNT; i++) {
        if (strcmp(name, pr_status_describe((pr_status)i)->name) == 0) return (pr_status)i;
    }
    pr_msgpack_fail(r, field, "found '%s', expected the name of a failure", name);
    return PR_E_INTERNAL;
}

static void reason_unpack(pr_msgpack_reader *r, pr_control_reason *reason)
{
    reason->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    reason->batch_seq = pr_msgpack_read_u64(r, "batch_seq", 0, UINT64_MAX);
    reason->status = status_read(r, "status");
    pr_msgpack_read_text(r, "message", reason->message, sizeof reason->message);
}

/* ---- load ---- */

/* A string, owned. */
static char *text_read(pr_msgpack_reader *r, const char *field, size_t n_min, size_t n_max)
{
    size_t n = 0;
    const char *s = pr_msgpack_read_str(r, field, n_min, n_max, &n);
    if (!s) return NULL;
    if (memchr(s, '\0', n)) {
        pr_msgpack_fail(r, field, "found a NUL byte, expected none");
        return NULL;
    }
    char *copy = malloc(n + 1);
    if (!copy) {
        no_memory(r, field, n + 1);
        return NULL;
    }
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

static void options_unpack(pr_msgpack_reader *r, pr_control_load *l)
{
    uint32_t n = pr_msgpack_read_array(r, "options", 0, 2 * PR_CONTROL_OPTIONS_MAX);
    if (n % 2 != 0) pr_msgpack_fail(r, "options", "found %u elements, expected pairs", n);
    if (r->status != PR_OK || n == 0) return;
    l->options = calloc(n / 2, sizeof *l->options);
    if (!l->options) {
        no_memory(r, "LOAD: options", n / 2 * sizeof *l->options);
        return;
    }
    for (; r->status == PR_OK && l->n_options < n / 2; l->n_options++) {
        pr_control_option *o = &l->options[l->n_options];
        o->name = text_read(r, "option name", 1, PR_CONTROL_NAME_BYTES - 1);
        o->value = text_read(r, "option value", 0, PR_CONTROL_VALUE_BYTES);
    }
}

static void load_unpack(pr_msgpack_reader *r, pr_control_load *l)
{
    l->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    l->tp_size = u32_read(r, "tp_size", 1, PR_CONTROL_RANKS_MAX);
    l->n_stages = u32_read(r, "n_stages", 1, PR_CONTROL_RANKS_MAX);
    if (r->status == PR_OK && l->tp_size * l->n_stages > PR_CONTROL_RANKS_MAX) {
        pr_msgpack_fail(r, "tp_size * n_stages", "found %u ranks, expected at most %d",
                        l->tp_size * l->n_stages, (int)PR_CONTROL_RANKS_MAX);
    }
    l->n_rows_max = u32_read(r, "n_rows_max", 1, UINT32_MAX);
    l->n_positions_max = u32_read(r, "n_positions_max", 1, UINT32_MAX);
    l->model_fingerprint = pr_msgpack_read_u64(r, "model_fingerprint", 0, UINT64_MAX);
    options_unpack(r, l);
}

static void ready_unpack(pr_msgpack_reader *r, pr_control_ready *y)
{
    y->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    y->model_fingerprint = pr_msgpack_read_u64(r, "model_fingerprint", 0, UINT64_MAX);
    pr_msgpack_read_text(r, "device", y->device, sizeof y->device);
    pr_msgpack_read_text(r, "backend", y->backend, sizeof y->backend);
    y->weights_bytes = pr_msgpack_read_u64(r, "weights_bytes", 0, UINT64_MAX);
    y->width = (int32_t)pr_msgpack_read_i64(r, "width", 0, INT32_MAX);
    y->n_slots = u32_read(r, "n_slots", 1, 16);
}

static void comm_id_unpack(pr_msgpack_reader *r, pr_control_comm_id *id)
{
    size_t n = 0;
    id->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    const char *bytes = pr_msgpack_read_bin(r, "bytes", 1, PR_CONTROL_COMM_ID_BYTES, &n);
    if (r->status != PR_OK) return;
    memcpy(id->bytes, bytes, n);
    id->n_bytes = (uint32_t)n;
}

/* ---- batch ---- */

/* The arrays of a plan where they stand in the frame. */
typedef struct plan_bins {
    const char *tokens, *cached, *type_ids, *segments, *sequences, *stores;
    uint32_t n_tokens, n_cached, n_segments, n_sequences, n_stores; /* n_tokens: computed ones */
} plan_bins;

static pr_status plan_bins_read(pr_msgpack_reader *r, plan_bins *b)
{
    size_t n_types = 0;
    uint32_t n_all = 0;
    b->tokens = items_read(r, "tokens", 4, 1, &n_all);
    b->cached = items_read(r, "cached_rows", 4, 0, &b->n_cached);
    if (r->status == PR_OK && b->n_cached >= n_all) {
        pr_msgpack_fail(r, "cached_rows", "found %u, expected less than %u tokens", b->n_cached,
                        n_all);
    }
    if (r->status != PR_OK) return r->status;
    b->n_tokens = n_all - b->n_cached;
    if (pr_msgpack_next(r) == PR_MSGPACK_NIL) {
        pr_msgpack_skip(r, "type_ids");
    } else {
        b->type_ids = pr_msgpack_read_bin(r, "type_ids", b->n_tokens, b->n_tokens, &n_types);
    }
    b->segments = items_read(r, "segments", PR_CONTROL_SEGMENT_BYTES, 1, &b->n_segments);
    b->sequences = items_read(r, "sequences", PR_CONTROL_SEQUENCE_BYTES, 1, &b->n_sequences);
    b->stores = items_read(r, "stores", PR_CONTROL_STORE_BYTES, 0, &b->n_stores);
    return r->status;
}

static void stores_fill(pr_batch_plan *plan, const plan_bins *b)
{
    for (uint32_t i = 0; i < b->n_stores; i++) {
        const char *p = b->stores + (size_t)i * PR_CONTROL_STORE_BYTES;
        pr_cache_store *s = &plan->stores[i];
        s->block = pr_u32_get(p);
        s->has_hidden = pr_u32_get(p + 4) != 0;
        for (int j = 0; j < PR_CACHE_BLOCK_TOKENS; j++) s->rows[j] = pr_u32_get(p + 8 + 4 * j);
    }
    plan->n_stores = b->n_stores;
}

static void plan_fill(pr_batch_plan *plan, const plan_bins *b)
{
    for (uint32_t i = 0; i < b->n_tokens + b->n_cached; i++) {
        plan->tokens[i] = (int32_t)pr_u32_get(b->tokens + 4 * (size_t)i);
    }
    for (uint32_t i = 0; i < b->n_cached; i++) {
        plan->cached_rows[i] = pr_u32_get(b->cached + 4 * (size_t)i);
    }
    stores_fill(plan, b);
    if (b->type_ids) memcpy(plan->type_ids, b->type_ids, b->n_tokens);
    for (uint32_t i = 0; i < b->n_segments; i++) {
        const char *p = b->segments + (size_t)i * PR_CONTROL_SEGMENT_BYTES;
        plan->segments[i] = (pr_segment){.token_begin = pr_u32_get(p),
                                         .token_count = pr_u32_get(p + 4),
                                         .position_begin = pr_u32_get(p + 8),
                                         .parent = (int32_t)pr_u32_get(p + 12)};
    }
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        const char *p = b->sequences + (size_t)i * PR_CONTROL_SEQUENCE_BYTES;
        plan->sequences[i] = (pr_sequence){
            .leaf_segment = pr_u32_get(p), .n_tokens = pr_u32_get(p + 4), .i_request = i};
    }
    plan->n_tokens = b->n_tokens;
    plan->n_cached = b->n_cached;
    plan->n_segments = b->n_segments;
    plan->n_sequences = b->n_sequences;
}

static pr_batch_plan *plan_create(const plan_bins *b)
{
    pr_batch_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return NULL;
    plan->tokens = malloc(((size_t)b->n_tokens + b->n_cached) * sizeof *plan->tokens);
    plan->cached_rows = malloc(((size_t)b->n_cached + 1) * sizeof *plan->cached_rows);
    plan->stores = malloc(((size_t)b->n_stores + 1) * sizeof *plan->stores);
    plan->type_ids = b->type_ids ? malloc(b->n_tokens) : NULL;
    plan->segments = malloc(b->n_segments * sizeof *plan->segments);
    plan->sequences = malloc(b->n_sequences * sizeof *plan->sequences);
    if (plan->tokens && plan->cached_rows && plan->stores && (plan->type_ids || !b->type_ids) &&
        plan->segments && plan->sequences) {
        plan_fill(plan, b);
        return plan;
    }
    pr_batch_plan_free(plan);
    return NULL;
}

static pr_status plan_check(pr_msgpack_reader *r, const pr_batch_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_tokens + plan->n_cached; i++) {
        if (plan->tokens[i] >= 0) continue;
        return pr_msgpack_fail(r, "tokens", "token %u: found %d, expected 0 or more", i,
                               plan->tokens[i]);
    }
    pr_error why = {0};
    if (pr_batch_plan_check(plan, &why) == PR_OK) return PR_OK;
    return pr_msgpack_fail(r, "plan", "%s", why.message);
}

static void returned_unpack(pr_msgpack_reader *r, pr_pooling *p)
{
    uint32_t n = 0;
    const char *bytes = items_read(r, "returned_tokens", 4, 0, &n);
    if (n > PR_RETURNED_TOKENS_MAX) {
        pr_msgpack_fail(r, "returned_tokens", "found %u, expected at most %d", n,
                        (int)PR_RETURNED_TOKENS_MAX);
        return;
    }
    p->n_returned_tokens = (int32_t)n;
    for (uint32_t i = 0; i < n; i++) {
        p->returned_tokens[i] = (int32_t)pr_u32_get(bytes + 4 * (size_t)i);
        if (p->returned_tokens[i] < 0) {
            pr_msgpack_fail(r, "returned_tokens", "found %d, expected 0 or more",
                            p->returned_tokens[i]);
            return;
        }
    }
}

static void pooling_unpack(pr_msgpack_reader *r, pr_pooling *p)
{
    pr_msgpack_read_array(r, "pooling", PR_CONTROL_POOLING_ELEMENTS, PR_CONTROL_POOLING_ELEMENTS);
    p->task = (pr_task)pr_msgpack_read_u64(r, "task", PR_TASK_AUTO + 1, PR_TASK_COUNT - 1);
    p->type = (pr_pool)pr_msgpack_read_u64(r, "pooling type", 0, PR_POOL_COUNT - 1);
    p->skips_pad = pr_msgpack_read_bool(r, "skips_pad");
    p->pad_token_id = (int32_t)pr_msgpack_read_i64(r, "pad_token_id", INT32_MIN, INT32_MAX);
    p->normalize = pr_msgpack_read_bool(r, "normalize");
    p->cuts_last = pr_msgpack_read_bool(r, "cuts_last");
    p->activation = (pr_activation)pr_msgpack_read_u64(r, "activation", PR_ACTIVATION_NONE,
                                                       PR_ACTIVATION_COUNT - 1);
    p->softmax = pr_msgpack_read_bool(r, "softmax");
    p->dimensions = (int32_t)pr_msgpack_read_i64(r, "dimensions", 0, INT32_MAX);
    p->step_tag_id = (int32_t)pr_msgpack_read_i64(r, "step_tag_id", INT32_MIN, INT32_MAX);
    returned_unpack(r, p);
}

/* Room for the sequences' pointers and, behind them, for the poolings: one piece, so that freeing
 * the pointers frees all. */
static const pr_pooling **poolings_create(uint32_t n_sequences, uint32_t n, pr_pooling **poolings)
{
    static_assert(alignof(pr_pooling) <= alignof(void *), "poolings stand behind pointers");
    size_t n_pointers = n_sequences * sizeof(pr_pooling *);
    char *piece = calloc(1, n_pointers + n * sizeof(pr_pooling));
    *poolings = piece ? (pr_pooling *)(void *)(piece + n_pointers) : NULL;
    return (const pr_pooling **)(void *)piece;
}

static void poolings_unpack(pr_msgpack_reader *r, pr_control_batch *b)
{
    uint32_t n_sequences = b->plan->n_sequences;
    uint32_t n_max = n_sequences < PR_CONTROL_POOLINGS_MAX ? n_sequences : PR_CONTROL_POOLINGS_MAX;
    uint32_t n = pr_msgpack_read_array(r, "poolings", 1, n_max);
    if (r->status != PR_OK) return;
    pr_pooling *poolings = NULL;
    const pr_pooling **of = poolings_create(n_sequences, n, &poolings);
    if (!of) {
        no_memory(r, "BATCH: poolings", n_sequences * sizeof *of + n * sizeof *poolings);
        return;
    }
    b->poolings = of;
    for (uint32_t k = 0; r->status == PR_OK && k < n; k++) pooling_unpack(r, &poolings[k]);
    uint32_t n_indices = 0;
    const char *indices = items_read(r, "pooling indices", 4, 0, &n_indices);
    if (n_indices != n_sequences) {
        pr_msgpack_fail(r, "pooling indices", "found %u, expected %u", n_indices, n_sequences);
    }
    for (uint32_t i = 0; r->status == PR_OK && i < n_sequences; i++) {
        uint32_t k = pr_u32_get(indices + 4 * (size_t)i);
        if (k >= n) {
            pr_msgpack_fail(r, "pooling indices", "sequence %u: found %u, expected below %u", i, k,
                            n);
        } else {
            of[i] = &poolings[k];
        }
    }
}

static void batch_unpack(pr_msgpack_reader *r, pr_control_batch *b)
{
    b->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    b->batch_seq = pr_msgpack_read_u64(r, "batch_seq", 1, UINT64_MAX);
    b->plan_hash = pr_msgpack_read_u64(r, "plan_hash", 0, UINT64_MAX);
    plan_bins bins = {0};
    if (plan_bins_read(r, &bins) != PR_OK) return;
    pr_batch_plan *plan = plan_create(&bins);
    b->plan = plan;
    if (!plan) {
        no_memory(r, "BATCH: plan", bins.n_tokens * sizeof *plan->tokens);
        return;
    }
    if (plan_check(r, plan) == PR_OK) poolings_unpack(r, b);
}

/* ---- results and progress ---- */

static void result_unpack(pr_msgpack_reader *r, pr_control_result *result)
{
    size_t n = 0;
    result->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    result->batch_seq = pr_msgpack_read_u64(r, "batch_seq", 1, UINT64_MAX);
    result->offset = pr_msgpack_read_u64(r, "offset", 0, UINT64_MAX - PR_CONTROL_CHUNK_BYTES);
    result->bytes = pr_msgpack_read_bin(r, "bytes", 0, PR_CONTROL_CHUNK_BYTES, &n);
    result->n_bytes = (uint32_t)n;
}

static void done_unpack(pr_msgpack_reader *r, pr_control_done *d)
{
    uint32_t n = 0;
    d->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    d->batch_seq = pr_msgpack_read_u64(r, "batch_seq", 1, UINT64_MAX);
    const char *bytes = items_read(r, "shapes", PR_CONTROL_SHAPE_BYTES, 1, &n);
    if (!bytes) return;
    size_t n_numbers = 2 * (size_t)n;
    uint32_t *shapes = malloc(n_numbers * sizeof *shapes);
    if (!shapes) {
        no_memory(r, "DONE: shapes", n_numbers * sizeof *shapes);
        return;
    }
    for (size_t i = 0; i < n_numbers; i++) shapes[i] = pr_u32_get(bytes + 4 * i);
    d->shapes = shapes;
    d->n_sequences = n;
}

static void ping_unpack(pr_msgpack_reader *r, pr_control_ping *p, bool is_answer)
{
    p->id = pr_msgpack_read_u64(r, "id", 0, UINT64_MAX);
    if (!is_answer) return;
    p->epoch = pr_msgpack_read_u64(r, "epoch", 0, UINT64_MAX);
    p->batch_seq = pr_msgpack_read_u64(r, "batch_seq", 0, UINT64_MAX);
    p->is_computing = pr_msgpack_read_bool(r, "is_computing");
    p->n_steps = pr_msgpack_read_u64(r, "n_steps", 0, UINT64_MAX);
}

static void fields_unpack(pr_msgpack_reader *r, pr_control_message *m)
{
    switch (m->kind) {
    case PR_CONTROL_HELLO: hello_unpack(r, &m->hello); break;
    case PR_CONTROL_CHALLENGE:
        pr_msgpack_read_fixed(r, "nonce", m->challenge.nonce, PR_NONCE_BYTES);
        pr_msgpack_read_fixed(r, "proof", m->challenge.proof, PR_PROOF_BYTES);
        break;
    case PR_CONTROL_PROOF: pr_msgpack_read_fixed(r, "proof", m->proof, PR_PROOF_BYTES); break;
    case PR_CONTROL_REFUSE:
    case PR_CONTROL_FAILED:
    case PR_CONTROL_ABORT: reason_unpack(r, &m->reason); break;
    case PR_CONTROL_LOAD: load_unpack(r, &m->load); break;
    case PR_CONTROL_COMM_ID: comm_id_unpack(r, &m->comm_id); break;
    case PR_CONTROL_READY: ready_unpack(r, &m->ready); break;
    case PR_CONTROL_BATCH: batch_unpack(r, &m->batch); break;
    case PR_CONTROL_RESULT: result_unpack(r, &m->result); break;
    case PR_CONTROL_DONE: done_unpack(r, &m->done); break;
    case PR_CONTROL_PING:
    case PR_CONTROL_PONG: ping_unpack(r, &m->ping, m->kind == PR_CONTROL_PONG); break;
    case PR_CONTROL_SHUTDOWN:
    case PR_CONTROL_KIND_COUNT: break;
    }
}

/* The count is checked when the kind is known; of a HELLO when its protocol is. */
static void kind_unpack(pr_msgpack_reader *r, pr_control_message *m)
{
    uint32_t n = pr_msgpack_read_array(r, "message", 1, 64);
    uint64_t kind = pr_msgpack_read_u64(r, "kind", 0, PR_CONTROL_KIND_COUNT - 1);
    if (r->status != PR_OK) return;
    *m = (pr_control_message){.kind = (pr_control_kind)kind};
    r->message = pr_control_kind_name(m->kind);
    fields_unpack(r, m);
    bool is_foreign = m->kind == PR_CONTROL_HELLO && m->hello.protocol != PR_CONTROL_PROTOCOL;
    if (n != pr_control_n_elements[kind] && !is_foreign) {
        pr_msgpack_fail(r, "message", "found %u elements, expected %u", n,
                        pr_control_n_elements[kind]);
    }
}

pr_status pr_control_unpack(const char *payload, size_t n, pr_control_message *out, pr_error *err)
{
    pr_msgpack_reader r;
    pr_control_message m = {.kind = PR_CONTROL_KIND_COUNT};
    pr_msgpack_reader_init(&r, "control frame", payload, n, err);
    kind_unpack(&r, &m);
    pr_status st = pr_msgpack_read_end(&r);
    if (st == PR_OK) {
        *out = m;
    } else {
        pr_control_message_deinit(&m);
    }
    return st;
}
