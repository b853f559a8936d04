#define _GNU_SOURCE /* sched_setaffinity */
#include "program/worker_process.h"

#include "program/command.h"
#include "coordinator/model/fingerprint.h"
#include "coordinator/model/model.h"
#include "coordinator/fleet/rank_options.h"
#include "program/mpi_plugin.h"
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"
#include "runtime/base/clock.h"
#include "worker/rank.h"
#include "worker/rank_device.h"
#include "worker/rank_io.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_MS = 30000 }; /* that the coordinator may take to prove its key */

typedef struct rank_run {
    const pr_worker_process *process;
    const pr_config *own; /* of this process, not the coordinator's */
    const pr_log *log;
    pr_config config; /* what LOAD says */
    uint32_t slice, n_slices; /* of this host's GPUs, likewise */
    pr_model *model;
    pr_rank *rank;            /* its control thread */
    const pr_mpi_plugin *mpi; /* initialised here; NULL: a group of one rank, or the caller's */
    pr_worker *worker;
    uint64_t n_batches, run_ns; /* waiting for other ranks included */
} rank_run;

static int timeout_ms_of(const pr_config *config)
{
    int64_t ms = (int64_t)config->start_timeout * 1000;
    return ms <= 0 || ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/* ---- loading ---- */

static pr_status option_set(pr_options *options, rank_run *run, const pr_control_option *o,
                            pr_error *err)
{
    if (strcmp(o->name, PR_RANK_OPTION_SLICE) == 0) {
        return pr_worker_slice_parse(o->value, &run->slice, &run->n_slices, err);
    }
    /* The coordinator's folders are not this host's when the user names the model's here. */
    bool is_folder = strcmp(o->name, "model") == 0 || strcmp(o->name, "tokenizer") == 0;
    if (run->own->model && is_folder) return PR_OK;
    return pr_options_set(options, o->name, o->value, err);
}

static pr_status config_build(rank_run *run, const pr_control_load *load, pr_error *err)
{
    pr_options *options = pr_options_create();
    if (!options) return pr_error_nomem(err, "options", 0);
    pr_status st = PR_OK;
    for (uint32_t i = 0; st == PR_OK && i < load->n_options; i++) {
        st = option_set(options, run, &load->options[i], err);
    }
    if (st == PR_OK && run->own->model) st = pr_options_set(options, "model", run->own->model, err);
    if (st == PR_OK) st = pr_config_build(options, &run->config, err);
    pr_options_free(options);
    return st == PR_OK ? st : pr_error_context(err, st, "settings from the coordinator");
}

static pr_status model_open(rank_run *run, const pr_control_load *load, uint64_t *fingerprint,
                            pr_error *err)
{
    pr_status st = pr_model_open_files(&run->config, &run->model, err);
    if (st == PR_OK) st = pr_model_fingerprint(run->model, fingerprint, err);
    if (st != PR_OK || *fingerprint == load->model_fingerprint) return st;
    return pr_error_set(err, PR_E_MODEL,
                        "%s is another model than the coordinator's: its files have fingerprint "
                        "%016" PRIx64 ", expected %016" PRIx64,
                        run->model->folder, *fingerprint, load->model_fingerprint);
}

/* The processors of the calling thread in rising order; 0: more than this program handles. */
static int32_t cpus_read(int cpus[PR_WORKER_CPUS_MAX])
{
    cpu_set_t set;
    int32_t n = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n < PR_WORKER_CPUS_MAX; cpu++) {
        if (CPU_ISSET(cpu, &set)) cpus[n++] = cpu;
    }
    return n;
}

/* Threads of this rank, and its processors where the ranks of this host can have some each: a
 * scheduler puts two ranks on one core now and then, and then all wait. Before threads start. */
static int threads_place(const rank_run *run, char *device, size_t device_bytes)
{
    int cpus[PR_WORKER_CPUS_MAX], own[PR_WORKER_CPUS_MAX];
    int32_t n_cpus = cpus_read(cpus);
    int32_t n_threads = run->own->has_n_threads      ? run->own->n_threads
                        : run->config.has_n_threads ? run->config.n_threads
                                                     : pr_worker_threads(run->process->environment,
                                                                         run->own->n_threads);
    int32_t n_own = pr_worker_cpus(run->process->environment, cpus, n_cpus, n_threads, own);
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int32_t i = 0; i < n_own; i++) CPU_SET(own[i], &set);
    bool is_pinned = n_own > 0 && sched_setaffinity(0, sizeof set, &set) == 0;
    char list[PR_CONTROL_NAME_BYTES - sizeof "cpu "];
    pr_worker_cpus_print(is_pinned ? own : cpus, is_pinned ? n_own : n_cpus, list, sizeof list);
    snprintf(device, device_bytes, "cpu %s", list);
    return n_threads;
}

