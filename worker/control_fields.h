/* worker/control_fields.h: what packing and unpacking of control messages share: how many elements
 * each message has, and which poolings count as equal. Internal to worker/control*.c. */
#ifndef POOLRANK_WORKER_CONTROL_FIELDS_H
#define POOLRANK_WORKER_CONTROL_FIELDS_H

#include "worker/control.h"

/* Elements of each message's array, the kind included. */
static const uint8_t pr_control_n_elements[PR_CONTROL_KIND_COUNT] = {
    [PR_CONTROL_HELLO] = 9,  [PR_CONTROL_CHALLENGE] = 3, [PR_CONTROL_PROOF] = 2,
    [PR_CONTROL_REFUSE] = 5, [PR_CONTROL_LOAD] = 8,      [PR_CONTROL_READY] = 7,
    [PR_CONTROL_FAILED] = 5, [PR_CONTROL_BATCH] = 12,    [PR_CONTROL_RESULT] = 5,
    [PR_CONTROL_DONE] = 4,   [PR_CONTROL_PING] = 2,      [PR_CONTROL_PONG] = 6,
    [PR_CONTROL_ABORT] = 5,  [PR_CONTROL_SHUTDOWN] = 1,
    [PR_CONTROL_COMM_ID] = 3,
};

enum {
    PR_CONTROL_POOLING_ELEMENTS = 10,
    PR_CONTROL_SEGMENT_BYTES = 16, /* token_begin, token_count, position_begin, parent */
    PR_CONTROL_SEQUENCE_BYTES = 8, /* leaf_segment, n_tokens */
    PR_CONTROL_STORE_BYTES = 8 + 4 * PR_CACHE_BLOCK_TOKENS, /* block, has_hidden, rows */
    PR_CONTROL_SHAPE_BYTES = 8     /* n_rows, n_columns */
};

static inline uint32_t pr_u32_get(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline char *pr_u32_put(char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (char)(v >> (8 * i) & 0xFF);
    return p + 4;
}

/* Of the fields that are sent. */
uint64_t pr_control_pooling_hash(const pr_pooling *p);
bool pr_control_pooling_equal(const pr_pooling *a, const pr_pooling *b);

#endif
