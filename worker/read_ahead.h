/* worker/read_ahead.h: reads the rows of a tensor in runs, the next run while the caller works on
 * the last one.
 *
 * Owns two buffers, of the backend's host memory (pinned on a GPU, which copies from there without
 * another copy on the way), and the threads that read into them, one on a CPU and more for a GPU.
 * Borrows backend and checkpoint, which outlive it.
 * Used by the loader, on the rank's compute thread, one tensor at a time. */
#ifndef POOLRANK_WORKER_READ_AHEAD_H
#define POOLRANK_WORKER_READ_AHEAD_H

#include "kernels/backend.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/plan/shard_plan.h"

typedef struct pr_read_ahead pr_read_ahead;

/* Fails PR_E_NOMEM, PR_E_INTERNAL when no thread can be started. */
pr_status pr_read_ahead_create(pr_backend *backend, pr_read_ahead **out, pr_error *err);
void pr_read_ahead_free(pr_read_ahead *r);

/* Receives rows row .. row + n_rows - 1 of the rectangle (its first row is 0), contiguous, in the
 * tensor's dtype; src is borrowed for the call. A failure ends the reading and is returned. */
typedef pr_status (*pr_rows_sink)(void *context, int64_t row, int64_t n_rows, const void *src,
                                  pr_dtype src_dtype, pr_error *err);

/* Hands the whole rectangle of a tensor to the sink, in order of rows. Fails as
 * pr_checkpoint_read, as the sink, or PR_E_NOMEM for a row that is longer than any before. */
pr_status pr_read_ahead_rows(pr_read_ahead *r, pr_checkpoint *checkpoint, const pr_tensor *t,
                             const pr_rectangle *rectangle, pr_rows_sink sink, void *context,
                             pr_error *err);

#endif
