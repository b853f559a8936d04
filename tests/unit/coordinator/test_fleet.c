/* What the fleet of replica groups promises, with ranks that are threads of this test: every
 * request is answered exactly once, whatever ranks do. */
#include "coordinator/fleet/group.h"
#include "fake_rank.h"
#include "include/poolrank/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- groups ---- */

static pr_group *group_of(uint32_t tp_size, uint32_t n_stages)
{
    pr_group *g = NULL;
    assert_int_equal(pr_group_create(0, tp_size, n_stages, &g, NULL), PR_OK);
    pr_group_start(g, "a", 7);
    return g;
}

static pr_control_hello hello_of(uint32_t rank, uint32_t n_ranks)
{
    return (pr_control_hello){.group = "a", .rank = rank, .n_ranks = n_ranks, .host = "h",
                              .pid = 12};
}

static pr_status join(pr_group *g, uint32_t rank, uint32_t n_ranks, pr_error *err)
{
    static int link;
    pr_control_hello hello = hello_of(rank, n_ranks);
    return pr_group_join(g, &hello, &link, 1000, err);
}

static void all_ready(pr_group *g)
{
    bool is_ready = false;
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        assert_int_equal(join(g, i, g->n_ranks, NULL), PR_OK);
    }
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        pr_control_ready ready = {.epoch = 7, .model_fingerprint = 5, .n_slots = 1};
        assert_false(is_ready);
        assert_int_equal(pr_group_rank_ready(g, i, &ready, 5, &is_ready, NULL), PR_OK);
    }
    assert_true(is_ready);
    assert_int_equal(g->state, PR_GROUP_READY);
}

static void ranks_that_do_not_fit_a_group_are_refused(void **state)
{
    (void)state;
    pr_group *g = group_of(2, 1);
    pr_error err;
    assert_int_equal(join(g, 0, 4, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "found 4 ranks, expected 2"));
    assert_int_equal(join(g, 0, 2, &err), PR_OK);
    assert_int_equal(join(g, 0, 2, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "rank 0 is here already (pid 12 on h)"));
    assert_int_equal(g->state, PR_GROUP_STARTING);
    assert_int_equal(join(g, 1, 2, &err), PR_OK);
    assert_int_equal(g->state, PR_GROUP_LOADING);
    bool is_ready = false;
    pr_control_ready ready = {.epoch = 6, .model_fingerprint = 5};
    assert_int_equal(pr_group_rank_ready(g, 0, &ready, 5, &is_ready, &err), PR_E_INTERNAL);
    ready.epoch = 7;
    assert_int_equal(pr_group_rank_ready(g, 0, &ready, 4, &is_ready, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "another model"));
    assert_null(pr_group_end(g));
    pr_group_free(g);
}

static pr_status keep_id(pr_group *g, uint32_t rank, uint64_t epoch, pr_error *err)
{
    const pr_control_comm_id id = {.epoch = epoch, .n_bytes = 3, .bytes = "abc"};
    return pr_group_comm_id_keep(g, rank, &id, err);
}

static void an_id_of_ranks_is_kept_once_a_start_and_only_from_rank_0(void **state)
{
    (void)state;
    pr_group *g = group_of(2, 2);
    pr_error err;
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(join(g, i, 4, NULL), PR_OK);
    for (uint32_t i = 1; i < 3; i++) assert_int_equal(keep_id(g, i, 7, &err), PR_E_INTERNAL);
    assert_string_equal(err.message, "found a COMM_ID of epoch 7 from rank 2, expected one of "
                                     "epoch 7 from rank 0 while it loads");
    assert_int_equal(keep_id(g, 0, 6, &err), PR_E_INTERNAL);
    assert_int_equal(keep_id(g, 0, 7, &err), PR_OK);
    assert_int_equal(keep_id(g, 0, 7, &err), PR_E_INTERNAL);
    assert_non_null(strstr(err.message, "found another COMM_ID"));
    pr_group_end(g);
    pr_group_start(g, "a", 8); /* the next start has one of its own */
    assert_int_equal(join(g, 0, 4, NULL), PR_OK);
    assert_int_equal(keep_id(g, 0, 7, &err), PR_E_INTERNAL);
    assert_int_equal(keep_id(g, 0, 8, &err), PR_OK);
    pr_group_end(g);
    pr_group_start(g, "a", 7);
    all_ready(g);
    assert_int_equal(keep_id(g, 0, 7, &err), PR_E_INTERNAL);
    assert_non_null(strstr(err.message, "after READY"));
    pr_group_end(g);
    pr_group_free(g);
}

