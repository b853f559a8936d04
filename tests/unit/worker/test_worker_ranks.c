/* A model sharded over ranks (threads, shared memory) gives what one rank gives, for every family
 * and every way to cut it; what else was in a batch does not show in the bytes; and a batch that is
 * not the same on all ranks is run by none. */
#include "tests/unit/worker/rank_threads.h"
#include "tests/unit/worker/tiny_model.h"
#include "worker/worker.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS_MAX = 16, N_TEXTS = 7, N_MAX = 24, N_TOKENS_MAX = 160, CONFIG_BYTES = 1024 };

/* ---- models ---- */

#define ENCODER                                                                                    \
    "\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-12,\"type_vocab_size\":2,\"pad_token_id\":1,"
#define DECODER "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,"

/* The part of config.json that sizes do not change. */
static const struct family {
    const char *name, *config;
    bool is_decoder;
} families[] = {
    {"bert", "\"architectures\":[\"BertModel\"],\"model_type\":\"bert\"," ENCODER, false},
    {"bert classifier",
     "\"architectures\":[\"BertForSequenceClassification\"],\"model_type\":\"bert\","
     "\"num_labels\":3," ENCODER, false},
    {"roberta",
     "\"architectures\":[\"RobertaForSequenceClassification\"],\"model_type\":\"roberta\","
     "\"num_labels\":1," ENCODER, false},
    {"xlm-roberta", "\"architectures\":[\"XLMRobertaModel\"],\"model_type\":\"xlm-roberta\","
     ENCODER, false},
    {"qwen2", "\"architectures\":[\"Qwen2Model\"],\"model_type\":\"qwen2\"," DECODER, true},
    {"qwen2 reward", "\"architectures\":[\"Qwen2ForRewardModel\"],\"model_type\":\"qwen2\","
     DECODER, true},
    {"qwen3", "\"architectures\":[\"Qwen3Model\"],\"model_type\":\"qwen3\",\"head_dim\":16,"
     DECODER, true},
    {"llama", "\"architectures\":[\"LlamaModel\"],\"model_type\":\"llama\"," DECODER, true},
    {"mistral", "\"architectures\":[\"MistralModel\"],\"model_type\":\"mistral\","
     "\"sliding_window\":20," DECODER, true},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

typedef struct sizes {
    int vocab, hidden, intermediate, n_layers, n_heads, n_kv_heads;
} sizes;

static void model_make(tiny_model *m, const struct family *family, const sizes *s)
{
    char config[CONFIG_BYTES];
    int n_kv_heads = family->is_decoder ? s->n_kv_heads : s->n_heads;
    snprintf(config, sizeof config,
             "{%s\"vocab_size\":%d,\"hidden_size\":%d,\"intermediate_size\":%d,"
             "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,"
             "\"max_position_embeddings\":%d}",
             family->config, s->vocab, s->hidden, s->intermediate, s->n_layers, s->n_heads,
             n_kv_heads, N_TOKENS_MAX + 2);
    tiny_model_make(m, config, 0.25f);
}

/* ---- batches ---- */

typedef struct batch {
    pr_batch_plan plan;
    const pr_pooling *poolings[N_MAX];
    int32_t *tokens;
    uint8_t *type_ids;
    pr_segment segments[N_MAX];
    pr_sequence sequences[N_MAX];
} batch;

/* A text's i-th token; the first and last of the vocabulary, and those around an even split. */
static int32_t token_of(int i_text, uint32_t i, int32_t vocab)
{
    const int32_t chosen[] = {0,         vocab - 1,     vocab / 2,         vocab / 2 - 1,
                              vocab / 3, vocab / 3 - 1, vocab * 2LL / 3, vocab / 4};
    if (i < 8) return chosen[(i + (uint32_t)i_text) % 8];
    return (int32_t)((uint64_t)(i_text + 1) * 7919u * (i + 1) % (uint64_t)vocab);
}

static const uint32_t lengths[N_TEXTS] = {9, 1, 64, 33, 2, 120, 17};

/* Texts order[0] … order[n - 1], one segment each. */
static void batch_make(batch *b, const int *order, uint32_t n, int32_t vocab, bool has_types)
{
    static const pr_pooling poolings[N_TEXTS] = {
        {.type = PR_POOL_LAST}, {.type = PR_POOL_MEAN, .normalize = true}, {.type = PR_POOL_ALL},
        {.type = PR_POOL_CLS},  {.type = PR_POOL_LAST, .normalize = true}, {.type = PR_POOL_MEAN},
        {.type = PR_POOL_STEP, .step_tag_id = 3},
    };
    uint32_t n_tokens = 0;
    *b = (batch){0};
    for (uint32_t i = 0; i < n; i++) n_tokens += lengths[order[i]];
    b->tokens = calloc(n_tokens, sizeof *b->tokens);
    b->type_ids = calloc(n_tokens, 1);
    assert_true(b->tokens && b->type_ids);
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t length = lengths[order[i]];
        b->segments[i] = (pr_segment){at, length, 0, -1};
        b->sequences[i] = (pr_sequence){i, length, i};
        b->poolings[i] = &poolings[order[i]];
        for (uint32_t j = 0; j < length; j++, at++) {
            b->tokens[at] = token_of(order[i], j, vocab);
            b->type_ids[at] = j > length / 2;
        }
    }
    b->plan = (pr_batch_plan){
        .tokens = b->tokens, .type_ids = has_types ? b->type_ids : NULL, .n_tokens = n_tokens,
        .segments = b->segments, .n_segments = n, .sequences = b->sequences, .n_sequences = n,
    };
}

