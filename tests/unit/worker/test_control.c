/* The messages between the coordinator and a rank: packed, unpacked, and refused. */
#include "worker/control.h"

#include "runtime/wire/frame.h"
#include "runtime/wire/msgpack_write.h"
#include "tests/unit/worker/control_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* The payload of the one frame in b, in a piece of memory of its own, so that a sanitizer sees a
 * read behind it. */
static char *payload_copy(const pr_buffer *b, size_t n)
{
    char *copy = malloc(n + (n == 0));
    assert_non_null(copy);
    memcpy(copy, b->data + PR_FRAME_HEADER_BYTES, n);
    return copy;
}

static size_t pack(const pr_control_message *m, pr_buffer *b)
{
    pr_error err = {0};
    pr_buffer_clear(b);
    assert_int_equal(pr_control_pack(m, b, &err), PR_OK);
    return b->n - PR_FRAME_HEADER_BYTES;
}

static void every_message_comes_out_as_it_went_in(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    for (uint64_t seed = 1; seed <= 200; seed++) {
        for (int kind = 0; kind < PR_CONTROL_KIND_COUNT; kind++) {
            control_case c;
            control_case_make(&c, (pr_control_kind)kind, seed, 5 + (uint32_t)seed, 1 + seed % 5);
            size_t n = pack(&c.message, &b);
            char *payload = payload_copy(&b, n);
            pr_control_message out;
            pr_error err = {0};
            assert_int_equal(pr_control_unpack(payload, n, &out, &err), PR_OK);
            control_messages_compare(&c.message, &out);
            pr_control_message_deinit(&out);
            free(payload);
            control_case_free(&c);
        }
    }
    pr_buffer_deinit(&b);
}

static void refuse(const char *payload, size_t n, const char *expected)
{
    pr_control_message out = {.kind = PR_CONTROL_KIND_COUNT};
    pr_error err = {0};
    assert_int_equal(pr_control_unpack(payload, n, &out, &err), PR_E_INPUT);
    assert_int_equal(out.kind, PR_CONTROL_KIND_COUNT); /* untouched */
    if (expected) assert_string_equal(err.message, expected);
    assert_true(err.message[0] != '\0');
}

static void a_message_that_is_cut_off_or_too_long_is_refused(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    for (int kind = 0; kind < PR_CONTROL_KIND_COUNT; kind++) {
        control_case c;
        control_case_make(&c, (pr_control_kind)kind, 77, 12, 3);
        size_t n = pack(&c.message, &b);
        for (size_t n_cut = 0; n_cut < n; n_cut++) {
            char *payload = payload_copy(&b, n_cut);
            refuse(payload, n_cut, NULL);
            free(payload);
        }
        pr_buffer_append_char(&b, '\0');
        refuse(b.data + PR_FRAME_HEADER_BYTES, n + 1, NULL);
        control_case_free(&c);
    }
    pr_buffer_deinit(&b);
}

/* Whatever is accepted is a message of its own: it packs to what unpacks to the same. */
static void survive(const char *payload, size_t n, pr_buffer *again, size_t *n_accepted)
{
    pr_control_message out, twice;
    pr_error err = {0};
    if (pr_control_unpack(payload, n, &out, &err) != PR_OK) return;
    ++*n_accepted;
    bool is_foreign = out.kind == PR_CONTROL_HELLO && out.hello.protocol != PR_CONTROL_PROTOCOL;
    size_t n_again = pack(&out, again);
    assert_int_equal(pr_control_unpack(again->data + PR_FRAME_HEADER_BYTES, n_again, &twice, &err),
                     PR_OK);
    if (!is_foreign) control_messages_compare(&out, &twice);
    pr_control_message_deinit(&twice);
    pr_control_message_deinit(&out);
}

