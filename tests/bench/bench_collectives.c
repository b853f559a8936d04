/* Sums over ranks: shared memory and MPI in rank order, as the forward pass has them, beside
 * MPI_Allreduce, which adds in an order of its own choice.
 *
 *     mpirun -n 2 --bind-to none build/tests/bench/bench_collectives build/libpoolrank-mpi.so
 *
 * Prints microseconds: the median and the 90th percentile of rank 0's calls. */
#define _GNU_SOURCE /* setenv, sched_setaffinity */
#include "program/mpi_plugin.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CALLS_MAX = 400, FLOATS_MAX = 1 << 20 };

typedef struct bench {
    int rank, size;
    pr_comm *shm, *mpi;
    float *x;
} bench;

typedef pr_status (*one_call)(bench *b, int64_t n, pr_error *err);

static pr_status shm_call(bench *b, int64_t n, pr_error *err)
{
    return pr_comm_all_reduce(b->shm, b->x, n, PR_DTYPE_F32, err);
}

static pr_status mpi_call(bench *b, int64_t n, pr_error *err)
{
    return pr_comm_all_reduce(b->mpi, b->x, n, PR_DTYPE_F32, err);
}

static pr_status allreduce_call(bench *b, int64_t n, pr_error *err)
{
    (void)err;
    MPI_Allreduce(MPI_IN_PLACE, b->x, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    return PR_OK;
}

static void give_up(const char *message)
{
    fprintf(stderr, "bench_collectives: %s\n", message);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Each rank its own processor, where there are enough: as `poolrank worker` does it. */
static void pin(int rank, int size)
{
    cpu_set_t all, own;
    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < size) return;
    CPU_ZERO(&own);
    for (int cpu = 0, i = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && i++ == rank) CPU_SET(cpu, &own);
    }
    sched_setaffinity(0, sizeof own, &own);
}

static void measure(bench *b, one_call call, int64_t n, double *median, double *late)
{
    double us[CALLS_MAX];
    pr_error err;
    int n_calls = n >= 1 << 18 ? CALLS_MAX / 4 : CALLS_MAX;
    for (int i = -10; i < n_calls; i++) {
        for (int64_t k = 0; k < n; k++) b->x[k] = (float)b->rank;
        MPI_Barrier(MPI_COMM_WORLD);
        double begin = now_us();
        if (call(b, n, &err) != PR_OK) give_up(err.message);
        if (i >= 0) us[i] = now_us() - begin;
    }
    qsort(us, (size_t)n_calls, sizeof *us, by_value);
    *median = us[n_calls / 2];
    *late = us[n_calls * 9 / 10];
}

static pr_comm *comm_make(const pr_mpi_plugin *mpi, const char *way, int size)
{
    pr_comm *c = NULL;
    pr_error err;
    setenv("POOLRANK_COMM", way, 1);
    if (mpi->comm_create(0, size, 1, &c, &err) != PR_OK) give_up(err.message);
    return c;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        one_call call;
    } ways[] = {{"shm", shm_call}, {"mpi", mpi_call}, {"MPI_Allreduce", allreduce_call}};
    const pr_mpi_plugin *mpi = NULL;
    pr_error err;
    bench b = {0};
    if (argc != 2) give_up("expected the path of libpoolrank-mpi.so");
    if (pr_mpi_plugin_load(argv[1], &mpi, &err) != PR_OK) give_up(err.message);
    if (mpi->init(&b.rank, &b.size, &err) != PR_OK) give_up(err.message);
    pin(b.rank, b.size);
    b.shm = comm_make(mpi, "shm", b.size);
    b.mpi = comm_make(mpi, "mpi", b.size);
    b.x = malloc(FLOATS_MAX * sizeof *b.x);
    if (!b.x) give_up("no memory");
    if (b.rank == 0) printf("%d ranks, us p50 (p90)\n%10s", b.size, "bytes");
    for (int w = 0; b.rank == 0 && w < 3; w++) printf(" %20s", ways[w].name);
    for (int64_t n = 1024; n <= FLOATS_MAX; n *= 4) {
        if (b.rank == 0) printf("\n%10lld", (long long)n * 4);
        for (int w = 0; w < 3; w++) {
            double median, late;
            measure(&b, ways[w].call, n, &median, &late);
            if (b.rank == 0) printf(" %10.1f (%7.1f)", median, late);
        }
    }
    if (b.rank == 0) printf("\n");
    b.shm->ops->close(b.shm);
    b.mpi->ops->close(b.mpi);
    free(b.x);
    mpi->finalize();
    return 0;
}