static void batch_deinit(batch *b)
{
    free(b->tokens);
    free(b->type_ids);
}

/* ---- groups of ranks ---- */

typedef struct group {
    const tiny_model *model;
    const batch *batches;
    int n_batches;
    bool is_streamed;
    pr_cpu_isa isa;
    pr_batch_id wrong_id; /* of wrong_rank, in place of the batch's own; seq 0: of nobody */
    int wrong_rank;
    pr_pooled *pooled; /* [n_batches], from the pooling rank */
    /* by rank */
    pr_status status[RANKS_MAX];
    pr_error error[RANKS_MAX];
    pr_worker_info info[RANKS_MAX];
    uint32_t n_pooled[RANKS_MAX]; /* sequences that the rank answered */
    atomic_uint_fast64_t n_steps[RANKS_MAX];
    uint64_t n_steps_loaded[RANKS_MAX];
} group;

static void rank_run(group *g, int rank, pr_comm *comm)
{
    static const pr_st_files no_st = {0};
    const pr_worker_config config = {
        .folder = g->model->folder, .weights_folder = g->model->folder, .spec = &g->model->spec,
        .st = &no_st, .cpu = {.n_threads = 1, .isa = g->isa}, .dtype = PR_DTYPE_F32,
        .n_rows_max = 3000, .n_positions_max = N_TOKENS_MAX, .is_streamed = g->is_streamed,
        .comm = comm, .n_steps = &g->n_steps[rank],
    };
    pr_worker *w = NULL;
    bool is_pooling_rank = !comm || (comm->tp_rank == 0 && comm->stage + 1 == comm->n_stages);
    pr_status st = pr_worker_open(&config, &w, &g->error[rank]);
    g->n_steps_loaded[rank] = atomic_load(&g->n_steps[rank]);
    for (int i = 0; st == PR_OK && i < g->n_batches; i++) {
        const batch *b = &g->batches[i];
        pr_batch_id id = {(uint64_t)i + 1, 0xABCD0000u + (uint64_t)i};
        if (g->wrong_id.seq && rank == g->wrong_rank) id = g->wrong_id;
        pr_pooled pooled = {0};
        st = pr_worker_run(w, &b->plan, b->poolings, &id, &pooled, &g->error[rank]);
        g->n_pooled[rank] += pooled.n_sequences;
        if (is_pooling_rank) {
            g->pooled[i] = pooled;
        } else {
            pr_pooled_deinit(&pooled);
        }
    }
    g->status[rank] = st;
    if (w) g->info[rank] = pr_worker_describe(w);
    pr_worker_close(w);
}

static void rank_body(void *context, int rank, pr_comm *comm)
{
    rank_run(context, rank, comm);
}

/* tp_size 0: one rank, without a communicator of its own. */
static void group_run(group *g, int tp_size, int n_stages)
{
    g->pooled = calloc((size_t)g->n_batches, sizeof *g->pooled);
    assert_non_null(g->pooled);
    if (tp_size == 0) {
        rank_run(g, 0, NULL);
    } else {
        rank_threads_run(tp_size, n_stages, rank_body, g);
    }
}

static void group_expect_ok(const group *g, int n_ranks)
{
    for (int i = 0; i < n_ranks; i++) {
        if (g->status[i] != PR_OK) fail_msg("rank %d: %s", i, g->error[i].message);
    }
}

static void group_deinit(group *g)
{
    for (int i = 0; i < g->n_batches; i++) pr_pooled_deinit(&g->pooled[i]);
    free(g->pooled);
}

