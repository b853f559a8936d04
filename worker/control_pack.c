#include "worker/control.h"

#include "runtime/wire/frame.h"
#include "runtime/wire/msgpack_write.h"
#include "worker/control_fields.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void hello_pack(const pr_control_hello *h, pr_buffer *out)
{
    pr_msgpack_write_u64(out, h->protocol);
    pr_msgpack_write_text(out, h->version);
    pr_msgpack_write_text(out, h->group);
    pr_msgpack_write_u64(out, h->rank);
    pr_msgpack_write_u64(out, h->n_ranks);
    pr_msgpack_write_text(out, h->host);
    pr_msgpack_write_i64(out, h->pid);
    pr_msgpack_write_bin(out, h->nonce, sizeof h->nonce);
}

static void reason_pack(const pr_control_reason *r, pr_buffer *out)
{
    pr_msgpack_write_u64(out, r->epoch);
    pr_msgpack_write_u64(out, r->batch_seq);
    pr_msgpack_write_text(out, pr_status_describe(r->status)->name);
    pr_msgpack_write_text(out, r->message);
}

static pr_status load_pack(const pr_control_load *l, pr_buffer *out, pr_error *err)
{
    if (l->n_options > PR_CONTROL_OPTIONS_MAX) {
        return pr_error_set(err, PR_E_TOO_LARGE, "LOAD: found %u options, expected at most %d",
                            l->n_options, (int)PR_CONTROL_OPTIONS_MAX);
    }
    pr_msgpack_write_u64(out, l->epoch);
    pr_msgpack_write_u64(out, l->tp_size);
    pr_msgpack_write_u64(out, l->n_stages);
    pr_msgpack_write_u64(out, l->n_rows_max);
    pr_msgpack_write_u64(out, l->n_positions_max);
    pr_msgpack_write_u64(out, l->model_fingerprint);
    pr_msgpack_write_array(out, 2 * l->n_options);
    for (uint32_t i = 0; i < l->n_options; i++) {
        const pr_control_option *o = &l->options[i];
        if (strlen(o->name) >= PR_CONTROL_NAME_BYTES || strlen(o->value) > PR_CONTROL_VALUE_BYTES) {
            return pr_error_set(err, PR_E_TOO_LARGE,
                                "LOAD: option %s: found %zu bytes, expected at most %d", o->name,
                                strlen(o->value), (int)PR_CONTROL_VALUE_BYTES);
        }
        pr_msgpack_write_text(out, o->name);
        pr_msgpack_write_text(out, o->value);
    }
    return PR_OK;
}

static void ready_pack(const pr_control_ready *r, pr_buffer *out)
{
    pr_msgpack_write_u64(out, r->epoch);
    pr_msgpack_write_u64(out, r->model_fingerprint);
    pr_msgpack_write_text(out, r->device);
    pr_msgpack_write_text(out, r->backend);
    pr_msgpack_write_u64(out, r->weights_bytes);
    pr_msgpack_write_i64(out, r->width);
    pr_msgpack_write_u64(out, r->n_slots);
}

static void comm_id_pack(const pr_control_comm_id *id, pr_buffer *out)
{
    assert(id->n_bytes >= 1 && id->n_bytes <= PR_CONTROL_COMM_ID_BYTES);
    pr_msgpack_write_u64(out, id->epoch);
    pr_msgpack_write_bin(out, id->bytes, id->n_bytes);
}

/* ---- batch ---- */

static void tokens_pack(const int32_t *tokens, size_t n, pr_buffer *out)
{
    char *p = pr_msgpack_write_bin_space(out, 4 * n);
    if (!p) return;
    for (size_t i = 0; i < n; i++) p = pr_u32_put(p, (uint32_t)tokens[i]);
}

static void rows_pack(const uint32_t *rows, size_t n, pr_buffer *out)
{
    char *p = pr_msgpack_write_bin_space(out, 4 * n);
    for (size_t i = 0; p && i < n; i++) p = pr_u32_put(p, rows[i]);
}

static void stores_pack(const pr_batch_plan *plan, pr_buffer *out)
{
    char *p = pr_msgpack_write_bin_space(out, (size_t)plan->n_stores * PR_CONTROL_STORE_BYTES);
    for (uint32_t i = 0; p && i < plan->n_stores; i++) {
        const pr_cache_store *s = &plan->stores[i];
        p = pr_u32_put(p, s->block);
        p = pr_u32_put(p, s->has_hidden);
        for (int j = 0; j < PR_CACHE_BLOCK_TOKENS; j++) p = pr_u32_put(p, s->rows[j]);
    }
}

