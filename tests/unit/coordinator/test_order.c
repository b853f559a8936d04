/* The order of waiting requests: priority, then an equal share of the model for each client
 * request, then arrival. */
#include "coordinator/queue/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct text {
    pr_flow *flow;
    pr_place place;
    uint64_t n_tokens;
    int number;
} text;

static void come(pr_clock_virtual *clock, pr_order *o, text *t, pr_flow *flow, uint64_t n_tokens,
                 int number)
{
    *t = (text){.flow = flow, .n_tokens = n_tokens, .number = number};
    t->place = pr_order_arrive(clock, flow, n_tokens);
    assert_true(pr_order_reserve(o, 1));
    pr_order_push(o, &(pr_order_entry){t->place, t, 0});
}

static int next(pr_clock_virtual *clock, pr_order *o)
{
    const text *t = pr_order_pop(o).item;
    pr_order_leave(clock, t->flow, &t->place, t->n_tokens);
    return t->number;
}

static void single_texts_go_as_they_came_whatever_their_length(void **state)
{
    (void)state;
    pr_clock_virtual clock = {0};
    pr_order o = {0};
    pr_flow flows[100];
    text texts[100];
    memset(flows, 0, sizeof flows);
    for (int i = 0; i < 100; i++) {
        come(&clock, &o, &texts[i], &flows[i], (uint64_t)(i * 37 % 50 + 1), i);
        if (i % 3 == 2) assert_int_equal(next(&clock, &o), i / 3);
    }
    for (int i = 33; i < 100; i++) assert_int_equal(next(&clock, &o), i);
    assert_int_equal(o.n, 0);
    assert_int_equal(clock.n_flows, 0);
    pr_order_deinit(&o);
}

static void a_single_text_is_not_stuck_behind_those_of_one_request(void **state)
{
    (void)state;
    enum { BULK = 2048 };
    pr_clock_virtual clock = {0};
    pr_order o = {0};
    pr_flow bulk = {0}, single = {0};
    text *texts = calloc(BULK + 1, sizeof *texts);
    for (int i = 0; i < BULK; i++) come(&clock, &o, &texts[i], &bulk, 10, i);
    for (int i = 0; i < 300; i++) assert_int_equal(next(&clock, &o), i);
    come(&clock, &o, &texts[BULK], &single, 10, -1);
    int n_before = 0;
    while (next(&clock, &o) != -1) n_before++;
    assert_true(n_before <= 1);
    for (int i = 300 + n_before; i < BULK; i++) assert_int_equal(next(&clock, &o), i);
    free(texts);
    pr_order_deinit(&o);
}

static void a_stream_of_single_texts_does_not_starve_a_large_request(void **state)
{
    (void)state;
    enum { BULK = 200, SINGLES = 1000 };
    pr_clock_virtual clock = {0};
    pr_order o = {0};
    pr_flow bulk = {0};
    pr_flow *singles = calloc(SINGLES, sizeof *singles);
    text *texts = calloc(BULK + SINGLES, sizeof *texts);
    for (int i = 0; i < BULK; i++) come(&clock, &o, &texts[i], &bulk, 10, 1);
    int n_of_bulk = 0;
    for (int i = 0; i < SINGLES && n_of_bulk < BULK; i++) { /* one waits at any time */
        come(&clock, &o, &texts[BULK + i], &singles[i], 10, 0);
        n_of_bulk += next(&clock, &o);
        if (n_of_bulk < BULK) n_of_bulk += next(&clock, &o);
    }
    assert_int_equal(n_of_bulk, BULK);
    pr_order_deinit(&o);
    free(singles);
    free(texts);
}

static void two_large_requests_share_by_tokens(void **state)
{
    (void)state;
    pr_clock_virtual clock = {0};
    pr_order o = {0};
    pr_flow a = {0}, b = {0};
    text texts[120];
    for (int i = 0; i < 60; i++) come(&clock, &o, &texts[i], &a, 30, 0); /* three times as long */
    for (int i = 60; i < 120; i++) come(&clock, &o, &texts[i], &b, 10, 1);
    int n_b = 0;
    for (int i = 0; i < 40; i++) n_b += next(&clock, &o);
    assert_in_range(n_b, 28, 32); /* 10 of a to 30 of b */
    pr_order_deinit(&o);
}

static void priority_comes_first(void **state)
{
    (void)state;
    pr_clock_virtual clock = {0};
    pr_order o = {0};
    pr_flow flows[3] = {{.priority = 0}, {.priority = 5}, {.priority = -3}};
    text texts[3];
    for (int i = 0; i < 3; i++) come(&clock, &o, &texts[i], &flows[i], 10, i);
    assert_int_equal(next(&clock, &o), 2);
    assert_int_equal(next(&clock, &o), 0);
    assert_int_equal(next(&clock, &o), 1);
    pr_order_deinit(&o);
}

static bool is_of(const pr_order_entry *entry, const void *flow)
{
    return ((const text *)entry->item)->flow == flow;
}

static void texts_of_a_flow_can_be_taken_out(void **state)
{
    (void)state;
    pr_clock_virtual clock = {0};
    pr_order o = {0};
    pr_flow flows[7];
    text texts[70];
    pr_order_entry out[70];
    memset(flows, 0, sizeof flows);
    for (int i = 0; i < 70; i++) come(&clock, &o, &texts[i], &flows[i % 7], 10, i % 7);
    assert_int_equal(pr_order_extract(&o, is_of, &flows[3], out), 10);
    for (int i = 0; i < 10; i++) {
        const text *t = out[i].item;
        assert_int_equal(t->number, 3);
        pr_order_leave(&clock, t->flow, &t->place, 0);
    }
    assert_int_equal(clock.n_flows, 6);
    double last = -1;
    while (o.n > 0) { /* the others are still in their order */
        assert_true(o.entries[0].place.start >= last);
        last = o.entries[0].place.start;
        assert_int_not_equal(next(&clock, &o), 3);
    }
    pr_order_deinit(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_texts_go_as_they_came_whatever_their_length),
        cmocka_unit_test(a_single_text_is_not_stuck_behind_those_of_one_request),
        cmocka_unit_test(a_stream_of_single_texts_does_not_starve_a_large_request),
        cmocka_unit_test(two_large_requests_share_by_tokens),
        cmocka_unit_test(priority_comes_first),
        cmocka_unit_test(texts_of_a_flow_can_be_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