static void an_id_of_ranks_is_passed_on_when_the_last_of_them_is_here(void **state)
{
    (void)state;
    pr_group *g = group_of(2, 1);
    assert_int_equal(join(g, 0, 2, NULL), PR_OK);
    assert_false(pr_group_comm_id_is_due(g));
    assert_int_equal(keep_id(g, 0, 7, NULL), PR_OK);
    assert_false(pr_group_comm_id_is_due(g));
    assert_int_equal(join(g, 1, 2, NULL), PR_OK);
    assert_true(pr_group_comm_id_is_due(g));
    assert_false(pr_group_comm_id_is_due(g)); /* once */
    pr_group_end(g);
    pr_group_start(g, "a", 7);
    assert_int_equal(join(g, 1, 2, NULL), PR_OK);
    assert_int_equal(join(g, 0, 2, NULL), PR_OK);
    assert_false(pr_group_comm_id_is_due(g)); /* the one before is gone */
    assert_int_equal(keep_id(g, 0, 7, NULL), PR_OK);
    assert_true(pr_group_comm_id_is_due(g));
    pr_group_end(g);
    pr_group_free(g);
}

static pr_batch batch_of(size_t n_parts, uint32_t n_deaths)
{
    return (pr_batch){.n_parts = n_parts, .n_deaths = n_deaths};
}

static void a_group_takes_one_batch_more_than_it_has_stages(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages++) {
        pr_group *g = group_of(2, n_stages);
        pr_batch batches[4];
        assert_false(pr_group_has_room(g, 0));
        all_ready(g);
        uint32_t n = 0;
        for (; pr_group_has_room(g, 0); n++) {
            batches[n] = batch_of(1, n);
            assert_true(n < 4);
            batches[n].n_deaths = 0;
            assert_int_equal(pr_group_flight_add(g, &batches[n], 100, 1, NULL), PR_OK);
        }
        assert_int_equal(n, n_stages + 1);
        pr_batch *b = pr_group_end(g); /* they come back in order, a death older */
        for (uint32_t i = 0; i < n; i++, b = b->next) {
            assert_ptr_equal(b, &batches[i]);
            assert_int_equal(b->n_deaths, 1);
        }
        assert_null(b);
        pr_group_free(g);
    }
}

static void a_batch_that_must_be_alone_is_alone(void **state)
{
    (void)state;
    pr_group *g = group_of(1, 1);
    all_ready(g);
    pr_batch first = batch_of(1, 1), alone = batch_of(1, 2);
    assert_int_equal(pr_group_flight_add(g, &first, 100, 1, NULL), PR_OK);
    assert_true(pr_group_has_room(g, 1));
    assert_false(pr_group_has_room(g, 2));
    pr_group_end(g);
    pr_group_start(g, "b", 7);
    all_ready(g);
    assert_true(pr_group_has_room(g, 2));
    assert_int_equal(pr_group_flight_add(g, &alone, 100, 1, NULL), PR_OK);
    assert_false(pr_group_has_room(g, 0));
    pr_group_end(g);
    pr_group_free(g);
}

static pr_status result(pr_group *g, uint32_t rank, uint64_t epoch, uint64_t seq, uint64_t offset,
                        uint32_t n)
{
    static const char bytes[64];
    const pr_control_result r = {.epoch = epoch, .batch_seq = seq, .offset = offset,
                                 .bytes = bytes, .n_bytes = n};
    return pr_group_result(g, rank, &r, NULL);
}

