/* worker/cuda/nccl_comm.h: a pr_comm over NCCL, for ranks whose backend is CUDA.
 *
 * Owns two communicators, both nonblocking: all ranks of the group (rank = stage * tp_size +
 * tp_rank) for what goes from stage to stage, and the ranks of a stage for sums; with one stage
 * they are the same. Everything is queued on the backend's compute stream, in the order of the
 * calls; a call returns when NCCL has queued it, never waits for a peer's answer but while NCCL
 * connects, which its first operations do, and then for timeout_ms at most. Called by the rank's
 * compute thread.
 *
 * Sums are added in NCCL's order, which depends on the number of ranks, on their wiring, and on the
 * message's size. How far that may drift, for p ranks and partial sums y_1 … y_p of an element:
 * each y_i is rounded to the dtype once, and so may be the result of each of the p - 1 additions (a
 * ring in bf16 rounds at every hop). So the error is at most p * u * (|y_1| + … + |y_p|) to first
 * order in u, half the gap after 1: 2^-8 in bf16 (8 bits with the hidden one), 2^-11 in f16, 2^-24
 * in f32.
 *
 * A peer that dies is known to NCCL only where a connection of the network breaks (`check` then
 * says so); over NVLink or shared memory its partners wait in their kernels. There the control
 * plane ends the group: its coordinator sees the process end (docs/ranks.md). */
#ifndef POOLRANK_WORKER_CUDA_NCCL_COMM_H
#define POOLRANK_WORKER_CUDA_NCCL_COMM_H

#include "worker/cuda/plugin.h"

/* pr_cuda_plugin's comm_id and comm_create. backend: a CUDA backend, borrowed until close. */
pr_status pr_nccl_comm_id(uint8_t out[PR_CUDA_COMM_ID_BYTES], pr_error *err);
pr_status pr_nccl_comm_create(pr_backend *backend, const pr_cuda_group *group, pr_comm **out,
                              pr_error *err);

#endif
