#include "tests/unit/worker/control_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint64_t control_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

/* Numbers of every width, so that every form of an integer is met. */
static uint64_t number(uint64_t *s)
{
    return control_random(s) >> (control_random(s) % 64);
}

static void text_fill(char *out, size_t n_out, uint64_t *s)
{
    size_t n = control_random(s) % n_out;
    for (size_t i = 0; i < n; i++) out[i] = (char)(1 + control_random(s) % 255);
    out[n] = '\0';
}

static void bytes_fill(void *out, size_t n, uint64_t *s)
{
    for (size_t i = 0; i < n; i++) ((uint8_t *)out)[i] = (uint8_t)control_random(s);
}

static void pooling_fill(pr_pooling *p, uint64_t *s)
{
    *p = (pr_pooling){.task = (pr_task)(1 + control_random(s) % (PR_TASK_COUNT - 1)),
                      .type = (pr_pool)(control_random(s) % PR_POOL_COUNT),
                      .skips_pad = control_random(s) & 1,
                      .pad_token_id = (int32_t)number(s),
                      .normalize = control_random(s) & 1,
                      .cuts_last = control_random(s) & 1,
                      .activation = (pr_activation)(control_random(s) % PR_ACTIVATION_COUNT),
                      .softmax = control_random(s) & 1,
                      .dimensions = (int32_t)(number(s) & INT32_MAX),
                      .step_tag_id = (int32_t)number(s)};
    if (p->type != PR_POOL_STEP) return;
    p->n_returned_tokens = (int32_t)(control_random(s) % 5);
    for (int i = 0; i < p->n_returned_tokens; i++) {
        p->returned_tokens[i] = (int32_t)(number(s) & INT32_MAX);
    }
}

/* Segments of about n_tokens / n_sequences tokens, about half of them below an earlier one; a
 * sequence ends in each, anywhere in it. */
static pr_batch_plan *plan_make(uint32_t n_tokens, uint32_t n_sequences, uint64_t *s)
{
    pr_batch_plan *plan = calloc(1, sizeof *plan);
    assert_non_null(plan);
    plan->tokens = malloc(n_tokens * sizeof *plan->tokens);
    plan->type_ids = control_random(s) & 1 ? malloc(n_tokens) : NULL;
    plan->segments = malloc(n_sequences * sizeof *plan->segments);
    plan->sequences = malloc(n_sequences * sizeof *plan->sequences);
    for (uint32_t i = 0; i < n_tokens; i++) {
        plan->tokens[i] = (int32_t)(control_random(s) & INT32_MAX);
        if (plan->type_ids) plan->type_ids[i] = (uint8_t)control_random(s);
    }
    uint32_t row = 0;
    for (uint32_t i = 0; i < n_sequences; i++) {
        bool is_last = i + 1 == n_sequences;
        uint32_t count = is_last ? n_tokens - row : n_tokens / n_sequences;
        int32_t parent = i > 0 && control_random(s) & 1 ? (int32_t)(control_random(s) % i) : -1;
        const pr_segment *p = parent < 0 ? NULL : &plan->segments[parent];
        uint32_t position = p ? p->position_begin + p->token_count : 0;
        plan->segments[i] = (pr_segment){row, count, position, parent};
        uint32_t end = position + 1 + (uint32_t)(control_random(s) % count);
        plan->sequences[i] = (pr_sequence){.leaf_segment = i, .n_tokens = end, .i_request = i};
        row += count;
    }
    plan->n_tokens = n_tokens;
    plan->n_segments = plan->n_sequences = n_sequences;
    assert_int_equal(pr_batch_plan_check(plan, NULL), PR_OK);
    return plan;
}