static void results_that_do_not_fit_their_batch_are_refused(void **state)
{
    (void)state;
    pr_group *g = group_of(2, 1); /* rank 0 pools */
    all_ready(g);
    pr_batch batch = batch_of(2, 0), *out = NULL;
    pr_pooled pooled = {0};
    assert_int_equal(pr_group_flight_add(g, &batch, 32, 1, NULL), PR_OK);
    assert_int_equal(result(g, 1, 7, 1, 0, 8), PR_E_INTERNAL);  /* another rank */
    assert_int_equal(result(g, 0, 7, 2, 0, 8), PR_E_INTERNAL);  /* another batch */
    assert_int_equal(result(g, 0, 7, 1, 4, 8), PR_E_INTERNAL);  /* a gap */
    assert_int_equal(result(g, 0, 7, 1, 0, 33), PR_E_INTERNAL); /* too long */
    assert_int_equal(result(g, 0, 6, 9, 9, 33), PR_OK);         /* late: dropped */
    assert_int_equal(result(g, 0, 7, 1, 0, 16), PR_OK);
    assert_int_equal(result(g, 0, 7, 1, 16, 8), PR_OK);
    assert_int_equal(result(g, 0, 7, 1, 16, 8), PR_E_INTERNAL); /* again */
    uint32_t shapes[4] = {1, 2, 2, 2};
    pr_control_done done = {.epoch = 7, .batch_seq = 1, .n_sequences = 1, .shapes = shapes};
    assert_int_equal(pr_group_done(g, 0, &done, 1, &out, &pooled, NULL), PR_E_INTERNAL);
    done.n_sequences = 2; /* 24 bytes are 2 + 4 floats */
    shapes[3] = 3;
    assert_int_equal(pr_group_done(g, 0, &done, 1, &out, &pooled, NULL), PR_E_INTERNAL);
    shapes[2] = shapes[3] = UINT32_MAX;
    assert_int_equal(pr_group_done(g, 0, &done, 1, &out, &pooled, NULL), PR_E_INTERNAL);
    shapes[2] = shapes[3] = 2;
    done.epoch = 6;
    assert_int_equal(pr_group_done(g, 0, &done, 1, &out, &pooled, NULL), PR_OK);
    assert_null(out);
    done.epoch = 7;
    assert_int_equal(pr_group_done(g, 0, &done, 1, &out, &pooled, NULL), PR_OK);
    assert_ptr_equal(out, &batch);
    assert_int_equal(pooled.n_sequences, 2);
    assert_int_equal(pooled.rows[1].offset, 2);
    assert_int_equal(g->n_flights, 0);
    pr_pooled_deinit(&pooled);
    assert_null(pr_group_end(g));
    pr_group_free(g);
}

static void ranks_compute_until_the_answer_is_here(void **state)
{
    (void)state;
    pr_group *g = group_of(2, 1);
    all_ready(g);
    pr_batch batch = batch_of(1, 0);
    const pr_control_ping idle = {.batch_seq = 0}, begun = {.batch_seq = 1};
    pr_group_pong(g, 0, &idle, 2000);
    assert_false(g->lives[0].is_computing);
    assert_int_equal(pr_group_flight_add(g, &batch, 100, 3000, NULL), PR_OK);
    pr_group_pong(g, 0, &idle, 4000);
    assert_true(g->lives[0].is_computing);
    assert_int_equal(g->lives[0].progress_ms, 3000);
    pr_group_pong(g, 0, &begun, 5000); /* begun and ended, but its answer was lost */
    assert_true(g->lives[0].is_computing);
    assert_int_equal(g->lives[0].progress_ms, 5000);
    pr_group_end(g);
    pr_group_free(g);
}

/* ---- a fleet with ranks that are threads ---- */

typedef struct place {
    char folder[64], socket_path[96], key_path[96], at[128];
} place;

static int place_make(void **state)
{
    place *p = calloc(1, sizeof *p);
    if (!p) return -1;
    strcpy(p->folder, "/tmp/poolrank-test-XXXXXX");
    if (!mkdtemp(p->folder)) return -1;
    snprintf(p->socket_path, sizeof p->socket_path, "%s/ctrl", p->folder);
    snprintf(p->key_path, sizeof p->key_path, "%s/key", p->folder);
    snprintf(p->at, sizeof p->at, "unix:%s", p->socket_path);
    *state = p;
    return pr_key_create(p->key_path, NULL) == PR_OK ? 0 : -1;
}

static int place_remove(void **state)
{
    place *p = *state;
    unlink(p->key_path);
    bool is_empty = rmdir(p->folder) == 0; /* the socket is gone */
    free(p);
    return is_empty ? 0 : -1;
}

static fake_rank rank_at(const place *p, const char *group)
{
    return (fake_rank){.socket_path = p->socket_path, .key_path = p->key_path, .group = group,
                       .n_ranks = 1, .n_lives = 1, .dies_at_batch = FAKE_NEVER,
                       .poison = FAKE_NEVER};
}

