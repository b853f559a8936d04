#define _GNU_SOURCE /* readlink */
#include "program/mpi_plugin.h"

#include "runtime/base/file.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char file_name[] = "libpoolrank-mpi.so";

/* The folder of the running program. */
static bool program_folder(char *out, size_t out_bytes)
{
    ssize_t n = readlink("/proc/self/exe", out, out_bytes - 1);
    if (n <= 0 || (size_t)n >= out_bytes - 1) return false;
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return true;
}

static pr_status plugin_find(char *out, size_t out_bytes, pr_error *err)
{
    static const char *const below[] = {"", "/../lib/poolrank"};
    char folder[PATH_MAX];
    if (!program_folder(folder, sizeof folder)) {
        return pr_error_errno(err, errno, "the program's own path");
    }
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        int n = snprintf(out, out_bytes, "%s%s/%s", folder, below[i], file_name);
        if (n > 0 && (size_t)n < out_bytes && pr_file_exists(out)) return PR_OK;
    }
    return pr_error_set(err, PR_E_NOT_FOUND,
                        "%s is neither in %s nor in %s%s: a group of several ranks needs it. It is "
                        "built where Open MPI is (Debian: libopenmpi-dev) and POOLRANK_MPI is on, "
                        "as it is by default; POOLRANK_MPI_PLUGIN may name its path",
                        file_name, folder, folder, below[1]);
}

pr_status pr_mpi_plugin_load(const char *named, const pr_mpi_plugin **out, pr_error *err)
{
    char path[PATH_MAX + 64];
    if (named && *named) {
        snprintf(path, sizeof path, "%s", named);
        if (!pr_file_exists(path)) {
            return pr_error_set(err, PR_E_NOT_FOUND, "POOLRANK_MPI_PLUGIN: %s: no such file", path);
        }
    } else {
        pr_status st = plugin_find(path, sizeof path, err);
        if (st != PR_OK) return st;
    }
    /* Open MPI's own components expect its symbols among the program's: RTLD_GLOBAL. */
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "load %s: %s", path, dlerror());
    }
    const pr_mpi_plugin *(*get)(void) = NULL;
    void *symbol = dlsym(handle, "pr_mpi_plugin_get");
    memcpy(&get, &symbol, sizeof get); /* ISO C has no cast from an object's to a function's */
    const pr_mpi_plugin *plugin = get ? get() : NULL;
    if (!plugin || plugin->abi != PR_MPI_PLUGIN_ABI) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: found ABI %u, expected %d", path,
                            plugin ? plugin->abi : 0, PR_MPI_PLUGIN_ABI);
    }
    *out = plugin;
    return PR_OK;
}
