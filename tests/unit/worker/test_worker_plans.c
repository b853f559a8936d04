/* Hand-made plans with shared prefixes, equal texts and a text that begins another give the same
 * bytes as each text alone: for each instruction set, storage dtype, and 1 to 3 threads, with
 * weights that are kept and (2 threads) that are streamed. */
#include "tests/unit/worker/tiny_model.h"
#include "worker/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 97, TAG = 5, N_TOKENS_MAX = 512 };

static const char decoder[] =
    "{\"architectures\":[\"Qwen3Model\"],\"model_type\":\"qwen3\",\"vocab_size\":97,"
    "\"hidden_size\":48,\"intermediate_size\":100,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":6,\"num_key_value_heads\":2,\"head_dim\":16,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-6,\"hidden_act\":\"silu\"}";
static const char windowed[] =
    "{\"architectures\":[\"MistralModel\"],\"model_type\":\"mistral\",\"vocab_size\":97,"
    "\"hidden_size\":48,\"intermediate_size\":100,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":6,\"num_key_value_heads\":3,\"sliding_window\":70,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-6,\"hidden_act\":\"silu\"}";
static const char reward[] =
    "{\"architectures\":[\"Qwen2ForRewardModel\"],\"model_type\":\"qwen2\",\"vocab_size\":97,"
    "\"hidden_size\":48,\"intermediate_size\":100,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":6,\"num_key_value_heads\":3,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-6,\"hidden_act\":\"silu\"}";

typedef struct text {
    int32_t tokens[N_TOKENS_MAX];
    uint32_t n;
    pr_pool pool;
} text;

/* The texts: a prefix of n_prefix tokens, children that go on differently, one that is the prefix
 * itself, one that ends inside a child, two that are equal, one that shares nothing. */
enum { N_TEXTS = 8 };
static text texts[N_TEXTS];

static void texts_make(uint32_t n_prefix)
{
    static const uint32_t tails[N_TEXTS] = {40, 7, 0, 25, 40, 1, 130, 64};
    static const pr_pool pools[N_TEXTS] = {PR_POOL_LAST, PR_POOL_MEAN, PR_POOL_ALL, PR_POOL_STEP,
                                           PR_POOL_MEAN, PR_POOL_CLS,  PR_POOL_LAST, PR_POOL_ALL};
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        text *t = &texts[i];
        t->pool = pools[i];
        t->n = n_prefix + tails[i];
        uint32_t tail_of = i == 3 || i == 4 ? 0 : i; /* 3 begins text 0, 4 equals it */
        for (uint32_t j = 0; j < t->n; j++) {
            bool in_prefix = j < n_prefix && i != 7;
            t->tokens[j] = (int32_t)((in_prefix ? 7 * j + 3 : 11 * j + 13 * tail_of + 1) % VOCAB);
        }
    }
}

static pr_pooling poolings[N_TEXTS];
static const pr_pooling *pooling_pointers[N_TEXTS];

static void poolings_make(void)
{
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        poolings[i] = (pr_pooling){.type = texts[i].pool, .step_tag_id = TAG,
                                   .normalize = i % 2 == 0};
        pooling_pointers[i] = &poolings[i];
    }
}

static pr_worker *worker_open(const tiny_model *m, pr_cpu_isa isa, pr_dtype dtype, int n_threads,
                              bool is_streamed)
{
    static const pr_st_files no_st = {0};
    const pr_worker_config config = {
        .folder = m->folder, .weights_folder = m->folder, .spec = &m->spec, .st = &no_st,
        .cpu = {.n_threads = n_threads, .isa = isa}, .dtype = dtype, .n_rows_max = 2048,
        .n_positions_max = N_TOKENS_MAX, .is_streamed = is_streamed,
    };
    pr_worker *w = NULL;
    pr_error err;
    if (pr_worker_open(&config, &w, &err) != PR_OK) fail_msg("%s", err.message);
    return w;
}

static pr_pooled run(pr_worker *w, pr_batch_plan *plan, const pr_pooling *const *p)
{
    pr_error err;
    pr_pooled pooled = {0};
    if (pr_batch_plan_check(plan, &err) != PR_OK) fail_msg("%s", err.message);
    if (pr_worker_run(w, plan, p, NULL, &pooled, &err) != PR_OK) fail_msg("%s", err.message);
    return pooled;
}

