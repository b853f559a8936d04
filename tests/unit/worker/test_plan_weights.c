/* The memory plan against what ranks really ask of their backend, for every parity model: a backend
 * that counts stands between the loader and the CPU's. Packing of matrices into whole panels, which
 * no plan knows of, is left out by that. */
#include "kernels/cpu/cpu_backend.h"
#include "runtime/base/json.h"
#include "runtime/plan/memory_plan.h"
#include "worker/forward.h"
#include "worker/pooler.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODELS PR_TESTS_DIR "/parity/models"

enum { MODELS_MAX = 64, NAME_BYTES = 64, N_TOKENS = 3000 };

/* ---- a backend that counts what is asked of another ---- */

typedef struct counting_backend {
    pr_backend base;
    pr_backend_ops ops;
    pr_backend *inner;
    uint64_t n_bytes;
} counting_backend;

static counting_backend *counting(pr_backend *b)
{
    return (counting_backend *)(void *)b;
}

static pr_status count_alloc(pr_backend *b, size_t n_bytes, void **out, pr_error *err)
{
    counting(b)->n_bytes += n_bytes;
    return counting(b)->inner->ops->alloc(counting(b)->inner, n_bytes, out, err);
}

static pr_status count_matrix(pr_backend *b, pr_matrix_kind kind, int64_t n_out, int64_t n_in,
                              pr_dtype dtype, pr_matrix **out, pr_error *err)
{
    pr_backend *inner = counting(b)->inner;
    counting(b)->n_bytes += (uint64_t)(n_out * n_in) * pr_dtype_bytes(dtype);
    return inner->ops->matrix_create(inner, kind, n_out, n_in, dtype, out, err);
}

static pr_status count_table(pr_backend *b, int64_t n_rows, int64_t dim, pr_dtype dtype,
                             pr_table **out, pr_error *err)
{
    pr_backend *inner = counting(b)->inner;
    counting(b)->n_bytes += (uint64_t)(n_rows * dim) * pr_dtype_bytes(dtype);
    return inner->ops->table_create(inner, n_rows, dim, dtype, out, err);
}

static void pass_free(pr_backend *b, void *p)
{
    counting(b)->inner->ops->free(counting(b)->inner, p);
}

static pr_status pass_host_alloc(pr_backend *b, size_t n_bytes, void **out, pr_error *err)
{
    return counting(b)->inner->ops->host_alloc(counting(b)->inner, n_bytes, out, err);
}

static void pass_host_free(pr_backend *b, void *p)
{
    counting(b)->inner->ops->host_free(counting(b)->inner, p);
}

static pr_status pass_upload(pr_backend *b, void *dst, const void *src, size_t n, pr_error *err)
{
    return counting(b)->inner->ops->upload(counting(b)->inner, dst, src, n, err);
}

static pr_status pass_reserve(pr_backend *b, const pr_backend_limits *limits, pr_error *err)
{
    return counting(b)->inner->ops->reserve(counting(b)->inner, limits, err);
}

static pr_status pass_matrix_write(pr_backend *b, pr_matrix *w, int64_t row, int64_t n,
                                   const void *src, pr_dtype dtype, pr_error *err)
{
    return counting(b)->inner->ops->matrix_write(counting(b)->inner, w, row, n, src, dtype, err);
}

static pr_status pass_table_write(pr_backend *b, pr_table *t, int64_t row, int64_t n,
                                  const void *src, pr_dtype dtype, pr_error *err)
{
    return counting(b)->inner->ops->table_write(counting(b)->inner, t, row, n, src, dtype, err);
}

static void pass_matrix_free(pr_backend *b, pr_matrix *w)
{
    counting(b)->inner->ops->matrix_free(counting(b)->inner, w);
}

static void pass_table_free(pr_backend *b, pr_table *t)
{
    counting(b)->inner->ops->table_free(counting(b)->inner, t);
}

/* One of a GPU's place asks as the CUDA backend has it asked: 16-bit activations, rounded rows,
 * two batches. Nothing is computed here, so that the CPU's memory will do. */
static void counting_open(counting_backend *c, pr_plan_place place)
{
    const pr_cpu_options cpu = {.n_threads = 1, .isa = PR_CPU_ISA_C};
    *c = (counting_backend){0};
    assert_int_equal(pr_cpu_backend_create(&cpu, &c->inner, NULL), PR_OK);
    c->base = *c->inner;
    if (place == PR_PLAN_PLACE_GPU) {
        c->base.activation_dtype = PR_DTYPE_BF16;
        c->base.row_multiple = PR_PLAN_GPU_ROWS;
        c->base.n_slots = PR_PLAN_GPU_SLOTS;
    }
    c->ops = (pr_backend_ops){
        .alloc = count_alloc,
        .free = pass_free,
        .host_alloc = pass_host_alloc,
        .host_free = pass_host_free,
        .upload = pass_upload,
        .reserve = pass_reserve,
        .matrix_create = count_matrix,
        .matrix_write = pass_matrix_write,
        .matrix_free = pass_matrix_free,
        .matrix_bytes = c->inner->ops->matrix_bytes,
        .table_create = count_table,
        .table_write = pass_table_write,
        .table_free = pass_table_free,
        .table_bytes = c->inner->ops->table_bytes,
    };
    c->base.ops = &c->ops;
}

