#include "coordinator/engine.h"

#include "coordinator/describe.h"
#include "coordinator/job.h"
#include "coordinator/options.h"
#include "worker/worker.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TOKENIZER_THREADS_MAX = 4,
    READY_REQUESTS_MAX = 8192,
    TEXT_BYTES_MAX = 1 << 30, /* of one request */
    TOKENS_MAX = 1 << 28
};

/* One part of a job, ready for the model. */
typedef struct ready_part {
    pr_job *job;
    int i_part;
} ready_part;

typedef struct job_list {
    pr_job *first, *last;
} job_list;

struct pr_engine {
    pr_model *model;
    pr_log log;
    pr_worker_config worker_config;
    pr_prepare_defaults defaults;
    pr_batch_limits limits;
    uint32_t n_jobs_max; /* bound of the queue */
    bool block;          /* a full queue makes submit wait */
    char *description;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t room;        /* a job left the queue */
    pthread_cond_t has_waiting; /* for tokenizer threads: waiting jobs, or room in ready */
    pthread_cond_t has_ready;   /* for the compute thread */
    pthread_cond_t done;        /* a job that somebody waits for is done; the worker is open */
    job_list waiting;
    pr_job *tickets; /* jobs that somebody may wait for, accepted or done */
    ready_part *ready; /* ring of n_ready_max, oldest at ready_begin */
    size_t ready_begin, n_ready, n_ready_max;
    uint32_t n_jobs;        /* accepted and not done */
    uint32_t n_tokenizing;  /* jobs in the hands of tokenizer threads */
    bool is_closing;
    bool is_open, has_failed; /* how the worker's start went */
    pr_error open_error;
    pr_worker_info info;

    atomic_bool is_load_cancelled; /* the worker need not be opened any more */

    pthread_t compute;
    pthread_t tokenizers[TOKENIZER_THREADS_MAX];
    int n_tokenizers;
    bool has_compute;
};

/* ---- delivering ---- */

/* Hands a finished job's result over. Called without the lock. */
static void job_deliver(pr_engine *e, pr_job *job)
{
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
    if (e->is_closing) {
        pthread_cond_broadcast(&e->has_ready);
        pthread_cond_broadcast(&e->has_waiting);
    }
    pthread_mutex_unlock(&e->lock);
}

/* ---- tokenizer threads ---- */

static void ready_push(pr_engine *e, pr_job *job)
{
    for (int i = 0; i < job->prepared.n_parts; i++) {
        assert(e->n_ready < e->n_ready_max);
        e->ready[(e->ready_begin + e->n_ready++) % e->n_ready_max] = (ready_part){job, i};
    }
    pthread_cond_signal(&e->has_ready);
}

/* Waits for a job; NULL when the engine is closing and nothing is left. */
static pr_job *waiting_pop(pr_engine *e)
{
    pthread_mutex_lock(&e->lock);
    for (;;) {
        /* Each job takes at most two places in `ready`. */
        bool has_room = e->n_ready + 2 * (e->n_tokenizing + 1) <= e->n_ready_max;
        if (e->waiting.first && has_room) break;
        if (e->is_closing && !e->waiting.first) {
            pthread_mutex_unlock(&e->lock);
            return NULL;
        }
        pthread_cond_wait(&e->has_waiting, &e->lock);
    }
    pr_job *job = e->waiting.first;
    e->waiting.first = job->next;
    if (!e->waiting.first) e->waiting.last = NULL;
    e->n_tokenizing++;
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
        pthread_mutex_lock(&e->lock);
        e->n_tokenizing--;
        if (!is_finished) ready_push(e, job);
        pthread_mutex_unlock(&e->lock);
        if (is_finished) job_deliver(e, job);
    }
    return NULL;
}

/* ---- compute thread ---- */

/* Memory of one batch's making, reused from batch to batch. */
typedef struct batch {
    ready_part *parts;
    pr_queued *queued;
    const pr_pooling **poolings;
    size_t n;
} batch;

