#define _GNU_SOURCE /* readlink, dladdr */
#include "worker/device.h"

#include "runtime/base/file.h"

#include <assert.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char file_name[] = "libpoolrank-cuda.so";
static const char driver_name[] = "libcuda.so.1";

/* ---- the plug-in ---- */

/* The folder of the running program. */
static bool program_folder(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0 || n >= PATH_MAX - 1) return false;
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return true;
}

/* The folder of libpoolrank.so, or of whatever else this code was linked into. */
static bool library_folder(char out[PATH_MAX])
{
    Dl_info info;
    if (dladdr((void *)(uintptr_t)pr_cuda_plugin_load, &info) == 0 || !info.dli_fname) return false;
    if (!realpath(info.dli_fname, out)) return false;
    *strrchr(out, '/') = '\0';
    return true;
}

static bool plugin_find_below(const char *folder, char *out, size_t out_bytes)
{
    static const char *const below[] = {"", "/../lib/poolrank", "/poolrank"};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        int n = snprintf(out, out_bytes, "%s%s/%s", folder, below[i], file_name);
        if (n > 0 && (size_t)n < out_bytes && pr_file_exists(out)) return true;
    }
    return false;
}

/* Beside the program and in ../lib/poolrank; beside the library and in poolrank/ there, which is
 * the same place for a program of somebody else's that embeds it. */
static pr_status plugin_find(char *out, size_t out_bytes, pr_error *err)
{
    char program[PATH_MAX] = "", library[PATH_MAX] = "";
    if (program_folder(program) && plugin_find_below(program, out, out_bytes)) return PR_OK;
    if (library_folder(library) && plugin_find_below(library, out, out_bytes)) return PR_OK;
    return pr_error_set(err, PR_E_NOT_FOUND,
                        "built without CUDA: no %s in %s%s%s nor in ../lib/poolrank from there (it "
                        "is built where CMake finds the CUDA toolkit; POOLRANK_CUDA_PLUGIN may "
                        "name its path)",
                        file_name, program, strcmp(program, library) == 0 ? "" : ", in ",
                        strcmp(program, library) == 0 ? "" : library);
}

/* Without a driver nothing of CUDA is of use, and the plug-in would bring several hundred MB of
 * libraries with it: the driver's library, which is small, is asked for first. It stays open, as
 * CUDA would keep it. */
static pr_status driver_check(pr_error *err)
{
    if (dlopen(driver_name, RTLD_LAZY | RTLD_LOCAL)) return PR_OK;
    return pr_error_set(err, PR_E_UNAVAILABLE, "no NVIDIA driver (%s): %s", driver_name, dlerror());
}

static pr_status plugin_open(const char *path, const pr_cuda_plugin **out, pr_error *err)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return pr_error_set(err, PR_E_UNSUPPORTED, "load %s: %s", path, dlerror());
    const pr_cuda_plugin *(*get)(void) = NULL;
    void *symbol = dlsym(handle, "pr_cuda_plugin_get");
    memcpy(&get, &symbol, sizeof get); /* ISO C has no cast from an object's to a function's */
    if (!get) {
        dlclose(handle);
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: found no pr_cuda_plugin_get, expected poolrank's CUDA plug-in",
                            path);
    }
    const pr_cuda_plugin *plugin = get();
    if (!plugin || plugin->abi != PR_CUDA_PLUGIN_ABI) {
        uint32_t abi = plugin ? plugin->abi : 0;
        dlclose(handle);
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: found ABI %u, expected %d: it is of another version of poolrank",
                            path, abi, PR_CUDA_PLUGIN_ABI);
    }
    *out = plugin;
    return PR_OK;
}

/* Nothing is remembered here: the dynamic linker gives a library that it has once more. */
pr_status pr_cuda_plugin_load(const pr_cuda_plugin **out, pr_error *err)
{
    char path[PATH_MAX + 64];
    const char *named = getenv("POOLRANK_CUDA_PLUGIN");
    if (named && *named) {
        int n = snprintf(path, sizeof path, "%s", named);
        if (n < (int)sizeof path && pr_file_exists(path)) return plugin_open(path, out, err);
        return pr_error_set(err, PR_E_NOT_FOUND, "POOLRANK_CUDA_PLUGIN: %s: no such file", named);
    }
    pr_status st = plugin_find(path, sizeof path, err);
    if (st == PR_OK) st = driver_check(err);
    return st == PR_OK ? plugin_open(path, out, err) : st;
}

pr_status pr_cuda_devices(const pr_cuda_plugin **plugin, pr_cuda_device out[PR_CUDA_DEVICES_MAX],
                          int *n, pr_error *err)
{
    pr_status st = pr_cuda_plugin_load(plugin, err);
    return st == PR_OK ? (*plugin)->devices(out, n, err) : st;
}

/* ---- which device ---- */

/* The i-th number of "0,1,2", which *text stands at; moves to the next. False: it is none. */
static bool index_read(const char **text, int *out)
{
    char *end;
    if (**text < '0' || **text > '9') return false;
    long value = strtol(*text, &end, 10);
    if (value > PR_CUDA_DEVICES_MAX || (*end && *end != ',') || (*end && !end[1])) return false;
    *out = (int)value;
    *text = *end ? end + 1 : end;
    return true;
}

/* indices [n_devices]; *n: how many of them the list names. */
static pr_status list_read(const char *list, int n_devices, int *indices, int *n, pr_error *err)
{
    bool is_taken[PR_CUDA_DEVICES_MAX] = {false};
    *n = 0;
    for (const char *at = list; *at || at == list;) {
        int index;
        if (!index_read(&at, &index)) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "devices: found %.80s, expected numbers of visible devices, such "
                                "as 0,1,2,3",
                                list);
        }
        if (index >= n_devices) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "devices: found %d in %.80s, expected numbers below %d, the "
                                "number of visible devices",
                                index, list, n_devices);
        }
        if (is_taken[index]) {
            return pr_error_set(err, PR_E_ARGUMENT, "devices: found %d twice in %.80s", index,
                                list);
        }
        is_taken[index] = true;
        indices[(*n)++] = index;
    }
    return PR_OK;
}

pr_status pr_device_pick(const char *list, int n_devices, int local_rank, int n_local_ranks,
                         int *out, pr_error *err)
{
    assert(n_devices >= 0 && n_devices <= PR_CUDA_DEVICES_MAX);
    assert(local_rank >= 0 && local_rank < n_local_ranks);
    int indices[PR_CUDA_DEVICES_MAX], n = n_devices;
    for (int i = 0; i < n_devices; i++) indices[i] = i;
    pr_status st = list ? list_read(list, n_devices, indices, &n, err) : PR_OK;
    if (st != PR_OK) return st;
    if (n_local_ranks > n) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "%d rank%s on this host, %d %s: each rank needs a device of its own",
                            n_local_ranks, n_local_ranks == 1 ? "" : "s", n,
                            list ? "in --devices" : n == 1 ? "visible device" : "visible devices");
    }
    *out = indices[local_rank];
    return PR_OK;
}

/* ---- backends ---- */

pr_status pr_device_open(const pr_device_config *config, pr_backend **out, pr_error *err)
{
    const pr_cuda_plugin *plugin = NULL;
    if (!config->is_cuda) return pr_cpu_backend_create(&config->cpu, out, err);
    pr_status st = pr_cuda_plugin_load(&plugin, err);
    return st == PR_OK ? plugin->backend_create(&config->cuda, out, err) : st;
}