static void assert_same(const pr_pooled *a, uint32_t i, const pr_pooled *b, uint32_t j)
{
    assert_int_equal(a->rows[i].n_rows, b->rows[j].n_rows);
    assert_int_equal(a->rows[i].n_columns, b->rows[j].n_columns);
    size_t n = (size_t)a->rows[i].n_rows * a->rows[i].n_columns;
    assert_memory_equal(a->data + a->rows[i].offset, b->data + b->rows[j].offset,
                        n * sizeof(float));
}

static pr_pooled run_alone(pr_worker *w, uint32_t i)
{
    pr_segment segment = {0, texts[i].n, 0, -1};
    pr_sequence sequence = {0, texts[i].n, 0};
    pr_batch_plan plan = {.tokens = texts[i].tokens, .n_tokens = texts[i].n, .segments = &segment,
                          .n_segments = 1, .sequences = &sequence, .n_sequences = 1};
    return run(w, &plan, &pooling_pointers[i]);
}

/* One batch with the prefix computed once: segment 0 the prefix, 1 the tail of text 0 (text 3 ends
 * inside it, text 4 equals it), 2 the tail of text 1, 3 and 4 a chain for text 6, 5 text 5's, and
 * text 7 alone; text 2 ends in the prefix. */
static pr_pooled run_shared(pr_worker *w, uint32_t n_prefix)
{
    static int32_t tokens[4096];
    pr_segment segments[8];
    uint32_t n = 0, n_segments = 0;
    struct {
        uint32_t i_text, begin, end;
        int32_t parent;
    } parts[] = {
        {0, 0, n_prefix, -1},
        {0, n_prefix, texts[0].n, 0},
        {1, n_prefix, texts[1].n, 0},
        {6, n_prefix, n_prefix + 50, 0},
        {6, n_prefix + 50, texts[6].n, 3},
        {5, n_prefix, texts[5].n, 0},
        {7, 0, texts[7].n, -1},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint32_t n_part = parts[i].end - parts[i].begin;
        memcpy(tokens + n, texts[parts[i].i_text].tokens + parts[i].begin, n_part * sizeof *tokens);
        segments[n_segments++] = (pr_segment){n, n_part, parts[i].begin, parts[i].parent};
        n += n_part;
    }
    static const uint32_t leaves[N_TEXTS] = {1, 2, 0, 1, 1, 5, 4, 6};
    pr_sequence sequences[N_TEXTS];
    for (uint32_t i = 0; i < N_TEXTS; i++) sequences[i] = (pr_sequence){leaves[i], texts[i].n, i};
    pr_batch_plan plan = {.tokens = tokens, .n_tokens = n, .segments = segments,
                          .n_segments = n_segments, .sequences = sequences, .n_sequences = N_TEXTS};
    return run(w, &plan, pooling_pointers);
}

static void check_model(const char *config, pr_cpu_isa isa, pr_dtype dtype)
{
    static const uint32_t prefixes[] = {1, 63, 64, 65, 150};
    tiny_model m;
    tiny_model_make(&m, config, 0.25f);
    pr_worker *first = worker_open(&m, isa, dtype, 1, false);
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        pr_worker *w = worker_open(&m, isa, dtype, n_threads, n_threads == 2);
        for (size_t k = 0; k < sizeof prefixes / sizeof *prefixes; k++) {
            texts_make(prefixes[k]);
            poolings_make();
            pr_pooled shared = run_shared(w, prefixes[k]);
            for (uint32_t i = 0; i < N_TEXTS; i++) {
                pr_pooled alone = run_alone(first, i);
                assert_same(&alone, 0, &shared, i);
                pr_pooled_deinit(&alone);
            }
            pr_pooled_deinit(&shared);
        }
        pr_worker_close(w);
    }
    pr_worker_close(first);
    tiny_model_remove(&m);
}

static void shared_prefixes_give_the_same_bytes(void **state)
{
    (void)state;
    static const char *const configs[] = {decoder, windowed, reward};
    for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
        if (!pr_cpu_isa_available((pr_cpu_isa)isa)) {
            print_message("this processor has no %s: not run\n", pr_cpu_isa_name((pr_cpu_isa)isa));
            continue;
        }
        for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
            check_model(configs[i], (pr_cpu_isa)isa, PR_DTYPE_F32);
        }
        check_model(decoder, (pr_cpu_isa)isa, PR_DTYPE_BF16);
    }
}

