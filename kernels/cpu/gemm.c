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
 * from L2 or L3, preparing its x, and the hand-over. Rough estimates, not measured: only the choice
 * between cuts hangs on them. */
static int64_t task_cost(const pr_cpu_gemm_kernels *kernels, int64_t n_rows, int64_t n_columns)
{
    const pr_cpu_gemm_costs *costs = &kernels->costs;
    int64_t n_paid = divide_up(n_rows, costs->rows) * costs->rows;
    return n_columns * (n_paid + costs->panel) + costs->x * n_rows + costs->task;
}

/* Bytes from one row of x in scratch to the next, with n_k prepared at a time. */
static int64_t x_row_bytes(const pr_cpu_gemm_kernels *kernels, int64_t n_k)
{
    if (!kernels->is_x_kept) return kernels->x_row_bytes;
    return divide_up(n_k, kernels->k_unit) * kernels->k_unit * kernels->x_bytes;
}

bool pr_cpu_gemm_x_fits(const pr_cpu_gemm_kernels *kernels, int64_t n_rows, int64_t n_in)
{
    if (!kernels->is_x_kept) return false;
    return n_in <= PR_CPU_GEMM_X_BYTES &&
           n_rows * x_row_bytes(kernels, n_in) <= PR_CPU_GEMM_X_BYTES;
}

pr_cpu_gemm_cut pr_cpu_gemm_cut_choose(const pr_cpu_gemm_kernels *kernels, int64_t n_rows,
                                       int64_t n_panels, int64_t n_in, int n_threads)
{
    assert(n_rows >= 1);
    assert(n_panels >= 1);
    int64_t rows_min = kernels->rows_min;
    pr_cpu_gemm_cut best = {0};
    int64_t best_cost = INT64_MAX;
    for (int64_t rows = kernels->rows_max; rows >= rows_min; rows /= 2) {
        if (rows / 2 >= n_rows && rows > rows_min) continue; /* cuts as the next one */
        int64_t n_row_blocks = divide_up(n_rows, rows);
        bool has_all_x = pr_cpu_gemm_x_fits(kernels, divide_up(n_rows, n_row_blocks), n_in);
        int64_t panels_max = min_i64(n_panels, kernels->columns_max / kernels->nr);
        if (has_all_x) panels_max = n_panels;
        for (int64_t panels = panels_max; panels >= 1; panels--) {
            int64_t n_panel_blocks = divide_up(n_panels, panels);
            int64_t n_rounds = divide_up(n_row_blocks * n_panel_blocks, n_threads);
            int64_t cost = n_rounds * task_cost(kernels, divide_up(n_rows, n_row_blocks),
                                                divide_up(n_panels, n_panel_blocks) * kernels->nr);
            if (cost >= best_cost) continue;
            best_cost = cost;
            best = (pr_cpu_gemm_cut){n_row_blocks, n_panel_blocks};
        }
    }
    return best;
}

typedef struct gemm_job {
    const pr_cpu_rowwise *rowwise;
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
    int64_t x_row_bytes; /* from a row in scratch to the next */
    bool has_all_x;      /* all of K is prepared at once, not block by block */
} gemm_task;

/* A tile's rows of the task: as even as they can be. */
typedef struct row_tile {
    int64_t begin; /* in the task */
    int n_rows;
} row_tile;

static int64_t n_row_tiles(const gemm_task *t)
{
    return divide_up(t->n_rows, t->job->a->w->kernels->mr);
}

static row_tile row_tile_at(const gemm_task *t, int64_t i)
{
    int64_t n_tiles = n_row_tiles(t);
    int64_t begin = part_begin(t->n_rows, n_tiles, i);
    return (row_tile){begin, (int)(part_begin(t->n_rows, n_tiles, i + 1) - begin)};
}

/* A row tile's place in scratch. */
static char *tile_x(const gemm_task *t, row_tile rows)
{
    return t->scratch->x + rows.begin * t->x_row_bytes;
}

/* The block of K that the task is at, of a row tile. */
static const char *tile_x_block(const gemm_task *t, row_tile rows)
{
    if (!t->has_all_x) return tile_x(t, rows);
    return tile_x(t, rows) + t->k_begin * rows.n_rows * t->job->a->w->kernels->x_bytes;
}

/* Prepares n_k columns of the task's rows. */
static void pack_x(const gemm_task *t, int64_t k_begin, int64_t n_k)
{
    const pr_gemm *a = t->job->a;
    const pr_cpu_gemm_kernels *kernels = a->w->kernels;
    const float *src = (const float *)a->x + t->row_begin * a->ldx + k_begin;
    for (int64_t i = 0; i < n_row_tiles(t); i++) {
        row_tile rows = row_tile_at(t, i);
        kernels->pack_x(kernels, src + rows.begin * a->ldx, a->ldx, rows.n_rows, n_k,
                        tile_x(t, rows));
    }
}