static void batch_make(control_case *c, uint32_t n_tokens, uint32_t n_sequences, uint64_t *s)
{
    c->plan = plan_make(n_tokens, n_sequences, s);
    c->poolings = calloc(3, sizeof *c->poolings);
    c->of = calloc(n_sequences, sizeof *c->of);
    for (int i = 0; i < 3; i++) pooling_fill(&c->poolings[i], s);
    for (uint32_t i = 0; i < n_sequences; i++) c->of[i] = &c->poolings[control_random(s) % 3];
    c->message.batch = (pr_control_batch){.epoch = number(s), .batch_seq = 1 + number(s) / 2,
                                          .plan_hash = pr_control_plan_hash(c->plan, c->of),
                                          .plan = c->plan, .poolings = c->of};
}

static void load_make(control_case *c, uint64_t *s)
{
    static char *const names[] = {"dtype", "model", "override-pooler-config"};
    static char *const values[] = {"", "/m/q w\xC3\xA9n", "{\"pooling_type\":\"MEAN\"}"};
    c->message.load = (pr_control_load){
        .epoch = number(s), .tp_size = 1 + (uint32_t)(control_random(s) % 64),
        .n_stages = 1 + (uint32_t)(control_random(s) % 64),
        .n_rows_max = 1 + (uint32_t)(control_random(s) >> 33), .n_positions_max = 1,
        .model_fingerprint = number(s), .options = c->options,
        .n_options = (uint32_t)(control_random(s) % 4)};
    for (int i = 0; i < 3; i++) c->options[i] = (pr_control_option){names[i], values[i]};
}

static void hello_make(pr_control_hello *h, uint64_t *s)
{
    *h = (pr_control_hello){.protocol = PR_CONTROL_PROTOCOL, .rank = (uint32_t)number(s),
                            .n_ranks = (uint32_t)number(s), .pid = (int64_t)number(s)};
    if (control_random(s) & 1) h->pid = -h->pid;
    text_fill(h->version, sizeof h->version, s);
    text_fill(h->group, sizeof h->group, s);
    text_fill(h->host, sizeof h->host, s);
    bytes_fill(h->nonce, sizeof h->nonce, s);
}

static void result_make(control_case *c, uint64_t *s)
{
    uint32_t n = (uint32_t)(control_random(s) % 3000);
    c->bytes = malloc(n + 1);
    bytes_fill(c->bytes, n, s);
    c->message.result = (pr_control_result){.epoch = number(s), .batch_seq = 1 + number(s) / 2,
                                            .offset = number(s) / 2, .bytes = c->bytes,
                                            .n_bytes = n};
}

static void done_make(control_case *c, uint64_t *s)
{
    uint32_t n = 1 + (uint32_t)(control_random(s) % 9);
    c->shapes = malloc(2 * n * sizeof *c->shapes);
    bytes_fill(c->shapes, 2 * n * sizeof *c->shapes, s);
    c->message.done = (pr_control_done){.epoch = number(s), .batch_seq = 1 + number(s) / 2,
                                        .n_sequences = n, .shapes = c->shapes};
}

static void ready_make(pr_control_ready *y, uint64_t *s)
{
    *y = (pr_control_ready){.epoch = number(s), .model_fingerprint = number(s),
                            .weights_bytes = number(s), .width = (int32_t)(number(s) & INT32_MAX),
                            .n_slots = 1 + (uint32_t)(control_random(s) % 16)};
    text_fill(y->device, sizeof y->device, s);
    text_fill(y->backend, sizeof y->backend, s);
}

static void comm_id_make(pr_control_comm_id *id, uint64_t *s)
{
    *id = (pr_control_comm_id){.epoch = number(s)};
    id->n_bytes = 1 + (uint32_t)(control_random(s) % PR_CONTROL_COMM_ID_BYTES);
    bytes_fill(id->bytes, id->n_bytes, s);
}

static void reason_make(pr_control_reason *r, uint64_t *s)
{
    *r = (pr_control_reason){.epoch = number(s), .batch_seq = number(s),
                             .status = (pr_status)(1 + control_random(s) % (PR_STATUS_COUNT - 1))};
    text_fill(r->message, sizeof r->message, s);
}

