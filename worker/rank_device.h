/* worker/rank_device.h: the device of one rank: which it is, whether the rank's shard fits there,
 * and the backend on it.
 *
 * Called on the rank's compute thread, before its weights are read. */
#ifndef POOLRANK_WORKER_RANK_DEVICE_H
#define POOLRANK_WORKER_RANK_DEVICE_H

#include "worker/device.h"
#include "worker/memory_check.h"

/* All borrowed for the call. */
typedef struct pr_rank_device {
    bool is_cuda;       /* else on the CPU, and only `cpu` is read */
    pr_cpu_options cpu;
    bool allow_tf32;
    double utilization; /* part of the device's memory that may be taken */
    const char *devices;  /* of pr_device_pick; NULL: all visible ones */
    int local_rank, n_local_ranks; /* among the ranks of all groups on this host */
    bool sees_its_own;  /* the launcher shows each rank one device, another one to each */
    pr_memory_demand demand;
} pr_rank_device;

/* *out owned by the caller. Fails as pr_cpu_backend_create; as pr_cuda_devices, pr_device_pick,
 * pr_memory_check, and the plug-in's backend_create. */
pr_status pr_rank_device_open(const pr_rank_device *rank, pr_backend **out, pr_error *err);

/* The device's number among n_devices visible ones. Fails as pr_device_pick. Pure. */
pr_status pr_rank_device_index(const pr_rank_device *rank, int n_devices, int *out, pr_error *err);

#endif