static void a_bit_that_flips_gives_another_message_or_a_refusal(void **state)
{
    (void)state;
    pr_buffer b, again;
    pr_buffer_init(&b);
    pr_buffer_init(&again);
    size_t n_accepted = 0;
    for (int kind = 0; kind < PR_CONTROL_KIND_COUNT; kind++) {
        control_case c;
        control_case_make(&c, (pr_control_kind)kind, 5, 12, 3);
        size_t n = pack(&c.message, &b);
        char *payload = payload_copy(&b, n);
        for (size_t bit = 0; bit < 8 * n && bit < 8192; bit++) {
            payload[bit / 8] = (char)(payload[bit / 8] ^ 1 << bit % 8);
            survive(payload, n, &again, &n_accepted);
            payload[bit / 8] = (char)(payload[bit / 8] ^ 1 << bit % 8);
        }
        free(payload);
        control_case_free(&c);
    }
    assert_true(n_accepted > 0);
    pr_buffer_deinit(&b);
    pr_buffer_deinit(&again);
}

/* Every message under the kind of every other one. */
static void a_message_under_another_kind_is_refused(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    for (int kind = 0; kind < PR_CONTROL_KIND_COUNT; kind++) {
        control_case c;
        control_case_make(&c, (pr_control_kind)kind, 9, 12, 3);
        size_t n = pack(&c.message, &b);
        for (int other = 0; other < PR_CONTROL_KIND_COUNT; other++) {
            bool is_reason = kind == PR_CONTROL_REFUSE || kind == PR_CONTROL_FAILED ||
                             kind == PR_CONTROL_ABORT;
            bool is_other_reason = other == PR_CONTROL_REFUSE || other == PR_CONTROL_FAILED ||
                                   other == PR_CONTROL_ABORT;
            if (other == kind || (is_reason && is_other_reason)) continue;
            b.data[PR_FRAME_HEADER_BYTES + 1] = (char)other;
            refuse(b.data + PR_FRAME_HEADER_BYTES, n, NULL);
        }
        control_case_free(&c);
    }
    pr_buffer_deinit(&b);
}

static void a_refusal_says_what_was_found_and_expected(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        size_t n;
        const char *reason;
    } cases[] = {
        {"", 0, "control frame: message: found the end at byte 0 of 0, expected an array"},
        {"\x0A", 1, "control frame: message: found an integer, expected an array"},
        {"\x90", 1, "control frame: message: found 0 elements, expected 1 to 64"},
        {"\xDD\xFF\xFF\xFF\xFF\x0A", 6,
         "control frame: message: found 4294967295 elements, expected 1 to 64"},
        {"\x91\x0F", 2, "control frame: kind: found 15, expected 0 to 14"},
        {"\x91\xA1x", 3, "control frame: kind: found a string, expected an integer"},
        {"\x92\x0A\xFF", 3, "PING: id: found -1, expected 0 to 18446744073709551615"},
        {"\x93\x0A\x05\x06", 4, "PING: end: found 1 bytes more, expected none"},
        {"\x92\x0A", 2, "control frame: message: found bytes for at most 1 elements, expected 2"},
        {"\x91\x0A\x05", 3, "PING: message: found 1 elements, expected 2"},
        {"\x95\x03\x00\x00\xA2ok\x00", 8,
         "REFUSE: status: found 'ok', expected the name of a failure"},
        {"\x92\x02\xC4\x01z\xC0", 6, "PROOF: proof: found 1 bytes, expected 32 to 32"},
        {"\x94\x09\x00\x01\xC4\x03zzz", 9, "DONE: shapes: found 3 bytes, expected 8 to 4294967295"},
        {"\x94\x09\x00\x00\xC4\x00", 6, "DONE: batch_seq: found 0, expected 1 to "
                                        "18446744073709551615"},
        {"\x93\x0E\x00\xC4\x00", 5, "COMM_ID: bytes: found 0 bytes, expected 1 to 256"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *payload = malloc(cases[i].n + 1);
        memcpy(payload, cases[i].payload, cases[i].n);
        pr_control_message out;
        pr_error err = {0};
        assert_int_equal(pr_control_unpack(payload, cases[i].n, &out, &err), PR_E_INPUT);
        free(payload);
        if (i == 7) continue; /* which of the two wrongs is named is no matter */
        assert_string_equal(err.message, cases[i].reason);
    }
}

