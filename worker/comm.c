#include "worker/comm.h"

#include "runtime/base/clock.h"

#include <string.h>

static pr_status counted(pr_comm *c, uint64_t begin_ns, pr_status st)
{
    c->busy_ns += pr_clock_ns() - begin_ns;
    return st;
}

pr_status pr_comm_all_reduce(pr_comm *c, void *x, int64_t n, pr_dtype dtype, pr_error *err)
{
    if (c->tp_size == 1 || n == 0) return PR_OK;
    uint64_t begin_ns = pr_clock_ns();
    return counted(c, begin_ns, c->ops->all_reduce(c, x, n, dtype, err));
}

pr_status pr_comm_reduce_to(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int root,
                            pr_error *err)
{
    if (c->tp_size == 1 || n == 0) return PR_OK;
    uint64_t begin_ns = pr_clock_ns();
    return counted(c, begin_ns, c->ops->reduce_to(c, x, n, dtype, root, err));
}

pr_status pr_comm_all_gather(pr_comm *c, const float *src, int64_t n, float *dst, pr_error *err)
{
    if (n == 0) return PR_OK;
    if (c->tp_size == 1) {
        memcpy(dst, src, (size_t)n * sizeof *dst);
        return PR_OK;
    }
    uint64_t begin_ns = pr_clock_ns();
    return counted(c, begin_ns, c->ops->all_gather(c, src, n, dst, err));
}

pr_status pr_comm_send(pr_comm *c, const void *x, int64_t n, pr_dtype dtype, int stage,
                       pr_error *err)
{
    if (n == 0) return PR_OK;
    uint64_t begin_ns = pr_clock_ns();
    return counted(c, begin_ns, c->ops->send(c, x, n, dtype, stage, err));
}

pr_status pr_comm_recv(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int stage, pr_error *err)
{
    if (n == 0) return PR_OK;
    uint64_t begin_ns = pr_clock_ns();
    return counted(c, begin_ns, c->ops->recv(c, x, n, dtype, stage, err));
}
