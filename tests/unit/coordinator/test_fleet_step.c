/* What the fleet's decisions promise, whatever ranks, connections and launchers do: a simulator
 * (fakes/fleet_sim.h) with a seed stands in for the world, kills, delays and reorders, and looks at
 * the state after every step.
 *
 *     every request is answered exactly once, with its own result, computed by the start of a group
 *     that had it in hand; a batch is in one place; a group's numbers have no gap; restarts are
 *     bounded; the end comes
 *
 * POOLRANK_SIM_SEEDS=N runs N seeds in place of a few, POOLRANK_SIM_SEED=N begins with that one,
 * POOLRANK_SIM_TRACE=1 prints what happens. */
#include "fakes/fleet_sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_SEEDS = 400 };

/* Runs one seed; `verify`: what else must hold at its end. */
static void seed_run(uint64_t seed, bool is_calm, void (*verify)(sim *w))
{
    sim *w = sim_make(seed, is_calm);
    sim_run(w);
    if (!w->wrong && verify) verify(w);
    const char *wrong = w->wrong;
    uint64_t at_ms = w->now_ms;
    sim_free(w);
    if (wrong) {
        fail_msg("seed %" PRIu64 ", at %" PRIu64 " ms: %s (POOLRANK_SIM_SEED=%" PRIu64
                 " POOLRANK_SIM_SEEDS=1 POOLRANK_SIM_TRACE=1 shows how)", seed, at_ms, wrong, seed);
    }
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void seeds_run(bool is_calm, void (*verify)(sim *w))
{
    uint64_t first = number_of("POOLRANK_SIM_SEED", 1);
    uint64_t n = number_of("POOLRANK_SIM_SEEDS", N_SEEDS);
    for (uint64_t i = 0; i < n; i++) seed_run(first + i, is_calm, verify);
}

/* ---- tests ---- */

static void whatever_dies_every_request_is_answered_once(void **state)
{
    (void)state;
    seeds_run(false, NULL);
}

/* Where nothing but the poisoned requests kills ranks, only they fail. */
static void verify_calm(sim *w)
{
    bool is_job = w->rules.launch == PR_WORKER_LAUNCH_JOB;
    for (uint32_t i = 0; i < w->n_requests && !w->has_failed; i++) {
        const sim_request *r = &w->requests[i];
        pr_status due = r->is_poison ? PR_E_INTERNAL : PR_OK;
        bool is_out = r->status == PR_E_UNAVAILABLE &&
                      w->rules.launch == PR_WORKER_LAUNCH_EXTERNAL;
        sim_check(w, r->status == due || is_out, "a request failed because of another's");
    }
    sim_check(w, is_job || !w->has_failed, "the fleet gave up");
}

static void requests_that_kill_ranks_fail_alone(void **state)
{
    (void)state;
    seeds_run(true, verify_calm);
}

/* ---- single steps ---- */

static pr_fleet_state *state_of(pr_worker_launch launch, uint32_t n_groups)
{
    const pr_fleet_rules rules = {.launch = launch, .tp_size = 1, .n_stages = 1,
                                  .n_groups = n_groups,
                                  .hang_timeout_s = 4, .start_timeout_s = 20, .hang_ms = 4000,
                                  .start_ms = 20000, .ping_ms = 1000,
                                  .model_fingerprint = FINGERPRINT, .n_columns_max = N_COLUMNS};
    pr_fleet_state *s = NULL;
    assert_int_equal(pr_fleet_state_create(&rules, 1000, &s, NULL), PR_OK);
    return s;
}

/* The actions of an event and of the NEXTs behind it, as far as `out` keeps the last of a kind. */
static void step_all(pr_fleet_state *s, pr_fleet_event e, uint64_t now_ms, pr_fleet_action *out)
{
    static pr_fleet_actions actions;
    for (bool has_more = true; has_more;) {
        has_more = pr_fleet_step(s, &e, now_ms, &actions);
        for (size_t i = 0; i < actions.n; i++) out[actions.list[i].kind] = actions.list[i];
        e = (pr_fleet_event){.kind = PR_FLEET_NEXT};
    }
}

static void rank_joins(pr_fleet_state *s, void *link, const char *group, pr_fleet_action *out)
{
    pr_control_hello hello = {.n_ranks = 1, .host = "h", .pid = 12};
    snprintf(hello.group, sizeof hello.group, "%s", group);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_CONNECTED, .link = link}, 1000, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_JOINED, .link = link, .hello = &hello}, 1000,
             out);
}

