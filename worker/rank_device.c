#include "worker/rank_device.h"

pr_status pr_rank_device_index(const pr_rank_device *r, int n_devices, int *out, pr_error *err)
{
    if (!r->sees_its_own || r->devices || n_devices != 1) {
        return pr_device_pick(r->devices, n_devices, r->local_rank, r->n_local_ranks, out, err);
    }
    *out = 0;
    return PR_OK;
}

pr_status pr_rank_device_open(const pr_rank_device *r, pr_backend **out, pr_error *err)
{
    pr_device_config config = {.is_cuda = r->is_cuda, .cpu = r->cpu};
    if (!r->is_cuda) return pr_device_open(&config, out, err);
    const pr_cuda_plugin *plugin = NULL;
    pr_cuda_device devices[PR_CUDA_DEVICES_MAX];
    int n = 0, index = 0;
    pr_status st = pr_cuda_devices(&plugin, devices, &n, err);
    if (st == PR_OK) st = pr_rank_device_index(r, n, &index, err);
    if (st == PR_OK) st = pr_memory_check(&r->demand, &devices[index], r->utilization, err);
    if (st != PR_OK) return pr_error_context(err, st, "device cuda");
    config.cuda = (pr_cuda_options){.device = devices[index].index,
                                    .dtype = r->demand.dtype,
                                    .allow_tf32 = r->allow_tf32};
    st = pr_device_open(&config, out, err);
    return st == PR_OK ? st : pr_error_context(err, st, "device cuda %d", devices[index].index);
}
