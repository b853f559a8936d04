#include "kernels/cpu/gemm.h"

#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/rowwise.h"

#include <assert.h>
#include <string.h>

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Where part i of n begins when `total` things are cut as evenly as possible. */
static int64_t part_begin(int64_t total, int64_t n, int64_t i)
{
    return total * i / n;
}

/* Time of a task per k, in units of one row by one column: its multiply-adds, reading its panels
 * from L2 or L3 (as 4 rows), copying its x (as 4 columns), and the hand-over, spread over K (as
 * 64). Rough estimates, not measured: only the choice between cuts hangs on them. */
static int64_t task_cost(int64_t n_rows, int64_t n_columns)
{
    return n_columns * (n_rows + 4) + 4 * n_rows + 64;
}

pr_cpu_gemm_cut pr_cpu_gemm_cut_choose(int64_t n_rows, int64_t n_panels, int nr, int n_threads)
{
    assert(n_rows >= 1);
    assert(n_panels >= 1);
    int64_t panels_max = min_i64(n_panels, PR_CPU_GEMM_COLUMNS_MAX / nr);
    pr_cpu_gemm_cut best = {0};
    int64_t best_cost = INT64_MAX;
    for (int64_t rows = PR_CPU_GEMM_ROWS_MAX; rows >= PR_CPU_GEMM_ROWS_MIN; rows /= 2) {
        if (rows / 2 >= n_rows && rows > PR_CPU_GEMM_ROWS_MIN) continue; /* cuts as the next one */
        int64_t n_row_blocks = divide_up(n_rows, rows);
        for (int64_t panels = panels_max; panels >= 1; panels--) {
            int64_t n_panel_blocks = divide_up(n_panels, panels);
            int64_t n_rounds = divide_up(n_row_blocks * n_panel_blocks, n_threads);
            int64_t cost = n_rounds * task_cost(divide_up(n_rows, n_row_blocks),
                                                divide_up(n_panels, n_panel_blocks) * nr);
            if (cost >= best_cost) continue;
            best_cost = cost;
            best = (pr_cpu_gemm_cut){n_row_blocks, n_panel_blocks};
        }
    }
    return best;
}

typedef struct gemm_job {
    const pr_cpu_kernels *kernels;
    const pr_gemm *a;
    pr_cpu_gemm_scratch *scratch;
    pr_cpu_gemm_cut cut;
} gemm_job;

/* The part of the output that one task computes, and the block of K that it is at. */
typedef struct gemm_task {
    const gemm_job *job;
    pr_cpu_gemm_scratch *scratch;
    int64_t row_begin;
    int64_t n_rows;
    int64_t panel_begin;
    int64_t n_panels;
    int64_t k_begin;
    int64_t n_k;
} gemm_task;

static void copy_x(const gemm_task *t)
{
    const pr_gemm *a = t->job->a;
    const float *src = (const float *)a->x + t->row_begin * a->ldx + t->k_begin;
    float *dst = t->scratch->x;
    for (int64_t r = 0; r < t->n_rows; r++) {
        memcpy(dst, src, (size_t)t->n_k * sizeof *dst);
        src += a->ldx;
        dst += PR_CPU_GEMM_X_LD;
    }
}

/* The task's block of K of a panel. */
static const void *panel_block(const gemm_task *t, int64_t i_panel)
{
    const pr_matrix *w = t->job->a->w;
    size_t at = (size_t)((i_panel * w->n_in + t->k_begin) * w->kernels->nr);
    return (const char *)w->panels + at * pr_dtype_bytes(w->dtype);
}

/* The bias of a panel's columns in their order there; 0 past the last. */
static void panel_bias(const pr_gemm *a, int64_t i_panel, float *bias)
{
    const pr_matrix *w = a->w;
    bool is_gated = w->kind == PR_MATRIX_GATED;
    int64_t n_columns = is_gated ? w->n_out / 2 : w->n_out;
    int64_t begin = i_panel * w->panel_columns;
    size_t n = (size_t)min_i64(w->panel_columns, n_columns - begin);
    memset(bias, 0, (size_t)w->kernels->nr * sizeof *bias);
    memcpy(bias, a->bias + begin, n * sizeof *bias);
    if (is_gated) {
        memcpy(bias + w->panel_columns, a->bias + n_columns + begin, n * sizeof *bias);
    }
}

