/* Every element of every tensor belongs to the ranks that should hold it, whatever the sizes. */
#include "runtime/plan/shard_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* A decoder or encoder of small width whose vocabulary and intermediate size need not divide. */
static pr_model_spec spec_of(pr_family family, int32_t n_heads, int32_t n_kv_heads, int32_t vocab,
                             int32_t intermediate)
{
    bool is_encoder = family <= PR_FAMILY_XLM_ROBERTA;
    return (pr_model_spec){.family = family,
                           .head = PR_HEAD_NONE,
                           .vocab_size = vocab,
                           .hidden_size = 12,
                           .intermediate_size = intermediate,
                           .n_layers = 5,
                           .n_heads = n_heads,
                           .n_kv_heads = n_kv_heads,
                           .head_dim = 2,
                           .n_positions = 10,
                           .type_vocab_size = is_encoder ? 2 : 0,
                           .qkv_bias = true,
                           .o_bias = true,
                           .mlp_bias = true,
                           .gated = !is_encoder,
                           .position = is_encoder ? PR_POSITION_TABLE : PR_POSITION_ROPE};
}

static const struct {
    pr_family family;
    int32_t n_heads, n_kv_heads, vocab, intermediate;
    int tp, pp;
} cases[] = {
    {PR_FAMILY_BERT, 12, 12, 30522, 37, 1, 1},
    {PR_FAMILY_BERT, 12, 12, 30522, 37, 2, 1},
    {PR_FAMILY_BERT, 12, 12, 30522, 37, 3, 2},
    {PR_FAMILY_BERT, 12, 12, 30522, 37, 4, 1},
    {PR_FAMILY_XLM_ROBERTA, 8, 8, 250002, 41, 8, 1},
    {PR_FAMILY_XLM_ROBERTA, 8, 8, 250002, 41, 4, 5},
    {PR_FAMILY_QWEN2, 8, 2, 151936, 99, 2, 1},
    {PR_FAMILY_QWEN2, 8, 2, 151936, 99, 4, 2},
    {PR_FAMILY_QWEN2, 8, 2, 151936, 99, 8, 3},
    {PR_FAMILY_LLAMA, 6, 3, 1001, 8, 6, 1},
    {PR_FAMILY_LLAMA, 8, 1, 7, 8, 4, 5},
};
enum { CASES = sizeof cases / sizeof *cases, RANKS_MAX = 64 };

/* How many ranks should hold each element. */
static int copies_expected(const pr_model_spec *spec, int tp, pr_partition partition)
{
    if (partition == PR_PARTITION_REPLICATED) return tp;
    if (partition == PR_PARTITION_KV_HEADS && tp > spec->n_kv_heads) return tp / spec->n_kv_heads;
    return 1;
}

/* Rectangles of one weight are strips across one dimension: walks the strips' ends and counts the
 * ranks between each two. */
static void check_weight(const pr_model_spec *spec, int tp, int pp, const pr_weight *w)
{
    pr_rectangle held[RANKS_MAX];
    int n_held = 0;
    int64_t rows = w->shape[0], columns = w->n_dims > 1 ? w->shape[1] : 1;
    for (int stage = 0; stage < pp; stage++) {
        for (int rank = 0; rank < tp; rank++) {
            pr_parallel p = {rank, tp, stage, pp};
            pr_shard shard;
            assert_int_equal(pr_shard_plan(spec, &p, &shard, NULL), PR_OK);
            pr_rectangle r = pr_shard_rectangle(spec, &p, &shard, w);
            assert_true(0 <= r.row_begin && r.row_begin <= r.row_end && r.row_end <= rows);
            assert_true(0 <= r.column_begin && r.column_begin <= r.column_end &&
                        r.column_end <= columns);
            if (r.row_begin < r.row_end && r.column_begin < r.column_end) held[n_held++] = r;
        }
    }
    int expected = copies_expected(spec, tp, w->partition);
    int64_t area = 0;
    for (int i = 0; i < n_held; i++) {
        area += (held[i].row_end - held[i].row_begin) * (held[i].column_end - held[i].column_begin);
        /* Each corner that begins a strip is covered exactly as often as it should be. */
        int n_covers = 0;
        for (int j = 0; j < n_held; j++) {
            n_covers += held[j].row_begin <= held[i].row_begin &&
                        held[i].row_begin < held[j].row_end &&
                        held[j].column_begin <= held[i].column_begin &&
                        held[i].column_begin < held[j].column_end;
        }
        if (n_covers != expected)
            fail_msg("%s: %d ranks, expected %d", w->name, n_covers, expected);
    }
    if (area != expected * rows * columns) fail_msg("%s: %lld elements", w->name, (long long)area);
}

static void shard_every_element_belongs_to_exactly_its_ranks(void **state)
{
    (void)state;
    for (size_t c = 0; c < CASES; c++) {
        pr_model_spec spec = spec_of(cases[c].family, cases[c].n_heads, cases[c].n_kv_heads,
                                     cases[c].vocab, cases[c].intermediate);
        pr_weight_list *list = NULL;
        assert_int_equal(pr_weight_list_build(&spec, &list, NULL), PR_OK);
        for (size_t i = 0; i < pr_weight_list_count(list); i++) {
            check_weight(&spec, cases[c].tp, cases[c].pp, pr_weight_list_at(list, i));
        }
        pr_weight_list_free(list);
    }
}