/* max |a - b| / max(1, max |b|) over one sequence's numbers; the worst of all sequences. */
static double distance(const pr_pooled *a, const pr_pooled *b)
{
    double worst = 0;
    assert_int_equal(a->n_sequences, b->n_sequences);
    for (uint32_t i = 0; i < a->n_sequences; i++) {
        const pr_pooled_rows *ra = &a->rows[i], *rb = &b->rows[i];
        double difference = 0, scale = 1;
        assert_int_equal(ra->n_rows, rb->n_rows);
        assert_int_equal(ra->n_columns, rb->n_columns);
        for (size_t k = 0; k < (size_t)ra->n_rows * ra->n_columns; k++) {
            double x = (double)a->data[ra->offset + k], y = (double)b->data[rb->offset + k];
            if (!(fabs(x - y) <= difference)) difference = fabs(x - y); /* a NaN stays */
            scale = fmax(scale, fabs(y));
        }
        if (!(difference / scale <= worst)) worst = difference / scale;
    }
    return worst;
}

static bool is_same(const pr_pooled *a, uint32_t i, const pr_pooled *b, uint32_t j)
{
    const pr_pooled_rows *ra = &a->rows[i], *rb = &b->rows[j];
    size_t n = (size_t)ra->n_rows * ra->n_columns;
    return ra->n_rows == rb->n_rows && ra->n_columns == rb->n_columns &&
           memcmp(a->data + ra->offset, b->data + rb->offset, n * sizeof *a->data) == 0;
}

static const int in_order[N_TEXTS] = {0, 1, 2, 3, 4, 5, 6};

/* Several batches, of all texts, of few and of one: the next begins while a stage is
 * at the last. */
enum { N_BATCHES = 4 };

static void batches_make(batch batches[N_BATCHES], int32_t vocab, bool has_types)
{
    static const int few[] = {3, 0, 1};
    batch_make(&batches[0], in_order, N_TEXTS, vocab, has_types);
    batch_make(&batches[1], few, 3, vocab, false);
    batch_make(&batches[2], in_order + 6, 1, vocab, false); /* STEP: maybe no row at all */
    batch_make(&batches[3], in_order + 2, 4, vocab, false);
}

/* The worst error of a group's results against one rank's. */
static double group_check(const tiny_model *m, bool has_types, int tp_size, int n_stages,
                          bool is_streamed)
{
    batch batches[N_BATCHES];
    batches_make(batches, m->spec.vocab_size, has_types);
    group one = {.model = m, .batches = batches, .n_batches = N_BATCHES};
    group many = {.model = m, .batches = batches, .n_batches = N_BATCHES,
                  .is_streamed = is_streamed};
    group_run(&one, 0, 0);
    group_run(&many, tp_size, n_stages);
    group_expect_ok(&one, 1);
    group_expect_ok(&many, tp_size * n_stages);
    double worst = 0;
    for (int i = 0; i < N_BATCHES; i++) {
        worst = fmax(worst, distance(&many.pooled[i], &one.pooled[i]));
    }
    group_deinit(&one);
    group_deinit(&many);
    for (int i = 0; i < N_BATCHES; i++) batch_deinit(&batches[i]);
    return worst;
}

static void check(const struct family *family, const sizes *s, const int (*groups)[2],
                  size_t n_groups)
{
    tiny_model m;
    double worst = 0;
    model_make(&m, family, s);
    for (size_t i = 0; i < n_groups; i++) {
        bool is_streamed = i % 3 == 2;
        double error = group_check(&m, !family->is_decoder, groups[i][0], groups[i][1],
                                   is_streamed);
        if (!(error <= 1e-5)) {
            fail_msg("%s, %d x %d ranks: error %g", family->name, groups[i][0], groups[i][1],
                     error);
        }
        worst = fmax(worst, error);
    }
    print_message("%s, %d heads, vocabulary of %d: worst error %.2e\n", family->name, s->n_heads,
                  s->vocab, worst);
    tiny_model_remove(&m);
}

static void every_family_gives_one_ranks_results(void **state)
{
    (void)state;
    static const int groups[][2] = {{2, 1}, {4, 1}, {8, 1}, {1, 2}, {2, 2}, {4, 2}, {1, 3}};
    for (int i = 0; i < N_FAMILIES; i++) {
        /* KV heads: one a rank and two, replicated on up to four */
        const sizes s = {97, 64, 101, 3, 8, i % 2 ? 2 : 4};
        check(&families[i], &s, groups, sizeof groups / sizeof *groups);
    }
}