static void rank_comes(pr_fleet_state *s, void *link, const char *group, uint64_t epoch,
                       pr_fleet_action *out)
{
    const pr_control_message ready = {.kind = PR_CONTROL_READY,
                                      .ready = {.epoch = epoch, .model_fingerprint = FINGERPRINT,
                                                .n_slots = 1}};
    rank_joins(s, link, group, out);
    assert_int_equal(out[PR_FLEET_ADMIT].group->epoch, epoch);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_MESSAGE, .epoch = epoch, .message = &ready}, 1000,
             out);
    assert_non_null(out[PR_FLEET_UP].group);
}

static void leave(pr_fleet_state *s, pr_fleet_action *out)
{
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_DRAINED}, 2000, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_STOP}, 2000, out);
}

static void a_batch_that_cannot_be_packed_is_answered_and_its_number_used_again(void **state)
{
    (void)state;
    pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
    pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_EXTERNAL, 1);
    pr_sequence sequence = {.n_tokens = 1};
    pr_batch_plan plan = {.sequences = &sequence, .n_sequences = 1};
    pr_batch batch = {.plan = &plan, .n_parts = 1};
    int link;
    rank_comes(s, &link, "a", 1, out);
    assert_true(pr_fleet_wants_batch(s, 1000));
    for (int i = 0; i < 2; i++) {
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_BATCH, .batch = &batch}, 1000, out);
        assert_int_equal(out[PR_FLEET_SEND].message, PR_CONTROL_BATCH);
        assert_int_equal(out[PR_FLEET_SEND].group->batch_seq, 1);
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_UNPACKED, .epoch = 1, .batch = &batch,
                                     .status = PR_E_TOO_LARGE, .text = "too large"}, 1000, out);
        assert_ptr_equal(out[PR_FLEET_COMPLETE].batch, &batch);
        assert_int_equal(out[PR_FLEET_COMPLETE].status, PR_E_TOO_LARGE);
        assert_string_equal(out[PR_FLEET_COMPLETE].text, "too large");
    }
    leave(s, out);
    assert_int_equal(out[PR_FLEET_SEND].message, PR_CONTROL_SHUTDOWN);
    assert_int_not_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = 1, .text = "gone"}, 2100,
             out);
    assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    pr_fleet_state_free(s);
}

static void what_happens_to_a_start_that_is_over_changes_nothing(void **state)
{
    (void)state;
    pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
    pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_EXTERNAL, 1);
    const pr_control_message failed = {.kind = PR_CONTROL_FAILED,
                                       .reason = {.status = PR_E_INTERNAL}};
    int links[2];
    rank_comes(s, &links[0], "a", 1, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = 1, .text = "gone"}, 1000,
             out);
    assert_non_null(strstr(out[PR_FLEET_LOG].text, "rank 0 (pid 12 on h): gone"));
    rank_comes(s, &links[1], "a", 2, out);
    pr_fleet_action none[PR_FLEET_ACTION_COUNT] = {0};
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_MESSAGE, .epoch = 1, .message = &failed}, 1000,
             none);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_UNSENT, .epoch = 1, .text = "full"}, 1000, none);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_WORDS, .epoch = 1, .text = "?"}, 1000, none);
    const pr_control_message late[] = {
        {.kind = PR_CONTROL_RESULT, .result = {.epoch = 1, .batch_seq = 1}},
        {.kind = PR_CONTROL_DONE, .done = {.epoch = 1, .batch_seq = 1, .n_sequences = 1}},
    };
    for (size_t i = 0; i < sizeof late / sizeof *late; i++) { /* from a rank of the next one */
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_MESSAGE, .epoch = 2, .message = &late[i]},
                 1000, none);
    }
    for (int i = 0; i < PR_FLEET_ACTION_COUNT; i++) assert_int_equal(none[i].text[0], 0);
    assert_true(pr_fleet_wants_batch(s, 1000));
    leave(s, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = 2, .text = "gone"}, 2100,
             out);
    assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    pr_fleet_state_free(s);
}