static uint32_t draw(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

/* Texts that go on from each other somewhere, equal ones and beginnings of others among them. */
static void texts_draw(uint64_t *seed)
{
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        text *t = &texts[i];
        const text *like = &texts[i ? draw(seed, i) : 0];
        uint32_t n_shared = i ? draw(seed, like->n + 1) : 0, n_own = draw(seed, 120);
        if (n_shared + n_own == 0 || n_shared + n_own > 400) n_own = 1;
        memmove(t->tokens, like->tokens, n_shared * sizeof *t->tokens);
        for (uint32_t j = n_shared; j < n_shared + n_own; j++) {
            t->tokens[j] = (int32_t)draw(seed, VOCAB);
        }
        t->n = n_shared + n_own;
        t->pool = (pr_pool)draw(seed, PR_POOL_COUNT);
    }
}

/* As the planner shares them, each text gives the bytes that it gives alone. */
static void check_planned(pr_worker *w, pr_worker *other)
{
    static const pr_batch_limits limits = {2048, N_TEXTS, true, 0};
    pr_queued queue[N_TEXTS];
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        queue[i] = (pr_queued){.tokens = texts[i].tokens, .n_tokens = texts[i].n};
    }
    pr_batch_plan *plan = NULL;
    pr_error err;
    assert_int_equal(pr_batch_plan_build(queue, N_TEXTS, &limits, NULL, &plan, &err), PR_OK);
    const pr_pooling *of[N_TEXTS];
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        of[i] = pooling_pointers[plan->sequences[i].i_request];
    }
    pr_pooled shared = run(w, plan, of);
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        pr_pooled alone = run_alone(other, plan->sequences[i].i_request);
        assert_same(&alone, 0, &shared, i);
        pr_pooled_deinit(&alone);
    }
    pr_pooled_deinit(&shared);
    pr_batch_plan_free(plan);
}

static void planned_prefixes_give_the_same_bytes(void **state)
{
    (void)state;
    static const char *const configs[] = {decoder, windowed, reward};
    uint64_t seed = getenv("PR_SEED") ? strtoull(getenv("PR_SEED"), NULL, 10) : 20260131;
    print_message("PR_SEED=%llu\n", (unsigned long long)seed);
    for (int round = 0; round < 24; round++) {
        tiny_model m;
        tiny_model_make(&m, configs[round % 3], 0.25f);
        pr_dtype dtype = round % 2 ? PR_DTYPE_BF16 : PR_DTYPE_F32;
        pr_worker *w = worker_open(&m, PR_CPU_ISA_AUTO, dtype, 2, false);
        pr_worker *other = worker_open(&m, PR_CPU_ISA_AUTO, dtype, 1, false);
        texts_draw(&seed);
        poolings_make();
        check_planned(w, other);
        pr_worker_close(w);
        pr_worker_close(other);
        tiny_model_remove(&m);
    }
}

/* ---- a cache between batches ---- */

enum { N_BLOCKS = 24 };

static pr_worker *cached_worker_open(const tiny_model *m, pr_dtype dtype)
{
    static const pr_st_files no_st = {0};
    const pr_worker_config config = {
        .folder = m->folder, .weights_folder = m->folder, .spec = &m->spec, .st = &no_st,
        .cpu = {.n_threads = 2}, .dtype = dtype, .n_rows_max = 2048,
        .n_positions_max = N_TOKENS_MAX, .n_cache_blocks = N_BLOCKS, .cache_keeps_hidden = true,
    };
    pr_worker *w = NULL;
    pr_error err;
    if (pr_worker_open(&config, &w, &err) != PR_OK) fail_msg("%s", err.message);
    return w;
}

/* What a coordinator would say of text i. */
static pr_queued cached_queued(uint32_t i)
{
    bool reads_all = texts[i].pool == PR_POOL_MEAN || texts[i].pool == PR_POOL_ALL;
    return (pr_queued){.tokens = texts[i].tokens, .n_tokens = texts[i].n, .salt = 5,
                       .n_reusable = texts[i].n - 1,
                       .needs_hidden = texts[i].pool != PR_POOL_LAST, .is_kept = true,
                       .reads_all = reads_all};
}