static pr_engine *engine_at(const place *p, const char *tp_size, const char *hang_timeout)
{
    char model[512];
    snprintf(model, sizeof model, "%s/parity/models/qwen2-plain", PR_TESTS_DIR);
    const char *const options[][2] = {
        {"model", model},         {"worker-launch", "external"}, {"ctrl-interface", p->at},
        {"quiet", "true"},        {"cluster-key-file", p->key_path},
        {"max-num-seqs", "4"},    {"tensor-parallel-size", tp_size},
        {"hang-timeout", hang_timeout}, {"start-timeout", "20"},
    };
    pr_options *o = pr_options_create();
    pr_engine *engine = NULL;
    pr_error err;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (pr_options_set(o, options[i][0], options[i][1], &err) != PR_OK) {
            fail_msg("%s", err.message);
        }
    }
    if (pr_engine_open(o, &engine, &err) != PR_OK) fail_msg("%s", err.message);
    pr_options_free(o);
    return engine;
}

/* An engine of two ranks that opens while the test goes on. */
typedef struct opener {
    const place *place;
    pr_engine *engine;
    pthread_t thread;
} opener;

static void *open_engine(void *context)
{
    opener *o = context;
    o->engine = engine_at(o->place, "2", "60");
    return NULL;
}

enum { N_REQUESTS = 60, POISON = 33 };

/* Submits N_REQUESTS at once and checks each one's answer; returns how many failed. */
static int ask_all(pr_engine *engine, int32_t poison)
{
    pr_ticket *tickets[N_REQUESTS];
    int n_failed = 0;
    pr_error err;
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        const int32_t tokens[3] = {5, 500 + i % 7, i};
        pr_request r;
        pr_request_init(&r);
        r.tokens = tokens;
        r.n_tokens = 3;
        if (pr_engine_submit(engine, &r, &tickets[i], &err) != PR_OK) fail_msg("%s", err.message);
    }
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        pr_result *result_i = NULL;
        assert_int_equal(pr_engine_wait(engine, tickets[i], &result_i, &err), PR_OK);
        if (result_i->status != PR_OK) {
            n_failed++;
            assert_int_equal(i, poison);
            assert_int_equal(result_i->status, PR_E_INTERNAL);
            assert_non_null(strstr(result_i->message, "3 replica groups ended"));
        } else {
            assert_int_equal(result_i->n_columns, FAKE_WIDTH);
            assert_true(result_i->data[0] == (float)i);
        }
        pr_result_free(result_i);
    }
    return n_failed;
}

static void a_group_that_joins_answers_and_is_told_to_leave(void **state)
{
    fake_rank rank = rank_at(*state, "a");
    fake_rank_start(&rank);
    pr_engine *engine = engine_at(*state, "1", "60");
    assert_int_equal(ask_all(engine, FAKE_NEVER), 0);
    pr_engine_close(engine);
    fake_rank_join(&rank);
    assert_int_equal(rank.n_shutdowns, 1);
    assert_true(rank.n_batches >= N_REQUESTS / 4);
}

static void what_a_dead_group_had_in_hand_is_run_by_the_next(void **state)
{
    for (int at = 1; at <= 5; at++) {
        fake_rank rank = rank_at(*state, "a");
        rank.n_lives = 2;
        rank.dies_at_batch = at;
        fake_rank_start(&rank);
        pr_engine *engine = engine_at(*state, "1", "60");
        assert_int_equal(ask_all(engine, FAKE_NEVER), 0);
        pr_engine_close(engine);
        fake_rank_join(&rank);
        assert_int_equal(rank.n_connected, 2);
    }
}

static void a_request_that_ends_its_groups_fails_alone(void **state)
{
    fake_rank rank = rank_at(*state, "a");
    rank.n_lives = 10;
    rank.poison = POISON;
    fake_rank_start(&rank);
    pr_engine *engine = engine_at(*state, "1", "60");
    assert_int_equal(ask_all(engine, POISON), 1);
    assert_int_equal(ask_all(engine, POISON), 1); /* and the fleet serves on */
    pr_engine_close(engine);
    fake_rank_join(&rank);
    assert_int_equal(rank.n_connected, 7);
}

