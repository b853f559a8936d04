/* What the ranks of one replica read together: of a tensor that is cut every element once, of one
 * that is not the whole as often as ranks hold it, and nothing else. Counted by the checkpoint. */
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/worker/tiny_model.h"
#include "worker/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS_MAX = 8, N_ROWS_MAX = 8 };

static const char encoder[] =
    "{\"architectures\":[\"BertForSequenceClassification\"],\"model_type\":\"bert\","
    "\"vocab_size\":97,\"hidden_size\":48,\"intermediate_size\":101,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":24,\"num_labels\":3,\"type_vocab_size\":2,"
    "\"max_position_embeddings\":40,\"layer_norm_eps\":1e-12,\"hidden_act\":\"gelu\"}";
static const char decoder[] = /* 4 KV heads: replicated on 8 ranks */
    "{\"architectures\":[\"Qwen2ForRewardModel\"],\"model_type\":\"qwen2\",\"vocab_size\":97,"
    "\"hidden_size\":48,\"intermediate_size\":101,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":24,\"num_key_value_heads\":4,\"max_position_embeddings\":128,"
    "\"rms_norm_eps\":1e-6,\"hidden_act\":\"silu\"}";
static const char one_kv_head[] = /* replicated on every rank */
    "{\"architectures\":[\"Qwen3Model\"],\"model_type\":\"qwen3\",\"vocab_size\":97,"
    "\"hidden_size\":48,\"intermediate_size\":101,\"num_hidden_layers\":3,\"head_dim\":4,"
    "\"num_attention_heads\":24,\"num_key_value_heads\":1,\"max_position_embeddings\":128,"
    "\"rms_norm_eps\":1e-6,\"hidden_act\":\"silu\"}";

enum { N_STREAMED_TOKENS = 5 };
static const int32_t streamed_tokens[N_STREAMED_TOKENS] = {0, 96, 48, 47, 20};

/* One rank's weights, loaded for their counts. */
typedef struct loaded {
    pr_parallel parallel;
    pr_shard shard;
    pr_checkpoint *checkpoint;
    bool is_streamed;
} loaded;

/* Streamed: a batch's tokens and every layer once. */
static void rank_load(const tiny_model *m, pr_backend *backend, loaded *r)
{
    bool is_streamed = r->is_streamed;
    static const pr_st_files no_st = {0};
    pr_weights *weights = NULL;
    pr_error err;
    pr_status st = pr_shard_plan(&m->spec, &r->parallel, &r->shard, &err);
    if (st == PR_OK) st = pr_checkpoint_open(m->folder, &r->checkpoint, &err);
    const pr_weights_source source = {
        .folder = m->folder, .checkpoint = r->checkpoint, .spec = &m->spec, .st = &no_st,
        .parallel = &r->parallel, .shard = &r->shard, .dtype = PR_DTYPE_F32,
        .is_streamed = is_streamed, .n_rows_max = N_ROWS_MAX,
    };
    if (st == PR_OK) st = pr_weights_load(&source, backend, &weights, &err);
    if (st == PR_OK && is_streamed && r->shard.is_first_stage) {
        st = pr_weights_tokens_fetch(weights, streamed_tokens, N_STREAMED_TOKENS, &err);
    }
    for (int32_t i = 0; st == PR_OK && is_streamed && i < weights->n_layers; i++) {
        const pr_layer_weights *layer;
        st = pr_weights_layer(weights, i, &layer, &err);
    }
    if (st != PR_OK) fail_msg("%s", err.message);
    assert_int_equal(weights->n_head > 0,
                     r->shard.is_pooling_rank && m->spec.head != PR_HEAD_NONE);
    assert_int_equal(weights->positions != NULL,
                     r->shard.is_first_stage && r->parallel.tp_rank == 0 &&
                         m->spec.position == PR_POSITION_TABLE);
    pr_weights_free(weights);
}

static int64_t columns_of(const pr_weight *w)
{
    return w->n_dims > 1 ? w->shape[1] : 1;
}

