#include "coordinator/engine.h"

#include "coordinator/batch_queue.h"
#include "coordinator/describe.h"
#include "coordinator/describe_ranks.h"
#include "coordinator/fleet.h"
#include "coordinator/options.h"
#include "coordinator/rank_options.h"
#include "coordinator/run_local.h"
#include "coordinator/worker_launch.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TOKENIZER_THREADS_MAX = 4,
    READY_PARTS_MAX = 8192,
    TEXT_BYTES_MAX = 1 << 30, /* of one request */
    TOKENS_MAX = 1 << 28
};

typedef struct job_list {
    pr_job *first, *last;
} job_list;

struct pr_engine {
    pr_model *model;
    pr_log log;
    pr_worker_config worker_config;
    pr_prepare_defaults defaults;
    pr_batch_limits limits;
    pr_batch_queue *queue; /* prepared jobs, on their way to the model and back */
    pr_run_local *local;   /* the runner, where the worker is in this process, or */
    pr_fleet *fleet;       /* where replica groups are started or join */
    uint32_t n_jobs_max; /* bound of the queue */
    bool block;          /* a full queue makes submit wait */
    char *description;
    pr_config *own_config;        /* owned; NULL: the caller's is borrowed */
    pr_rank_options rank_options; /* what ranks open the same model with */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t room;        /* a job left the queue */
    pthread_cond_t has_waiting; /* for tokenizer threads: waiting jobs, or room for ready parts */
    pthread_cond_t done;        /* a job that somebody waits for is done */
    job_list waiting;
    pr_job *tickets; /* jobs that somebody may wait for, accepted or done */
    uint32_t n_jobs;        /* accepted and not done */
    bool is_closing;

    pr_worker_info info;           /* of the worker, or of a group's pooling rank */
    atomic_bool is_load_cancelled; /* the worker need not be opened any more */

    pthread_t tokenizers[TOKENIZER_THREADS_MAX];
    int n_tokenizers;
};

/* ---- delivering ---- */

/* Hands a finished job's result over. Called without the lock. */
static void job_deliver(void *context, pr_job *job)
{
    pr_engine *e = context;
    pr_done callback = job->request.done;
    if (callback) {
        pr_result *result = job->result;
        job->result = NULL;
        callback(job->request.context, result);
        pr_job_free(job);
    }
    pthread_mutex_lock(&e->lock);
    if (!callback) {
        job->is_done = true;
        pthread_cond_broadcast(&e->done);
    }
    e->n_jobs--;
    pthread_cond_signal(&e->room);
    pthread_mutex_unlock(&e->lock);
}

static void ready_room_tell(void *context)
{
    pr_engine *e = context;
    pthread_mutex_lock(&e->lock);
    pthread_cond_broadcast(&e->has_waiting);
    pthread_mutex_unlock(&e->lock);
}

/* ---- tokenizer threads ---- */

/* Waits for a job, and for PARTS_MAX places that its parts may need; NULL when the engine is
 * closing and nothing is left. */
static pr_job *waiting_pop(pr_engine *e)
{
    pthread_mutex_lock(&e->lock);
    for (;;) {
        if (e->waiting.first && pr_batch_queue_reserve(e->queue, PR_PARTS_MAX)) break;
        if (e->is_closing && !e->waiting.first) {
            pthread_mutex_unlock(&e->lock);
            return NULL;
        }
        pthread_cond_wait(&e->has_waiting, &e->lock);
    }
    pr_job *job = e->waiting.first;
    e->waiting.first = job->next;
    if (!e->waiting.first) e->waiting.last = NULL;
    pthread_mutex_unlock(&e->lock);
    return job;
}

static void *tokenizer_main(void *context)
{
    pr_engine *e = context;
    for (pr_job *job; (job = waiting_pop(e)) != NULL;) {
        pr_error err;
        pr_status st = pr_prepare(e->model, &e->defaults, &job->request, &job->prepared, &err);
        bool is_finished = st != PR_OK || job->request.tokenize_only;
        if (st == PR_OK && is_finished) st = pr_job_finish_tokens(job, &err);
        if (st != PR_OK) pr_job_fail(job, st, err.message);
        size_t n_parts = is_finished ? 0 : (size_t)job->prepared.n_parts;
        pr_batch_queue_unreserve(e->queue, PR_PARTS_MAX - n_parts);
        ready_room_tell(e);
        if (is_finished) {
            job_deliver(e, job);
        } else {
            pr_batch_queue_push(e->queue, job);
        }
    }
    return NULL;
}

