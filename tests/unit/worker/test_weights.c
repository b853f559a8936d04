/* What loading promises: each tensor that is needed is read once, no other at all, and one that is
 * missing or wrong is named with what the configuration expects. */
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/worker/tiny_model.h"
#include "worker/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char config[] =
    "{\"architectures\":[\"Qwen2ForSequenceClassification\"],\"model_type\":\"qwen2\","
    "\"vocab_size\":97,\"hidden_size\":48,\"intermediate_size\":100,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":6,\"num_key_value_heads\":3,\"num_labels\":3,"
    "\"max_position_embeddings\":128,\"rms_norm_eps\":1e-6,\"hidden_act\":\"silu\"}";

typedef struct fixture {
    tiny_model model;
    pr_backend *backend;
    pr_checkpoint *checkpoint;
    atomic_bool is_cancelled;
    pr_shard shard;
} fixture;

enum { N_ROWS_MAX = 8 };

static void fixture_make(fixture *f)
{
    pr_error err;
    const pr_cpu_options cpu = {.n_threads = 1};
    tiny_model_make(&f->model, config, 0.25f);
    if (pr_cpu_backend_create(&cpu, &f->backend, &err) != PR_OK) fail_msg("%s", err.message);
    f->checkpoint = NULL;
    atomic_init(&f->is_cancelled, false);
}

static void fixture_remove(fixture *f)
{
    pr_checkpoint_close(f->checkpoint);
    f->backend->ops->close(f->backend);
    tiny_model_remove(&f->model);
}

static pr_status load_as(fixture *f, bool is_streamed, pr_weights **out, pr_error *err)
{
    static const pr_st_files no_st = {0};
    static const pr_parallel alone = {.tp_size = 1, .n_stages = 1};
    pr_status st = pr_shard_plan(&f->model.spec, &alone, &f->shard, err);
    if (st == PR_OK) st = pr_checkpoint_open(f->model.folder, &f->checkpoint, err);
    if (st != PR_OK) return st;
    const pr_weights_source source = {
        .folder = f->model.folder, .checkpoint = f->checkpoint, .spec = &f->model.spec,
        .st = &no_st, .parallel = &alone, .shard = &f->shard, .dtype = PR_DTYPE_F32,
        .is_cancelled = &f->is_cancelled, .is_streamed = is_streamed, .n_rows_max = N_ROWS_MAX,
    };
    return pr_weights_load(&source, f->backend, out, err);
}

static pr_status load(fixture *f, pr_weights **out, pr_error *err)
{
    return load_as(f, false, out, err);
}

/* Exchanges a text in the file's header for one of the same length. */
static void header_replace(const tiny_model *m, const char *old, const char *new)
{
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    uint64_t n_header = 0;
    assert_int_equal(fread(&n_header, 8, 1, file), 1);
    char *header = calloc(1, n_header + 1);
    assert_non_null(header);
    assert_int_equal(fread(header, n_header, 1, file), 1);
    char *at = strstr(header, old);
    assert_non_null(at);
    assert_int_equal(strlen(old), strlen(new));
    memcpy(at, new, strlen(new));
    fseek(file, 8, SEEK_SET);
    assert_int_equal(fwrite(header, n_header, 1, file), 1);
    fclose(file);
    free(header);
}

static void every_tensor_is_read_once_and_no_other(void **state)
{
    (void)state;
    fixture f;
    pr_weights *weights = NULL;
    pr_error err;
    fixture_make(&f);
    if (load(&f, &weights, &err) != PR_OK) fail_msg("%s", err.message);
    for (size_t i = 0; i < pr_checkpoint_n_tensors(f.checkpoint); i++) {
        const pr_tensor *t = pr_checkpoint_tensor(f.checkpoint, i);
        bool is_used = strcmp(t->name, "lm_head.weight") != 0;
        assert_int_equal(pr_checkpoint_bytes_read(f.checkpoint, t), is_used ? t->n_bytes : 0);
    }
    assert_int_equal(weights->n_head, 1);
    assert_non_null(weights->head[0].bias);
    pr_weights_free(weights);
    fixture_remove(&f);
}

