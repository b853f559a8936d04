/* coordinator/fleet/placement.h: where this run computes: what --device comes to, what follows
 * from that, and whether the ranks of this host have a GPU each.
 *
 * Called once, on the opening thread, before anything is loaded. */
#ifndef POOLRANK_COORDINATOR_FLEET_PLACEMENT_H
#define POOLRANK_COORDINATOR_FLEET_PLACEMENT_H

#include "coordinator/options/config.h"
#include "runtime/model/model_spec.h"

/* What this host has, as far as somebody looked. */
typedef struct pr_placement_seen {
    int n_devices;               /* visible GPUs; 0: none, or nobody looked */
    char name[64];               /* of the first */
    char reason[PR_ERROR_BYTES]; /* why there are none; "": nobody looked */
    pr_status status;            /* of that */
} pr_placement_seen;

typedef struct pr_placement {
    pr_device_choice device;         /* CPU or CUDA */
    pr_stream_choice stream_weights; /* ON or OFF */
    char reason[PR_ERROR_BYTES];     /* why there: "--device cpu", "2 devices, the first …" */
} pr_placement;

/* Whether the decision needs to know this host's GPUs: auto does, and cuda where all ranks are
 * processes of this host. launch: resolved. Pure. */
bool pr_placement_needs_look(const pr_config *config, pr_worker_launch launch, bool leaves_host);

/* Asks the CUDA plug-in, loading it. Never fails: why there is none is part of the answer. */
void pr_placement_look(pr_placement_seen *out);

/* seen: of pr_placement_look, or zero where nobody needed to. Fails, with the reason: cuda without
 * a device (as the loader does); PR_E_UNSUPPORTED float16 on the CPU, streamed weights on a GPU;
 * PR_E_ARGUMENT --devices on the CPU, a device that there is not, more ranks than devices. Pure. */
pr_status pr_placement_decide(const pr_config *config, pr_worker_launch launch, bool leaves_host,
                              const pr_placement_seen *seen, pr_placement *out, pr_error *err);

/* All of it. Fails as decide and pr_launch_leaves_host. */
pr_status pr_placement_resolve(const pr_config *config, pr_worker_launch launch, pr_placement *out,
                               pr_error *err);

/* Groups of one run take the GPUs of a host in turn: group i has slice i % n_slices there, as many
 * devices as it has ranks on the host. n_slices: every group for mpirun, which begins with the same
 * hosts for each; for srun as many as fall on a node of n_nodes (0: unknown, one), 1 where each has
 * nodes of its own; 1 where the launcher counts the ranks of all groups on a host (job), and where
 * ranks say themselves which devices they take (external). Pure. */
int32_t pr_placement_slices(const pr_config *config, pr_worker_launch launch, int32_t n_nodes);

#endif
