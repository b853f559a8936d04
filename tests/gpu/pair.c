#include "tests/gpu/pair.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMEOUT_MS = 60000 };

/* ids: a pipe, which rank 0 writes the group's id to and rank 1 reads it from. */
static int rank_run(gpu *g, int rank, const int ids[2], int (*body)(pair_rank *r))
{
    pr_error err;
    uint8_t id[PR_CUDA_COMM_ID_BYTES];
    gpu_open_device(g);
    if (g->n_devices < PAIR_RANKS) {
        if (rank == 0) printf("%s: %d device, two are needed\n", g->name, g->n_devices);
        return 3;
    }
    g->index = rank;
    pair_rank r = {.g = g, .rank = rank, .b = gpu_backend(g, PR_DTYPE_BF16)};
    if (rank == 0) {
        gpu_must(g, g->plugin->comm_id(id, &err), &err, "comm_id");
        if (write(ids[1], id, sizeof id) != (ssize_t)sizeof id) return 1;
    } else if (read(ids[0], id, sizeof id) != (ssize_t)sizeof id) {
        return 1;
    }
    const pr_cuda_group group = {.id = id, .tp_rank = rank, .tp_size = PAIR_RANKS, .n_stages = 1,
                                 .timeout_ms = TIMEOUT_MS};
    gpu_must(g, g->plugin->comm_create(r.b, &group, &r.comm, &err), &err, "comm_create");
    gpu_reserve(g, r.b, 128);
    return body(&r);
}

int pair_run(gpu *g, int (*body)(pair_rank *r))
{
    int ids[2], statuses[PAIR_RANKS] = {1, 1};
    pid_t processes[PAIR_RANKS];
    if (pipe(ids) != 0) return 1;
    fflush(NULL);
    for (int rank = 0; rank < PAIR_RANKS; rank++) {
        processes[rank] = fork();
        if (processes[rank] != 0) continue;
        close(ids[rank]); /* rank 1 sees the end of it where rank 0 fails */
        _exit(rank_run(g, rank, ids, body));
    }
    close(ids[0]);
    close(ids[1]);
    for (int rank = 0; rank < PAIR_RANKS; rank++) {
        int status = 0;
        if (processes[rank] > 0 && waitpid(processes[rank], &status, 0) > 0) {
            statuses[rank] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
    return statuses[0];
}