static void three_ranks_share_twelve_heads(void **state)
{
    (void)state;
    static const int groups[][2] = {{3, 1}, {6, 1}, {3, 2}};
    for (int i = 0; i < N_FAMILIES; i++) {
        const sizes s = {97, 96, 100, 2, 12, i % 2 ? 3 : 1};
        check(&families[i], &s, groups, sizeof groups / sizeof *groups);
    }
}

static void vocabularies_of_every_size_are_split(void **state)
{
    (void)state;
    static const int groups[][2] = {{2, 1}, {4, 1}, {3, 1}}; /* the last is streamed */
    static const struct {
        int i_family, vocab;
    } cases[] = {{0, 30522}, {3, 250002}, {4, 151936}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const sizes s = {cases[i].vocab, 24, 31, 1, 12, 12};
        check(&families[cases[i].i_family], &s, groups, sizeof groups / sizeof *groups);
    }
}

/* More rows than the feed-forward block takes at once: its sums then come in two runs. */
static void long_batches_are_summed_in_runs(void **state)
{
    (void)state;
    const sizes s = {97, 64, 101, 2, 8, 4};
    int order[N_MAX];
    tiny_model m;
    batch b;
    for (int i = 0; i < N_MAX; i++) order[i] = 5; /* of 120 tokens */
    model_make(&m, &families[4], &s);
    batch_make(&b, order, N_MAX, m.spec.vocab_size, false);
    assert_true(b.plan.n_tokens > 2048);
    group one = {.model = &m, .batches = &b, .n_batches = 1};
    group four = one;
    group_run(&one, 0, 0);
    group_run(&four, 4, 1);
    group_expect_ok(&one, 1);
    group_expect_ok(&four, 4);
    assert_true(distance(&four.pooled[0], &one.pooled[0]) <= 1e-5);
    for (uint32_t i = 1; i < N_MAX; i++) {
        assert_true(is_same(&four.pooled[0], 0, &four.pooled[0], i));
    }
    group_deinit(&one);
    group_deinit(&four);
    batch_deinit(&b);
    tiny_model_remove(&m);
}

/* Every text alone, in one batch, and in one batch the other way round. */
static void check_invariance(const tiny_model *m, bool has_types, int tp_size, int n_stages,
                             pr_cpu_isa isa)
{
    static const int reversed[N_TEXTS] = {6, 5, 4, 3, 2, 1, 0};
    batch batches[N_TEXTS + 2];
    for (int i = 0; i < N_TEXTS; i++) {
        batch_make(&batches[i], in_order + i, 1, m->spec.vocab_size, has_types);
    }
    batch_make(&batches[N_TEXTS], in_order, N_TEXTS, m->spec.vocab_size, has_types);
    batch_make(&batches[N_TEXTS + 1], reversed, N_TEXTS, m->spec.vocab_size, has_types);
    group g = {.model = m, .batches = batches, .n_batches = N_TEXTS + 2, .isa = isa};
    group_run(&g, tp_size, n_stages);
    group_expect_ok(&g, tp_size * n_stages);
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        assert_true(is_same(&g.pooled[i], 0, &g.pooled[N_TEXTS], i));
        assert_true(is_same(&g.pooled[i], 0, &g.pooled[N_TEXTS + 1], N_TEXTS - 1 - i));
    }
    group_deinit(&g);
    for (int i = 0; i < N_TEXTS + 2; i++) batch_deinit(&batches[i]);
}

static void company_does_not_show_in_the_bytes(void **state)
{
    (void)state;
    static const int groups[][2] = {{2, 1}, {3, 1}, {4, 1}, {2, 2}};
    static const int of_family[] = {0, 4, 8};
    for (size_t i = 0; i < sizeof of_family / sizeof *of_family; i++) {
        const struct family *family = &families[of_family[i]];
        const sizes s = {97, 96, 100, 2, 12, 1};
        tiny_model m;
        model_make(&m, family, &s);
        for (size_t k = 0; k < sizeof groups / sizeof *groups; k++) {
            for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
                if (!pr_cpu_isa_available((pr_cpu_isa)isa)) continue;
                check_invariance(&m, !family->is_decoder, groups[k][0], groups[k][1],
                                 (pr_cpu_isa)isa);
            }
        }
        tiny_model_remove(&m);
    }
}