static pr_status batch_init(batch *b, size_t n_max, pr_error *err)
{
    b->parts = malloc(n_max * sizeof *b->parts);
    b->queued = malloc(n_max * sizeof *b->queued);
    b->poolings = malloc(n_max * sizeof *b->poolings);
    if (b->parts && b->queued && b->poolings) return PR_OK;
    return pr_error_nomem(err, "batch", n_max * sizeof *b->parts);
}

static void batch_deinit(batch *b)
{
    free(b->parts);
    free(b->queued);
    free(b->poolings);
}

/* Waits for ready parts and copies the front of the queue; 0 when closing and nothing is left. */
static size_t batch_peek(pr_engine *e, batch *b)
{
    pthread_mutex_lock(&e->lock);
    while (e->n_ready == 0) {
        if (e->is_closing && e->n_jobs == 0) break;
        pthread_cond_wait(&e->has_ready, &e->lock);
    }
    b->n = e->n_ready < e->limits.n_sequences_max ? e->n_ready : e->limits.n_sequences_max;
    for (size_t i = 0; i < b->n; i++) {
        b->parts[i] = e->ready[(e->ready_begin + i) % e->n_ready_max];
    }
    pthread_mutex_unlock(&e->lock);
    for (size_t i = 0; i < b->n; i++) {
        const pr_prepared *p = &b->parts[i].job->prepared;
        const pr_encoding *enc = &p->parts[b->parts[i].i_part];
        b->queued[i] = (pr_queued){enc->ids, enc->type_ids, (uint32_t)enc->n};
        b->poolings[i] = p->pooling;
    }
    return b->n;
}

static void batch_pop(pr_engine *e, size_t n)
{
    pthread_mutex_lock(&e->lock);
    e->ready_begin = (e->ready_begin + n) % e->n_ready_max;
    e->n_ready -= n;
    pthread_cond_broadcast(&e->has_waiting);
    pthread_mutex_unlock(&e->lock);
}

/* A part of a batch that failed: the job fails when its last part is through. */
static bool part_fail(pr_job *job, pr_status st, const char *message)
{
    job->n_parts_done++;
    if (job->result->status == PR_OK) pr_job_fail(job, st, message);
    return job->n_parts_done == job->prepared.n_parts;
}

static void batch_deliver(pr_engine *e, const batch *b, size_t n, const pr_pooled *pooled,
                          pr_status st, const char *message)
{
    for (size_t i = 0; i < n; i++) {
        pr_job *job = b->parts[i].job;
        bool is_done;
        if (st != PR_OK || job->result->status != PR_OK) {
            is_done = part_fail(job, st, message);
        } else {
            is_done = pr_job_take_rows(job, b->parts[i].i_part, pooled, &pooled->rows[i]);
        }
        if (is_done) job_deliver(e, job);
    }
}

/* Plans the front of the queue as one batch and runs it. */
static void batch_run(pr_engine *e, pr_worker *worker, batch *b)
{
    pr_batch_limits limits = e->limits;
    if (b->queued[0].n_tokens > limits.n_tokens_max) limits.n_tokens_max = b->queued[0].n_tokens;
    pr_batch_plan *plan = NULL;
    pr_pooled pooled = {0};
    pr_error err;
    size_t n_taken = 1;
    pr_status st = pr_batch_plan_build(b->queued, b->n, &limits, &n_taken, &plan, &err);
    if (st == PR_OK) st = pr_worker_run(worker, plan, b->poolings, &pooled, &err);
    batch_pop(e, n_taken);
    batch_deliver(e, b, n_taken, &pooled, st, st == PR_OK ? "" : err.message);
    pr_pooled_deinit(&pooled);
    pr_batch_plan_free(plan);
}

static void start_report(pr_engine *e, const pr_worker *worker, pr_status st, const pr_error *err)
{
    pthread_mutex_lock(&e->lock);
    if (st == PR_OK) {
        e->info = pr_worker_describe(worker);
        e->is_open = true;
    } else {
        e->has_failed = true;
        e->open_error = *err;
    }
    pthread_cond_broadcast(&e->done);
    pthread_mutex_unlock(&e->lock);
}

