#include "worker/memory_check.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { TP_SIZES_SHOWN = 3, TP_SIZE_MAX = 512, WORDS_BYTES = 256 };

static pr_memory_limits limits_of(const pr_memory_demand *d)
{
    return (pr_memory_limits){.n_tokens = d->n_rows_max,
                              .n_positions = d->n_positions_max,
                              .dtype = d->dtype,
                              .place = PR_PLAN_PLACE_GPU};
}

static pr_status rank_plan(const pr_memory_demand *d, const pr_parallel *parallel, pr_shard *shard,
                           pr_memory_plan *out, pr_error *err)
{
    const pr_memory_limits limits = limits_of(d);
    pr_status st = pr_shard_plan(d->spec, parallel, shard, err);
    return st == PR_OK ? pr_memory_plan_build(d->spec, parallel, shard, &limits, out, err) : st;
}

/* Whether every rank of a group of that tensor-parallel size would fit: the first of each stage has
 * the most. */
static bool size_fits(const pr_memory_demand *d, int tp_size, uint64_t there_bytes)
{
    for (int stage = 0; stage < d->parallel.n_stages; stage++) {
        const pr_parallel p = {0, tp_size, stage, d->parallel.n_stages};
        pr_shard shard;
        pr_memory_plan plan;
        if (rank_plan(d, &p, &shard, &plan, NULL) != PR_OK) return false;
        if (plan.total_bytes > there_bytes) return false;
    }
    return true;
}

/* "; --tensor-parallel-size 4, 8 or 16 would" */
static void sizes_print(const pr_memory_demand *d, uint64_t there_bytes, char out[WORDS_BYTES])
{
    int sizes[TP_SIZES_SHOWN], n = 0;
    for (int tp = d->parallel.tp_size + 1; tp <= TP_SIZE_MAX && n < TP_SIZES_SHOWN; tp++) {
        if (size_fits(d, tp, there_bytes)) sizes[n++] = tp;
    }
    size_t n_out = 0;
    out[0] = '\0';
    for (int i = 0; i < n; i++) {
        const char *before = i == 0 ? "; it would with --tensor-parallel-size "
                             : i == n - 1 ? " or " : ", ";
        n_out += (size_t)snprintf(out + n_out, WORDS_BYTES - n_out, "%s%d", before, sizes[i]);
    }
    if (n == 0) snprintf(out, WORDS_BYTES, "; no --tensor-parallel-size would change that");
}

static void remedy_print(const pr_memory_demand *d, const pr_shard *shard,
                         const pr_memory_plan *plan, uint64_t there_bytes, char out[WORDS_BYTES])
{
    const pr_memory_limits limits = limits_of(d);
    uint32_t n = pr_memory_plan_tokens_max(d->spec, shard, &limits, plan, there_bytes);
    if (n >= d->n_positions_max) {
        snprintf(out, WORDS_BYTES, "; --max-num-batched-tokens %u would fit", n);
    } else if (n > 0) { /* the longest text is one forward pass */
        snprintf(out, WORDS_BYTES,
                 "; --max-num-batched-tokens %u with --max-model-len %u would fit", n, n);
    } else {
        char sizes[WORDS_BYTES];
        sizes_print(d, there_bytes, sizes);
        snprintf(out, WORDS_BYTES, ": not even one token fits%s", sizes);
    }
}

pr_status pr_memory_check(const pr_memory_demand *d, const pr_cuda_device *device,
                          double utilization, pr_error *err)
{
    assert(utilization > 0 && utilization <= 1);
    pr_shard shard;
    pr_memory_plan plan;
    pr_status st = rank_plan(d, &d->parallel, &shard, &plan, err);
    if (st != PR_OK) return st;
    uint64_t there_bytes = (uint64_t)(utilization * (double)device->total_bytes);
    bool is_known = device->free_bytes > 0;
    if (is_known && there_bytes > device->free_bytes) there_bytes = device->free_bytes;
    if (plan.total_bytes <= there_bytes) return PR_OK;
    char remedy[WORDS_BYTES], free_gb[32] = "";
    remedy_print(d, &shard, &plan, there_bytes, remedy);
    if (is_known) {
        snprintf(free_gb, sizeof free_gb, "%.3f GB are free, ", (double)device->free_bytes / 1e9);
    }
    return pr_error_set(
        err, PR_E_NOMEM,
        "cuda %d (%s): found room for %.3f GB (%s--gpu-memory-utilization %g of %.3f GB), expected "
        "%.3f GB: weights %.3f, activations of %u tokens %.3f, workspace %.3f, kept for CUDA and "
        "NCCL %.3f%s",
        device->index, device->name, (double)there_bytes / 1e9, free_gb, utilization,
        (double)device->total_bytes / 1e9, (double)plan.total_bytes / 1e9,
        (double)plan.weights_bytes / 1e9, d->n_rows_max, (double)plan.activations_bytes / 1e9,
        (double)plan.workspace_bytes / 1e9, (double)plan.reserved_bytes / 1e9, remedy);
}