static pr_status mpi_init(rank_run *run, pr_error *err)
{
    const pr_mpi_plugin *mpi = NULL;
    const pr_worker_environment *e = run->process->environment;
    pr_status st = pr_mpi_plugin_load(getenv("POOLRANK_MPI_PLUGIN"), &mpi, err);
    if (st != PR_OK) return st;
    int rank = 0, size = 0;
    if ((st = mpi->init(&rank, &size, err)) != PR_OK) return st;
    if ((uint32_t)rank != e->rank || (uint32_t)size != e->n_ranks) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "MPI says rank %d of %d, but %s's environment says %" PRIu32
                            " of %" PRIu32 ": is this program linked with the MPI of that launcher "
                            "(srun: --mpi=pmix)?",
                            rank, size, e->launcher ? e->launcher : "no launcher", e->rank,
                            e->n_ranks);
    }
    run->mpi = mpi;
    return PR_OK;
}

static pr_parallel parallel_of(const rank_run *run, const pr_control_load *load)
{
    int rank = (int)run->process->rank, tp_size = (int)load->tp_size;
    return (pr_parallel){.tp_rank = rank % tp_size, .tp_size = tp_size, .stage = rank / tp_size,
                         .n_stages = (int)load->n_stages};
}

/* Ranks of GPUs find each other by an id that rank 0 makes and the coordinator passes on; MPI, if
 * it started them, is not needed. */
static pr_status cuda_comm_open(rank_run *run, const pr_control_load *load, pr_backend *backend,
                                pr_comm **comm, pr_error *err)
{
    const pr_cuda_plugin *plugin = NULL;
    const pr_parallel p = parallel_of(run, load);
    int timeout_ms = timeout_ms_of(&run->config); /* the coordinator's: ours is for connecting */
    uint8_t id[PR_CUDA_COMM_ID_BYTES];
    pr_status st = pr_cuda_plugin_load(&plugin, err);
    if (st == PR_OK && run->process->rank == 0) {
        st = plugin->comm_id(id, err);
        if (st == PR_OK) st = pr_rank_comm_id_share(run->rank, id, sizeof id, err);
    }
    if (st == PR_OK) st = pr_rank_comm_id_await(run->rank, id, sizeof id, timeout_ms, err);
    if (st != PR_OK) return st;
    const pr_cuda_group group = {.id = id, .tp_rank = p.tp_rank, .tp_size = p.tp_size,
                                 .stage = p.stage, .n_stages = p.n_stages,
                                 .timeout_ms = timeout_ms};
    pr_rank_wait_begin(run->rank); /* NCCL connects, and says nothing of how far it is */
    st = plugin->comm_create(backend, &group, comm, err);
    pr_rank_wait_end(run->rank);
    return st;
}

/* *comm owned; NULL: this rank is alone. */
static pr_status comm_open(rank_run *run, const pr_control_load *load, pr_backend *backend,
                           pr_comm **comm, pr_error *err)
{
    *comm = NULL;
    const pr_worker_process *p = run->process;
    if (load->tp_size * load->n_stages == 1) return PR_OK;
    if (run->config.device == PR_DEVICE_CHOICE_CUDA) {
        return cuda_comm_open(run, load, backend, comm, err);
    }
    pr_status st = p->mpi ? PR_OK : mpi_init(run, err);
    if (st != PR_OK) return st;
    const pr_mpi_plugin *mpi = p->mpi ? p->mpi : run->mpi;
    return mpi->comm_create(p->first_rank, (int)load->tp_size, (int)load->n_stages, comm, err);
}