static void shard_holds_the_kv_heads_of_its_query_heads(void **state)
{
    (void)state;
    for (size_t c = 0; c < CASES; c++) {
        pr_model_spec spec = spec_of(cases[c].family, cases[c].n_heads, cases[c].n_kv_heads,
                                     cases[c].vocab, cases[c].intermediate);
        int group = spec.n_heads / spec.n_kv_heads;
        for (int rank = 0; rank < cases[c].tp; rank++) {
            pr_parallel p = {rank, cases[c].tp, 0, 1};
            pr_shard s;
            assert_int_equal(pr_shard_plan(&spec, &p, &s, NULL), PR_OK);
            int first = s.head_begin / group;
            int last = (s.head_begin + s.n_heads - 1) / group;
            assert_int_equal(first, s.kv_head_begin);
            assert_int_equal(last, s.kv_head_begin + s.n_kv_heads - 1);
        }
    }
}

static void shard_stages_are_contiguous_and_even(void **state)
{
    (void)state;
    pr_model_spec spec = spec_of(PR_FAMILY_QWEN2, 8, 2, 151936, 99);
    for (int pp = 1; pp <= spec.n_layers; pp++) {
        int32_t next = 0, least = spec.n_layers, most = 0;
        int n_first = 0, n_pooling = 0;
        for (int stage = 0; stage < pp; stage++) {
            for (int rank = 0; rank < 2; rank++) {
                pr_parallel p = {rank, 2, stage, pp};
                pr_shard s;
                assert_int_equal(pr_shard_plan(&spec, &p, &s, NULL), PR_OK);
                n_first += s.is_first_stage;
                n_pooling += s.is_pooling_rank;
                if (rank == 1) continue;
                assert_int_equal(s.layer_begin, next);
                next = s.layer_end;
                int32_t n = s.layer_end - s.layer_begin;
                if (n < least) least = n;
                if (n > most) most = n;
            }
        }
        assert_int_equal(next, spec.n_layers);
        assert_true(most - least <= 1);
        assert_int_equal(n_first, 2);
        assert_int_equal(n_pooling, 1);
    }
}

static void shard_heads_of_a_model_live_on_the_pooling_rank_alone(void **state)
{
    (void)state;
    pr_model_spec spec = spec_of(PR_FAMILY_QWEN2, 8, 2, 100, 99);
    spec.head = PR_HEAD_REWARD;
    spec.n_labels = 1;
    pr_weight_list *list = NULL;
    assert_int_equal(pr_weight_list_build(&spec, &list, NULL), PR_OK);
    const pr_role roles[] = {PR_ROLE_FINAL_NORM, PR_ROLE_HEAD_DENSE, PR_ROLE_HEAD_OUT};
    for (int rank = 0; rank < 4; rank++) {
        for (int stage = 0; stage < 2; stage++) {
            pr_parallel p = {rank, 4, stage, 2};
            pr_shard s;
            assert_int_equal(pr_shard_plan(&spec, &p, &s, NULL), PR_OK);
            for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
                pr_rectangle r =
                    pr_shard_rectangle(&spec, &p, &s, pr_weight_list_find(list, roles[i], -1));
                assert_int_equal(r.row_end > 0, rank == 0 && stage == 1);
            }
        }
    }
    pr_weight_list_free(list);
}

static void shard_sizes_that_do_not_fit_are_refused_with_those_that_do(void **state)
{
    (void)state;
    static const struct {
        int32_t n_heads, n_kv_heads, vocab, intermediate;
        int tp, pp;
        const char *text;
    } wrong[] = {
        {12, 12, 100, 99, 5, 1, "one of 1, 2, 3, 4, 6, 12 "},
        {12, 12, 100, 99, 8, 1, "one of 1, 2, 3, 4, 6, 12 "},
        {28, 4, 100, 99, 7, 1, "one of 1, 2, 4, 28 "}, /* Qwen2.5-7B's heads */
        {28, 4, 100, 99, 14, 1, "one of 1, 2, 4, 28 "},
        {8, 8, 100, 3, 4, 1, "one of 1, 2 "},
        {8, 8, 100, 99, 16, 1, "one of 1, 2, 4, 8 "},
        {8, 8, 100, 99, 1, 6, "1 to 5"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pr_model_spec spec = spec_of(PR_FAMILY_QWEN2, wrong[i].n_heads, wrong[i].n_kv_heads,
                                     wrong[i].vocab, wrong[i].intermediate);
        pr_parallel p = {0, wrong[i].tp, 0, wrong[i].pp};
        pr_shard s;
        pr_error err = {0};
        assert_int_equal(pr_shard_plan(&spec, &p, &s, &err), PR_E_ARGUMENT);
        if (!strstr(err.message, wrong[i].text)) fail_msg("case %zu: %s", i, err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shard_every_element_belongs_to_exactly_its_ranks),
        cmocka_unit_test(shard_holds_the_kv_heads_of_its_query_heads),
        cmocka_unit_test(shard_stages_are_contiguous_and_even),
        cmocka_unit_test(shard_heads_of_a_model_live_on_the_pooling_rank_alone),
        cmocka_unit_test(shard_sizes_that_do_not_fit_are_refused_with_those_that_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
