/* tests/gpu/allreduce.c: sums over two ranks with NCCL: right, and how fast. Bandwidth is the one
 * that a ring sends: 2 (n - 1) / n of the bytes that are summed, from each rank. */
#include "tests/gpu/pair.h"

#include <stdlib.h>

typedef struct sum_call {
    const pair_rank *r;
    void *x;
    int64_t n;
} sum_call;

static void queue(void *context)
{
    pr_error err;
    const sum_call *c = context;
    gpu_must(c->r->g, pr_comm_all_reduce(c->r->comm, c->x, c->n, PR_DTYPE_BF16, &err), &err,
             "all_reduce");
}

/* Rank r holds (r + 1) (i % 7): whole numbers, so that every order gives the same sum. */
static bool is_sum_right(const pair_rank *r, int64_t n)
{
    float *values = gpu_memory(r->g, (size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = (float)((r->rank + 1) * (i % 7));
    sum_call c = {r, gpu_floats(r->g, r->b, values, (size_t)n, (size_t)n, PR_DTYPE_BF16), n};
    gpu_batch(r->g, r->b, queue, &c);
    gpu_read(r->g, r->b, c.x, PR_DTYPE_BF16, (size_t)n, values);
    bool ok = true;
    for (int64_t i = 0; i < n; i++) ok = ok && values[i] == (float)(3 * (i % 7));
    r->b->ops->free(r->b, c.x);
    free(values);
    return ok;
}

static void bench(pair_rank *r, int64_t n)
{
    bool ok = is_sum_right(r, n);
    float *zeros = gpu_memory(r->g, (size_t)n * sizeof *zeros);
    sum_call c = {r, gpu_floats(r->g, r->b, zeros, (size_t)n, (size_t)n, PR_DTYPE_BF16), n};
    double seconds = gpu_time(r->g, r->b, queue, &c, 20), bytes = 2.0 * (double)n;
    double rate = 2.0 * (PAIR_RANKS - 1) / PAIR_RANKS * bytes / seconds;
    double link = r->g->sheet ? r->g->sheet->link_bytes_per_s / 2 : 0;
    r->b->ops->free(r->b, c.x);
    free(zeros);
    if (r->rank != 0) return;
    gpu_check(r->g, "allreduce", ok,
              json_pack("{s:f, s:f, s:f, s:o}", "bytes", bytes, "seconds", seconds, "bytes_per_s",
                        rate, "share_of_link", gpu_ratio(rate, link)),
              "%12.0f bytes of bfloat16 over 2 ranks: %9.1f us, %8.2f GB/s", bytes, seconds * 1e6,
              rate * 1e-9);
}

static int body(pair_rank *r)
{
    static const int64_t sizes[] = {8192, 131072, 1048576, 16777216, 67108864};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (r->g->is_tiny && i > 1) break;
        bench(r, sizes[i]);
    }
    r->comm->ops->close(r->comm);
    r->b->ops->close(r->b);
    return gpu_close(r->g);
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open_line(&g, argc, argv);
    return pair_run(&g, body);
}
