/* tests/gpu/killed_rank.c: rank 1 is killed between two sums. Is rank 0, whose second sum is
 * queued, told within LIMIT_MS, and without waiting in a call?
 *
 * NCCL knows it for sure only where a connection of the network breaks (worker/cuda/nccl_comm.h):
 * on hardware a "no" is a finding and no failure; there the coordinator ends the group. That this
 * process then ends, though its sum never does, is what the step's limit looks at. */
#define _GNU_SOURCE /* nanosleep, kill */
#include "tests/gpu/pair.h"

#include "runtime/base/clock.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { N = 65536, LIMIT_MS = 30000 };

static void sum_queue(const pair_rank *r, void *x, int slot)
{
    pr_error err;
    gpu_must(r->g, r->b->ops->batch_begin(r->b, slot, &err), &err, "batch_begin");
    gpu_must(r->g, pr_comm_all_reduce(r->comm, x, N, PR_DTYPE_BF16, &err), &err, "all_reduce");
    gpu_must(r->g, r->b->ops->batch_end(r->b, slot, &err), &err, "batch_end");
}

/* Milliseconds until the communicator or the backend reports a failure; -1: neither did. */
static int64_t failure_wait(const pair_rank *r, pr_error *err)
{
    int64_t begin = pr_clock_ms();
    bool is_done = false;
    while (pr_clock_ms() - begin < LIMIT_MS) {
        pr_status st = r->b->ops->batch_poll(r->b, 1, &is_done, err);
        if (st == PR_OK && r->comm->ops->check) st = r->comm->ops->check(r->comm, err);
        if (st != PR_OK) return pr_clock_ms() - begin;
        if (is_done) return -1;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return -1;
}

static int body(pair_rank *r)
{
    pr_error err = {0};
    void *x = gpu_bytes(r->g, r->b, NULL, N * 2);
    sum_queue(r, x, 0);
    gpu_must(r->g, r->b->ops->sync(r->b, &err), &err, "sync");
    if (r->rank == 1) kill(getpid(), SIGKILL);
    sum_queue(r, x, 1);
    int64_t ms = failure_wait(r, &err);
    const char *said = ms >= 0 ? err.message : "nothing said";
    gpu_check(r->g, "killed-rank", ms >= 0 || !r->g->plugin->is_simulated,
              json_pack("{s:b, s:I, s:s}", "is_noticed", ms >= 0, "ms", (json_int_t)ms, "message",
                        said),
              "the other rank was killed; noticed: %s (%lld ms): %s", ms >= 0 ? "yes" : "NO",
              (long long)ms, said);
    return gpu_close(r->g);
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open_line(&g, argc, argv);
    return pair_run(&g, body);
}
