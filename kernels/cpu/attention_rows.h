/* kernels/cpu/attention_rows.h: which keys a query row may see: one rule for every version of the
 * kernel. Pure inline functions. */
#ifndef POOLRANK_KERNELS_CPU_ATTENTION_ROWS_H
#define POOLRANK_KERNELS_CPU_ATTENTION_ROWS_H

#include "kernels/backend.h"

/* Positions begin .. end - 1. */
typedef struct key_range {
    int32_t begin;
    int32_t end;
} key_range;

static inline key_range visible_keys(const pr_attention *a, const pr_span *span, uint32_t query_row)
{
    key_range keys = {0, (int32_t)span->key_count};
    if (!a->causal) return keys;
    const int32_t position = a->query_positions[query_row];
    if (position + 1 < keys.end) keys.end = position + 1;
    if (a->window > 0 && position + 1 - a->window > 0) keys.begin = position + 1 - a->window;
    return keys;
}

/* The part of `keys` in a tile, counted from the tile's first key; empty: begin == end == 0. */
static inline key_range keys_in_tile(key_range keys, int32_t tile_begin, int32_t tile_keys)
{
    int32_t begin = keys.begin - tile_begin, end = keys.end - tile_begin;
    if (begin < 0) begin = 0;
    if (end > tile_keys) end = tile_keys;
    return begin < end ? (key_range){begin, end} : (key_range){0, 0};
}

#endif
