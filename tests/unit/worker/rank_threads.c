#include "tests/unit/worker/rank_threads.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { RANKS_MAX = 64 };

typedef struct rank_thread {
    pthread_t thread;
    int rank;
    pr_comm *comm;
    void (*body)(void *context, int rank, pr_comm *comm);
    void *context;
} rank_thread;

static void give_up(const char *what)
{
    fprintf(stderr, "ranks as threads: %s\n", what);
    abort();
}

static void *rank_main(void *context)
{
    rank_thread *r = context;
    r->body(r->context, r->rank, r->comm);
    return NULL;
}

void rank_threads_run(int tp_size, int n_stages,
                      void (*body)(void *context, int rank, pr_comm *comm), void *context)
{
    rank_thread ranks[RANKS_MAX];
    pr_shm_region *region = NULL;
    pr_error err;
    int n = tp_size * n_stages;
    if (n > RANKS_MAX) give_up("too many");
    if (pr_shm_region_create(tp_size, n_stages, &region, &err) != PR_OK) give_up(err.message);
    for (int i = 0; i < n; i++) {
        ranks[i] = (rank_thread){.rank = i, .body = body, .context = context};
        if (pr_comm_shm_create(region, i, &ranks[i].comm, &err) != PR_OK) give_up(err.message);
    }
    for (int i = 0; i < n; i++) {
        if (pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]) != 0) give_up("thread");
    }
    for (int i = 0; i < n; i++) pthread_join(ranks[i].thread, NULL);
    pr_shm_region_close(region);
}