/* A batch of some of the texts; how many rows came from the cache. */
static uint32_t check_cached(pr_worker *w, pr_worker *other, pr_prefix_cache *cache,
                             const uint32_t *which, size_t n)
{
    static const pr_batch_limits limits = {2048, N_TEXTS, true, 2048};
    pr_queued queue[N_TEXTS];
    for (size_t i = 0; i < n; i++) queue[i] = cached_queued(which[i]);
    pr_batch_plan *plan = NULL;
    pr_error err;
    assert_int_equal(pr_batch_plan_build(queue, n, &limits, cache, &plan, &err), PR_OK);
    const pr_pooling *of[N_TEXTS];
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        of[i] = pooling_pointers[which[plan->sequences[i].i_request]];
    }
    pr_pooled shared = run(w, plan, of);
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        pr_pooled alone = run_alone(other, which[plan->sequences[i].i_request]);
        assert_same(&alone, 0, &shared, i);
        pr_pooled_deinit(&alone);
    }
    uint32_t n_cached = plan->n_cached;
    pr_pooled_deinit(&shared);
    pr_batch_plan_free(plan);
    return n_cached;
}

/* Batches drawn from a family of texts, with a cache too small for all of them: each text gives the
 * bytes that it gives alone, without a cache. */
static void cached_prefixes_give_the_same_bytes(void **state)
{
    (void)state;
    static const char *const configs[] = {decoder, windowed, reward};
    uint64_t seed = getenv("PR_SEED") ? strtoull(getenv("PR_SEED"), NULL, 10) : 20260131;
    print_message("PR_SEED=%llu\n", (unsigned long long)seed);
    uint32_t n_cached = 0;
    for (int round = 0; round < 12; round++) {
        tiny_model m;
        pr_prefix_cache *cache = NULL;
        pr_error err;
        tiny_model_make(&m, configs[round % 3], 0.25f);
        pr_dtype dtype = round % 2 ? PR_DTYPE_BF16 : PR_DTYPE_F32;
        pr_worker *w = cached_worker_open(&m, dtype);
        pr_worker *other = worker_open(&m, PR_CPU_ISA_AUTO, dtype, 1, false);
        assert_int_equal(pr_prefix_cache_create(N_BLOCKS, &cache, &err), PR_OK);
        texts_draw(&seed);
        poolings_make();
        for (int i_batch = 0; i_batch < 10; i_batch++) {
            uint32_t which[N_TEXTS], n = 1 + draw(&seed, 4);
            for (uint32_t i = 0; i < n; i++) which[i] = draw(&seed, N_TEXTS);
            n_cached += check_cached(w, other, cache, which, n);
        }
        pr_prefix_cache_free(cache);
        pr_worker_close(w);
        pr_worker_close(other);
        tiny_model_remove(&m);
    }
    print_message("%u rows came from the cache\n", n_cached);
    assert_true(n_cached > 1000);
}

static void rows_that_a_worker_does_not_keep_are_refused(void **state)
{
    (void)state;
    tiny_model m;
    tiny_model_make(&m, decoder, 0.25f);
    pr_worker *w = cached_worker_open(&m, PR_DTYPE_F32);
    pr_worker *bare = worker_open(&m, PR_CPU_ISA_AUTO, PR_DTYPE_F32, 1, false);
    enum { N = PR_CACHE_BLOCK_TOKENS };
    int32_t tokens[N + 1] = {0};
    uint32_t rows[N];
    for (uint32_t i = 0; i < N; i++) rows[i] = N * N_BLOCKS - N + i;
    pr_segment segments[] = {{1, N, 0, -1}, {0, 1, N, 0}};
    pr_sequence sequence = {1, N + 1, 0};
    pr_batch_plan plan = {.tokens = tokens, .n_tokens = 1, .segments = segments, .n_segments = 2,
                          .sequences = &sequence, .n_sequences = 1, .cached_rows = rows,
                          .n_cached = N};
    static const pr_pooling last = {.type = PR_POOL_LAST};
    const pr_pooling *of[] = {&last};
    pr_pooled pooled;
    pr_error err;
    assert_int_equal(pr_worker_run(bare, &plan, of, NULL, &pooled, &err), PR_E_ARGUMENT);
    assert_string_equal(err.message, "row 736 of a prefix cache of 0");
    rows[N - 1]++;
    assert_int_equal(pr_worker_run(w, &plan, of, NULL, &pooled, &err), PR_E_ARGUMENT);
    assert_string_equal(err.message, "row 768 of a prefix cache of 768");
    pr_worker_close(w);
    pr_worker_close(bare);
    tiny_model_remove(&m);
}

