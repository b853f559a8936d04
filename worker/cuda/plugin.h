/* worker/cuda/plugin.h: what libpoolrank-cuda.so hands to the program that loads it.
 *
 * The program itself is not linked with CUDA: it loads this table (worker/device.h) where
 * --device cuda or auto asks for it, so that it starts without a driver, without the libraries, and
 * within milliseconds. tests/simcuda builds the same table over a simulated device. Constant,
 * process-wide; all calls from the thread that will compute. */
#ifndef POOLRANK_WORKER_CUDA_PLUGIN_H
#define POOLRANK_WORKER_CUDA_PLUGIN_H

#include "kernels/backend.h"
#include "worker/comm.h"

enum {
    PR_CUDA_PLUGIN_ABI = 1,   /* grows with every change of a struct or slot that crosses it, those
                                 of kernels/backend.h and worker/comm.h included */
    PR_CUDA_DEVICES_MAX = 64,
    PR_CUDA_COMM_ID_BYTES = 128 /* of an ncclUniqueId */
};

typedef struct pr_cuda_device {
    int index;                /* as CUDA numbers the visible devices */
    char name[64];            /* "NVIDIA H100 80GB HBM3" */
    int capability;           /* 90: compute capability 9.0 */
    uint64_t total_bytes;
    uint64_t free_bytes;      /* 0: not known; to look further would take memory of the device */
} pr_cuda_device;

typedef struct pr_cuda_options {
    int device;               /* index */
    pr_dtype dtype;           /* F32, BF16 or F16: of activations and what multiplies them */
    bool allow_tf32;          /* F32 products in TF32 */
} pr_cuda_options;

/* Which rank of which group this is. */
typedef struct pr_cuda_group {
    const uint8_t *id;        /* [PR_CUDA_COMM_ID_BYTES], the same on every rank of the group */
    int tp_rank, tp_size, stage, n_stages;
    int timeout_ms;           /* that all ranks may take to come together */
} pr_cuda_group;

typedef struct pr_cuda_plugin {
    uint32_t abi; /* PR_CUDA_PLUGIN_ABI; first whatever the number is */
    bool is_simulated;
    const char *description; /* "CUDA 13.0, sm_80 sm_90 sm_100 sm_120": what it was built with */

    /* The visible devices. Fails PR_E_UNAVAILABLE: no driver, one that is too old (both versions in
     * the message), no device. */
    pr_status (*devices)(pr_cuda_device out[PR_CUDA_DEVICES_MAX], int *n, pr_error *err);
    /* Makes the device current for the calling thread. Fails PR_E_UNSUPPORTED: an architecture that
     * no kernel was built for; PR_E_UNAVAILABLE, PR_E_NOMEM. */
    pr_status (*backend_create)(const pr_cuda_options *options, pr_backend **out, pr_error *err);
    /* A fresh id, made by one rank of a group for all of it. Fails PR_E_UNAVAILABLE. */
    pr_status (*comm_id)(uint8_t out[PR_CUDA_COMM_ID_BYTES], pr_error *err);
    /* Entered by every rank of the group; work is queued on the backend's stream, which outlives
     * it. Fails PR_E_TIMEOUT: not all ranks came; PR_E_UNAVAILABLE with NCCL's words. */
    pr_status (*comm_create)(pr_backend *backend, const pr_cuda_group *group, pr_comm **out,
                             pr_error *err);
} pr_cuda_plugin;

/* The only symbol that the library exports. */
const pr_cuda_plugin *pr_cuda_plugin_get(void);

#endif