/* What this host has for this rank, by the numbers of the ranks that are there. */
static pr_status device_open(const rank_run *run, const pr_control_load *load, int n_threads,
                             pr_backend **out, pr_error *err)
{
    const pr_worker_environment *e = run->process->environment;
    const pr_config *c = &run->config;
    const pr_model_spec *spec = &run->model->spec;
    const pr_rank_device device = {
        .is_cuda = c->device == PR_DEVICE_CHOICE_CUDA,
        .cpu = {.n_threads = n_threads, .isa = c->cpu_isa,
                .precision = c->matmul_precision},
        .allow_tf32 = c->allow_tf32,
        .utilization = c->gpu_memory_utilization,
        .devices = run->own->devices ? run->own->devices : c->devices,
        .local_rank = (int)(run->slice * e->n_local + e->local_rank),
        .n_local_ranks = (int)(run->n_slices * e->n_local),
        .sees_its_own = e->sees_one_device && e->n_local > 1,
        .demand = {.spec = spec, .parallel = parallel_of(run, load),
                   .n_rows_max = load->n_rows_max, .n_positions_max = load->n_positions_max,
                   .dtype = pr_config_dtype(c, spec->checkpoint_dtype)},
    };
    if (device.is_cuda && device.sees_its_own && !device.devices) {
        pr_log_line(run->log, PR_LOG_WARNING,
                    "rank %" PRIu32 " sees one GPU (CUDA_VISIBLE_DEVICES), not those of the other "
                    "ranks here: they may not reach each other directly, and NCCL is then slower. "
                    "Let each see all: srun with --gpus-per-node and --gpu-bind=none in place of "
                    "--gpus-per-task", run->process->rank);
    }
    return pr_rank_device_open(&device, out, err);
}

static pr_status worker_open(rank_run *run, const pr_control_load *load,
                             atomic_uint_fast64_t *n_steps, int n_threads, pr_error *err)
{
    pr_comm *comm = NULL;
    pr_backend *backend = NULL;
    pr_status st = device_open(run, load, n_threads, &backend, err);
    if (st == PR_OK) st = comm_open(run, load, backend, &comm, err);
    if (st != PR_OK) {
        if (backend) backend->ops->close(backend);
        return st;
    }
    const pr_worker_config config = {
        .folder = run->model->folder,
        .weights_folder = run->model->weights_folder,
        .spec = &run->model->spec,
        .st = &run->model->st,
        .backend = backend,
        .dtype = pr_config_dtype(&run->config, run->model->spec.checkpoint_dtype),
        .n_rows_max = load->n_rows_max,
        .n_positions_max = load->n_positions_max,
        .is_streamed = run->config.stream_weights == PR_STREAM_CHOICE_ON,
        .comm = comm,
        .n_steps = n_steps,
    };
    const char *comm_name = comm ? comm->name : "none";
    const pr_log_field field = pr_log_said(pr_log_integer("rank", run->process->rank));
    pr_log_event(run->log, PR_LOG_INFO, &field, 1,
                 "rank %" PRIu32 " of %" PRIu32 ": %d threads, collectives: %s", run->process->rank,
                 run->process->n_ranks, n_threads, comm_name);
    return pr_worker_open(&config, &run->worker, err);
}

static pr_status rank_open(void *context, const pr_control_load *load,
                           atomic_uint_fast64_t *n_steps, pr_control_ready *ready, pr_error *err)
{
    rank_run *run = context;
    pr_status st = config_build(run, load, err);
    if (st == PR_OK) st = model_open(run, load, &ready->model_fingerprint, err);
    if (st != PR_OK) return st;
    int n_threads = threads_place(run, ready->device, sizeof ready->device);
    if ((st = worker_open(run, load, n_steps, n_threads, err)) != PR_OK) {
        return pr_model_error(run->model, st, err);
    }
    pr_worker_info info = pr_worker_describe(run->worker);
    snprintf(ready->backend, sizeof ready->backend, "%s", info.backend);
    if (info.device[0]) snprintf(ready->device, sizeof ready->device, "%s", info.device);
    ready->weights_bytes = info.weights_bytes;
    ready->width = info.width;
    return PR_OK;
}

static int rank_n_slots(void *context)
{
    const rank_run *run = context;
    return pr_worker_describe(run->worker).n_slots;
}

static pr_status rank_begin(void *context, const pr_control_batch *batch, pr_error *err)
{
    rank_run *run = context;
    const pr_batch_id id = {.seq = batch->batch_seq, .hash = batch->plan_hash};
    uint64_t begin_ns = pr_clock_ns();
    pr_status st = pr_worker_begin(run->worker, batch->plan, batch->poolings, &id, err);
    run->run_ns += pr_clock_ns() - begin_ns;
    return st;
}

static pr_status rank_finish(void *context, pr_pooled *out, pr_error *err)
{
    rank_run *run = context;
    uint64_t begin_ns = pr_clock_ns();
    pr_status st = pr_worker_finish(run->worker, out, err);
    run->run_ns += pr_clock_ns() - begin_ns;
    run->n_batches++;
    return st;
}

/* ---- connecting ---- */