/* ---- open and close ---- */

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
    e->n_jobs_max = (uint32_t)config->max_queued_requests;
    e->block = config->block;
}

static int n_tokenizers_of(const pr_config *config)
{
    int n = config->n_threads / 2;
    return n < 1 ? 1 : n > TOKENIZER_THREADS_MAX ? TOKENIZER_THREADS_MAX : n;
}

static void worker_configure(pr_engine *e, const pr_config *config)
{
    e->worker_config = (pr_worker_config){
        .folder = e->model->folder,
        .weights_folder = e->model->weights_folder,
        .spec = &e->model->spec,
        .st = &e->model->st,
        .cpu = {.n_threads = config->n_threads, .isa = config->cpu_isa},
        .dtype = pr_config_dtype(config),
        .n_rows_max = u32_max(e->limits.n_tokens_max, e->model->n_tokens_max),
        .n_positions_max = e->model->n_tokens_max,
        .is_streamed = config->stream_weights == PR_STREAM_CHOICE_ON,
        .is_cancelled = &e->is_load_cancelled,
    };
}

static pr_status queue_create(pr_engine *e, pr_error *err)
{
    const pr_batch_queue_config config = {.limits = e->limits, .n_parts_max = READY_PARTS_MAX,
                                          .done = job_deliver, .room = ready_room_tell,
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

static pr_status fleet_start(pr_engine *e, const pr_config *config, pr_worker_launch launch,
                             pr_error *err)
{
    pr_status st = pr_rank_options_build(config, e->model, &e->rank_options, err);
    if (st != PR_OK) return st;
    const pr_fleet_config fleet = {
        .config = config, .launch = launch, .model = e->model, .log = &e->log, .queue = e->queue,
        .n_rows_max = e->worker_config.n_rows_max,
        .n_positions_max = e->worker_config.n_positions_max,
        .options = e->rank_options.options, .n_options = e->rank_options.n_options,
    };
    st = pr_fleet_start(&fleet, &e->fleet, err);
    if (st == PR_OK && config->job_fd > 0) st = job_tell(e->fleet, config->job_fd, err);
    return st;
}

static pr_status runner_start(pr_engine *e, const pr_config *config, pr_error *err)
{
    pr_worker_launch launch;
    pr_status st = pr_worker_launch_resolve(config, &e->model->spec, &launch, err);
    if (st != PR_OK) return st;
    if (launch == PR_WORKER_LAUNCH_INPROC) {
        return pr_run_local_start(&e->worker_config, e->queue, &e->local, err);
    }
    return fleet_start(e, config, launch, err);
}

static pr_status tokenizers_start(pr_engine *e, int n_max, pr_error *err)
{
    int *n = &e->n_tokenizers;
    while (*n < n_max && pthread_create(&e->tokenizers[*n], NULL, tokenizer_main, e) == 0) (*n)++;
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

pr_status pr_engine_open_config(const pr_config *config, pr_engine **out, pr_error *err)
{
    pr_engine *e = calloc(1, sizeof *e);
    if (!e) return pr_error_nomem(err, "engine", sizeof *e);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->room, NULL);
    pthread_cond_init(&e->has_waiting, NULL);
    pthread_cond_init(&e->done, NULL);
    engine_configure(e, config);
    atomic_init(&e->is_load_cancelled, false);
    pr_status st = pr_model_open_files(config, &e->model, err);
    if (st == PR_OK) worker_configure(e, config);
    if (st == PR_OK) st = queue_create(e, err);
    if (st == PR_OK) st = parts_start(e, config, err);
    if (st == PR_OK) st = description_make(e, config, err);
    if (st != PR_OK) {
        pr_engine_close(e);
        return st;
    }
    pr_model_warn(e->model, &e->log);
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

static void ticket_add(pr_engine *e, pr_job *job)
{
    job->ticket_next = e->tickets;
    if (e->tickets) e->tickets->ticket_prev = job;
    e->tickets = job;
}

static void ticket_remove(pr_engine *e, pr_job *job)
{
    if (job->ticket_prev) {
        job->ticket_prev->ticket_next = job->ticket_next;
    } else {
        e->tickets = job->ticket_next;
    }
    if (job->ticket_next) job->ticket_next->ticket_prev = job->ticket_prev;
}

void pr_engine_close(pr_engine *e)
{
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->is_closing = true;
    pthread_cond_broadcast(&e->has_waiting);
    pthread_cond_broadcast(&e->room);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < e->n_tokenizers; i++) pthread_join(e->tokenizers[i], NULL);
    if (e->queue) pr_batch_queue_close(e->queue);
    pr_run_local_stop(e->local);
    pr_fleet_stop(e->fleet);
    while (e->tickets) {
        pr_job *job = e->tickets;
        ticket_remove(e, job);
        pr_job_free(job);
    }
    pr_batch_queue_free(e->queue);
    pr_rank_options_deinit(&e->rank_options);
    pr_model_close(e->model);
    free(e->description);
    pr_config_deinit(e->own_config);
    free(e->own_config);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->room);
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

/* ---- requests ---- */

void pr_request_init(pr_request *r)
{
    *r = (pr_request){.struct_bytes = sizeof *r, .truncation_side = -1, .add_special_tokens = -1,
                      .normalize = -1, .softmax = -1, .use_activation = -1, .step_tag_id = -1};
}

void pr_result_free(pr_result *r)
{
    if (!r) return;
    free(r->message);
    free(r->data);
    free(r->tokens);
    free(r);
}

const char *pr_version(void)
{
    return POOLRANK_VERSION;
}

static pr_status request_check(const pr_request *r, pr_error *err)
{
    if (r->struct_bytes != sizeof *r) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "request: struct_bytes %zu, expected %zu (call pr_request_init first)",
                            r->struct_bytes, sizeof *r);
    }
    if (!r->text == !r->tokens) {
        return pr_error_set(err, PR_E_ARGUMENT, "request: expected either text or tokens");
    }
    if ((unsigned)r->task >= PR_TASK_COUNT) {
        return pr_error_set(err, PR_E_ARGUMENT, "request: task %d is unknown", (int)r->task);
    }
    const struct {
        const char *what;
        size_t found, max;
    } sizes[] = {
        {"text: bytes", r->n_text, TEXT_BYTES_MAX},
        {"text_pair: bytes", r->n_text_pair, TEXT_BYTES_MAX},
        {"tokens", r->n_tokens, TOKENS_MAX},
        {"returned_token_ids", r->n_returned_token_ids,
         PR_RETURNED_TOKENS_MAX},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i].found <= sizes[i].max) continue;
        return pr_error_set(err, PR_E_TOO_LARGE, "%s: found %zu, expected at most %zu",
                            sizes[i].what, sizes[i].found, sizes[i].max);
    }
    return PR_OK;
}

