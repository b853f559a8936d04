#include "coordinator/engine/engine.h"

#include "coordinator/engine/cache_size.h"
#include "coordinator/engine/describe.h"
#include "coordinator/engine/describe_ranks.h"
#include "coordinator/engine/engine_admission.h"
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"
#include "coordinator/fleet/placement.h"
#include "coordinator/fleet/worker_launch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READY_PARTS_MAX = 8192 };

static uint32_t u32_max(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void engine_configure(pr_engine *e, const pr_config *config)
{
    e->log = (pr_log){.fd = STDERR_FILENO, .level = config->log_level,
                      .format = config->log_format, .program = "poolrank"};
    e->defaults = (pr_prepare_defaults){
        .truncate_prompt_tokens = config->truncate_prompt_tokens,
        .add_special_tokens = config->add_special_tokens,
    };
    e->limits = (pr_batch_limits){
        .n_tokens_max = (uint32_t)config->max_num_batched_tokens,
        .n_sequences_max = (uint32_t)config->max_num_seqs,
    };
    e->settings = *config;
    e->config = &e->settings;
    e->n_jobs_max = (uint32_t)config->max_queued_requests;
    e->n_tokens_max = (uint64_t)config->max_queued_tokens;
    e->block = config->block;
}

static int n_tokenizers_of(const pr_config *config)
{
    int n = config->n_threads / 2;
    return n < 1 ? 1 : n > PR_TOKENIZER_THREADS_MAX ? PR_TOKENIZER_THREADS_MAX : n;
}

/* How ranks start and where they compute: what would fail later fails here. */
static pr_status placement_settle(pr_engine *e, pr_error *err)
{
    pr_placement p;
    pr_status st = pr_worker_launch_resolve(e->config, &e->model->spec, &e->launch, err);
    if (st == PR_OK) st = pr_placement_resolve(e->config, e->launch, &p, err);
    if (st != PR_OK) return st;
    if (p.device == PR_DEVICE_CHOICE_CUDA && e->config->matmul_precision > PR_MATMUL_HIGHEST) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "matmul-precision %s: found device cuda, expected cpu; on a GPU "
                            "allow-tf32 and dtype say how exact products are",
                            pr_matmul_precision_name(e->config->matmul_precision));
    }
    bool is_auto = e->config->device == PR_DEVICE_CHOICE_AUTO;
    e->settings.device = p.device;
    e->settings.stream_weights = p.stream_weights;
    const char *source;
    pr_dtype dtype = pr_dtype_choose(e->config->dtype, p.device == PR_DEVICE_CHOICE_CUDA,
                                     e->model->spec.checkpoint_dtype, &source);
    pr_log_line(&e->log, PR_LOG_INFO, "device %s%s: %s; dtype %s (%s)",
                pr_device_choice_name(p.device), is_auto ? " (auto)" : "", p.reason,
                pr_dtype_name(dtype), source);
    return PR_OK;
}

static void worker_configure(pr_engine *e)
{
    const pr_config *config = e->config;
    const pr_model_spec *spec = &e->model->spec;
    e->worker_config = (pr_worker_config){
        .folder = e->model->folder,
        .weights_folder = e->model->weights_folder,
        .spec = spec,
        .st = &e->model->st,
        .dtype = pr_config_dtype(config, spec->checkpoint_dtype),
        .n_rows_max = u32_max(e->limits.n_tokens_max, e->model->n_tokens_max),
        .n_positions_max = e->model->n_tokens_max,
        .is_streamed = config->stream_weights == PR_STREAM_CHOICE_ON,
        .is_cancelled = &e->is_load_cancelled,
    };
    e->device = (pr_rank_device){
        .is_cuda = config->device == PR_DEVICE_CHOICE_CUDA,
        .cpu = {.n_threads = config->n_threads, .isa = config->cpu_isa,
                .precision = config->matmul_precision},
        .allow_tf32 = config->allow_tf32,
        .utilization = config->gpu_memory_utilization,
        .devices = config->devices,
        .n_local_ranks = 1,
        .demand = {.spec = spec, .parallel = {0, 1, 0, 1},
                   .n_rows_max = e->worker_config.n_rows_max,
                   .n_positions_max = e->worker_config.n_positions_max,
                   .dtype = e->worker_config.dtype},
    };
}

