#include "program/worker_environment.h"

#include "worker/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

/* NULL: unset or empty. */
static const char *value_of(char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (char *const *e = env; *e; e++) {
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return (*e)[n + 1] ? *e + n + 1 : NULL;
    }
    return NULL;
}

static pr_status number_read(char *const *env, const char *name, uint32_t *out, pr_error *err)
{
    const char *text = value_of(env, name);
    if (!text) return pr_error_set(err, PR_E_ARGUMENT, "%s is not set", name);
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || n > PR_CONTROL_RANKS_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: found %.40s, expected a number up to %d", name,
                            text, PR_CONTROL_RANKS_MAX);
    }
    *out = (uint32_t)n;
    return PR_OK;
}

static pr_status mpirun_read(char *const *env, pr_worker_environment *e, pr_error *err)
{
    e->launcher = "mpirun";
    e->is_bound = value_of(env, "OMPI_MCA_orte_bound_at_launch") != NULL;
    pr_status st = number_read(env, "OMPI_COMM_WORLD_RANK", &e->rank, err);
    if (st == PR_OK) st = number_read(env, "OMPI_COMM_WORLD_SIZE", &e->n_ranks, err);
    if (st == PR_OK) st = number_read(env, "OMPI_COMM_WORLD_LOCAL_RANK", &e->local_rank, err);
    if (st == PR_OK) st = number_read(env, "OMPI_COMM_WORLD_LOCAL_SIZE", &e->n_local, err);
    if (st != PR_OK) return pr_error_context(err, st, "environment of mpirun");
    /* mpirun numbers its jobs for each host, and its address tells hosts apart: of
     * "1.0;tcp://10.0.0.1:7;tcp6://…" the first. */
    const char *job = value_of(env, "PMIX_NAMESPACE");
    const char *uri = value_of(env, "OMPI_MCA_orte_hnp_uri");
    const char *host = uri ? strstr(uri, "://") : NULL;
    if (job) {
        int n = host ? (int)strcspn(host + 3, ";,") : 0;
        snprintf(e->group, sizeof e->group, "mpirun:%.40s%s%.*s", job, host ? "@" : "",
                 n < 60 ? n : 60, host ? host + 3 : "");
    }
    return PR_OK;
}

/* The node_id-th number of "2(x3),1". 0: unclear. */
static uint32_t tasks_of_node(const char *list, uint32_t node_id)
{
    while (list && *list) {
        char *end;
        unsigned long n_tasks = strtoul(list, &end, 10);
        unsigned long n_nodes = 1;
        if (end == list) return 0;
        if (strncmp(end, "(x", 2) == 0) {
            n_nodes = strtoul(end + 2, &end, 10);
            if (*end != ')') return 0;
            end++;
        }
        if (node_id < n_nodes) return (uint32_t)n_tasks;
        node_id -= (uint32_t)n_nodes;
        if (*end != ',') return 0;
        list = end + 1;
    }
    return 0;
}

