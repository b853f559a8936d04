/* coordinator/engine/cache_size.h: how many blocks of the prefix cache the ranks of a replica group
 * keep, from what --prefix-cache-bytes says.
 *
 * Called once, on the opening thread. */
#ifndef POOLRANK_COORDINATOR_ENGINE_CACHE_SIZE_H
#define POOLRANK_COORDINATOR_ENGINE_CACHE_SIZE_H

#include "coordinator/model/model.h"

typedef struct pr_cache_size {
    uint32_t n_blocks;  /* of PR_CACHE_BLOCK_TOKENS tokens; 0: no cache */
    bool keeps_hidden;  /* some task's pooler reads more than the last row */
    uint64_t n_bytes;   /* over all ranks of all groups */
} pr_cache_size;

/* Of the memory that this process may use, what the cache takes unless told otherwise: 1/16, at
 * most 2 GiB. */
uint64_t pr_cache_bytes_default(void);

/* n_bytes: for all ranks of all groups. dtype: of activations. A cache of less than a few blocks is
 * none. Fails as pr_shard_plan. */
pr_status pr_cache_size_plan(const pr_model *model, const pr_config *config, uint64_t n_bytes,
                             pr_dtype dtype, pr_cache_size *out, pr_error *err);

#endif
