/* Reading ahead gives a tensor's rows as one read of all would, whatever the number of readers. */
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/worker/tiny_model.h"
#include "worker/read_ahead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A token table of some runs, and of a number of rows that readers do not share evenly. */
static const char config[] =
    "{\"architectures\": [\"Qwen2Model\"], \"model_type\": \"qwen2\", \"hidden_size\": 64,"
    " \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
    " \"intermediate_size\": 96, \"vocab_size\": 70001, \"max_position_embeddings\": 64,"
    " \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\"}";

typedef struct gathered {
    char *bytes;
    size_t n, row_bytes;
    int64_t next_row;
    int n_calls, fails_at;
} gathered;

static pr_status gather(void *context, int64_t row, int64_t n_rows, const void *src, pr_dtype dtype,
                        pr_error *err)
{
    gathered *g = context;
    (void)dtype;
    assert_int_equal(row, g->next_row);
    if (++g->n_calls == g->fails_at) return pr_error_set(err, PR_E_IO, "enough");
    memcpy(g->bytes + g->n, src, (size_t)n_rows * g->row_bytes);
    g->n += (size_t)n_rows * g->row_bytes;
    g->next_row += n_rows;
    return PR_OK;
}

static void read_both_ways(pr_checkpoint *c, const pr_tensor *t, const pr_rectangle *r,
                           pr_read_ahead *reader)
{
    pr_error err;
    int64_t n_rows = r->row_end - r->row_begin, n_columns = r->column_end - r->column_begin;
    gathered g = {.row_bytes = (size_t)n_columns * pr_dtype_bytes(t->dtype)};
    size_t n_bytes = (size_t)n_rows * g.row_bytes;
    char *whole = malloc(n_bytes);
    g.bytes = malloc(n_bytes);
    assert_non_null(whole);
    assert_non_null(g.bytes);
    assert_int_equal(pr_checkpoint_read(c, t, r->row_begin, r->row_end, r->column_begin,
                                        r->column_end, whole, &err), PR_OK);
    assert_int_equal(pr_read_ahead_rows(reader, c, t, r, gather, &g, &err), PR_OK);
    assert_int_equal(g.n, n_bytes);
    assert_memory_equal(g.bytes, whole, n_bytes);
    g = (gathered){.bytes = g.bytes, .row_bytes = g.row_bytes, .fails_at = 1};
    assert_int_equal(pr_read_ahead_rows(reader, c, t, r, gather, &g, &err), PR_E_IO);
    free(whole);
    free(g.bytes);
}

static void rows_are_the_same_with_one_reader_and_with_more(void **state)
{
    (void)state;
    static const pr_rectangle rectangles[] = {
        {0, 70001, 0, 64}, {1, 70000, 16, 48}, {5, 7, 0, 64}, {69999, 70000, 3, 4},
    };
    const pr_cpu_options options = {.n_threads = 1};
    tiny_model m;
    pr_backend *b = NULL;
    pr_checkpoint *c = NULL;
    tiny_model_make(&m, config, 0.25f);
    assert_int_equal(pr_cpu_backend_create(&options, &b, NULL), PR_OK);
    assert_int_equal(pr_checkpoint_open(m.folder, &c, NULL), PR_OK);
    const pr_tensor *t = pr_checkpoint_find(c, "embed_tokens.weight");
    if (!t) t = pr_checkpoint_find(c, "model.embed_tokens.weight");
    assert_non_null(t);
    for (int n_slots = 1; n_slots <= 2; n_slots++) { /* as a backend that overlaps batches says */
        pr_read_ahead *reader = NULL;
        b->n_slots = n_slots;
        assert_int_equal(pr_read_ahead_create(b, &reader, NULL), PR_OK);
        for (size_t i = 0; i < sizeof rectangles / sizeof *rectangles; i++) {
            read_both_ways(c, t, &rectangles[i], reader);
        }
        pr_read_ahead_free(reader);
    }
    pr_checkpoint_close(c);
    b->ops->close(b);
    tiny_model_remove(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_the_same_with_one_reader_and_with_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