static void a_start_that_fails_is_tried_three_times_and_its_launcher_asked_why(void **state)
{
    (void)state;
    pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_MPIRUN, 1);
    uint64_t now_ms = 1000;
    int links[3];
    for (uint64_t i = 0; i < 3; i++) {
        pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
        char name[32];
        snprintf(name, sizeof name, "0.%" PRIu64, i + 1);
        now_ms = pr_fleet_due_ms(s) > now_ms ? pr_fleet_due_ms(s) : now_ms;
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_TICK}, now_ms, out);
        if (i == 2) { /* the third start waits half a second */
            assert_null(out[PR_FLEET_LAUNCH].group);
            now_ms += 500;
            step_all(s, (pr_fleet_event){.kind = PR_FLEET_TICK}, now_ms, out);
        }
        assert_string_equal(out[PR_FLEET_LAUNCH].group->name, name);
        rank_joins(s, &links[i], name, out);
        assert_int_equal(out[PR_FLEET_ADMIT].group->epoch, i + 1);
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = i + 1, .text = "gone"},
                 now_ms, out);
        assert_int_equal(out[PR_FLEET_LOG].text[0] | out[PR_FLEET_FAIL].text[0], 0);
        now_ms += 200;
        assert_true(pr_fleet_due_ms(s) <= now_ms);
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_TICK}, now_ms, out);
        assert_int_equal(out[PR_FLEET_ASK_WORDS].epoch, i + 1);
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_WORDS, .epoch = i + 1, .text = "no memory"},
                 now_ms, out);
        assert_int_equal(out[PR_FLEET_STOP_LAUNCHER].epoch, i + 1);
        assert_true(pr_fleet_due_ms(s) == now_ms); /* to start again at once, if it may */
        const char *said = out[i < 2 ? PR_FLEET_LOG : PR_FLEET_FAIL].text;
        assert_non_null(strstr(said, "rank 0: gone: no memory"));
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_LAUNCHER_ENDED, .epoch = i + 1, .text = "?"},
                 now_ms, out);
    }
    pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
    leave(s, out);
    assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    pr_fleet_state_free(s);
}

static void who_does_not_leave_is_killed_after_5_seconds(void **state)
{
    (void)state;
    pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
    pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_MPIRUN, 1);
    int link;
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_TICK}, 1000, out);
    rank_comes(s, &link, "0.1", 1, out);
    leave(s, out);
    assert_int_equal(out[PR_FLEET_SEND].message, PR_CONTROL_SHUTDOWN);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_TICK}, 6999, out);
    assert_int_equal(out[PR_FLEET_KILL_ALL].kind | out[PR_FLEET_DISMISS].n_links, 0);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_TICK}, 7000, out);
    assert_int_equal(out[PR_FLEET_KILL_ALL].kind, PR_FLEET_KILL_ALL);
    assert_int_equal(out[PR_FLEET_DISMISS].n_links, 1);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_LAUNCHER_ENDED, .epoch = 1, .text = "?"}, 7001,
             out);
    assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    pr_fleet_state_free(s);
}

static void ranks_of_a_job_are_not_sent_away_before_all_are_ready(void **state)
{
    (void)state;
    pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
    pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_JOB, 2);
    int links[2];
    rank_comes(s, &links[0], "job/0", 1, out);
    leave(s, out);
    assert_null(out[PR_FLEET_SEND].group);
    rank_comes(s, &links[1], "job/1", 2, out);
    assert_int_equal(out[PR_FLEET_SEND].message, PR_CONTROL_SHUTDOWN);
    for (uint64_t epoch = 1; epoch <= 2; epoch++) {
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = epoch, .text = "gone"},
                 2100, out);
    }
    assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    pr_fleet_state_free(s);
}

static void a_wait_for_the_first_group_can_be_cancelled_not_one_that_is_over(void **state)
{
    (void)state;
    int link;
    for (int is_up = 0; is_up < 2; is_up++) {
        pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
        pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_EXTERNAL, 1);
        if (is_up) rank_comes(s, &link, "a", 1, out);
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_CANCEL}, 1000, out);
        assert_int_equal(out[PR_FLEET_FAIL].status, is_up ? PR_OK : PR_E_CANCELLED);
        leave(s, out);
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = 1, .text = "gone"},
                 2100, out);
        assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
        pr_fleet_state_free(s);
    }
}

static void the_same_events_give_the_same_end(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        sim *a = sim_make(seed, false), *b = sim_make(seed, false);
        sim_run(a);
        sim_run(b);
        assert_null(a->wrong);
        assert_int_equal(a->now_ms, b->now_ms);
        assert_int_equal(a->random, b->random);
        assert_int_equal(a->n_peers, b->n_peers);
        sim_free(a);
        sim_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_dies_every_request_is_answered_once),
        cmocka_unit_test(requests_that_kill_ranks_fail_alone),
        cmocka_unit_test(the_same_events_give_the_same_end),
        cmocka_unit_test(a_batch_that_cannot_be_packed_is_answered_and_its_number_used_again),
        cmocka_unit_test(what_happens_to_a_start_that_is_over_changes_nothing),
        cmocka_unit_test(a_start_that_fails_is_tried_three_times_and_its_launcher_asked_why),
        cmocka_unit_test(who_does_not_leave_is_killed_after_5_seconds),
        cmocka_unit_test(ranks_of_a_job_are_not_sent_away_before_all_are_ready),
        cmocka_unit_test(a_wait_for_the_first_group_can_be_cancelled_not_one_that_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