/* What the ranks keep between batches. */
static pr_status cache_configure(pr_engine *e, pr_error *err)
{
    bool is_gpu = e->config->device == PR_DEVICE_CHOICE_CUDA;
    double asked = e->config->prefix_cache_bytes;
    uint64_t n_bytes = asked >= 0 ? (uint64_t)asked : is_gpu ? 0 : pr_cache_bytes_default();
    pr_dtype dtype = is_gpu ? e->worker_config.dtype : PR_DTYPE_F32; /* of activations */
    pr_cache_size size;
    pr_status st = pr_cache_size_plan(e->model, e->config, n_bytes, dtype, &size, err);
    if (st != PR_OK) return st;
    e->prefix_cache_bytes = size.n_bytes;
    e->worker_config.n_cache_blocks = size.n_blocks;
    e->worker_config.cache_keeps_hidden = size.keeps_hidden;
    return PR_OK;
}

static pr_status queue_create(pr_engine *e, pr_error *err)
{
    e->limits.shares_prefixes = e->config->enable_prefix_caching && e->model->spec.causal;
    if (e->worker_config.n_cache_blocks > 0) e->limits.n_cached_max = e->worker_config.n_rows_max;
    const pr_batch_queue_config config = {.limits = e->limits, .n_parts_max = READY_PARTS_MAX,
                                          .done = pr_engine_job_deliver,
                                          .room = pr_engine_ready_room,
                                          .context = e};
    return pr_batch_queue_create(&config, &e->queue, err);
}

/* Rank 0 of the job, this process's parent, waits for where to connect. A pipe takes so little at
 * once. */
static pr_status job_tell(const pr_fleet *fleet, int fd, pr_error *err)
{
    pr_buffer text;
    pr_buffer_init(&text);
    const char *strings[] = {pr_fleet_address(fleet), pr_fleet_key_file(fleet)};
    for (int i = 0; i < 2; i++) pr_buffer_append(&text, strings[i], strlen(strings[i]) + 1);
    pr_status st = PR_OK;
    if (text.failed) st = pr_error_nomem(err, "address", text.n);
    if (st == PR_OK && write(fd, text.data, text.n) != (ssize_t)text.n) {
        st = pr_error_set(err, PR_E_IO, "tell rank 0 of the job where to connect");
    }
    close(fd);
    pr_buffer_deinit(&text);
    return st;
}

static pr_status fleet_start(pr_engine *e, const pr_config *config, pr_error *err)
{
    pr_status st = pr_rank_options_build(config, e->model, &e->rank_options, err);
    if (st != PR_OK) return st;
    const pr_fleet_config fleet = {
        .config = config, .launch = e->launch, .model = e->model, .log = &e->log, .queue = e->queue,
        .n_rows_max = e->worker_config.n_rows_max,
        .n_positions_max = e->worker_config.n_positions_max,
        .options = e->rank_options.options, .n_options = e->rank_options.n_options,
    };
    pr_fleet *started = NULL;
    st = pr_fleet_start(&fleet, &started, err);
    pthread_mutex_lock(&e->lock);
    e->fleet = started;
    pthread_mutex_unlock(&e->lock);
    if (started && atomic_load(&e->is_load_cancelled)) pr_fleet_cancel(started);
    if (st == PR_OK && config->job_fd > 0) st = job_tell(e->fleet, config->job_fd, err);
    return st;
}

static pr_status runner_start(pr_engine *e, const pr_config *config, pr_error *err)
{
    if (e->launch == PR_WORKER_LAUNCH_INPROC) {
        return pr_run_local_start(&e->worker_config, &e->device, e->queue, &e->local, err);
    }
    return fleet_start(e, config, err);
}

static pr_status tokenizers_start(pr_engine *e, int n_max, pr_error *err)
{
    int *n = &e->n_tokenizers;
    while (*n < n_max &&
           pthread_create(&e->tokenizers[*n], NULL, pr_engine_tokenizer_main, e) == 0) {
        (*n)++;
    }
    return *n > 0 ? PR_OK : pr_error_set(err, PR_E_INTERNAL, "cannot start a thread");
}

/* The model is loaded, by the worker's thread or by ranks, while this thread reads the tokenizer;
 * when that fails, nobody waits for the weights. */
static pr_status parts_start(pr_engine *e, const pr_config *config, pr_error *err)
{
    pr_status st = runner_start(e, config, err);
    if (st == PR_OK) st = pr_model_load_tokenizer(e->model, err);
    if (st == PR_OK) st = tokenizers_start(e, n_tokenizers_of(config), err);
    if (st != PR_OK) {
        atomic_store(&e->is_load_cancelled, true);
        return st;
    }
    st = e->local ? pr_run_local_await(e->local, &e->info, err)
                  : pr_fleet_await(e->fleet, &e->info, err);
    return st == PR_OK ? st : pr_model_error(e->model, st, err);
}