static void hello_make(const rank_run *run, pr_control_hello *hello)
{
    *hello = (pr_control_hello){.protocol = PR_CONTROL_PROTOCOL,
                                .rank = run->process->rank,
                                .n_ranks = run->process->n_ranks,
                                .pid = getpid()};
    snprintf(hello->version, sizeof hello->version, "%s", POOLRANK_VERSION);
    if (gethostname(hello->host, sizeof hello->host - 1) != 0) hello->host[0] = '\0';
    const char *group = run->own->group ? run->own->group : run->process->environment->group;
    if (group[0]) {
        snprintf(hello->group, sizeof hello->group, "%s", group);
    } else {
        snprintf(hello->group, sizeof hello->group, "%.100s:%" PRId64, hello->host, hello->pid);
    }
}

/* What can be wrong before anything is done: the caller's mistakes. */
static pr_status settings_check(const rank_run *run, pr_rank_address *address, pr_key *key,
                                pr_error *err)
{
    const pr_config *own = run->own;
    if (!own->connect) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "--connect is missing: where the coordinator listens, unix:PATH or "
                            "tcp:HOST:PORT");
    }
    if (!own->cluster_key_file) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "--cluster-key-file is missing: the key that the coordinator has");
    }
    if (own->group && strlen(own->group) >= PR_CONTROL_NAME_BYTES) {
        return pr_error_set(err, PR_E_ARGUMENT, "--group: found %zu bytes, expected at most %d",
                            strlen(own->group), PR_CONTROL_NAME_BYTES - 1);
    }
    pr_status st = pr_rank_address_parse(own->connect, address, err);
    if (st != PR_OK) return pr_error_context(err, st, "--connect");
    st = pr_key_read(own->cluster_key_file, key, err);
    return st == PR_OK ? st : pr_error_context(err, st, "--cluster-key-file");
}

/* A connection that has proved the key, and the control thread on it. */
static pr_status connect_and_start(rank_run *run, const pr_rank_address *address, const pr_key *key,
                                   const pr_rank_ops *ops, pr_rank **out, pr_error *err)
{
    int fd = -1;
    pr_control_hello hello;
    pr_frame_reader reader;
    pr_status st = pr_rank_connect(address, timeout_ms_of(run->own), &fd, err);
    if (st != PR_OK) return st;
    hello_make(run, &hello);
    pr_frame_reader_init(&reader, PR_FRAME_BYTES_MAX);
    st = pr_rank_join(fd, &hello, key, ANSWER_MS, &reader, err);
    if (st != PR_OK) {
        pr_frame_reader_deinit(&reader);
        close(fd);
        return pr_error_context(err, st, "%s", run->own->connect);
    }
    const pr_rank_config config = {.fd = fd, .reader = &reader, .rank = hello.rank,
                                   .n_ranks = hello.n_ranks, .ops = ops, .context = run,
                                   .log = run->log};
    return pr_rank_start(&config, out, err);
}

/* For whoever asks whether more ranks would help. */
static void time_log(const rank_run *run)
{
    if (run->n_batches == 0) return;
    uint64_t comm_ns = pr_worker_describe(run->worker).comm_ns;
    const pr_log_field field = pr_log_said(pr_log_integer("rank", run->process->rank));
    pr_log_event(run->log, PR_LOG_INFO, &field, 1,
                 "rank %" PRIu32 ": %.2f s in %" PRIu64 " batches, %.1f %% of it in collectives",
                 run->process->rank, (double)run->run_ns / 1e9, run->n_batches,
                 100.0 * (double)comm_ns / (double)run->run_ns);
}

static void run_close(rank_run *run)
{
    time_log(run);
    pr_worker_close(run->worker);
    if (run->mpi) run->mpi->finalize();
    pr_model_close(run->model);
    pr_config_deinit(&run->config);
}

int pr_worker_process_run(const pr_worker_process *process, pr_error *err)
{
    static const pr_rank_ops ops = {.open = rank_open, .n_slots = rank_n_slots,
                                    .begin = rank_begin, .finish = rank_finish};
    rank_run run = {.process = process, .own = process->config, .log = process->log,
                    .n_slices = 1};
    pr_rank_address address;
    pr_key key;
    pr_rank *rank = NULL;
    pr_status st = settings_check(&run, &address, &key, err);
    if (st != PR_OK) return pr_command_exit(st);
    if ((st = connect_and_start(&run, &address, &key, &ops, &rank, err)) == PR_OK) {
        run.rank = rank;
        st = pr_rank_run(rank, err);
    }
    if (st != PR_OK) {
        /* Nothing is taken down: MPI's end is a collective, and the other ranks are not in it. */
        *process->must_end = rank != NULL;
        return PR_EXIT_FAILED;
    }
    run_close(&run);
    pr_rank_stop(rank);
    return PR_EXIT_DONE;
}