/* ---- the models ---- */

typedef struct fixture {
    char folder[512];
    pr_model_spec spec;
    pr_checkpoint *checkpoint;
} fixture;

static void fixture_open(const char *name, fixture *f)
{
    char path[600];
    json_t *config = NULL;
    pr_error err;
    *f = (fixture){0};
    snprintf(f->folder, sizeof f->folder, "%s/%s", MODELS, name);
    snprintf(path, sizeof path, "%s/config.json", f->folder);
    pr_status st = pr_json_load(path, 1 << 20, &config, &err);
    if (st == PR_OK) st = pr_model_spec_parse(config, path, &f->spec, &err);
    if (st == PR_OK) st = pr_checkpoint_open(f->folder, &f->checkpoint, &err);
    if (st != PR_OK) fail_msg("%s: %s", name, err.message);
    json_decref(config);
}

static void fixture_close(fixture *f)
{
    pr_checkpoint_close(f->checkpoint);
    pr_model_spec_deinit(&f->spec);
}

/* One rank of it, planned and real. */
typedef struct rank {
    fixture *model;
    pr_parallel parallel;
    pr_shard shard;
    pr_memory_limits limits;
    pr_memory_plan plan;
    counting_backend backend;
    pr_weights *weights;
} rank;

static bool rank_begin(rank *r)
{
    const pr_model_spec *spec = &r->model->spec;
    static const pr_st_files no_st = {0};
    pr_error err;
    if (pr_shard_plan(spec, &r->parallel, &r->shard, NULL) != PR_OK) return false;
    assert_int_equal(pr_memory_plan_build(spec, &r->parallel, &r->shard, &r->limits, &r->plan,
                                          NULL), PR_OK);
    counting_open(&r->backend, r->limits.place);
    const pr_weights_source source = {
        .folder = r->model->folder, .checkpoint = r->model->checkpoint, .spec = spec,
        .st = &no_st, .parallel = &r->parallel, .shard = &r->shard, .dtype = r->limits.dtype,
    };
    if (pr_weights_load(&source, &r->backend.base, &r->weights, &err) != PR_OK) {
        fail_msg("%s: %s", r->model->folder, err.message);
    }
    return true;
}

static void rank_end(rank *r)
{
    pr_weights_free(r->weights);
    r->backend.inner->ops->close(r->backend.inner);
}

/* A bias that a checkpoint may lack is in no plan. */
static uint64_t optional_bytes(const rank *r)
{
    uint64_t n = 0;
    pr_weight_list *list = NULL;
    assert_int_equal(pr_weight_list_build(&r->model->spec, &list, NULL), PR_OK);
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        if (!w->optional || !pr_checkpoint_find(r->model->checkpoint, w->name)) continue;
        n += 4 * (uint64_t)pr_shard_elements(&r->model->spec, &r->parallel, &r->shard, w);
    }
    pr_weight_list_free(list);
    return n;
}

static void weights_check(const rank *r)
{
    uint64_t expected = r->plan.weights_bytes + r->plan.widened_bytes + optional_bytes(r);
    if (r->backend.n_bytes != expected) {
        fail_msg("%s, rank %d of %d, stage %d of %d, %s: loads %llu bytes, planned %llu",
                 r->model->folder, r->parallel.tp_rank, r->parallel.tp_size, r->parallel.stage,
                 r->parallel.n_stages, pr_dtype_name(r->limits.dtype),
                 (unsigned long long)r->backend.n_bytes, (unsigned long long)expected);
    }
}

/* RoPE's table is workspace. */
static void activations_check(rank *r)
{
    const pr_model_spec *spec = &r->model->spec;
    const pr_forward_config config = {
        .spec = spec, .shard = &r->shard, .weights = r->weights, .backend = &r->backend.base,
        .n_rows_max = N_TOKENS, .n_positions_max = (uint32_t)spec->n_positions,
    };
    pr_forward *forward = NULL;
    uint64_t before = r->backend.n_bytes;
    assert_int_equal(pr_forward_create(&config, &forward, NULL), PR_OK);
    uint64_t rope = spec->position == PR_POSITION_ROPE
                        ? 4 * (uint64_t)spec->n_positions * (uint64_t)spec->head_dim : 0;
    uint64_t found = r->backend.n_bytes - before;
    uint64_t expected = r->plan.activations_bytes + rope;
    if (found != expected) {
        fail_msg("%s: a forward pass has %llu bytes, planned %llu", r->model->folder,
                 (unsigned long long)found, (unsigned long long)expected);
    }
    pr_forward_free(forward);
}

/* On a GPU all that batches need is there before the first: what is left of the workspace is the
 * backend's own, for multiplications and for gate and up. */