/* How often each element of the weight is held, by the rectangles; the counter of each rank's
 * checkpoint must agree with its rectangle. counts [elements]. */
static void weight_count(const tiny_model *m, const pr_weight *w, const loaded *ranks, int n_ranks,
                         int *counts)
{
    for (int i = 0; i < n_ranks; i++) {
        const loaded *r = &ranks[i];
        pr_rectangle cut = pr_shard_rectangle(&m->spec, &r->parallel, &r->shard, w);
        for (int64_t row = cut.row_begin; row < cut.row_end; row++) {
            for (int64_t c = cut.column_begin; c < cut.column_end; c++) {
                counts[row * columns_of(w) + c]++;
            }
        }
        const pr_tensor *t = pr_checkpoint_find(r->checkpoint, w->name);
        assert_non_null(t);
        if (r->is_streamed && w->role == PR_ROLE_TOKEN_TABLE) continue; /* only rows asked for */
        int64_t n_rows = cut.row_end - cut.row_begin;
        uint64_t n = (uint64_t)(n_rows * (cut.column_end - cut.column_begin));
        uint64_t read = pr_checkpoint_bytes_read(r->checkpoint, t);
        if (read != n * sizeof(float)) {
            fail_msg("rank %d of %d: %s: %llu bytes read, expected those of %llu elements", i,
                     n_ranks, w->name, (unsigned long long)read, (unsigned long long)n);
        }
    }
}

static int times_expected(const tiny_model *m, const pr_weight *w, int tp_size)
{
    if (w->partition == PR_PARTITION_REPLICATED) return tp_size;
    if (w->partition != PR_PARTITION_KV_HEADS || m->spec.n_kv_heads >= tp_size) return 1;
    return tp_size / m->spec.n_kv_heads;
}

static void group_check(const tiny_model *m, const loaded *ranks, int tp_size, int n_stages)
{
    pr_weight_list *list = NULL;
    assert_int_equal(pr_weight_list_build(&m->spec, &list, NULL), PR_OK);
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        size_t n = (size_t)(w->shape[0] * columns_of(w));
        int *counts = calloc(n, sizeof *counts);
        assert_non_null(counts);
        weight_count(m, w, ranks, tp_size * n_stages, counts);
        int times = times_expected(m, w, tp_size);
        for (size_t k = 0; k < n; k++) {
            if (counts[k] != times) {
                fail_msg("%d x %d ranks: %s: element %zu is held %d times, expected %d", tp_size,
                         n_stages, w->name, k, counts[k], times);
            }
        }
        if (times > 1 && w->i_layer <= 0 && !ranks[0].is_streamed) {
            print_message("%s, %d x %d ranks: %s: %d times\n", m->spec.architecture, tp_size,
                          n_stages, w->name, times);
        }
        free(counts);
    }
    pr_weight_list_free(list);
}

static uint64_t token_rows_bytes(const tiny_model *m, const loaded *ranks, int n_ranks)
{
    pr_weight_list *list = NULL;
    uint64_t n = 0;
    assert_int_equal(pr_weight_list_build(&m->spec, &list, NULL), PR_OK);
    const char *name = pr_weight_list_find(list, PR_ROLE_TOKEN_TABLE, -1)->name;
    for (int i = 0; i < n_ranks; i++) {
        const pr_tensor *t = pr_checkpoint_find(ranks[i].checkpoint, name);
        n += pr_checkpoint_bytes_read(ranks[i].checkpoint, t);
    }
    pr_weight_list_free(list);
    return n;
}

