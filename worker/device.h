/* worker/device.h: where a rank computes: finds the CUDA plug-in, says which devices there are, and
 * makes the backend that was asked for.
 *
 * The plug-in stays loaded until the process ends. Any thread may ask for it; the first call loads
 * it. */
#ifndef POOLRANK_WORKER_DEVICE_H
#define POOLRANK_WORKER_DEVICE_H

#include "kernels/cpu/cpu_backend.h"
#include "worker/cuda/plugin.h"

/* Loads libpoolrank-cuda.so from beside the program or the library that this is part of, from
 * ../lib/poolrank, or what POOLRANK_CUDA_PLUGIN names. Fails PR_E_NOT_FOUND (no such file: built
 * without CUDA), PR_E_UNSUPPORTED with the linker's words (libraries of CUDA are missing) or both
 * ABI numbers. */
pr_status pr_cuda_plugin_load(const pr_cuda_plugin **out, pr_error *err);

/* The plug-in, and the devices it sees; fails as pr_cuda_plugin_load and as its `devices`. */
pr_status pr_cuda_devices(const pr_cuda_plugin **plugin, pr_cuda_device out[PR_CUDA_DEVICES_MAX],
                          int *n, pr_error *err);

/* Which of the devices a rank takes, by its number among the ranks of this host: groups one after
 * the other, each a slice of the list. list: "0,1,2,3", indices of visible devices; NULL: all, in
 * order. Fails PR_E_ARGUMENT: a number that no device has or that is there twice, more local ranks
 * than devices (both numbers). Pure. */
pr_status pr_device_pick(const char *list, int n_devices, int local_rank, int n_local_ranks,
                         int *out, pr_error *err);

/* How a rank gets its backend. */
typedef struct pr_device_config {
    bool is_cuda;             /* else cpu */
    pr_cpu_options cpu;
    pr_cuda_options cuda;
} pr_device_config;

/* *out owned by the caller. Fails as pr_cpu_backend_create or as the plug-in. */
pr_status pr_device_open(const pr_device_config *config, pr_backend **out, pr_error *err);

#endif