void control_case_make(control_case *c, pr_control_kind kind, uint64_t seed, uint32_t n_tokens,
                       uint32_t n_sequences)
{
    uint64_t s = seed * 0x9E3779B97F4A7C15u + 1;
    *c = (control_case){.message = {.kind = kind}};
    switch (kind) {
    case PR_CONTROL_HELLO: hello_make(&c->message.hello, &s); break;
    case PR_CONTROL_CHALLENGE:
        bytes_fill(&c->message.challenge, sizeof c->message.challenge, &s);
        break;
    case PR_CONTROL_PROOF: bytes_fill(c->message.proof, PR_PROOF_BYTES, &s); break;
    case PR_CONTROL_REFUSE:
    case PR_CONTROL_FAILED:
    case PR_CONTROL_ABORT: reason_make(&c->message.reason, &s); break;
    case PR_CONTROL_LOAD: load_make(c, &s); break;
    case PR_CONTROL_COMM_ID: comm_id_make(&c->message.comm_id, &s); break;
    case PR_CONTROL_READY: ready_make(&c->message.ready, &s); break;
    case PR_CONTROL_BATCH: batch_make(c, n_tokens, n_sequences, &s); break;
    case PR_CONTROL_RESULT: result_make(c, &s); break;
    case PR_CONTROL_DONE: done_make(c, &s); break;
    case PR_CONTROL_PING: c->message.ping.id = number(&s); break;
    case PR_CONTROL_PONG:
        c->message.ping = (pr_control_ping){number(&s), number(&s), number(&s),
                                            control_random(&s) & 1, number(&s)};
        break;
    case PR_CONTROL_SHUTDOWN:
    case PR_CONTROL_KIND_COUNT: break;
    }
}

void control_case_free(control_case *c)
{
    pr_batch_plan_free(c->plan);
    free(c->poolings);
    free((void *)c->of);
    free(c->shapes);
    free(c->bytes);
}

static void pooling_compare(const pr_pooling *a, const pr_pooling *b)
{
    assert_int_equal(a->task, b->task);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->skips_pad, b->skips_pad);
    assert_int_equal(a->pad_token_id, b->pad_token_id);
    assert_int_equal(a->normalize, b->normalize);
    assert_int_equal(a->cuts_last, b->cuts_last);
    assert_int_equal(a->activation, b->activation);
    assert_int_equal(a->softmax, b->softmax);
    assert_int_equal(a->dimensions, b->dimensions);
    assert_int_equal(a->step_tag_id, b->step_tag_id);
    assert_int_equal(a->n_returned_tokens, b->n_returned_tokens);
    assert_memory_equal(a->returned_tokens, b->returned_tokens, sizeof a->returned_tokens);
}

static void batch_compare(const pr_control_batch *a, const pr_control_batch *b)
{
    const pr_batch_plan *p = a->plan, *q = b->plan;
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->batch_seq, b->batch_seq);
    assert_int_equal(a->plan_hash, b->plan_hash);
    assert_int_equal(p->n_tokens, q->n_tokens);
    assert_int_equal(p->n_segments, q->n_segments);
    assert_int_equal(p->n_sequences, q->n_sequences);
    assert_memory_equal(p->tokens, q->tokens, p->n_tokens * sizeof *p->tokens);
    assert_int_equal(!p->type_ids, !q->type_ids);
    if (p->type_ids) assert_memory_equal(p->type_ids, q->type_ids, p->n_tokens);
    assert_memory_equal(p->segments, q->segments, p->n_segments * sizeof *p->segments);
    for (uint32_t i = 0; i < p->n_sequences; i++) {
        assert_int_equal(p->sequences[i].leaf_segment, q->sequences[i].leaf_segment);
        assert_int_equal(p->sequences[i].n_tokens, q->sequences[i].n_tokens);
        assert_int_equal(q->sequences[i].i_request, i);
        pooling_compare(a->poolings[i], b->poolings[i]);
    }
}

