#include "coordinator/fleet/placement.h"

#include "coordinator/fleet/launcher.h"
#include "worker/device.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

extern char **environ;

/* ---- looking ---- */

/* Ranks that this process is, or starts with its own environment on its own host: they see the
 * GPUs that it sees. */
static bool sees_what_ranks_see(pr_worker_launch launch, bool leaves_host)
{
    return launch == PR_WORKER_LAUNCH_INPROC ||
           (launch == PR_WORKER_LAUNCH_MPIRUN && !leaves_host);
}

bool pr_placement_needs_look(const pr_config *config, pr_worker_launch launch, bool leaves_host)
{
    if (config->device == PR_DEVICE_CHOICE_CPU) return false;
    if (config->device == PR_DEVICE_CHOICE_CUDA) return sees_what_ranks_see(launch, leaves_host);
    return config->stream_weights != PR_STREAM_CHOICE_ON;
}

void pr_placement_look(pr_placement_seen *out)
{
    const pr_cuda_plugin *plugin = NULL;
    pr_cuda_device devices[PR_CUDA_DEVICES_MAX];
    pr_error err = {0};
    int n = 0;
    *out = (pr_placement_seen){0};
    out->status = pr_cuda_devices(&plugin, devices, &n, &err);
    if (out->status == PR_OK && n == 0) {
        out->status = pr_error_set(&err, PR_E_UNAVAILABLE, "CUDA sees no device");
    }
    if (out->status != PR_OK) {
        snprintf(out->reason, sizeof out->reason, "%s", err.message);
        return;
    }
    out->n_devices = n;
    memcpy(out->name, devices[0].name, sizeof out->name);
}

/* ---- deciding ---- */

static void device_decide(const pr_config *c, const pr_placement_seen *seen, pr_placement *out)
{
    bool is_auto = c->device == PR_DEVICE_CHOICE_AUTO;
    out->device = is_auto ? PR_DEVICE_CHOICE_CPU : c->device;
    if (is_auto && seen->n_devices > 0) out->device = PR_DEVICE_CHOICE_CUDA;
    if (seen->n_devices > 0) {
        snprintf(out->reason, sizeof out->reason, "%d device%s, %s%s", seen->n_devices,
                 seen->n_devices == 1 ? "" : "s", seen->n_devices == 1 ? "" : "the first ",
                 seen->name);
    } else if (!is_auto) {
        snprintf(out->reason, sizeof out->reason, "--device %s", pr_device_choice_name(c->device));
    } else if (c->stream_weights == PR_STREAM_CHOICE_ON) {
        snprintf(out->reason, sizeof out->reason, "--stream-weights is on");
    } else {
        snprintf(out->reason, sizeof out->reason, "%s", seen->reason);
    }
}

/* Settings that have no meaning, or another one, on the CPU. */
static pr_status cpu_check(const pr_config *c, const pr_placement *p, pr_error *err)
{
    if (c->dtype == PR_DTYPE_CHOICE_FLOAT16) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "dtype: float16 is refused: the model runs on the CPU (%s), which "
                            "keeps weights in float32 or bfloat16 and computes in float32; a "
                            "float16 checkpoint is read into either: --dtype bfloat16, or float32",
                            p->reason);
    }
    if (!c->devices) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT, "devices: found %.80s, but the model runs on the CPU "
                        "(%s)", c->devices, p->reason);
}

static pr_status cuda_check(const pr_config *c, pr_worker_launch launch, bool leaves_host,
                            const pr_placement_seen *seen, pr_error *err)
{
    if (c->stream_weights == PR_STREAM_CHOICE_ON) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "stream-weights: on is refused with --device cuda: every batch would "
                            "wait for files; a GPU keeps the weights, or ranks share them "
                            "(--tensor-parallel-size)");
    }
    if (!sees_what_ranks_see(launch, leaves_host)) return PR_OK;
    if (seen->n_devices == 0) {
        return pr_error_set(err, seen->status, "device cuda: %s", seen->reason);
    }
    int n_ranks = c->tensor_parallel_size * c->pipeline_parallel_size * c->data_parallel_size;
    int device;
    pr_status st = pr_device_pick(c->devices, seen->n_devices, 0, n_ranks, &device, err);
    if (st == PR_OK || c->device != PR_DEVICE_CHOICE_AUTO) return st;
    return pr_error_context(err, st, "device cuda (auto; --device cpu would not need one)");
}

pr_status pr_placement_decide(const pr_config *config, pr_worker_launch launch, bool leaves_host,
                              const pr_placement_seen *seen, pr_placement *out, pr_error *err)
{
    pr_placement p = {0};
    device_decide(config, seen, &p);
    bool is_cuda = p.device == PR_DEVICE_CHOICE_CUDA;
    pr_status st = is_cuda ? cuda_check(config, launch, leaves_host, seen, err)
                           : cpu_check(config, &p, err);
    if (st != PR_OK) return st;
    bool is_streamed = config->stream_weights == PR_STREAM_CHOICE_ON;
    if (config->stream_weights == PR_STREAM_CHOICE_AUTO) {
        is_streamed = !is_cuda && config->has_few_texts;
    }
    p.stream_weights = is_streamed ? PR_STREAM_CHOICE_ON : PR_STREAM_CHOICE_OFF;
    *out = p;
    return PR_OK;
}

pr_status pr_placement_resolve(const pr_config *config, pr_worker_launch launch, pr_placement *out,
                               pr_error *err)
{
    bool leaves_host = false;
    pr_placement_seen seen = {0};
    pr_status st = pr_launch_leaves_host(launch, config->hostfile, config->mpirun_args, environ,
                                         &leaves_host, err);
    if (st != PR_OK) return st;
    if (pr_placement_needs_look(config, launch, leaves_host)) pr_placement_look(&seen);
    return pr_placement_decide(config, launch, leaves_host, &seen, out, err);
}

/* ---- groups on one host ---- */

int32_t pr_placement_slices(const pr_config *config, pr_worker_launch launch, int32_t n_nodes)
{
    int32_t n_groups = config->data_parallel_size;
    /* each mpirun begins with the first host, whatever the others have there */
    if (launch == PR_WORKER_LAUNCH_MPIRUN) return n_groups;
    if (launch != PR_WORKER_LAUNCH_SRUN) return 1;
    if (n_nodes < 1) n_nodes = 1;
    return (n_groups + n_nodes - 1) / n_nodes;
}