static void a_hello_of_another_protocol_gives_its_protocol_and_version(void **state)
{
    (void)state;
    const char future[] = "\x94\x00\x07\xA5" "2.0.0" "\x81\xA1x\x01";
    pr_control_message out;
    pr_error err = {0};
    assert_int_equal(pr_control_unpack(future, sizeof future - 1, &out, &err), PR_OK);
    assert_int_equal(out.kind, PR_CONTROL_HELLO);
    assert_int_equal(out.hello.protocol, 7);
    assert_string_equal(out.hello.version, "2.0.0");
    assert_string_equal(out.hello.group, "");
}

/* What a wrong plan does to its message: one change each, of a batch of 12 tokens in 3 segments. */
static void a_batch_whose_plan_is_broken_is_refused(void **state)
{
    (void)state;
    static const char *const reasons[] = {
        "BATCH: tokens: token 3: found -1, expected 0 or more",
        "BATCH: plan: segment 1: parent 1, expected an earlier segment or -1",
        "BATCH: plan: segment 2: rows from 4, found 9, expected 8",
        "BATCH: plan: sequence 2: leaf 3 of 3 segments",
        "BATCH: plan: segment 0: position 1, expected 0",
        "BATCH: pooling type: found 5, expected 0 to 4",
        "BATCH: returned_tokens: found -2, expected 0 or more",
        "BATCH: task: found 0, expected 1 to 4",
        "BATCH: dimensions: found -3, expected 0 to 2147483647",
        "BATCH: activation: found 7, expected 0 to 6",
    };
    pr_buffer b;
    pr_buffer_init(&b);
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        control_case c;
        control_case_make(&c, PR_CONTROL_BATCH, 3, 12, 3);
        pr_batch_plan *plan = c.plan;
        pr_pooling *p = &c.poolings[0];
        for (int j = 0; j < 3; j++) c.of[j] = p;
        if (i == 0) plan->tokens[3] = -1;
        if (i == 1) plan->segments[1].parent = 1;
        if (i == 2) plan->segments[2].token_begin = 9;
        if (i == 3) plan->sequences[2].leaf_segment = 3;
        if (i == 4) plan->segments[0].position_begin = 1;
        if (i == 5) p->type = PR_POOL_COUNT;
        if (i == 6) p->returned_tokens[0] = -2, p->n_returned_tokens = 1;
        if (i == 7) p->task = PR_TASK_AUTO;
        if (i == 8) p->dimensions = -3;
        if (i == 9) p->activation = (pr_activation)PR_ACTIVATION_COUNT;
        size_t n = pack(&c.message, &b);
        refuse(b.data + PR_FRAME_HEADER_BYTES, n, reasons[i]);
        control_case_free(&c);
    }
    pr_buffer_deinit(&b);
}

/* 4,096 sequences of one token, each with a pooling of its own that is equal to one of two. */
static void equal_poolings_are_sent_once(void **state)
{
    (void)state;
    enum { N = 4096 };
    control_case c;
    control_case_make(&c, PR_CONTROL_BATCH, 1, N, N);
    pr_pooling *poolings = calloc(N, sizeof *poolings);
    assert_non_null(poolings);
    for (int i = 0; i < N; i++) {
        poolings[i] = (pr_pooling){.task = PR_TASK_EMBED, .dimensions = i % 2 ? 64 : 0};
        poolings[i].source.task = (pr_source)(i % PR_SOURCE_COUNT); /* is not sent */
        c.of[i] = &poolings[i];
    }
    pr_buffer b;
    pr_buffer_init(&b);
    size_t n = pack(&c.message, &b);
    size_t n_plan = (4 + 1 + 16 + 8 + 4) * (size_t)N;
    assert_true(n < n_plan + 128);
    pr_control_message out;
    assert_int_equal(pr_control_unpack(b.data + PR_FRAME_HEADER_BYTES, n, &out, NULL), PR_OK);
    control_messages_compare(&c.message, &out);
    assert_ptr_equal(out.batch.poolings[1], out.batch.poolings[N - 1]);
    pr_control_message_deinit(&out);
    pr_buffer_deinit(&b);
    free(poolings);
    control_case_free(&c);
}

