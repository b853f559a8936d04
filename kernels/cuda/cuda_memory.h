/* kernels/cuda/cuda_memory.h: the CUDA backend's memory, streams and copies.
 *
 * Owns three streams, pinned memory on the host, and the events between them:
 *
 *     copy_in    weights; what a batch uploads before its first layer
 *     compute    all kernels; what a batch uploads after its first layer
 *     copy_out   downloads
 *
 * An upload before a batch's first layer overtakes the batch that is being computed, which reads
 * the arrays of the other slot; after that layer uploads are queued among the kernels, so that they
 * may overwrite what earlier kernels read. Small uploads go through the slot's ring: pinned memory
 * that is filled from its start in every batch. What the ring has no room for, and whatever is not
 * part of a batch, goes through two staging buffers in turn: one is filled while the other is
 * copied.
 *
 * Called by the CUDA backend, on the rank's compute thread; the device is current there. Nothing
 * waits for the device but: sync, free, uploads of pinned memory or through staging buffers that
 * are both on their way, and batch_begin of a slot whose batch nobody polled to its end. */
#ifndef POOLRANK_KERNELS_CUDA_CUDA_MEMORY_H
#define POOLRANK_KERNELS_CUDA_CUDA_MEMORY_H

#include "runtime/base/status.h"
#include "runtime/plan/memory_plan.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    PR_CUDA_SLOTS = PR_PLAN_GPU_SLOTS, /* two: one is computed while the next is uploaded */
    /* Of each of the two; also the longest row of weights. 0.13 ms of PCIe 5.0 x16 (63 GB/s), some
     * ten times what it takes to queue a copy (judged, not measured). */
    PR_CUDA_STAGING_BYTES = 8 << 20
};

typedef struct pr_cuda_memory pr_cuda_memory;

/* Fails PR_E_NOMEM, PR_E_INTERNAL. */
pr_status pr_cuda_memory_create(pr_cuda_memory **out, pr_error *err);
void pr_cuda_memory_free(pr_cuda_memory *m); /* waits for the device; NULL is fine */

/* Device memory, aligned to 256 bytes, and pinned memory of the host. Fails PR_E_NOMEM with the
 * bytes asked for and, of the device, those that are free. Release accepts NULL. */
pr_status pr_cuda_memory_device_alloc(size_t n_bytes, void **out, pr_error *err);
void pr_cuda_memory_device_free(pr_cuda_memory *m, void *p); /* waits for the device */
pr_status pr_cuda_memory_host_alloc(pr_cuda_memory *m, size_t n_bytes, void **out, pr_error *err);
void pr_cuda_memory_host_free(pr_cuda_memory *m, void *p); /* likewise */

/* Gives each slot a ring of so many bytes. Once, before the first batch. Fails PR_E_NOMEM. */
pr_status pr_cuda_memory_reserve(pr_cuda_memory *m, size_t ring_bytes, pr_error *err);

/* src may change when the call returns. */
pr_status pr_cuda_memory_upload(pr_cuda_memory *m, void *dst, const void *src, size_t n_bytes,
                                pr_error *err);

/* The next staging buffer, of PR_CUDA_STAGING_BYTES, for the caller to fill; waits until its last
 * copy is over. staging_send copies its first n_bytes to dst. */
pr_status pr_cuda_memory_staging_take(pr_cuda_memory *m, void **out, pr_error *err);
pr_status pr_cuda_memory_staging_send(pr_cuda_memory *m, void *dst, size_t n_bytes, pr_error *err);

/* Whether all of p .. p + n_bytes - 1 came from host_alloc; upload_pinned copies from there without
 * a buffer in between, and waits for it. */
bool pr_cuda_memory_is_pinned(const pr_cuda_memory *m, const void *p, size_t n_bytes);
pr_status pr_cuda_memory_upload_pinned(pr_cuda_memory *m, void *dst, const void *src,
                                       size_t n_bytes, pr_error *err);

/* dst: from host_alloc. src is what a batch leaves in memory of its slot: the next batch, of the
 * other slot, does not wait for the copy. */
pr_status pr_cuda_memory_download(pr_cuda_memory *m, void *dst, const void *src, size_t n_bytes,
                                  pr_error *err);

/* The stream for a layer's kernels, which from here on is behind all uploads. */
pr_status pr_cuda_memory_layer_begin(pr_cuda_memory *m, cudaStream_t *out, pr_error *err);
/* The same stream, for work that no upload belongs to. */
cudaStream_t pr_cuda_memory_stream(const pr_cuda_memory *m);

/* As the slots of the same names in pr_backend_ops. */
pr_status pr_cuda_memory_batch_begin(pr_cuda_memory *m, int slot, pr_error *err);
pr_status pr_cuda_memory_batch_end(pr_cuda_memory *m, int slot, pr_error *err);
pr_status pr_cuda_memory_batch_poll(pr_cuda_memory *m, int slot, bool *is_done, pr_error *err);
pr_status pr_cuda_memory_sync(pr_cuda_memory *m, pr_error *err);

/* Another number after every upload outside a batch and every free of device memory: what was
 * derived from device memory under the same number still holds. */
uint64_t pr_cuda_memory_epoch(const pr_cuda_memory *m);

#endif
