/* What ranks of a 72B model ask of its checkpoint, whose files are holes at the real shapes: each
 * exactly its shard; together every element of a tensor that is cut once, of one that is not cut
 * as often as a rank holds it; of lm_head nothing.
 *
 *     load_test           the reads are noted and not carried out: seconds
 *     load_test --read    they are, for every rank of two groups, and their rate is printed
 *
 * Linked with --wrap=pr_checkpoint_read. Exits 77 where the file system has no holes. */
#include "runtime/base/json.h"
#include "runtime/plan/memory_plan.h"
#include "tests/large/checkpoint_72b.h"
#include "tests/large/sink_backend.h"
#include "worker/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { RANKS_MAX = 16, EXIT_SKIPPED = 77 };
static const int64_t n_parameters_72b = 71527620609;
static const uint64_t bytes_with_lm_head = 145546657794; /* 2 (71,527,620,609 + 152,064 * 8,192) */

/* ---- the reads of one rank ---- */

/* What was asked of one tensor, in one piece: runs of rows that follow each other are joined. */
typedef struct piece {
    int64_t row_begin, row_end, column_begin, column_end;
    int n_pieces; /* more than 1: what came later did not follow */
} piece;

/* State of the function that stands in for pr_checkpoint_read; the loader never reads twice at a
 * time, so that it needs no lock. */
static struct {
    bool is_real;
    piece *pieces; /* [tensors of the checkpoint], of the rank that loads */
    uint64_t n_bytes;
} asked;

static size_t tensor_index(const pr_checkpoint *c, const pr_tensor *t)
{
    return (size_t)(t - pr_checkpoint_tensor(c, 0));
}

static void piece_note(piece *p, int64_t row_begin, int64_t row_end, int64_t column_begin,
                       int64_t column_end)
{
    bool follows = p->n_pieces > 0 && row_begin == p->row_end &&
                   column_begin == p->column_begin && column_end == p->column_end;
    if (follows) {
        p->row_end = row_end;
        return;
    }
    *p = (piece){row_begin, row_end, column_begin, column_end, p->n_pieces + 1};
}

pr_status __real_pr_checkpoint_read(pr_checkpoint *c, const pr_tensor *t, int64_t row_begin,
                                    int64_t row_end, int64_t column_begin, int64_t column_end,
                                    void *dst, pr_error *err);
pr_status __wrap_pr_checkpoint_read(pr_checkpoint *c, const pr_tensor *t, int64_t row_begin,
                                    int64_t row_end, int64_t column_begin, int64_t column_end,
                                    void *dst, pr_error *err);

pr_status __wrap_pr_checkpoint_read(pr_checkpoint *c, const pr_tensor *t, int64_t row_begin,
                                    int64_t row_end, int64_t column_begin, int64_t column_end,
                                    void *dst, pr_error *err)
{
    uint64_t n = (uint64_t)((row_end - row_begin) * (column_end - column_begin)) *
                 pr_dtype_bytes(t->dtype);
    piece_note(&asked.pieces[tensor_index(c, t)], row_begin, row_end, column_begin, column_end);
    asked.n_bytes += n;
    if (asked.is_real) {
        return __real_pr_checkpoint_read(c, t, row_begin, row_end, column_begin, column_end, dst,
                                         err);
    }
    if (t->n_dims == 1) memset(dst, 0, n); /* the loader converts vectors; of matrices it reads
                                              nothing, nor does the sink */
    return PR_OK;
}

/* ---- the checkpoint ---- */

static struct {
    char folder[64];
    large_checkpoint files;
    pr_model_spec spec;
    pr_checkpoint *checkpoint;
} model;

static void spec_read(void)
{
    static const char path[] = PR_TESTS_DIR "/system/qwen2.5-math-rm-72b.json";
    json_t *config = NULL;
    pr_error err;
    pr_status st = pr_json_load(path, 1 << 20, &config, &err);
    if (st == PR_OK) st = pr_model_spec_parse(config, path, &model.spec, &err);
    if (st != PR_OK) fail_msg("%s", err.message);
    json_decref(config);
}

static int model_open(void **state)
{
    (void)state;
    pr_error err;
    spec_read();
    pr_status st = pr_checkpoint_open(model.folder, &model.checkpoint, &err);
    if (st != PR_OK) fail_msg("%s", err.message);
    return 0;
}