static void check(const char *config, int tp_size, int n_stages, bool is_streamed)
{
    const pr_cpu_options cpu = {.n_threads = 1};
    loaded ranks[RANKS_MAX];
    pr_backend *backend = NULL;
    tiny_model m;
    tiny_model_make(&m, config, 0.25f);
    assert_int_equal(pr_cpu_backend_create(&cpu, &backend, NULL), PR_OK);
    for (int i = 0; i < tp_size * n_stages; i++) {
        ranks[i] = (loaded){.is_streamed = is_streamed,
                            .parallel = {.tp_rank = i % tp_size, .tp_size = tp_size,
                                         .stage = i / tp_size, .n_stages = n_stages}};
        rank_load(&m, backend, &ranks[i]);
        /* what no model here has a use for */
        const pr_tensor *t = pr_checkpoint_find(ranks[i].checkpoint, "lm_head.weight");
        assert_int_equal(pr_checkpoint_bytes_read(ranks[i].checkpoint, t), 0);
    }
    group_check(&m, ranks, tp_size, n_stages);
    if (is_streamed) {
        assert_int_equal(token_rows_bytes(&m, ranks, tp_size * n_stages),
                         N_STREAMED_TOKENS * (size_t)m.spec.hidden_size * sizeof(float));
    }
    for (int i = 0; i < tp_size * n_stages; i++) pr_checkpoint_close(ranks[i].checkpoint);
    backend->ops->close(backend);
    tiny_model_remove(&m);
}

static const int groups[][2] = {{2, 1}, {3, 1}, {4, 1}, {8, 1}, {1, 2}, {2, 2}, {4, 2}, {1, 3}};

static void a_replica_reads_each_element_of_a_cut_tensor_once(void **state)
{
    (void)state;
    static const char *const configs[] = {encoder, decoder, one_kv_head};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        for (size_t k = 0; k < sizeof groups / sizeof *groups; k++) {
            /* 4 KV heads cannot be shared by 3 ranks */
            if (configs[i] == decoder && groups[k][0] == 3) continue;
            check(configs[i], groups[k][0], groups[k][1], false);
        }
    }
}

static void streamed_weights_are_read_once_by_a_replica_for_a_batch(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof groups / sizeof *groups; k++) {
        check(encoder, groups[k][0], groups[k][1], true);
        check(one_kv_head, groups[k][0], groups[k][1], true);
    }
}

/* The module's file is missing: whoever reads it notices. */
static void dense_modules_are_read_by_the_pooling_rank_alone(void **state)
{
    (void)state;
    const pr_st_files st_files = {.n_dense = 1, .dense = {{.path = "2_Dense", .n_in = 48,
                                                           .n_out = 8}}};
    const pr_cpu_options cpu = {.n_threads = 1};
    pr_backend *backend = NULL;
    tiny_model m;
    tiny_model_make(&m, one_kv_head, 0.25f);
    assert_int_equal(pr_cpu_backend_create(&cpu, &backend, NULL), PR_OK);
    for (int i = 0; i < 4; i++) {
        const pr_parallel parallel = {.tp_rank = i % 2, .tp_size = 2, .stage = i / 2,
                                      .n_stages = 2};
        pr_shard shard;
        pr_checkpoint *checkpoint = NULL;
        pr_weights *weights = NULL;
        assert_int_equal(pr_shard_plan(&m.spec, &parallel, &shard, NULL), PR_OK);
        assert_int_equal(pr_checkpoint_open(m.folder, &checkpoint, NULL), PR_OK);
        const pr_weights_source source = {
            .folder = m.folder, .checkpoint = checkpoint, .spec = &m.spec, .st = &st_files,
            .parallel = &parallel, .shard = &shard, .dtype = PR_DTYPE_F32,
        };
        assert_int_equal(pr_weights_load(&source, backend, &weights, NULL),
                         shard.is_pooling_rank ? PR_E_NOT_FOUND : PR_OK);
        pr_weights_free(weights);
        pr_checkpoint_close(checkpoint);
    }
    backend->ops->close(backend);
    tiny_model_remove(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_reads_each_element_of_a_cut_tensor_once),
        cmocka_unit_test(streamed_weights_are_read_once_by_a_replica_for_a_batch),
        cmocka_unit_test(dense_modules_are_read_by_the_pooling_rank_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