/* The same test must be able to fail: another prefix gives other bytes. */
static void another_prefix_gives_other_bytes(void **state)
{
    (void)state;
    tiny_model m;
    tiny_model_make(&m, decoder, 0.25f);
    pr_worker *w = worker_open(&m, PR_CPU_ISA_AUTO, PR_DTYPE_F32, 1, false);
    texts_make(64);
    poolings_make();
    pr_pooled a = run_alone(w, 0);
    texts[0].tokens[3] ^= 1;
    pr_pooled b = run_alone(w, 0);
    assert_memory_not_equal(a.data, b.data, a.rows[0].n_columns * sizeof(float));
    pr_pooled_deinit(&a);
    pr_pooled_deinit(&b);
    pr_worker_close(w);
    tiny_model_remove(&m);
}

/* Given a backend whose norm takes 47 values, when a model of 48 is opened, then it is refused with
 * both numbers, and the backend is closed. */
static void a_model_wider_than_the_backends_norm_is_refused(void **state)
{
    (void)state;
    static const pr_st_files no_st = {0};
    const pr_cpu_options options = {.n_threads = 1};
    tiny_model m;
    pr_worker *w = NULL;
    pr_backend *b = NULL;
    pr_error err;
    tiny_model_make(&m, reward, 0.25f);
    assert_int_equal(pr_cpu_backend_create(&options, &b, &err), PR_OK);
    b->norm_dim_max = 47;
    const pr_worker_config config = {
        .folder = m.folder, .weights_folder = m.folder, .spec = &m.spec, .st = &no_st,
        .backend = b, .n_rows_max = 64, .n_positions_max = 64,
    };
    assert_int_equal(pr_worker_open(&config, &w, &err), PR_E_UNSUPPORTED);
    assert_string_equal(err.message, "hidden_size: found 48, expected at most 47 on cpu");
    tiny_model_remove(&m);
}

/* ---- a CPU backend that says that batches overlap, and counts them ---- */

static int n_begun[2];

static pr_status begin_counted(pr_backend *b, int slot, pr_error *err)
{
    (void)b, (void)err;
    n_begun[slot]++;
    return PR_OK;
}

static pr_status end_any(pr_backend *b, int slot, pr_error *err)
{
    (void)b, (void)slot, (void)err;
    return PR_OK;
}

static pr_status poll_any(pr_backend *b, int slot, bool *is_done, pr_error *err)
{
    *is_done = true;
    return end_any(b, slot, err);
}

static void where_batches_overlap_each_slot_is_used_before_the_first_request(void **state)
{
    (void)state;
    static const pr_st_files no_st = {0};
    static const char *const configs[] = {decoder, windowed, reward};
    const pr_cpu_options options = {.n_threads = 1};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        tiny_model m;
        pr_worker *w = NULL;
        pr_backend *b = NULL;
        pr_error err;
        tiny_model_make(&m, configs[i], 0.25f);
        assert_int_equal(pr_cpu_backend_create(&options, &b, &err), PR_OK);
        pr_backend_ops ops = *b->ops;
        ops.batch_begin = begin_counted;
        ops.batch_end = end_any;
        ops.batch_poll = poll_any;
        b->ops = &ops;
        b->n_slots = 2;
        n_begun[0] = n_begun[1] = 0;
        const pr_worker_config config = {
            .folder = m.folder, .weights_folder = m.folder, .spec = &m.spec, .st = &no_st,
            .backend = b, .n_rows_max = 64, .n_positions_max = 64,
        };
        if (pr_worker_open(&config, &w, &err) != PR_OK) fail_msg("%s", err.message);
        assert_int_equal(n_begun[0], 1);
        assert_int_equal(n_begun[1], 1);
        assert_int_equal(pr_worker_describe(w).n_slots, 2);
        pr_worker_close(w);
        tiny_model_remove(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_prefixes_give_the_same_bytes),
        cmocka_unit_test(planned_prefixes_give_the_same_bytes),
        cmocka_unit_test(cached_prefixes_give_the_same_bytes),
        cmocka_unit_test(rows_that_a_worker_does_not_keep_are_refused),
        cmocka_unit_test(another_prefix_gives_other_bytes),
        cmocka_unit_test(a_model_wider_than_the_backends_norm_is_refused),
        cmocka_unit_test(where_batches_overlap_each_slot_is_used_before_the_first_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