static void plan_pack(const pr_batch_plan *plan, pr_buffer *out)
{
    tokens_pack(plan->tokens, (size_t)plan->n_tokens + plan->n_cached, out);
    rows_pack(plan->cached_rows, plan->n_cached, out);
    if (plan->type_ids) {
        pr_msgpack_write_bin(out, plan->type_ids, plan->n_tokens);
    } else {
        pr_msgpack_write_nil(out);
    }
    char *p = pr_msgpack_write_bin_space(out,
                                         (size_t)plan->n_segments * PR_CONTROL_SEGMENT_BYTES);
    for (uint32_t i = 0; p && i < plan->n_segments; i++) {
        const pr_segment *s = &plan->segments[i];
        p = pr_u32_put(p, s->token_begin);
        p = pr_u32_put(p, s->token_count);
        p = pr_u32_put(p, s->position_begin);
        p = pr_u32_put(p, (uint32_t)s->parent);
    }
    p = pr_msgpack_write_bin_space(out, (size_t)plan->n_sequences * PR_CONTROL_SEQUENCE_BYTES);
    for (uint32_t i = 0; p && i < plan->n_sequences; i++) {
        p = pr_u32_put(p, plan->sequences[i].leaf_segment);
        p = pr_u32_put(p, plan->sequences[i].n_tokens);
    }
    stores_pack(plan, out);
}

static void pooling_pack(const pr_pooling *p, pr_buffer *out)
{
    pr_msgpack_write_array(out, PR_CONTROL_POOLING_ELEMENTS);
    pr_msgpack_write_u64(out, p->task);
    pr_msgpack_write_u64(out, p->type);
    pr_msgpack_write_bool(out, p->skips_pad);
    pr_msgpack_write_i64(out, p->pad_token_id);
    pr_msgpack_write_bool(out, p->normalize);
    pr_msgpack_write_bool(out, p->cuts_last);
    pr_msgpack_write_u64(out, p->activation);
    pr_msgpack_write_bool(out, p->softmax);
    pr_msgpack_write_i64(out, p->dimensions);
    pr_msgpack_write_i64(out, p->step_tag_id);
    tokens_pack(p->returned_tokens, (size_t)p->n_returned_tokens, out);
}

/* The different poolings of a batch. */
typedef struct distinct {
    uint32_t *slots; /* [n_slots] open addressing: place in `first` + 1; 0: empty */
    size_t n_slots;  /* power of two, at least twice the sequences */
    uint32_t *first; /* [n] the first sequence that has it */
    uint32_t *of;    /* [n_sequences] place in `first` */
    uint32_t n;
} distinct;

static void distinct_deinit(distinct *d)
{
    free(d->slots);
    free(d->first);
    free(d->of);
}

static pr_status distinct_init(distinct *d, uint32_t n_sequences, pr_error *err)
{
    *d = (distinct){.n_slots = 16};
    while (d->n_slots < 2 * (size_t)n_sequences) d->n_slots *= 2;
    d->slots = calloc(d->n_slots, sizeof *d->slots);
    d->first = malloc((n_sequences + (size_t)1) * sizeof *d->first);
    d->of = malloc((n_sequences + (size_t)1) * sizeof *d->of);
    if (d->slots && d->first && d->of) return PR_OK;
    distinct_deinit(d);
    return pr_error_nomem(err, "BATCH: poolings", d->n_slots * sizeof *d->slots);
}

static uint32_t distinct_find_or_add(distinct *d, const pr_pooling *const *poolings, uint32_t i)
{
    size_t at = pr_control_pooling_hash(poolings[i]) & (d->n_slots - 1);
    for (; d->slots[at]; at = (at + 1) & (d->n_slots - 1)) {
        uint32_t k = d->slots[at] - 1;
        if (pr_control_pooling_equal(poolings[d->first[k]], poolings[i])) return k;
    }
    d->first[d->n] = i;
    d->slots[at] = ++d->n;
    return d->n - 1;
}

static pr_status poolings_pack(const pr_pooling *const *poolings, uint32_t n, pr_buffer *out,
                               pr_error *err)
{
    distinct d;
    pr_status st = distinct_init(&d, n, err);
    if (st != PR_OK) return st;
    for (uint32_t i = 0; i < n; i++) {
        bool is_last = i > 0 && poolings[i] == poolings[i - 1];
        d.of[i] = is_last ? d.of[i - 1] : distinct_find_or_add(&d, poolings, i);
    }
    if (d.n > PR_CONTROL_POOLINGS_MAX) {
        st = pr_error_set(err, PR_E_TOO_LARGE,
                          "BATCH: found %u different poolings, expected at most %d", d.n,
                          (int)PR_CONTROL_POOLINGS_MAX);
    } else {
        pr_msgpack_write_array(out, d.n);
        for (uint32_t k = 0; k < d.n; k++) pooling_pack(poolings[d.first[k]], out);
        char *p = pr_msgpack_write_bin_space(out, 4 * (size_t)n);
        for (uint32_t i = 0; p && i < n; i++) p = pr_u32_put(p, d.of[i]);
    }
    distinct_deinit(&d);
    return st;
}