static void what_no_peer_would_take_is_not_packed(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    pr_buffer_append_str(&b, "before");
    char *value = malloc(PR_CONTROL_VALUE_BYTES + 2);
    assert_non_null(value);
    memset(value, 'v', PR_CONTROL_VALUE_BYTES + 1);
    value[PR_CONTROL_VALUE_BYTES + 1] = '\0';
    pr_control_option option = {.name = (char[]){"model"}, .value = value};
    pr_control_message m = {.kind = PR_CONTROL_LOAD,
                            .load = {.tp_size = 1, .n_stages = 1, .n_rows_max = 1,
                                     .n_positions_max = 1, .options = &option, .n_options = 1}};
    pr_error err = {0};
    assert_int_equal(pr_control_pack(&m, &b, &err), PR_E_TOO_LARGE);
    assert_string_equal(err.message, "LOAD: option model: found 65537 bytes, expected at most "
                                     "65536");
    m.load.n_options = PR_CONTROL_OPTIONS_MAX + 1;
    assert_int_equal(pr_control_pack(&m, &b, &err), PR_E_TOO_LARGE);
    assert_int_equal(b.n, strlen("before"));
    free(value);
    pr_buffer_deinit(&b);
}

/* These two figures are the wire's: a rank on another machine must come to the same. */
static void the_plan_hash_is_the_same_on_every_machine(void **state)
{
    (void)state;
    int32_t tokens[] = {101, 7592, 102, 101, 2088};
    uint8_t types[] = {0, 0, 0, 1, 1};
    pr_segment segments[] = {{0, 3, 0, -1}, {3, 2, 3, 0}};
    pr_sequence sequences[] = {{0, 3, 7}, {1, 5, 8}};
    pr_batch_plan plan = {.tokens = tokens, .n_tokens = 5, .segments = segments, .n_segments = 2,
                          .sequences = sequences, .n_sequences = 2};
    pr_pooling p = {.task = PR_TASK_EMBED, .type = PR_POOL_MEAN, .normalize = true};
    const pr_pooling *of[] = {&p, &p};
    uint64_t untyped = pr_control_plan_hash(&plan, of);
    plan.type_ids = types;
    uint64_t typed = pr_control_plan_hash(&plan, of);
    assert_int_equal(untyped, 0xb6094420ce16b6c4u);
    assert_int_equal(typed, 0x497bc3c72c1eb507u);
    sequences[0].i_request = 70; /* is not sent */
    p.source.type = PR_SOURCE_REQUEST;
    assert_int_equal(pr_control_plan_hash(&plan, of), typed);
}