/* From the sums c of a tile to y: bias, activation, gate. bias: of the panel, or NULL. */
static void finish_tile(const gemm_task *t, float *c, int64_t row, int n_rows, int64_t i_panel,
                        const float *bias)
{
    const pr_gemm *a = t->job->a;
    const pr_matrix *w = a->w;
    const pr_cpu_gemm_kernels *tiles = w->kernels;
    const pr_cpu_rowwise *rowwise = t->job->kernels->rowwise;
    int64_t column = i_panel * w->panel_columns;
    float *y = (float *)a->y + row * a->ldy + column;
    if (bias) tiles->add_bias(c, n_rows, bias);
    if (w->kind == PR_MATRIX_GATED) {
        float *gate = t->scratch->gate;
        int64_t half = w->panel_columns;
        tiles->split(c, n_rows, gate, t->scratch->up);
        rowwise->gated(a->activation, gate, t->scratch->up, gate, n_rows * half);
        tiles->store(gate, half, n_rows, min_i64(half, w->n_out / 2 - column), y, a->ldy);
        return;
    }
    if (a->activation != PR_ACTIVATION_NONE) {
        rowwise->activate(a->activation, c, (int64_t)n_rows * tiles->nr);
    }
    tiles->store(c, tiles->nr, n_rows, min_i64(tiles->nr, w->n_out - column), y, a->ldy);
}

static void run_panel(const gemm_task *t, int64_t i_panel)
{
    const pr_gemm *a = t->job->a;
    const pr_cpu_gemm_kernels *tiles = a->w->kernels;
    bool is_first = t->k_begin == 0;
    bool is_last = t->k_begin + t->n_k == a->w->n_in;
    const pr_cpu_gemm_tile *tile = a->w->dtype == PR_DTYPE_BF16 ? tiles->tile_bf16 : tiles->tile;
    const void *w = panel_block(t, i_panel);
    float *sums = t->scratch->sums + (i_panel - t->panel_begin) * t->n_rows * tiles->nr;
    _Alignas(64) float bias[PR_CPU_GEMM_NR_MAX];
    if (is_last && a->bias) panel_bias(a, i_panel, bias);

    int64_t n_tiles = divide_up(t->n_rows, tiles->mr);
    for (int64_t i = 0; i < n_tiles; i++) {
        int64_t row = part_begin(t->n_rows, n_tiles, i);
        int n_rows = (int)(part_begin(t->n_rows, n_tiles, i + 1) - row);
        float *c = sums + row * tiles->nr;
        tile[n_rows](t->scratch->x + row * PR_CPU_GEMM_X_LD, w, t->n_k, c, !is_first);
        if (is_last) {
            finish_tile(t, c, t->row_begin + row, n_rows, i_panel, a->bias ? bias : NULL);
        }
    }
}

/* Tasks that follow each other share panels: rows are the inner loop. */
static void run_task(void *ctx, int i_task, int i_thread)
{
    const gemm_job *job = ctx;
    const pr_matrix *w = job->a->w;
    int64_t i_rows = i_task % job->cut.n_row_blocks;
    int64_t i_panels = i_task / job->cut.n_row_blocks;
    gemm_task t = {.job = job, .scratch = &job->scratch[i_thread]};
    t.row_begin = part_begin(job->a->n_rows, job->cut.n_row_blocks, i_rows);
    t.n_rows = part_begin(job->a->n_rows, job->cut.n_row_blocks, i_rows + 1) - t.row_begin;
    t.panel_begin = part_begin(w->n_panels, job->cut.n_panel_blocks, i_panels);
    t.n_panels = part_begin(w->n_panels, job->cut.n_panel_blocks, i_panels + 1) - t.panel_begin;
    int64_t n_k_blocks = divide_up(w->n_in, PR_CPU_GEMM_K_BLOCK);
    for (int64_t i = 0; i < n_k_blocks; i++) {
        t.k_begin = part_begin(w->n_in, n_k_blocks, i);
        t.n_k = part_begin(w->n_in, n_k_blocks, i + 1) - t.k_begin;
        copy_x(&t);
        for (int64_t p = 0; p < t.n_panels; p++) run_panel(&t, t.panel_begin + p);
    }
}

void pr_cpu_gemm_run(const pr_cpu_kernels *kernels, pr_cpu_pool *pool,
                     pr_cpu_gemm_scratch *scratch, const pr_gemm *a)
{
    assert(a->w);
    assert(a->w->kernels == kernels->gemm);
    assert(a->ldx >= a->w->n_in);
    if (a->n_rows <= 0) return;
    gemm_job job = {.kernels = kernels, .a = a, .scratch = scratch};
    job.cut = pr_cpu_gemm_cut_choose(a->n_rows, a->w->n_panels, kernels->gemm->nr,
                                     pr_cpu_pool_n_threads(pool));
    pr_cpu_pool_run(pool, run_task, &job, (int)(job.cut.n_row_blocks * job.cut.n_panel_blocks));
}