static void two_groups_share_the_work(void **state)
{
    fake_rank a = rank_at(*state, "a"), b = rank_at(*state, "b");
    fake_rank_start(&a);
    pr_engine *engine = engine_at(*state, "1", "60");
    fake_rank_start(&b);
    while (a.n_batches == 0 || b.n_batches == 0) assert_int_equal(ask_all(engine, FAKE_NEVER), 0);
    pr_engine_close(engine);
    fake_rank_join(&a);
    fake_rank_join(&b);
}

static void a_rank_that_hangs_is_given_up(void **state)
{
    fake_rank rank = rank_at(*state, "a");
    rank.n_lives = 2;
    rank.is_mute = true;
    fake_rank_start(&rank);
    pr_engine *engine = engine_at(*state, "1", "1");
    assert_int_equal(ask_all(engine, FAKE_NEVER), 0);
    pr_engine_close(engine);
    fake_rank_join(&rank);
    assert_non_null(strstr(rank.last_words, "it hangs: no answer"));
}

static void wrong_results_end_the_group(void **state)
{
    fake_rank rank = rank_at(*state, "a");
    rank.n_lives = 2;
    rank.has_wrong_shapes = true;
    fake_rank_start(&rank);
    pr_engine *engine = engine_at(*state, "1", "60");
    assert_int_equal(ask_all(engine, FAKE_NEVER), 0);
    pr_engine_close(engine);
    fake_rank_join(&rank);
    assert_non_null(strstr(rank.last_words, "expected as many as its shapes have"));
}

static void strangers_are_refused_with_the_reason(void **state)
{
    const place *p = *state;
    char other_key[128];
    snprintf(other_key, sizeof other_key, "%s/other", p->folder);
    assert_int_equal(pr_key_create(other_key, NULL), PR_OK);
    fake_rank good = rank_at(p, "a");
    fake_rank bad[4] = {rank_at(p, "b"), rank_at(p, "c"), rank_at(p, "d"), rank_at(p, "e")};
    bad[0].key_path = other_key;
    bad[1].n_ranks = 3;
    bad[2].version = "0.0.0";
    bad[3].has_other_model = true;
    static const char *const says[] = {"cluster key", "found 3 ranks, expected 1", "0.0.0",
                                       "another model"};
    fake_rank_start(&good);
    pr_engine *engine = engine_at(p, "1", "60");
    for (int i = 0; i < 4; i++) {
        fake_rank_start(&bad[i]);
        fake_rank_join(&bad[i]);
        if (!strstr(bad[i].last_words, says[i])) {
            fail_msg("\"%s\" does not say \"%s\"", bad[i].last_words, says[i]);
        }
        assert_int_equal(bad[i].n_batches, 0);
    }
    assert_int_equal(ask_all(engine, FAKE_NEVER), 0);
    pr_engine_close(engine);
    fake_rank_join(&good);
    unlink(other_key);
}

static void a_group_of_two_needs_both(void **state)
{
    fake_rank a = rank_at(*state, "a"), b = rank_at(*state, "a"), twice = rank_at(*state, "a");
    a.n_ranks = b.n_ranks = twice.n_ranks = 2;
    b.rank = 1;
    fake_rank_start(&a);
    fake_rank_start(&b);
    pr_engine *engine = engine_at(*state, "2", "60");
    fake_rank_start(&twice);
    fake_rank_join(&twice);
    assert_non_null(strstr(twice.last_words, "rank 0 is here already"));
    pr_engine_close(engine); /* both answer, and only the pooling rank's answer would do */
    fake_rank_join(&a);
    fake_rank_join(&b);
    assert_int_equal(a.n_shutdowns + b.n_shutdowns, 2);
}

/* Then its group is here before the next rank's hello is read. */
static void connection_await(fake_rank *r)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    while (r->n_connected == 0) nanosleep(&pause, NULL);
}

/* Whoever connects first: rank 0 makes the id, and none is ready before all have it. */
static void the_id_of_rank_0_reaches_every_rank(void **state)
{
    for (uint32_t first = 0; first < 2; first++) {
        fake_rank ranks[2] = {rank_at(*state, "a"), rank_at(*state, "a")};
        for (uint32_t i = 0; i < 2; i++) {
            ranks[i].n_ranks = 2;
            ranks[i].rank = i;
            ranks[i].awaits_comm_id = true;
        }
        ranks[0].comm_id = "this is it";
        fake_rank_start(&ranks[first]);
        opener late = {.place = *state};
        assert_int_equal(pthread_create(&late.thread, NULL, open_engine, &late), 0);
        connection_await(&ranks[first]);
        fake_rank_start(&ranks[!first]);
        pthread_join(late.thread, NULL);
        pr_engine_close(late.engine);
        for (int i = 0; i < 2; i++) {
            fake_rank_join(&ranks[i]);
            assert_string_equal(ranks[i].comm_id_found, "this is it");
            assert_int_equal(ranks[i].n_shutdowns, 1);
        }
    }
}