static int model_close(void **state)
{
    (void)state;
    pr_checkpoint_close(model.checkpoint);
    pr_model_spec_deinit(&model.spec);
    return 0;
}

static void the_files_are_holes_of_the_real_size(void **state)
{
    (void)state;
    assert_int_equal(model.files.n_bytes, bytes_with_lm_head);
    assert_int_equal(pr_checkpoint_n_tensors(model.checkpoint), LARGE_TENSORS_MAX);
    uint64_t n = 0;
    for (size_t i = 0; i < LARGE_TENSORS_MAX; i++) {
        n += pr_checkpoint_tensor(model.checkpoint, i)->n_bytes;
    }
    assert_int_equal(n, bytes_with_lm_head);
    print_message("%d files, %.1f GB of holes\n", model.files.n_files, 1e-9 * (double)n);
}

/* ---- one rank ---- */

typedef struct rank {
    pr_parallel parallel;
    pr_shard shard;
    piece pieces[LARGE_TENSORS_MAX];
    uint64_t n_bytes;
    double seconds, cpu_seconds; /* of loading; the latter of all threads */
} rank;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void rank_load(rank *r)
{
    static const pr_st_files no_st = {0};
    sink_backend sink;
    pr_weights *weights = NULL;
    pr_error err;
    sink_backend_init(&sink);
    asked.pieces = r->pieces;
    asked.n_bytes = 0;
    pr_status st = pr_shard_plan(&model.spec, &r->parallel, &r->shard, &err);
    const pr_weights_source source = {
        .folder = model.folder, .checkpoint = model.checkpoint, .spec = &model.spec, .st = &no_st,
        .parallel = &r->parallel, .shard = &r->shard, .dtype = PR_DTYPE_BF16,
    };
    double begin = now(CLOCK_MONOTONIC), cpu_begin = now(CLOCK_PROCESS_CPUTIME_ID);
    if (st == PR_OK) st = pr_weights_load(&source, &sink.base, &weights, &err);
    r->seconds = now(CLOCK_MONOTONIC) - begin;
    r->cpu_seconds = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
    if (st != PR_OK) fail_msg("%s", err.message);
    pr_weights_free(weights);
    r->n_bytes = asked.n_bytes;
    assert_int_equal(sink.n_wrong, 0);
    assert_int_equal(sink.n_held, 0);
    assert_int_equal(2 * sink.n_elements, r->n_bytes);
}

/* Its bytes are those of the memory plan, in the checkpoint's 2 bytes a value. */
static void rank_check_bytes(const rank *r)
{
    const pr_memory_limits limits = {.n_tokens = 4096, .n_threads = 1, .dtype = PR_DTYPE_BF16,
                                     .place = PR_PLAN_PLACE_GPU};
    pr_memory_plan plan;
    assert_int_equal(pr_memory_plan_build(&model.spec, &r->parallel, &r->shard, &limits, &plan,
                                          NULL), PR_OK);
    assert_int_equal(plan.n_parameters, n_parameters_72b);
    assert_int_equal(r->n_bytes, 2 * (uint64_t)plan.n_parameters_rank);
}

/* Its rectangles are those of the shard plan, each asked for in one piece, and there are no
 * others. */
static void rank_check_pieces(const rank *r)
{
    size_t n_wanted = 0, n_asked = 0;
    pr_weight_list *list = NULL;
    assert_int_equal(pr_weight_list_build(&model.spec, &list, NULL), PR_OK);
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        pr_rectangle cut = pr_shard_rectangle(&model.spec, &r->parallel, &r->shard, w);
        char name[LARGE_NAME_BYTES];
        snprintf(name, sizeof name, "%s%s", w->has_prefix ? "model." : "", w->name);
        const pr_tensor *t = pr_checkpoint_find(model.checkpoint, name);
        assert_non_null(t);
        const piece *p = &r->pieces[tensor_index(model.checkpoint, t)];
        if (cut.row_end == cut.row_begin) {
            assert_int_equal(p->n_pieces, 0);
            continue;
        }
        n_wanted++;
        bool is_vector = w->n_dims == 1; /* one row of the checkpoint */
        int64_t rows[2] = {is_vector ? 0 : cut.row_begin, is_vector ? 1 : cut.row_end};
        int64_t columns[2] = {is_vector ? cut.row_begin : cut.column_begin,
                              is_vector ? cut.row_end : cut.column_end};
        if (p->n_pieces != 1 || p->row_begin != rows[0] || p->row_end != rows[1] ||
            p->column_begin != columns[0] || p->column_end != columns[1]) {
            fail_msg("rank %d of stage %d: %s: %d pieces, the last [%lld, %lld) x [%lld, %lld)",
                     r->parallel.tp_rank, r->parallel.stage, name, p->n_pieces,
                     (long long)p->row_begin, (long long)p->row_end, (long long)p->column_begin,
                     (long long)p->column_end);
        }
    }
    pr_weight_list_free(list);
    for (size_t i = 0; i < LARGE_TENSORS_MAX; i++) n_asked += r->pieces[i].n_pieces > 0;
    assert_int_equal(n_asked, n_wanted);
}