static void the_plan_hash_sees_every_field(void **state)
{
    (void)state;
    control_case c;
    control_case_make(&c, PR_CONTROL_BATCH, 6, 12, 3);
    pr_batch_plan *plan = c.plan;
    pr_pooling *p = &c.poolings[0];
    *p = (pr_pooling){.task = PR_TASK_REWARD, .n_returned_tokens = 1};
    for (int i = 0; i < 3; i++) c.of[i] = p;
    uint32_t *numbers[] = {
        (uint32_t *)&plan->tokens[11],       &plan->segments[1].token_begin,
        &plan->segments[1].token_count,      &plan->segments[1].position_begin,
        (uint32_t *)&plan->segments[1].parent, &plan->sequences[2].leaf_segment,
        &plan->sequences[2].n_tokens,        (uint32_t *)&p->pad_token_id,
        (uint32_t *)&p->dimensions,          (uint32_t *)&p->step_tag_id,
        (uint32_t *)&p->returned_tokens[0],
    };
    bool *flags[] = {&p->skips_pad, &p->normalize, &p->softmax};
    uint64_t before = pr_control_plan_hash(plan, c.of);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        *numbers[i] ^= 1;
        assert_true(pr_control_plan_hash(plan, c.of) != before);
        *numbers[i] ^= 1;
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        *flags[i] = !*flags[i];
        assert_true(pr_control_plan_hash(plan, c.of) != before);
        *flags[i] = !*flags[i];
    }
    p->type = PR_POOL_CLS;
    assert_true(pr_control_plan_hash(plan, c.of) != before);
    control_case_free(&c);
}

/* Four tokens behind a cached block, a block to keep. */
static pr_batch_plan *cached_plan_make(void)
{
    enum { N = PR_CACHE_BLOCK_TOKENS };
    pr_batch_plan *plan = calloc(1, sizeof *plan);
    assert_non_null(plan);
    *plan = (pr_batch_plan){.n_tokens = 4, .n_cached = N, .n_segments = 2, .n_sequences = 1,
                            .n_stores = 1};
    plan->tokens = calloc(4 + N, sizeof *plan->tokens);
    plan->segments = calloc(2, sizeof *plan->segments);
    plan->sequences = calloc(1, sizeof *plan->sequences);
    plan->cached_rows = calloc(N, sizeof *plan->cached_rows);
    plan->stores = calloc(1, sizeof *plan->stores);
    plan->segments[0] = (pr_segment){4, N, 0, -1};
    plan->segments[1] = (pr_segment){0, 4, N, 0};
    plan->sequences[0] = (pr_sequence){1, N + 4, 0};
    for (uint32_t i = 0; i < N; i++) {
        plan->tokens[4 + i] = (int32_t)i;
        plan->cached_rows[i] = 3 * N + i;
        plan->stores[0].rows[i] = i < 28 ? 4 + 4 + i : i - 28;
    }
    plan->stores[0].block = 7;
    plan->stores[0].has_hidden = true;
    return plan;
}

