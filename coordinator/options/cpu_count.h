/* coordinator/options/cpu_count.h: how many threads this process may keep busy.
 *
 * The least of: the processors of its affinity mask, the CPU quota of its cgroup and of those above
 * it (version 1 and 2), and SLURM_CPUS_PER_TASK. Called once, when the configuration is built. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_CPU_COUNT_H
#define POOLRANK_COORDINATOR_OPTIONS_CPU_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* slurm_cpus_per_task: 0 when not set. At least 1. */
int32_t pr_cpu_count(int32_t slurm_cpus_per_task);

/* Pure parts, for tests. */

/* "max 100000" or "150000 100000" (cpu.max): threads, rounded up; 0: no quota, or unclear. */
int32_t pr_cpu_quota_parse(const char *text);

/* Of the text of /proc/self/cgroup the path of version 2 ("0::/a/b"), or of version 1's controller
 * "cpu". Written to out without a slash at its end; false when it is not there or too long. */
bool pr_cpu_cgroup_path(const char *text, bool is_version_2, char *out, size_t out_bytes);

#endif