static void only_the_pooling_rank_answers(void **state)
{
    (void)state;
    const sizes s = {97, 64, 101, 3, 8, 4};
    tiny_model m;
    batch b;
    model_make(&m, &families[4], &s);
    batch_make(&b, in_order, N_TEXTS, m.spec.vocab_size, false);
    group g = {.model = &m, .batches = &b, .n_batches = 1};
    group_run(&g, 2, 2);
    group_expect_ok(&g, 4);
    for (int rank = 0; rank < 4; rank++) {
        bool is_pooling_rank = rank == 2; /* stage 1, tensor rank 0 */
        assert_int_equal(g.n_pooled[rank], is_pooling_rank ? N_TEXTS : 0);
        assert_int_equal(g.info[rank].width, is_pooling_rank ? 64 : 0);
        assert_true(g.info[rank].comm_ns > 0);
        /* a step for each tensor while loading, then one for each layer of the stage */
        assert_true(g.n_steps_loaded[rank] > 10);
        assert_int_equal(atomic_load(&g.n_steps[rank]) - g.n_steps_loaded[rank],
                         rank < 2 ? 1 : 2);
    }
    group_deinit(&g);
    batch_deinit(&b);
    tiny_model_remove(&m);
}

/* ---- the same batch on all ranks, or none ---- */

/* wrong_rank runs another plan (or number): the ranks of its stage and of those behind refuse. A
 * first stage of one rank cannot know; the next one then does. */
static void check_refusal(const tiny_model *m, int tp_size, int n_stages, int wrong_rank,
                          pr_batch_id wrong_id, const char *says)
{
    batch b;
    batch_make(&b, in_order, N_TEXTS, m->spec.vocab_size, false);
    group g = {.model = m, .batches = &b, .n_batches = 1, .wrong_rank = wrong_rank,
               .wrong_id = wrong_id};
    group_run(&g, tp_size, n_stages);
    int stage = tp_size == 1 && wrong_rank == 0 ? 1 : wrong_rank / tp_size;
    for (int rank = 0; rank < tp_size * n_stages; rank++) {
        if (rank / tp_size < stage) {
            assert_int_equal(g.status[rank], PR_OK); /* its part was done before */
            continue;
        }
        assert_int_equal(g.status[rank], PR_E_INTERNAL);
        assert_int_equal(g.n_pooled[rank], 0);
        bool is_behind = rank / tp_size > stage;
        assert_non_null(strstr(g.error[rank].message, is_behind ? "refused" : says));
        if (!is_behind)
            assert_non_null(strstr(g.error[rank].message, "abcd0000"));
    }
    group_deinit(&g);
    batch_deinit(&b);
}

static void a_batch_that_differs_is_refused_on_every_rank(void **state)
{
    (void)state;
    const sizes s = {97, 64, 101, 3, 8, 4};
    const pr_batch_id plan = {1, 0x1234}, seq = {7, 0xABCD0000u};
    tiny_model m;
    model_make(&m, &families[4], &s);
    for (int wrong_rank = 0; wrong_rank < 4; wrong_rank++) {
        check_refusal(&m, 4, 1, wrong_rank, plan, "plan 0000000000001234");
        check_refusal(&m, 4, 1, wrong_rank, seq, "batch 7");
        check_refusal(&m, 2, 2, wrong_rank, plan, "plan 0000000000001234");
    }
    for (int wrong_rank = 0; wrong_rank < 3; wrong_rank++) {
        check_refusal(&m, 1, 3, wrong_rank, plan, "plan 0000000000001234");
    }
    tiny_model_remove(&m);
}

static void a_size_that_does_not_fit_is_refused_by_every_rank(void **state)
{
    (void)state;
    const sizes s = {97, 64, 101, 3, 8, 4};
    tiny_model m;
    model_make(&m, &families[4], &s);
    group five = {.model = &m};
    group_run(&five, 5, 1);
    for (int rank = 0; rank < 5; rank++) {
        assert_int_equal(five.status[rank], PR_E_ARGUMENT);
        assert_non_null(strstr(five.error[rank].message, "1, 2, 4, 8"));
    }
    group stages = {.model = &m};
    group_run(&stages, 1, 4);
    for (int rank = 0; rank < 4; rank++) assert_int_equal(stages.status[rank], PR_E_ARGUMENT);
    group_deinit(&five);
    group_deinit(&stages);
    tiny_model_remove(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_gives_one_ranks_results),
        cmocka_unit_test(three_ranks_share_twelve_heads),
        cmocka_unit_test(vocabularies_of_every_size_are_split),
        cmocka_unit_test(long_batches_are_summed_in_runs),
        cmocka_unit_test(company_does_not_show_in_the_bytes),
        cmocka_unit_test(only_the_pooling_rank_answers),
        cmocka_unit_test(a_batch_that_differs_is_refused_on_every_rank),
        cmocka_unit_test(a_size_that_does_not_fit_is_refused_by_every_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