static void load_compare(const pr_control_load *a, const pr_control_load *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->tp_size, b->tp_size);
    assert_int_equal(a->n_stages, b->n_stages);
    assert_int_equal(a->n_rows_max, b->n_rows_max);
    assert_int_equal(a->n_positions_max, b->n_positions_max);
    assert_int_equal(a->model_fingerprint, b->model_fingerprint);
    assert_int_equal(a->n_options, b->n_options);
    for (uint32_t i = 0; i < a->n_options; i++) {
        assert_string_equal(a->options[i].name, b->options[i].name);
        assert_string_equal(a->options[i].value, b->options[i].value);
    }
}

static void hello_compare(const pr_control_hello *a, const pr_control_hello *b)
{
    assert_int_equal(a->protocol, b->protocol);
    assert_string_equal(a->version, b->version);
    assert_string_equal(a->group, b->group);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->n_ranks, b->n_ranks);
    assert_string_equal(a->host, b->host);
    assert_int_equal(a->pid, b->pid);
    assert_memory_equal(a->nonce, b->nonce, sizeof a->nonce);
}

static void ready_compare(const pr_control_ready *a, const pr_control_ready *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->model_fingerprint, b->model_fingerprint);
    assert_string_equal(a->device, b->device);
    assert_string_equal(a->backend, b->backend);
    assert_int_equal(a->weights_bytes, b->weights_bytes);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->n_slots, b->n_slots);
}

static void result_compare(const pr_control_result *a, const pr_control_result *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->batch_seq, b->batch_seq);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->n_bytes, b->n_bytes);
    assert_memory_equal(a->bytes, b->bytes, a->n_bytes);
}

static void done_compare(const pr_control_done *a, const pr_control_done *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->batch_seq, b->batch_seq);
    assert_int_equal(a->n_sequences, b->n_sequences);
    assert_memory_equal(a->shapes, b->shapes, 2 * a->n_sequences * sizeof *a->shapes);
}

static void comm_id_compare(const pr_control_comm_id *a, const pr_control_comm_id *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->n_bytes, b->n_bytes);
    assert_memory_equal(a->bytes, b->bytes, a->n_bytes);
}

static void reason_compare(const pr_control_reason *a, const pr_control_reason *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->batch_seq, b->batch_seq);
    assert_int_equal(a->status, b->status);
    assert_string_equal(a->message, b->message);
}

static void ping_compare(const pr_control_ping *a, const pr_control_ping *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->batch_seq, b->batch_seq);
    assert_int_equal(a->is_computing, b->is_computing);
    assert_int_equal(a->n_steps, b->n_steps);
}

void control_messages_compare(const pr_control_message *a, const pr_control_message *b)
{
    assert_int_equal(a->kind, b->kind);
    switch (a->kind) {
    case PR_CONTROL_HELLO: hello_compare(&a->hello, &b->hello); break;
    case PR_CONTROL_CHALLENGE:
        assert_memory_equal(&a->challenge, &b->challenge, sizeof a->challenge);
        break;
    case PR_CONTROL_PROOF: assert_memory_equal(a->proof, b->proof, sizeof a->proof); break;
    case PR_CONTROL_REFUSE:
    case PR_CONTROL_FAILED:
    case PR_CONTROL_ABORT: reason_compare(&a->reason, &b->reason); break;
    case PR_CONTROL_LOAD: load_compare(&a->load, &b->load); break;
    case PR_CONTROL_COMM_ID: comm_id_compare(&a->comm_id, &b->comm_id); break;
    case PR_CONTROL_READY: ready_compare(&a->ready, &b->ready); break;
    case PR_CONTROL_BATCH: batch_compare(&a->batch, &b->batch); break;
    case PR_CONTROL_RESULT: result_compare(&a->result, &b->result); break;
    case PR_CONTROL_DONE: done_compare(&a->done, &b->done); break;
    case PR_CONTROL_PING:
    case PR_CONTROL_PONG: ping_compare(&a->ping, &b->ping); break;
    case PR_CONTROL_SHUTDOWN:
    case PR_CONTROL_KIND_COUNT: break;
    }
}