static pr_status batch_pack(const pr_control_batch *b, pr_buffer *out, pr_error *err)
{
    pr_msgpack_write_u64(out, b->epoch);
    pr_msgpack_write_u64(out, b->batch_seq);
    pr_msgpack_write_u64(out, b->plan_hash);
    plan_pack(b->plan, out);
    return poolings_pack(b->poolings, b->plan->n_sequences, out, err);
}

/* ---- results and progress ---- */

static void result_pack(const pr_control_result *r, pr_buffer *out)
{
    assert(r->n_bytes <= PR_CONTROL_CHUNK_BYTES);
    pr_msgpack_write_u64(out, r->epoch);
    pr_msgpack_write_u64(out, r->batch_seq);
    pr_msgpack_write_u64(out, r->offset);
    pr_msgpack_write_bin(out, r->bytes, r->n_bytes);
}

static void done_pack(const pr_control_done *d, pr_buffer *out)
{
    pr_msgpack_write_u64(out, d->epoch);
    pr_msgpack_write_u64(out, d->batch_seq);
    char *p = pr_msgpack_write_bin_space(out, (size_t)d->n_sequences * PR_CONTROL_SHAPE_BYTES);
    for (size_t i = 0; p && i < 2 * (size_t)d->n_sequences; i++) p = pr_u32_put(p, d->shapes[i]);
}

static void ping_pack(const pr_control_ping *p, bool is_answer, pr_buffer *out)
{
    pr_msgpack_write_u64(out, p->id);
    if (!is_answer) return;
    pr_msgpack_write_u64(out, p->epoch);
    pr_msgpack_write_u64(out, p->batch_seq);
    pr_msgpack_write_bool(out, p->is_computing);
    pr_msgpack_write_u64(out, p->n_steps);
}

static pr_status fields_pack(const pr_control_message *m, pr_buffer *out, pr_error *err)
{
    switch (m->kind) {
    case PR_CONTROL_HELLO: hello_pack(&m->hello, out); break;
    case PR_CONTROL_CHALLENGE:
        pr_msgpack_write_bin(out, m->challenge.nonce, PR_NONCE_BYTES);
        pr_msgpack_write_bin(out, m->challenge.proof, PR_PROOF_BYTES);
        break;
    case PR_CONTROL_PROOF: pr_msgpack_write_bin(out, m->proof, PR_PROOF_BYTES); break;
    case PR_CONTROL_REFUSE:
    case PR_CONTROL_FAILED:
    case PR_CONTROL_ABORT: reason_pack(&m->reason, out); break;
    case PR_CONTROL_LOAD: return load_pack(&m->load, out, err);
    case PR_CONTROL_COMM_ID: comm_id_pack(&m->comm_id, out); break;
    case PR_CONTROL_READY: ready_pack(&m->ready, out); break;
    case PR_CONTROL_BATCH: return batch_pack(&m->batch, out, err);
    case PR_CONTROL_RESULT: result_pack(&m->result, out); break;
    case PR_CONTROL_DONE: done_pack(&m->done, out); break;
    case PR_CONTROL_PING:
    case PR_CONTROL_PONG: ping_pack(&m->ping, m->kind == PR_CONTROL_PONG, out); break;
    case PR_CONTROL_SHUTDOWN:
    case PR_CONTROL_KIND_COUNT: break;
    }
    return PR_OK;
}

/* Bins make room for themselves, in doubling steps; what may be large is asked for at once. */
static size_t bytes_expected(const pr_control_message *m)
{
    if (m->kind == PR_CONTROL_RESULT) return 64 + (size_t)m->result.n_bytes;
    if (m->kind == PR_CONTROL_BATCH) return 64 + 5 * (size_t)m->batch.plan->n_tokens;
    return 64;
}

pr_status pr_control_pack(const pr_control_message *message, pr_buffer *out, pr_error *err)
{
    assert((unsigned)message->kind < PR_CONTROL_KIND_COUNT);
    size_t n_before = out->n;
    pr_buffer_reserve(out, bytes_expected(message));
    size_t place = pr_frame_begin(out);
    pr_msgpack_write_array(out, pr_control_n_elements[message->kind]);
    pr_msgpack_write_u64(out, message->kind);
    pr_status st = fields_pack(message, out, err);
    if (st == PR_OK) st = pr_frame_end(out, place, err);
    if (st != PR_OK) out->n = n_before;
    return st;
}