/* The task's block of K of a panel. */
static const void *panel_block(const gemm_task *t, int64_t i_panel)
{
    const pr_matrix *w = t->job->a->w;
    size_t row_bytes = (size_t)(w->kernels->nr * w->kernels->weight_bytes);
    return (const char *)w->panels + (size_t)i_panel * w->panel_bytes +
           (size_t)t->k_begin * row_bytes;
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
    const pr_cpu_rowwise *rowwise = t->job->rowwise;
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

/* One tile over the block of K that the task is at; bias: of the panel, or NULL. */
static void run_tile(const gemm_task *t, row_tile rows, int64_t i_panel, const float *bias)
{
    const pr_matrix *w = t->job->a->w;
    const pr_cpu_gemm_kernels *kernels = w->kernels;
    float *c = t->scratch->sums;
    if (t->n_k < w->n_in) { /* else no sum waits: all are added up in the same L1 */
        c += ((i_panel - t->panel_begin) * t->n_rows + rows.begin) * kernels->nr;
    }
    bool fetches = rows.begin == 0 && i_panel + 1 < t->panel_begin + t->n_panels;
    const void *next = fetches ? panel_block(t, i_panel + 1) : NULL;
    kernels->tile(tile_x_block(t, rows), panel_block(t, i_panel), next, rows.n_rows, t->n_k, c,
                  t->k_begin > 0);
    if (t->k_begin + t->n_k < w->n_in) return;
    finish_tile(t, c, t->row_begin + rows.begin, rows.n_rows, i_panel, bias);
}

/* A panel's block stays in cache while row tiles pass. */
static void run_panels_outside(const gemm_task *t)
{
    const pr_gemm *a = t->job->a;
    bool is_last = t->k_begin + t->n_k == a->w->n_in;
    _Alignas(64) float bias[PR_CPU_GEMM_NR_MAX];
    for (int64_t p = t->panel_begin; p < t->panel_begin + t->n_panels; p++) {
        if (is_last && a->bias) panel_bias(a, p, bias);
        for (int64_t i = 0; i < n_row_tiles(t); i++) {
            run_tile(t, row_tile_at(t, i), p, a->bias ? bias : NULL);
        }
    }
}

/* A row tile's x stays in L1 while panels pass. */
static void run_rows_outside(const gemm_task *t)
{
    const pr_gemm *a = t->job->a;
    const pr_cpu_gemm_kernels *kernels = a->w->kernels;
    bool is_last = t->k_begin + t->n_k == a->w->n_in;
    _Alignas(64) float bias[PR_CPU_GEMM_NR_MAX];
    for (int64_t i = 0; i < n_row_tiles(t); i++) {
        row_tile rows = row_tile_at(t, i);
        if (kernels->begin) kernels->begin(rows.n_rows);
        for (int64_t p = t->panel_begin; p < t->panel_begin + t->n_panels; p++) {
            if (is_last && a->bias) panel_bias(a, p, bias);
            run_tile(t, rows, p, a->bias ? bias : NULL);
        }
    }
    if (kernels->end) kernels->end();
}

/* One block of K of a run of panels. */
static void run_block(gemm_task *t)
{
    if (!t->has_all_x) pack_x(t, t->k_begin, t->n_k);
    if (t->job->a->w->kernels->is_x_kept) {
        run_rows_outside(t);
    } else {
        run_panels_outside(t);
    }
}

/* The panels from panel_begin on, block by block of K. */
static void run_panels(gemm_task *t)
{
    const pr_matrix *w = t->job->a->w;
    int64_t unit = w->kernels->k_unit;
    int64_t n_units = divide_up(w->n_in, unit);
    int64_t n_k_blocks = divide_up(n_units * unit, w->kernels->k_block);
    for (int64_t i = 0; i < n_k_blocks; i++) {
        t->k_begin = part_begin(n_units, n_k_blocks, i) * unit;
        t->n_k = min_i64(part_begin(n_units, n_k_blocks, i + 1) * unit, w->n_in) - t->k_begin;
        run_block(t);
    }
}

/* Tasks that follow each other share panels: rows are the inner loop. */
static void run_task(void *ctx, int i_task, int i_thread)
{
    const gemm_job *job = ctx;
    const pr_matrix *w = job->a->w;
    const pr_cpu_gemm_kernels *kernels = w->kernels;
    int64_t i_rows = i_task % job->cut.n_row_blocks;
    int64_t i_panels = i_task / job->cut.n_row_blocks;
    gemm_task t = {.job = job, .scratch = &job->scratch[i_thread]};
    t.row_begin = part_begin(job->a->n_rows, job->cut.n_row_blocks, i_rows);
    t.n_rows = part_begin(job->a->n_rows, job->cut.n_row_blocks, i_rows + 1) - t.row_begin;
    int64_t begin = part_begin(w->n_panels, job->cut.n_panel_blocks, i_panels);
    int64_t n_panels = part_begin(w->n_panels, job->cut.n_panel_blocks, i_panels + 1) - begin;

    t.has_all_x = pr_cpu_gemm_x_fits(kernels, t.n_rows, w->n_in);
    t.x_row_bytes = x_row_bytes(kernels, t.has_all_x ? w->n_in : kernels->k_block);
    if (t.has_all_x) pack_x(&t, 0, w->n_in);
    int64_t n_runs = divide_up(n_panels * kernels->nr, kernels->columns_max);
    for (int64_t i = 0; i < n_runs; i++) {
        t.panel_begin = begin + part_begin(n_panels, n_runs, i);
        t.n_panels = begin + part_begin(n_panels, n_runs, i + 1) - t.panel_begin;
        run_panels(&t);
    }
}

void pr_cpu_gemm_run(const pr_cpu_rowwise *rowwise, pr_cpu_pool *pool, pr_cpu_gemm_scratch *scratch,
                     const pr_gemm *a)
{
    assert(a->w);
    assert(a->ldx >= a->w->n_in);
    if (a->n_rows <= 0) return;
    gemm_job job = {.rowwise = rowwise, .a = a, .scratch = scratch};
    job.cut = pr_cpu_gemm_cut_choose(a->w->kernels, a->n_rows, a->w->n_panels, a->w->n_in,
                                     pr_cpu_pool_n_threads(pool));
    pr_cpu_pool_run(pool, run_task, &job, (int)(job.cut.n_row_blocks * job.cut.n_panel_blocks));
}
