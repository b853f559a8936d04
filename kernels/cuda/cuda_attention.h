/* kernels/cuda/cuda_attention.h: attention's tiles on the device, kept from layer to layer.
 *
 * Owns two sets of tiles: a batch has its spans, the same in every layer, and in the last layer
 * those of the rows that the pooler reads. A set is made and uploaded when spans are not those of
 * either; as the upload is queued among the kernels, layers that are queued still read the set that
 * it overwrites before. Called by the CUDA backend, on the rank's compute thread. */
#ifndef POOLRANK_KERNELS_CUDA_CUDA_ATTENTION_H
#define POOLRANK_KERNELS_CUDA_CUDA_ATTENTION_H

#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/kernels.h"

typedef struct pr_cuda_tiles_cache pr_cuda_tiles_cache;

/* out: owned. Fails PR_E_NOMEM. */
pr_status pr_cuda_tiles_cache_create(const pr_backend_limits *limits, pr_cuda_tiles_cache **out,
                                     pr_error *err);
void pr_cuda_tiles_cache_free(pr_cuda_memory *m, pr_cuda_tiles_cache *c); /* NULL is fine */

/* Most bytes of a set, and of an upload. */
size_t pr_cuda_tiles_cache_bytes(const pr_cuda_tiles_cache *c);

/* The tiles of a->spans, in device memory, for kernels that are queued next. Called when the
 * batch's first layer has begun. */
pr_status pr_cuda_tiles_cache_get(pr_cuda_tiles_cache *c, pr_cuda_memory *m, const pr_attention *a,
                                  const pr_cuda_tile **tiles, uint32_t *n_tiles, pr_error *err);

#endif
