#define _GNU_SOURCE /* sched_getaffinity */

#include "coordinator/options/cpu_count.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CPU_PATH_BYTES = 4096 };

int32_t pr_cpu_quota_parse(const char *text)
{
    char *end;
    long long quota = strtoll(text, &end, 10);
    if (end == text || quota <= 0) return 0;
    long long period = strtoll(end, &end, 10);
    if (period <= 0) return 0;
    long long n = quota / period + (quota % period != 0);
    return n > INT32_MAX ? 0 : (int32_t)n;
}

/* Whether the comma-separated list [list, end) has the word. */
static bool list_has(const char *list, const char *end, const char *word)
{
    size_t n = strlen(word);
    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma ? comma : end;
        if ((size_t)(stop - list) == n && memcmp(list, word, n) == 0) return true;
        list = stop + 1;
    }
    return false;
}

bool pr_cpu_cgroup_path(const char *text, bool is_version_2, char *out, size_t out_bytes)
{
    for (const char *line = text; *line;) {
        const char *end = line + strcspn(line, "\n");
        const char *first = memchr(line, ':', (size_t)(end - line));
        const char *second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
        bool is_wanted = second && (is_version_2 ? strncmp(line, "0::", 3) == 0
                                                 : list_has(first + 1, second, "cpu"));
        if (is_wanted) {
            size_t n = (size_t)(end - second - 1);
            if (n >= out_bytes) return false;
            memcpy(out, second + 1, n);
            while (n > 0 && out[n - 1] == '/') n--;
            out[n] = '\0';
            return true;
        }
        line = *end ? end + 1 : end;
    }
    return false;
}

/* The start of a small file of /proc or /sys; false when it cannot be read. */
static bool small_file_read(const char *path, char *out, size_t out_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, out, out_bytes - 1);
    close(fd);
    if (n < 0) return false;
    out[n] = '\0';
    return true;
}

/* The quota of one folder; 0: none. */
static int32_t folder_quota(const char *mount, const char *path, bool is_version_2)
{
    char file[CPU_PATH_BYTES + 64];
    char text[128];
    if (is_version_2) {
        snprintf(file, sizeof file, "%s%s/cpu.max", mount, path);
        return small_file_read(file, text, sizeof text) ? pr_cpu_quota_parse(text) : 0;
    }
    char period[64];
    snprintf(file, sizeof file, "%s%s/cpu.cfs_quota_us", mount, path);
    if (!small_file_read(file, text, 32)) return 0;
    snprintf(file, sizeof file, "%s%s/cpu.cfs_period_us", mount, path);
    if (!small_file_read(file, period, 32)) return 0;
    text[strcspn(text, "\n")] = ' ';
    strncat(text, period, sizeof text - strlen(text) - 1);
    return pr_cpu_quota_parse(text);
}

/* The least quota from the process's own group up to the root; 0: none. */
static int32_t cgroup_quota(bool is_version_2)
{
    char text[CPU_PATH_BYTES];
    char path[CPU_PATH_BYTES];
    if (!small_file_read("/proc/self/cgroup", text, sizeof text)) return 0;
    if (!pr_cpu_cgroup_path(text, is_version_2, path, sizeof path)) return 0;
    const char *mount = is_version_2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    int32_t least = 0;
    for (;;) {
        int32_t n = folder_quota(mount, path, is_version_2);
        if (n > 0 && (least == 0 || n < least)) least = n;
        char *slash = strrchr(path, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

int32_t pr_cpu_count(int32_t slurm_cpus_per_task)
{
    int32_t n = 0;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        n = (int32_t)CPU_COUNT(&set);
    } else {
        n = (int32_t)sysconf(_SC_NPROCESSORS_ONLN); /* more processors than a cpu_set_t holds */
    }
    const int32_t bounds[] = {cgroup_quota(true), cgroup_quota(false), slurm_cpus_per_task};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        if (bounds[i] > 0 && bounds[i] < n) n = bounds[i];
    }
    return n > 0 ? n : 1;
}