static bool starts_with(const char *text, const char *prefix)
{
    return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A batch script has SLURM_PROCID too, but only a step's tasks have SLURM_STEP_ID with it. */
static pr_status srun_read(char *const *env, pr_worker_environment *e, pr_error *err)
{
    uint32_t node_id = 0;
    e->launcher = "srun";
    const char *size = value_of(env, "SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS"
                                                             : "SLURM_NTASKS";
    pr_status st = number_read(env, "SLURM_PROCID", &e->rank, err);
    if (st == PR_OK) st = number_read(env, size, &e->n_ranks, err);
    if (st == PR_OK) st = number_read(env, "SLURM_LOCALID", &e->local_rank, err);
    if (st == PR_OK && value_of(env, "SLURM_NODEID")) {
        st = number_read(env, "SLURM_NODEID", &node_id, err);
    }
    if (st != PR_OK) return pr_error_context(err, st, "environment of srun");
    e->n_local = tasks_of_node(value_of(env, "SLURM_STEP_TASKS_PER_NODE"), node_id);
    if (e->n_local == 0) e->n_local = e->n_ranks;
    const char *binding = value_of(env, "SLURM_CPU_BIND_TYPE");
    e->is_bound = starts_with(binding, "mask_cpu") || starts_with(binding, "map_cpu");
    const char *cluster = value_of(env, "SLURM_CLUSTER_NAME");
    const char *job = value_of(env, "SLURM_JOB_ID");
    snprintf(e->group, sizeof e->group, "slurm:%.40s%s%.30s.%.30s", cluster ? cluster : "",
             cluster ? ":" : "", job ? job : "", value_of(env, "SLURM_STEP_ID"));
    return PR_OK;
}

static pr_status numbers_check(const pr_worker_environment *e, pr_error *err)
{
    bool is_right = e->n_ranks >= 1 && e->rank < e->n_ranks && e->n_local >= 1 &&
                    e->n_local <= e->n_ranks && e->local_rank < e->n_local;
    if (is_right) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "environment of %s: rank %" PRIu32 " of %" PRIu32 ", on this host %" PRIu32
                        " of %" PRIu32 ", expected each below its count",
                        e->launcher, e->rank, e->n_ranks, e->local_rank, e->n_local);
}

pr_status pr_worker_environment_read(char *const *env, pr_worker_environment *out, pr_error *err)
{
    pr_worker_environment e = {.n_ranks = 1, .n_local = 1};
    pr_status st = PR_OK;
    if (value_of(env, "OMPI_COMM_WORLD_RANK")) {
        st = mpirun_read(env, &e, err);
    } else if (value_of(env, "SLURM_STEP_ID") && value_of(env, "SLURM_PROCID")) {
        st = srun_read(env, &e, err);
    } else if (value_of(env, "PMIX_RANK")) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "PMIX_RANK is set, but nothing says how many ranks there are: expected "
                            "mpirun of Open MPI or srun");
    }
    const char *devices = value_of(env, "CUDA_VISIBLE_DEVICES");
    e.sees_one_device = devices && !strchr(devices, ',');
    if (st == PR_OK) st = numbers_check(&e, err);
    if (st == PR_OK) *out = e;
    return st;
}

/* ---- devices ---- */

pr_status pr_worker_slice_parse(const char *text, uint32_t *slice, uint32_t *n_slices,
                                pr_error *err)
{
    int n_read = 0;
    uint32_t i = 0, n = 0;
    bool is_number = text[0] >= '0' && text[0] <= '9';
    if (is_number && sscanf(text, "%5" SCNu32 "/%5" SCNu32 "%n", &i, &n, &n_read) == 2 &&
        text[n_read] == '\0' && i < n && n <= PR_CONTROL_RANKS_MAX) {
        *slice = i;
        *n_slices = n;
        return PR_OK;
    }
    return pr_error_set(err, PR_E_ARGUMENT, "device-slice: found %.40s, expected I/N, I below N",
                        text);
}

/* ---- processors ---- */

int32_t pr_worker_threads(const pr_worker_environment *e, int32_t n_cpus)
{
    int32_t n = e->is_bound ? n_cpus : n_cpus / (int32_t)e->n_local;
    return n > 0 ? n : 1;
}

int32_t pr_worker_cpus(const pr_worker_environment *e, const int *cpus, int32_t n_cpus,
                       int32_t n_threads, int *out)
{
    if (e->is_bound || e->n_local < 2) return 0;
    if ((int64_t)e->n_local * n_threads > n_cpus) return 0;
    memcpy(out, cpus + (size_t)e->local_rank * (size_t)n_threads,
           (size_t)n_threads * sizeof *out);
    return n_threads;
}

void pr_worker_cpus_print(const int *cpus, int32_t n_cpus, char *out, size_t out_bytes)
{
    size_t n = 0;
    out[0] = '\0';
    for (int32_t begin = 0, end; begin < n_cpus; begin = end) {
        for (end = begin + 1; end < n_cpus && cpus[end] == cpus[end - 1] + 1;) end++;
        char run[32];
        if (end - begin > 1) {
            snprintf(run, sizeof run, "%d-%d", cpus[begin], cpus[end - 1]);
        } else {
            snprintf(run, sizeof run, "%d", cpus[begin]);
        }
        bool has_room = n + strlen(run) + sizeof ",,…" < out_bytes;
        n += (size_t)snprintf(out + n, out_bytes - n, "%s%s", n ? "," : "", has_room ? run : "…");
        if (!has_room) return;
    }
}