/* ---- all ranks ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* How often each element is to be asked for: by name, and not by what the plan says. */
static int times_expected(const char *name, int tp_size)
{
    if (strcmp(name, "lm_head.weight") == 0) return 0;
    if (ends_with(name, "layernorm.weight")) return tp_size;
    bool is_kv = strstr(name, "k_proj") || strstr(name, "v_proj");
    return is_kv && tp_size > 8 ? tp_size / 8 : 1; /* 8 KV heads */
}

static int64_t area(const piece *p)
{
    return p->n_pieces ? (p->row_end - p->row_begin) * (p->column_end - p->column_begin) : 0;
}

static bool overlap(const piece *a, const piece *b)
{
    return a->n_pieces && b->n_pieces && a->row_begin < b->row_end && b->row_begin < a->row_end &&
           a->column_begin < b->column_end && b->column_begin < a->column_end;
}

static bool are_same(const piece *a, const piece *b)
{
    return a->row_begin == b->row_begin && a->row_end == b->row_end &&
           a->column_begin == b->column_begin && a->column_end == b->column_end;
}

/* Pieces that are apart, or the same and then as often as expected, and whose areas are the
 * tensor's so many times: every element was asked for so often. */
static void tensor_check(const rank *ranks, int n_ranks, size_t i, int times)
{
    const pr_tensor *t = pr_checkpoint_tensor(model.checkpoint, i);
    int64_t n_elements = (int64_t)(t->n_bytes / 2), n_asked = 0;
    for (int a = 0; a < n_ranks; a++) {
        const piece *p = &ranks[a].pieces[i];
        int n_same = 0;
        n_asked += area(p);
        for (int b = 0; b < n_ranks; b++) {
            const piece *q = &ranks[b].pieces[i];
            if (!overlap(p, q)) continue;
            if (!are_same(p, q)) fail_msg("%s: ranks %d and %d overlap", t->name, a, b);
            n_same++;
        }
        if (p->n_pieces && n_same != times) {
            fail_msg("%s: rank %d's part is asked for %d times, expected %d", t->name, a, n_same,
                     times);
        }
    }
    if (n_asked != times * n_elements) {
        fail_msg("%s: %lld elements asked for, expected %d times %lld", t->name,
                 (long long)n_asked, times, (long long)n_elements);
    }
}

static rank *ranks_load(int tp_size, int n_stages)
{
    int n_ranks = tp_size * n_stages;
    rank *ranks = calloc((size_t)n_ranks, sizeof *ranks);
    assert_non_null(ranks);
    for (int i = 0; i < n_ranks; i++) {
        ranks[i].parallel = (pr_parallel){.tp_rank = i % tp_size, .tp_size = tp_size,
                                          .stage = i / tp_size, .n_stages = n_stages};
        rank_load(&ranks[i]);
    }
    return ranks;
}

static void rate_print(const rank *ranks, int n_ranks)
{
    double bytes = 0, seconds = 0, cpu_seconds = 0;
    for (int i = 0; i < n_ranks; i++) {
        bytes += (double)ranks[i].n_bytes;
        seconds += ranks[i].seconds;
        cpu_seconds += ranks[i].cpu_seconds;
    }
    print_message("TP %d x PP %d: %.2f GB read by %d ranks, one after the other, in %.1f s: "
                  "%.2f GB/s; %.2f GB for a second of processor time\n",
                  ranks[0].parallel.tp_size, ranks[0].parallel.n_stages, 1e-9 * bytes, n_ranks,
                  seconds, 1e-9 * bytes / seconds, 1e-9 * bytes / cpu_seconds);
}