static void a_bad_tensor_is_named_with_what_was_expected(void **state)
{
    (void)state;
    static const struct {
        const char *old, *new; /* in the header */
        int32_t intermediate_size, vocab_size;
        pr_status status;
        const char *says[3];
    } cases[] = {
        {"\"norm.weight\"", "\"morn.weight\"", 100, 97, PR_E_MODEL,
         {"tensor norm.weight", "not in the checkpoint", "expected [48] (hidden_size)"}},
        {"\"layers.1.mlp.up_proj.weight\":{\"dtype\":\"F32\"",
         "\"layers.1.mlp.up_proj.weight\":{\"dtype\":\"I32\"", 100, 97, PR_E_UNSUPPORTED,
         {"layers.1.mlp.up_proj.weight", "dtype I32", "F32, F16 or BF16"}},
        {"\"", "\"", 101, 97, PR_E_MODEL,
         {"layers.0.mlp.gate_proj.weight", "shape [100, 48], expected [101, 48]",
          "(intermediate_size, hidden_size)"}},
        {"\"", "\"", 100, 96, PR_E_MODEL,
         {"embed_tokens.weight", "expected [96, 48]", "(vocab_size, hidden_size)"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        pr_weights *weights = NULL;
        pr_error err = {0};
        fixture_make(&f);
        header_replace(&f.model, cases[i].old, cases[i].new);
        f.model.spec.intermediate_size = cases[i].intermediate_size;
        f.model.spec.vocab_size = cases[i].vocab_size;
        assert_int_equal(load(&f, &weights, &err), cases[i].status);
        assert_null(weights);
        for (int k = 0; k < 3; k++) {
            if (!strstr(err.message, cases[i].says[k])) {
                fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says[k]);
            }
        }
        fixture_remove(&f);
    }
}

static uint64_t bytes_read(const fixture *f, const char *name)
{
    const pr_tensor *t = pr_checkpoint_find(f->checkpoint, name);
    assert_non_null(t);
    return pr_checkpoint_bytes_read(f->checkpoint, t);
}

static void streamed_weights_are_read_when_they_are_asked_for(void **state)
{
    (void)state;
    static const char down[] = "layers.1.mlp.down_proj.weight", table[] = "embed_tokens.weight";
    static const int32_t tokens[] = {3, 96, 3};
    fixture f;
    pr_weights *weights = NULL;
    const pr_layer_weights *layer = NULL;
    pr_error err;
    fixture_make(&f);
    if (load_as(&f, true, &weights, &err) != PR_OK) fail_msg("%s", err.message);
    assert_int_equal(bytes_read(&f, down), 0);
    assert_int_equal(bytes_read(&f, table), 0);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(pr_weights_layer(weights, 0, &layer, &err), PR_OK);
        assert_non_null(layer->qkv);
        assert_int_equal(pr_weights_layer(weights, 1, &layer, &err), PR_OK);
        assert_null(layer->qkv);
        assert_non_null(layer->kv);
        assert_int_equal(bytes_read(&f, down), (uint64_t)i * 48 * 100 * sizeof(float));
    }
    assert_int_equal(pr_weights_tokens_fetch(weights, tokens, 3, &err), PR_OK);
    assert_int_equal(bytes_read(&f, table), 3 * 48 * sizeof(float));
    assert_int_equal(bytes_read(&f, "lm_head.weight"), 0);
    pr_weights_free(weights);
    fixture_remove(&f);
}

static void a_file_that_is_cut_while_streamed_is_an_error(void **state)
{
    (void)state;
    fixture f;
    pr_weights *weights = NULL;
    const pr_layer_weights *layer = NULL;
    pr_error err;
    char path[128];
    fixture_make(&f);
    if (load_as(&f, true, &weights, &err) != PR_OK) fail_msg("%s", err.message);
    snprintf(path, sizeof path, "%s/model.safetensors", f.model.folder);
    assert_int_equal(truncate(path, 16384), 0);
    assert_int_equal(pr_weights_layer(weights, 1, &layer, &err), PR_E_IO);
    assert_non_null(strstr(err.message, "layers.1."));
    pr_weights_free(weights);
    fixture_remove(&f);
}

static void streamed_weights_are_checked_at_the_start(void **state)
{
    (void)state;
    fixture f;
    pr_weights *weights = NULL;
    pr_error err;
    fixture_make(&f);
    f.model.spec.intermediate_size = 101;
    assert_int_equal(load_as(&f, true, &weights, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "intermediate_size"));
    fixture_remove(&f);
}

static void loading_can_be_given_up(void **state)
{
    (void)state;
    fixture f;
    pr_weights *weights = NULL;
    pr_error err;
    fixture_make(&f);
    atomic_store(&f.is_cancelled, true);
    assert_int_equal(load(&f, &weights, &err), PR_E_CANCELLED);
    assert_null(weights);
    fixture_remove(&f);
}

static void an_optional_bias_may_be_missing(void **state)
{
    (void)state;
    fixture f;
    pr_weights *weights = NULL;
    pr_error err;
    fixture_make(&f);
    header_replace(&f.model, "\"score.bias\"", "\"lm_head.bi\"");
    if (load(&f, &weights, &err) != PR_OK) fail_msg("%s", err.message);
    assert_int_equal(weights->n_head, 1);
    assert_null(weights->head[0].bias);
    pr_weights_free(weights);
    fixture_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_is_read_once_and_no_other),
        cmocka_unit_test(a_bad_tensor_is_named_with_what_was_expected),
        cmocka_unit_test(an_optional_bias_may_be_missing),
        cmocka_unit_test(streamed_weights_are_read_when_they_are_asked_for),
        cmocka_unit_test(a_file_that_is_cut_while_streamed_is_an_error),
        cmocka_unit_test(streamed_weights_are_checked_at_the_start),
        cmocka_unit_test(loading_can_be_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
