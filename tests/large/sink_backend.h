/* tests/large/sink_backend.h: a backend that takes weights and keeps none of them.
 *
 * Counts what it is given; of a matrix or a table every row must come once. One thread. */
#ifndef POOLRANK_TESTS_LARGE_SINK_BACKEND_H
#define POOLRANK_TESTS_LARGE_SINK_BACKEND_H

#include "kernels/backend.h"

typedef struct sink_backend {
    pr_backend base; /* has what loading needs; the other slots are NULL */
    uint64_t n_bytes;     /* written, in the dtype they came in */
    uint64_t n_elements;  /* of matrices, tables and vectors that were made */
    uint64_t n_wrong;     /* matrices and tables that were freed without each row written once */
    uint64_t n_held;      /* made and not freed */
} sink_backend;

void sink_backend_init(sink_backend *sink);

#endif
