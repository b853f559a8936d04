/* runtime/plan/roofline.h: the work and the traffic of one forward pass, and the time that a device
 * needs for it at the least (Williams et al. 2009, "Roofline", Communications of the ACM 52-4).
 *
 * Pure; any thread. Called by `plan`. An upper bound on speed: nothing here was measured. */
#ifndef POOLRANK_RUNTIME_PLAN_ROOFLINE_H
#define POOLRANK_RUNTIME_PLAN_ROOFLINE_H

#include "runtime/plan/device_table.h"
#include "runtime/plan/shard_plan.h"

/* What crosses between the ranks of a replica group for one token. A "sum" is an all-reduce of one
 * hidden state; a layer has two in the compute dtype (after O and after down), and the vocabulary's
 * parts are summed once, in f32 as the residual stream that they begin. Rank-ordered sums: each
 * part goes to the rank that owns its slice, is added there in rank order, and the sum goes to
 * everybody; their bytes are a ring's. */
typedef struct pr_traffic {
    uint64_t vector_bytes;      /* one hidden state in the compute dtype */
    uint64_t vocabulary_bytes;  /* the vocabulary's sum; 0 for one tensor rank */
    uint64_t layer_bytes;       /* all-reduced per token and layer; 0 for one tensor rank */
    uint64_t token_bytes;       /* all-reduced per token, all layers and the vocabulary */
    uint64_t stage_bytes;       /* per token from each rank of a stage to the next: the residual
                                   stream, f32; 0: one stage */
    double ring_layer_bytes;    /* sent by each rank, per token and layer: 2 (n - 1) / n of it */
    double ring_token_bytes;    /* likewise, the whole model */
    double ordered_layer_bytes; /* the same for rank-ordered sums: (n - 1) / n to the owners … */
    double ordered_token_bytes; /* … and as much from them */
    int ring_steps;             /* messages that wait for each other in one sum: 2 (n - 1) */
    int ordered_steps;          /* 2, whatever n is */
} pr_traffic;

pr_traffic pr_traffic_of(const pr_model_spec *spec, int tp_size, int n_stages, pr_dtype dtype);

typedef struct pr_workload {
    uint32_t n_tokens;      /* of a batch */
    uint32_t n_text_tokens; /* of each text in it: what attention costs depends on it */
    pr_dtype dtype;
} pr_workload;

/* One rank's share of one forward pass; nothing is pruned in the last layer (ALL pooling). */
typedef struct pr_load {
    double matrix_flops;    /* of the layers' matrices: 2 a weight and token */
    double attention_flops; /* 4 head_dim a head, query and key that it sees */
    double head_flops;      /* in f32, pooling rank only */
    double memory_bytes;    /* weights once a batch (the feed-forward block's once for each
                               PR_PLAN_MLP_ROWS rows), and activations between the kernels */
    double link_bytes;      /* sent to other ranks */
} pr_load;

/* Fails PR_E_NOMEM. */
pr_status pr_load_build(const pr_model_spec *spec, const pr_parallel *parallel,
                        const pr_shard *shard, const pr_workload *workload, pr_load *out,
                        pr_error *err);

typedef enum pr_bound {
    PR_BOUND_COMPUTE,
    PR_BOUND_MEMORY,
    PR_BOUND_LINK,
    PR_BOUND_HEAD, /* the pooling rank's head, in plain f32 */
    PR_BOUND_COUNT
} pr_bound;

/* Seconds for one batch at the data sheet's rates. Computing and reading memory overlap; links and
 * the head do not overlap with either. */
typedef struct pr_roofline {
    double compute_s, memory_s, link_s, head_s;
    double total_s; /* max(compute, memory) + link + head */
    pr_bound bound; /* the largest of the four */
} pr_roofline;

pr_roofline pr_roofline_of(const pr_load *load, const pr_device *device, pr_dtype dtype);

const char *pr_bound_name(pr_bound bound); /* "compute" */

#endif