/* "model.layers.0.input_layernorm.weight: 8 times": every tensor that is not asked for once, of the
 * layers' the first layer's. */
static void times_print(int tp_size, int n_stages)
{
    int n_replicated = 0;
    for (size_t i = 0; i < LARGE_TENSORS_MAX; i++) {
        const char *name = pr_checkpoint_tensor(model.checkpoint, i)->name;
        int times = times_expected(name, tp_size);
        bool is_shown = strncmp(name, "model.layers.", 13) != 0 || strncmp(name + 13, "0.", 2) == 0;
        n_replicated += times > 1;
        if (times == 1 || !is_shown) continue;
        print_message("TP %d x PP %d: %s: %d times\n", tp_size, n_stages, name, times);
    }
    print_message("TP %d x PP %d: %d tensors of %d are replicated\n", tp_size, n_stages,
                  n_replicated, LARGE_TENSORS_MAX);
}

static void group_check(int tp_size, int n_stages)
{
    int n_ranks = tp_size * n_stages;
    rank *ranks = ranks_load(tp_size, n_stages);
    for (int i = 0; i < n_ranks; i++) {
        rank_check_bytes(&ranks[i]);
        rank_check_pieces(&ranks[i]);
    }
    for (size_t i = 0; i < LARGE_TENSORS_MAX; i++) {
        const char *name = pr_checkpoint_tensor(model.checkpoint, i)->name;
        tensor_check(ranks, n_ranks, i, times_expected(name, tp_size));
    }
    times_print(tp_size, n_stages);
    if (asked.is_real) rate_print(ranks, n_ranks);
    free(ranks);
}

static void two_ranks_ask_for_their_halves(void **state)
{
    (void)state;
    group_check(2, 1);
}

static void four_ranks_ask_for_their_quarters(void **state)
{
    (void)state;
    group_check(4, 1);
}

static void eight_ranks_ask_for_their_eighths(void **state)
{
    (void)state;
    group_check(8, 1);
}

static void two_stages_of_eight_ranks_ask_for_their_layers(void **state)
{
    (void)state;
    group_check(8, 2);
}

static void sixteen_ranks_ask_for_each_kv_head_twice(void **state)
{
    (void)state;
    group_check(16, 1);
}

/* ---- the program ---- */

static int tests_run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_files_are_holes_of_the_real_size),
        cmocka_unit_test(two_ranks_ask_for_their_halves),
        cmocka_unit_test(four_ranks_ask_for_their_quarters),
        cmocka_unit_test(eight_ranks_ask_for_their_eighths),
        cmocka_unit_test(two_stages_of_eight_ranks_ask_for_their_layers),
        cmocka_unit_test(sixteen_ranks_ask_for_each_kv_head_twice),
    };
    return cmocka_run_group_tests(tests, model_open, model_close);
}

/* Parts of rows are as short with 8 ranks as they get, with 2 ranks as long. */
static int reading_tests_run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ranks_ask_for_their_halves),
        cmocka_unit_test(eight_ranks_ask_for_their_eighths),
    };
    asked.is_real = true;
    return cmocka_run_group_tests(tests, model_open, model_close);
}

int main(int argc, char **argv)
{
    const char *temporary = getenv("TMPDIR");
    snprintf(model.folder, sizeof model.folder, "%.40s/poolrank-72b-XXXXXX",
             temporary && *temporary ? temporary : "/tmp");
    if (!mkdtemp(model.folder)) {
        perror(model.folder);
        return 1;
    }
    large_checkpoint_lay_out(&model.files, LARGE_LAYERS, true);
    large_status st = large_checkpoint_write_holes(&model.files, model.folder);
    int status = 1;
    bool is_reading = argc > 1 && strcmp(argv[1], "--read") == 0;
    if (st == LARGE_OK) status = is_reading ? reading_tests_run() : tests_run();
    if (st == LARGE_FAILED) perror(model.folder);
    if (st == LARGE_NO_HOLES) {
        printf("SKIPPED: a file system with sparse files of 4 GB for %s\n", model.folder);
        status = EXIT_SKIPPED;
    }
    large_checkpoint_remove(&model.files, model.folder);
    rmdir(model.folder);
    return status;
}