/* Waits for room or refuses. Called with the lock. */
static pr_status room_await(pr_engine *e, pr_error *err)
{
    while (e->n_jobs >= e->n_jobs_max && e->block && !e->is_closing) {
        pthread_cond_wait(&e->room, &e->lock);
    }
    if (e->is_closing) return pr_error_set(err, PR_E_UNAVAILABLE, "the engine is closing");
    if (e->n_jobs >= e->n_jobs_max) {
        return pr_error_set(err, PR_E_OVERLOADED, "the queue is full: %u requests (%s)",
                            e->n_jobs_max, "--max-queued-requests");
    }
    return PR_OK;
}

pr_status pr_engine_submit(pr_engine *e, const pr_request *request, pr_ticket **ticket,
                           pr_error *err)
{
    pr_status st = request_check(request, err);
    if (st != PR_OK) return st;
    bool waits = request->done == NULL;
    if (waits && !ticket)
        return pr_error_set(err, PR_E_ARGUMENT, "request: no ticket, no callback");
    pr_job *job = pr_job_create(request);
    if (!job) return pr_error_nomem(err, "request", request->n_text + request->n_text_pair);
    pthread_mutex_lock(&e->lock);
    st = room_await(e, err);
    if (st == PR_OK) {
        e->n_jobs++;
        if (e->waiting.last) {
            e->waiting.last->next = job;
        } else {
            e->waiting.first = job;
        }
        e->waiting.last = job;
        if (waits) ticket_add(e, job);
        pthread_cond_signal(&e->has_waiting);
    }
    pthread_mutex_unlock(&e->lock);
    if (st != PR_OK) {
        pr_job_free(job);
        return st;
    }
    if (waits) *ticket = job; /* with a callback the job may be gone already */
    return PR_OK;
}

pr_status pr_engine_wait(pr_engine *e, pr_ticket *ticket, pr_result **out, pr_error *err)
{
    if (!ticket) return pr_error_set(err, PR_E_ARGUMENT, "no ticket");
    pthread_mutex_lock(&e->lock);
    while (!ticket->is_done) pthread_cond_wait(&e->done, &e->lock);
    ticket_remove(e, ticket);
    pthread_mutex_unlock(&e->lock);
    *out = ticket->result;
    ticket->result = NULL;
    pr_job_free(ticket);
    return PR_OK;
}