/* Before or after it made the id: nobody waits for it, or with it, for ever. */
static void a_rank_0_that_dies_takes_the_ranks_that_await_its_id_along(void **state)
{
    for (int shares = 0; shares < 2; shares++) {
        fake_rank a = rank_at(*state, "a"), b = rank_at(*state, "a"), good = rank_at(*state, "b");
        a.n_ranks = b.n_ranks = good.n_ranks = 2;
        b.rank = 1;
        b.awaits_comm_id = true;
        a.dies_at_load = true;
        a.comm_id = shares ? "its last word" : NULL;
        fake_rank good_1 = good;
        good_1.rank = 1;
        fake_rank_start(&b);
        opener late = {.place = *state};
        assert_int_equal(pthread_create(&late.thread, NULL, open_engine, &late), 0);
        connection_await(&b);
        fake_rank_start(&a);
        fake_rank_join(&a);
        fake_rank_join(&b);
        assert_non_null(strstr(b.last_words, "rank 0 (pid "));
        fake_rank_start(&good);
        fake_rank_start(&good_1);
        pthread_join(late.thread, NULL);
        pr_engine_close(late.engine);
        fake_rank_join(&good);
        fake_rank_join(&good_1);
    }
}

/* And the group that comes then serves. */
static void an_id_from_another_rank_ends_the_group(void **state)
{
    fake_rank a = rank_at(*state, "a"), b = rank_at(*state, "a"), good = rank_at(*state, "b");
    a.n_ranks = b.n_ranks = 2;
    b.rank = 1;
    a.awaits_comm_id = b.awaits_comm_id = true;
    b.comm_id = "not mine to make";
    good.n_ranks = 2;
    fake_rank good_1 = good;
    good_1.rank = 1;
    fake_rank_start(&a);
    opener late = {.place = *state};
    assert_int_equal(pthread_create(&late.thread, NULL, open_engine, &late), 0);
    connection_await(&a);
    fake_rank_start(&b);
    fake_rank_join(&a);
    fake_rank_join(&b);
    assert_non_null(strstr(a.last_words, "rank 1 (pid "));
    assert_non_null(strstr(a.last_words, "found a COMM_ID of epoch 1 from rank 1, expected one of "
                                         "epoch 1 from rank 0"));
    fake_rank_start(&good);
    fake_rank_start(&good_1);
    pthread_join(late.thread, NULL);
    pr_engine_close(late.engine);
    fake_rank_join(&good);
    fake_rank_join(&good_1);
    assert_int_equal(good.n_shutdowns + good_1.n_shutdowns, 2);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_do_not_fit_a_group_are_refused),
        cmocka_unit_test(an_id_of_ranks_is_kept_once_a_start_and_only_from_rank_0),
        cmocka_unit_test(an_id_of_ranks_is_passed_on_when_the_last_of_them_is_here),
        cmocka_unit_test(a_group_takes_one_batch_more_than_it_has_stages),
        cmocka_unit_test(a_batch_that_must_be_alone_is_alone),
        cmocka_unit_test(results_that_do_not_fit_their_batch_are_refused),
        cmocka_unit_test(ranks_compute_until_the_answer_is_here),
        WITH_PLACE(a_group_that_joins_answers_and_is_told_to_leave),
        WITH_PLACE(what_a_dead_group_had_in_hand_is_run_by_the_next),
        WITH_PLACE(a_request_that_ends_its_groups_fails_alone),
        WITH_PLACE(two_groups_share_the_work),
        WITH_PLACE(a_rank_that_hangs_is_given_up),
        WITH_PLACE(wrong_results_end_the_group),
        WITH_PLACE(strangers_are_refused_with_the_reason),
        WITH_PLACE(a_group_of_two_needs_both),
        WITH_PLACE(the_id_of_rank_0_reaches_every_rank),
        WITH_PLACE(a_rank_0_that_dies_takes_the_ranks_that_await_its_id_along),
        WITH_PLACE(an_id_from_another_rank_ends_the_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
