/* worker/cuda/device_memory.h: how much of each device's memory is free, for programs that have not
 * chosen one.
 *
 * CUDA itself says so only to a process with a context on the device, which takes memory of it: a
 * rank that looked at all devices of its host would leave one on each. NVML, which comes with the
 * driver, says it without; it is loaded for the question and left again. Any thread. */
#ifndef POOLRANK_WORKER_CUDA_DEVICE_MEMORY_H
#define POOLRANK_WORKER_CUDA_DEVICE_MEMORY_H

#include "worker/cuda/plugin.h"

/* Fills free_bytes of devices [n], the rest of which is filled; 0 where nobody knows (no NVML; a
 * part of a device, of which NVML knows the whole). */
void pr_device_memory_fill(pr_cuda_device *devices, int n);

#endif
