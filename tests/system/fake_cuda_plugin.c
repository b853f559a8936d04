/* A CUDA plug-in that computes nothing: the program's choice of devices without any. What it says
 * is in its environment:
 *
 *     FAKE_CUDA_ABI       its ABI number; unset: the right one
 *     FAKE_CUDA_DEVICES   how many devices; unset: none, and a driver that is too old
 *     FAKE_CUDA_MEMORY    GB of each; unset: 80
 *     FAKE_CUDA_LOG       a file that gets a line for each backend that is asked for
 *     FAKE_CUDA_RANKS     a backend is refused once so many lines are in the log, so that no rank
 *                         is ended before it has said its own */
#define _POSIX_C_SOURCE 200809L
#include "worker/cuda/plugin.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WAITS_MAX = 2000, WAIT_MS = 10 };

static long number_of(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static pr_status devices(pr_cuda_device out[PR_CUDA_DEVICES_MAX], int *n, pr_error *err)
{
    *n = (int)number_of("FAKE_CUDA_DEVICES", 0);
    if (*n == 0) {
        return pr_error_set(err, PR_E_UNAVAILABLE, "driver for CUDA 11.0, expected 13.0 or newer");
    }
    for (int i = 0; i < *n; i++) {
        uint64_t bytes = (uint64_t)number_of("FAKE_CUDA_MEMORY", 80) * 1000000000;
        out[i] = (pr_cuda_device){.index = i, .name = "Fake GPU", .capability = 90,
                                  .total_bytes = bytes, .free_bytes = bytes};
    }
    return PR_OK;
}

static int lines_in(const char *path)
{
    int n = 0;
    FILE *f = fopen(path, "r");
    for (int c; f && (c = fgetc(f)) != EOF;) n += c == '\n';
    if (f) fclose(f);
    return n;
}

static pr_status backend_create(const pr_cuda_options *o, pr_backend **out, pr_error *err)
{
    (void)out;
    char line[128];
    const char *path = getenv("FAKE_CUDA_LOG");
    const struct timespec wait = {.tv_nsec = WAIT_MS * 1000000};
    snprintf(line, sizeof line, "device %d dtype %s tf32 %s\n", o->device, pr_dtype_name(o->dtype),
             o->allow_tf32 ? "on" : "off");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (fd >= 0 && write(fd, line, strlen(line)) < 0) abort();
    if (fd >= 0) close(fd);
    for (int i = 0; fd >= 0 && i < WAITS_MAX; i++) {
        if (lines_in(path) >= number_of("FAKE_CUDA_RANKS", 1)) break;
        nanosleep(&wait, NULL);
    }
    return pr_error_set(err, PR_E_UNSUPPORTED, "a fake device computes nothing: %.*s",
                        (int)strcspn(line, "\n"), line);
}

static pr_cuda_plugin plugin = {.is_simulated = true, .description = "fake", .devices = devices,
                                .backend_create = backend_create};

__attribute__((visibility("default"))) const pr_cuda_plugin *pr_cuda_plugin_get(void)
{
    plugin.abi = (uint32_t)number_of("FAKE_CUDA_ABI", PR_CUDA_PLUGIN_ABI);
    return &plugin;
}