static void what_a_plan_says_of_the_cache_goes_through(void **state)
{
    (void)state;
    pr_batch_plan *plan = cached_plan_make();
    pr_pooling p = {.task = PR_TASK_REWARD, .type = PR_POOL_ALL};
    const pr_pooling *of[] = {&p};
    pr_control_message m = {.kind = PR_CONTROL_BATCH,
                            .batch = {.epoch = 1, .batch_seq = 1, .plan = plan, .poolings = of}},
                       out;
    pr_error err;
    pr_buffer b;
    pr_buffer_init(&b);
    uint64_t before = pr_control_plan_hash(plan, of);
    size_t n = pack(&m, &b);
    if (pr_control_unpack(b.data + PR_FRAME_HEADER_BYTES, n, &out, &err) != PR_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(out.batch.plan->n_cached, PR_CACHE_BLOCK_TOKENS);
    assert_int_equal(pr_control_plan_hash(out.batch.plan, out.batch.poolings), before);
    pr_control_message_deinit(&out);
    uint32_t *numbers[] = {&plan->cached_rows[5], &plan->stores[0].block, &plan->stores[0].rows[9]};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        *numbers[i] ^= 1;
        assert_true(pr_control_plan_hash(plan, of) != before);
        *numbers[i] ^= 1;
    }
    static const char *const messages[] = {
        "BATCH: plan: stored block 0: row 36 of 36",
        "BATCH: plan: sequence 0: its end is not computed",
        "BATCH: plan: segment 0: rows from 32, found 5, expected 4"};
    for (int i = 0; i < 3; i++) {
        if (i == 0) plan->stores[0].rows[2] = 36;
        if (i == 1) plan->sequences[0] = (pr_sequence){0, 20, 0};
        if (i == 2) plan->segments[0].token_begin = 5;
        n = pack(&m, &b);
        refuse(b.data + PR_FRAME_HEADER_BYTES, n, messages[i]);
        plan->stores[0].rows[2] = 10;
    }
    pr_buffer_deinit(&b);
    pr_batch_plan_free(plan);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Prints what a batch costs on its way; holds only that the round trip is whole. */
static void a_large_batch_and_a_full_chunk_go_through(void **state)
{
    (void)state;
    enum { N_TOKENS = 8192, N_SEQUENCES = 64, TIMES = 100 };
    control_case c;
    control_case_make(&c, PR_CONTROL_BATCH, 4, N_TOKENS, N_SEQUENCES);
    pr_buffer b;
    pr_buffer_init(&b);
    double pack_us = 0, unpack_us = 0, hash_us = 0;
    for (int i = 0; i < TIMES; i++) {
        double t0 = now_us();
        size_t n = pack(&c.message, &b);
        double t1 = now_us();
        pr_control_message out;
        assert_int_equal(pr_control_unpack(b.data + PR_FRAME_HEADER_BYTES, n, &out, NULL), PR_OK);
        double t2 = now_us();
        assert_int_equal(pr_control_plan_hash(out.batch.plan, out.batch.poolings),
                         c.message.batch.plan_hash);
        double t3 = now_us();
        pr_control_message_deinit(&out);
        pack_us += t1 - t0, unpack_us += t2 - t1, hash_us += t3 - t2;
    }
    print_message("batch of %d tokens, %d sequences: pack %.1f us, unpack %.1f us, hash %.1f us\n",
                  N_TOKENS, N_SEQUENCES, pack_us / TIMES, unpack_us / TIMES, hash_us / TIMES);
    char *chunk = calloc(1, PR_CONTROL_CHUNK_BYTES);
    assert_non_null(chunk);
    pr_control_message m = {.kind = PR_CONTROL_RESULT,
                            .result = {.batch_seq = 1, .bytes = chunk,
                                       .n_bytes = PR_CONTROL_CHUNK_BYTES}};
    pr_control_message out;
    double t0 = now_us();
    for (int i = 0; i < TIMES; i++) pack(&m, &b);
    print_message("chunk of 1 MiB: pack %.1f us\n", (now_us() - t0) / TIMES);
    assert_int_equal(pr_control_unpack(b.data + PR_FRAME_HEADER_BYTES,
                                       b.n - PR_FRAME_HEADER_BYTES, &out, NULL), PR_OK);
    control_messages_compare(&m, &out);
    free(chunk);
    pr_buffer_deinit(&b);
    control_case_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_out_as_it_went_in),
        cmocka_unit_test(a_message_that_is_cut_off_or_too_long_is_refused),
        cmocka_unit_test(a_bit_that_flips_gives_another_message_or_a_refusal),
        cmocka_unit_test(a_message_under_another_kind_is_refused),
        cmocka_unit_test(a_refusal_says_what_was_found_and_expected),
        cmocka_unit_test(a_hello_of_another_protocol_gives_its_protocol_and_version),
        cmocka_unit_test(a_batch_whose_plan_is_broken_is_refused),
        cmocka_unit_test(equal_poolings_are_sent_once),
        cmocka_unit_test(what_no_peer_would_take_is_not_packed),
        cmocka_unit_test(the_plan_hash_is_the_same_on_every_machine),
        cmocka_unit_test(the_plan_hash_sees_every_field),
        cmocka_unit_test(what_a_plan_says_of_the_cache_goes_through),
        cmocka_unit_test(a_large_batch_and_a_full_chunk_go_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