static void pooler_check(const rank *r)
{
    const pr_model_spec *spec = &r->model->spec;
    const pr_shard *shard = &r->shard;
    pr_pooler *pooler = NULL;
    uint64_t before = r->backend.n_bytes;
    pr_backend *b = (pr_backend *)(uintptr_t)&r->backend.base;
    if (shard->is_pooling_rank) {
        assert_int_equal(pr_pooler_create(spec, r->weights, b, N_TOKENS, &pooler, NULL), PR_OK);
    }
    uint64_t inner = (uint64_t)(shard->intermediate_end - shard->intermediate_begin);
    uint64_t own = PR_PLAN_GEMM_BYTES + (spec->gated ? 2 * inner * PR_PLAN_MLP_ROWS * 2 : 0);
    if (spec->position == PR_POSITION_ROPE) {
        own += 4 * (uint64_t)spec->n_positions * (uint64_t)spec->head_dim;
    }
    uint64_t found = r->backend.n_bytes - before;
    uint64_t expected = r->plan.workspace_bytes - r->plan.widened_bytes - own;
    if (found != expected) {
        fail_msg("%s: a pooler has %llu bytes, planned %llu", r->model->folder,
                 (unsigned long long)found, (unsigned long long)expected);
    }
    pr_pooler_free(pooler);
}

static const int groups[][2] = {{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}};

static int group_check(fixture *model, int tp_size, int n_stages, pr_dtype dtype,
                       pr_plan_place place)
{
    int n_checked = 0;
    for (int i = 0; i < tp_size * n_stages; i++) {
        rank r = {.model = model,
                  .parallel = {.tp_rank = i % tp_size, .tp_size = tp_size, .stage = i / tp_size,
                               .n_stages = n_stages},
                  .limits = {.n_tokens = N_TOKENS, .n_threads = 1, .dtype = dtype,
                             .place = place}};
        if (!rank_begin(&r)) return 0;
        weights_check(&r);
        activations_check(&r);
        if (place == PR_PLAN_PLACE_GPU) pooler_check(&r);
        rank_end(&r);
        n_checked++;
    }
    return n_checked;
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static size_t models_list(char (*names)[NAME_BYTES])
{
    size_t n = 0;
    DIR *folder = opendir(MODELS);
    assert_non_null(folder);
    for (const struct dirent *e; (e = readdir(folder)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        assert_true(n < MODELS_MAX);
        snprintf(names[n++], NAME_BYTES, "%s", e->d_name);
    }
    closedir(folder);
    qsort(names, n, NAME_BYTES, name_compare);
    return n;
}

static void every_rank_of_every_model_loads_and_allocates_what_was_planned(void **state)
{
    (void)state;
    char names[MODELS_MAX][NAME_BYTES];
    size_t n = models_list(names);
    int n_checked = 0;
    for (size_t i = 0; i < n; i++) {
        fixture f;
        fixture_open(names[i], &f);
        for (size_t k = 0; k < sizeof groups / sizeof *groups; k++) {
            int tp = groups[k][0], pp = groups[k][1];
            n_checked += group_check(&f, tp, pp, PR_DTYPE_F32, PR_PLAN_PLACE_CPU);
            n_checked += group_check(&f, tp, pp, PR_DTYPE_BF16, PR_PLAN_PLACE_CPU);
            n_checked += group_check(&f, tp, pp, PR_DTYPE_BF16, PR_PLAN_PLACE_GPU);
        }
        fixture_close(&f);
    }
    print_message("%d ranks of %zu models\n", n_checked, n);
    assert_true(n >= 30 && n_checked > 900);
}

/* What pr_worker_describe says holds the panels' padding and leaves out vectors. */
static void what_a_worker_reports_is_the_plan_but_for_padding_and_vectors(void **state)
{
    (void)state;
    fixture f;
    fixture_open("qwen2-reward", &f);
    for (int i = 0; i < 2; i++) {
        rank r = {.model = &f,
                  .parallel = {.tp_rank = i, .tp_size = 2, .n_stages = 1},
                  .limits = {.n_tokens = N_TOKENS, .n_threads = 1, .dtype = PR_DTYPE_BF16}};
        assert_true(rank_begin(&r));
        uint64_t in_vectors = 0;
        pr_weight_list *list = NULL;
        assert_int_equal(pr_weight_list_build(&f.spec, &list, NULL), PR_OK);
        for (size_t k = 0; k < pr_weight_list_count(list); k++) {
            const pr_weight *w = pr_weight_list_at(list, k);
            if (w->n_dims > 1) continue;
            in_vectors += 4 * (uint64_t)pr_shard_elements(&f.spec, &r.parallel, &r.shard, w);
        }
        pr_weight_list_free(list);
        assert_true(r.weights->n_bytes >= r.plan.weights_bytes - in_vectors);
        rank_end(&r);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_of_every_model_loads_and_allocates_what_was_planned),
        cmocka_unit_test(what_a_worker_reports_is_the_plan_but_for_padding_and_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