static void *compute_main(void *context)
{
    pr_engine *e = context;
    pr_worker *worker = NULL;
    batch b = {0};
    pr_error err;
    pr_status st = batch_init(&b, e->limits.n_sequences_max, &err);
    if (st == PR_OK) st = pr_worker_open(&e->worker_config, &worker, &err);
    start_report(e, worker, st, &err);
    while (st == PR_OK && batch_peek(e, &b) > 0) batch_run(e, worker, &b);
    pr_worker_close(worker);
    batch_deinit(&b);
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
        .dtype = config->dtype == PR_DTYPE_CHOICE_BFLOAT16 ? PR_DTYPE_BF16 : PR_DTYPE_F32,
        .n_rows_max = u32_max(e->limits.n_tokens_max, e->model->n_tokens_max),
        .n_positions_max = e->model->n_tokens_max,
        .is_streamed = config->stream_weights == PR_STREAM_CHOICE_ON,
        .is_cancelled = &e->is_load_cancelled,
    };
}

static pr_status compute_start(pr_engine *e, pr_error *err)
{
    if (pthread_create(&e->compute, NULL, compute_main, e) != 0) {
        return pr_error_set(err, PR_E_INTERNAL, "cannot start a thread");
    }
    e->has_compute = true;
    return PR_OK;
}

static pr_status tokenizers_start(pr_engine *e, int n_max, pr_error *err)
{
    int *n = &e->n_tokenizers;
    while (*n < n_max && pthread_create(&e->tokenizers[*n], NULL, tokenizer_main, e) == 0) (*n)++;
    return *n > 0 ? PR_OK : pr_error_set(err, PR_E_INTERNAL, "cannot start a thread");
}

static pr_status worker_await(pr_engine *e, pr_error *err)
{
    pthread_mutex_lock(&e->lock);
    while (!e->is_open && !e->has_failed) pthread_cond_wait(&e->done, &e->lock);
    pthread_mutex_unlock(&e->lock);
    if (e->is_open) return PR_OK;
    return pr_error_set(err, e->open_error.status, "%s", e->open_error.message);
}

/* The compute thread reads the weights while this one reads the tokenizer; when that fails, nobody
 * waits for the weights. */
static pr_status parts_start(pr_engine *e, const pr_config *config, pr_error *err)
{
    pr_status st = compute_start(e, err);
    if (st == PR_OK) st = pr_model_load_tokenizer(e->model, err);
    if (st == PR_OK) st = tokenizers_start(e, n_tokenizers_of(config), err);
    if (st != PR_OK) {
        atomic_store(&e->is_load_cancelled, true);
        return st;
    }
    if ((st = worker_await(e, err)) != PR_OK) pr_model_error(e->model, st, err);
    return st;
}

static pr_status description_make(pr_engine *e, const pr_config *config, pr_error *err)
{
    json_t *json = NULL;
    pr_status st = pr_describe(e->model, config, &e->info, &json, err);
    if (st != PR_OK) return st;
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
    pthread_cond_init(&e->has_ready, NULL);
    pthread_cond_init(&e->done, NULL);
    engine_configure(e, config);
    atomic_init(&e->is_load_cancelled, false);
    pr_status st = pr_model_open_files(config, &e->model, err);
    if (st == PR_OK) {
        worker_configure(e, config);
        e->n_ready_max = READY_REQUESTS_MAX;
        e->ready = malloc(e->n_ready_max * sizeof *e->ready);
        if (!e->ready) st = pr_error_nomem(err, "queue", e->n_ready_max * sizeof *e->ready);
    }
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
    pr_config config = {0};
    pr_status st = pr_config_build(options, &config, err);
    if (st == PR_OK) st = pr_engine_open_config(&config, out, err);
    pr_config_deinit(&config);
    return st;
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
    pthread_cond_broadcast(&e->has_ready);
    pthread_cond_broadcast(&e->room);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; e->has_compute && i < e->n_tokenizers; i++)
        pthread_join(e->tokenizers[i], NULL);
    if (e->has_compute) pthread_join(e->compute, NULL);
    while (e->tickets) {
        pr_job *job = e->tickets;
        ticket_remove(e, job);
        pr_job_free(job);
    }
    pr_model_close(e->model);
    free(e->ready);
    free(e->description);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->room);
    pthread_cond_destroy(&e->has_waiting);
    pthread_cond_destroy(&e->has_ready);
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