static pr_status description_make(pr_engine *e, const pr_config *config, pr_error *err)
{
    json_t *json = NULL;
    pr_status st = pr_describe(e->model, config, &e->info, &json, err);
    if (st != PR_OK) return st;
    pr_fleet_rank *ranks = NULL;
    size_t n = e->fleet ? pr_fleet_ranks(e->fleet, &ranks) : 0;
    if (n > 0) {
        json_t *described = NULL;
        st = pr_describe_ranks(e->model, config, PR_WORKER_LAUNCH_EXTERNAL, ranks, n, &described,
                               err);
        if (st == PR_OK) json_object_set_new(json, "ranks", described);
    }
    free(ranks);
    if (st != PR_OK) {
        json_decref(json);
        return st;
    }
    e->description = json_dumps(json, JSON_INDENT(2));
    json_decref(json);
    return e->description ? PR_OK : pr_error_nomem(err, "description", 0);
}

pr_status pr_engine_create(const pr_config *config, pr_engine **out, pr_error *err)
{
    pr_engine *e = calloc(1, sizeof *e);
    if (!e) return pr_error_nomem(err, "engine", sizeof *e);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->has_room, NULL);
    pthread_cond_init(&e->has_waiting, NULL);
    pthread_cond_init(&e->done, NULL);
    engine_configure(e, config);
    atomic_init(&e->is_load_cancelled, false);
    pr_status st = pr_model_open_files(config, &e->model, err);
    if (st == PR_OK) st = placement_settle(e, err);
    if (st == PR_OK) worker_configure(e);
    if (st == PR_OK) st = cache_configure(e, err);
    if (st == PR_OK) st = queue_create(e, err);
    if (st != PR_OK) {
        pr_engine_close(e);
        return st;
    }
    *out = e;
    return PR_OK;
}

pr_status pr_engine_load(pr_engine *e, pr_error *err)
{
    pr_status st = parts_start(e, e->config, err);
    if (st == PR_OK) st = description_make(e, e->config, err);
    if (st != PR_OK) return st;
    pr_model_warn(e->model, &e->log);
    pthread_mutex_lock(&e->lock);
    e->is_loaded = true;
    pthread_mutex_unlock(&e->lock);
    return PR_OK;
}

void pr_engine_cancel_load(pr_engine *e)
{
    atomic_store(&e->is_load_cancelled, true);
    pthread_mutex_lock(&e->lock);
    if (e->fleet) pr_fleet_cancel(e->fleet);
    pthread_mutex_unlock(&e->lock);
}

pr_status pr_engine_open_config(const pr_config *config, pr_engine **out, pr_error *err)
{
    pr_engine *e = NULL;
    pr_status st = pr_engine_create(config, &e, err);
    if (st == PR_OK) st = pr_engine_load(e, err);
    if (st != PR_OK) {
        pr_engine_close(e);
        return st;
    }
    *out = e;
    return PR_OK;
}

pr_status pr_engine_open(const pr_options *options, pr_engine **out, pr_error *err)
{
    pr_config *config = calloc(1, sizeof *config);
    if (!config) return pr_error_nomem(err, "settings", sizeof *config);
    pr_engine *e = NULL;
    pr_status st = pr_config_build(options, config, err);
    if (st == PR_OK) st = pr_engine_open_config(config, &e, err);
    if (st != PR_OK) {
        pr_config_deinit(config);
        free(config);
        return st;
    }
    e->own_config = config;
    *out = e;
    return PR_OK;
}

void pr_engine_close(pr_engine *e)
{
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->is_closing = true;
    pr_admission *outside = pr_engine_admissions_take(e);
    pthread_cond_broadcast(&e->has_waiting);
    pthread_cond_broadcast(&e->has_room);
    pthread_mutex_unlock(&e->lock);
    pr_engine_admissions_fail(outside, PR_E_UNAVAILABLE, "the engine is closing");
    for (int i = 0; i < e->n_tokenizers; i++) pthread_join(e->tokenizers[i], NULL);
    if (e->queue) pr_batch_queue_close(e->queue);
    pr_run_local_stop(e->local);
    pr_fleet_stop(e->fleet);
    while (e->tickets) {
        pr_job *job = e->tickets;
        pr_engine_ticket_remove(e, job);
        pr_job_free(job);
    }
    pr_batch_queue_free(e->queue);
    pr_order_deinit(&e->waiting);
    pr_rank_options_deinit(&e->rank_options);
    pr_model_close(e->model);
    free(e->description);
    pr_config_deinit(e->own_config);
    free(e->own_config);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->has_room);
    pthread_cond_destroy(&e->has_waiting);
    pthread_cond_destroy(&e->done);
    free(e);
}

const char *pr_engine_describe(const pr_engine *e)
{
    return e->description;
}

const pr_model *pr_engine_model(const pr_engine *e)
{
    return e->model;
}

const pr_config *pr_engine_settings(const pr_engine *e)
{
    return e->config;
}

const char *pr_version(void)
{
    return POOLRANK_VERSION;
}
