#include "coordinator/engine/engine_admission.h"
#include "runtime/base/clock.h"
#include "runtime/base/sized.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

enum {
    TEXT_BYTES_MAX = 1 << 30, /* of one request */
    TOKENS_MAX = 1 << 28
};

/* ---- delivering ---- */

/* Called without the lock. */
void pr_engine_job_deliver(void *context, pr_job *job)
{
    pr_engine *e = context;
    pr_done callback = job->request.done;
    uint64_t n_tokens = job->n_tokens;
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
    e->n_tokens -= n_tokens;
    pr_engine_admissions_settle(e);
    pthread_mutex_unlock(&e->lock);
}

void pr_engine_ready_room(void *context)
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
        if (e->waiting.n > 0 && pr_batch_queue_reserve(e->queue, PR_PARTS_MAX)) break;
        if (e->is_closing && e->waiting.n == 0) {
            pthread_mutex_unlock(&e->lock);
            return NULL;
        }
        pthread_cond_wait(&e->has_waiting, &e->lock);
    }
    pr_job *job = pr_order_pop(&e->waiting).item;
    e->n_preparing++;
    pthread_mutex_unlock(&e->lock);
    return job;
}

/* What the job weighs is known now; so are the places that it does not need. */
static void prepared_account(pr_engine *e, pr_job *job, size_t n_parts)
{
    uint64_t n_tokens = 0;
    for (size_t i = 0; i < n_parts; i++) n_tokens += job->prepared.parts[i].n;
    pr_batch_queue_unreserve(e->queue, PR_PARTS_MAX - n_parts);
    pthread_mutex_lock(&e->lock);
    e->n_preparing--;
    if (n_tokens > 0) {
        e->n_tokens = e->n_tokens - job->n_tokens + n_tokens;
        job->n_tokens = n_tokens;
        pr_engine_admissions_settle(e);
    }
    if (e->waiting.n > 0) pthread_cond_broadcast(&e->has_waiting);
    pthread_mutex_unlock(&e->lock);
}

/* Without its turn at the model: it failed, or only its tokens were asked for. */
static void unqueued_deliver(pr_engine *e, pr_job *job)
{
    if (job->result) job->result->tokenize_ns = job->tokenize_ns;
    pr_engine_job_deliver(e, job);
}

static void job_prepare(pr_engine *e, pr_job *job)
{
    pr_error err;
    uint64_t begin_ns = pr_clock_ns();
    pr_status st = PR_OK;
    bool is_over = pr_job_is_over(job, begin_ns);
    if (is_over) {
        pr_job_fail_over(job);
    } else {
        st = pr_prepare(e->model, &e->defaults, &job->request, &job->prepared, &err);
    }
    bool is_finished = is_over || st != PR_OK || job->request.tokenize_only;
    if (st == PR_OK && is_finished && !is_over) st = pr_job_finish_tokens(job, &err);
    if (st != PR_OK) pr_job_fail(job, st, err.message);
    job->tokenize_ns = pr_clock_ns() - begin_ns;
    if (is_finished) pr_batch_queue_drop(e->queue, job);
    prepared_account(e, job, is_finished ? 0 : (size_t)job->prepared.n_parts);
    if (is_finished) {
        unqueued_deliver(e, job);
    } else if (!pr_batch_queue_push(e->queue, job)) {
        pr_job_fail_over(job);
        unqueued_deliver(e, job);
    }
}

void *pr_engine_tokenizer_main(void *context)
{
    pr_engine *e = context;
    for (pr_job *job; (job = waiting_pop(e)) != NULL;) job_prepare(e, job);
    return NULL;
}

/* ---- tickets ---- */

void pr_engine_ticket_add(pr_engine *e, pr_job *job)
{
    job->ticket_next = e->tickets;
    if (e->tickets) e->tickets->ticket_prev = job;
    e->tickets = job;
}

void pr_engine_ticket_remove(pr_engine *e, pr_job *job)
{
    if (job->ticket_prev) {
        job->ticket_prev->ticket_next = job->ticket_next;
    } else {
        e->tickets = job->ticket_next;
    }
    if (job->ticket_next) job->ticket_next->ticket_prev = job->ticket_prev;
}

/* ---- requests ---- */

void pr_request_init_size(pr_request *r, size_t struct_bytes)
{
    const pr_request full = {.truncation_side = -1, .add_special_tokens = -1, .normalize = -1,
                             .softmax = -1, .use_activation = -1, .step_tag_id = -1};
    pr_sized_give(r, struct_bytes, &full, sizeof full);
}

/* A caller's request, of an older header too, as this library has it. */
static pr_status request_take(const pr_request *given, pr_request *out, pr_error *err)
{
    pr_request_init(out);
    return pr_sized_take("pr_request", given, offsetof(pr_request, truncate_prompt_tokens), out,
                         sizeof *out, err);
}

void pr_result_free(pr_result *r)
{
    if (!r) return;
    free(r->message);
    free(r->data);
    free(r->tokens);
    free(r);
}

static pr_status request_check(const pr_request *r, pr_error *err)
{
    if ((r->text != NULL) + (r->tokens != NULL) + (r->messages != NULL) != 1) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "request: expected one of text, tokens and messages");
    }
    if (r->messages && r->text_pair) {
        return pr_error_set(err, PR_E_ARGUMENT, "request: found messages and text_pair");
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
        {"messages: bytes", r->n_messages, TEXT_BYTES_MAX},
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

pr_status pr_engine_submit(pr_engine *e, const pr_request *given, pr_ticket **ticket, pr_error *err)
{
    pr_request r;
    pr_status st = request_take(given, &r, err);
    if (st == PR_OK) st = request_check(&r, err);
    if (st != PR_OK) return st;
    bool waits = r.done == NULL;
    if (waits && !ticket)
        return pr_error_set(err, PR_E_ARGUMENT, "request: no ticket, no callback");
    pr_job *job = pr_job_create(&r, NULL);
    if (!job) return pr_error_nomem(err, "request", r.n_text + r.n_text_pair);
    pr_ticket *taken = job; /* with a callback it may be gone as soon as it is admitted */
    pthread_mutex_lock(&e->lock);
    st = pr_engine_admit(e, &job, 1, job->n_tokens, e->block ? PR_ADMIT_SLEEP : PR_ADMIT_NOW, err);
    pthread_mutex_unlock(&e->lock);
    if (st != PR_OK) {
        pr_job_free(job);
        return st;
    }
    if (waits) *ticket = taken;
    return PR_OK;
}

pr_status pr_engine_wait(pr_engine *e, pr_ticket *ticket, pr_result **out, pr_error *err)
{
    if (!ticket) return pr_error_set(err, PR_E_ARGUMENT, "no ticket");
    pthread_mutex_lock(&e->lock);
    while (!ticket->is_done) pthread_cond_wait(&e->done, &e->lock);
    pr_engine_ticket_remove(e, ticket);
    pthread_mutex_unlock(&e->lock);
    *out = ticket->result;
    ticket->result = NULL;
    pr_job_free(ticket);
    return PR_OK;
}

/* ---- many at once ---- */

static void jobs_free(pr_job **jobs, size_t n)
{
    for (size_t i = 0; jobs && i < n; i++) pr_job_free(jobs[i]);
    free(jobs);
}

/* The jobs of all requests, [n] owned; *n_tokens: of all. */
static pr_status jobs_create(const pr_request *requests, size_t n, pr_flow *flow, pr_job ***out,
                             uint64_t *n_tokens, pr_error *err)
{
    pr_job **jobs = calloc(n, sizeof *jobs);
    pr_status st = jobs ? PR_OK : pr_error_nomem(err, "requests", n * sizeof *jobs);
    *n_tokens = 0;
    for (size_t i = 0; st == PR_OK && i < n; i++) {
        assert(requests[i].struct_bytes == sizeof *requests); /* our own */
        assert(requests[i].done);
        st = request_check(&requests[i], err);
        if (st == PR_OK && !(jobs[i] = pr_job_create(&requests[i], flow))) {
            st = pr_error_nomem(err, "request", requests[i].n_text);
        }
        if (st == PR_OK) *n_tokens += jobs[i]->n_tokens;
    }
    if (st != PR_OK) {
        jobs_free(jobs, n);
        return st;
    }
    *out = jobs;
    return PR_OK;
}

static pr_status bounds_check(const pr_engine *e, size_t n, uint64_t n_tokens, pr_error *err)
{
    if (n > e->n_jobs_max) {
        return pr_error_set(err, PR_E_TOO_LARGE,
                            "%zu texts, more than the queue ever takes: %u "
                            "(--max-queued-requests)",
                            n, e->n_jobs_max);
    }
    if (n > 1 && n_tokens > e->n_tokens_max) {
        return pr_error_set(err, PR_E_TOO_LARGE,
                            "about %llu tokens, more than the queue ever takes: %llu "
                            "(--max-queued-tokens)",
                            (unsigned long long)n_tokens, (unsigned long long)e->n_tokens_max);
    }
    return PR_OK;
}

pr_status pr_engine_submit_all(pr_engine *e, const pr_request *requests, size_t n, bool waits,
                               pr_flow **flow, pr_error *err)
{
    assert(n > 0);
    pr_job **jobs = NULL;
    uint64_t n_tokens = 0;
    pr_flow *shared = pr_flow_create(requests[0].priority, requests[0].timeout_ms);
    pr_status st = shared ? jobs_create(requests, n, shared, &jobs, &n_tokens, err)
                          : pr_error_nomem(err, "requests", n);
    if (st == PR_OK) st = bounds_check(e, n, n_tokens, err);
    if (st != PR_OK) goto cleanup;
    pthread_mutex_lock(&e->lock);
    st = pr_engine_admit(e, jobs, n, n_tokens, waits ? PR_ADMIT_LATER : PR_ADMIT_NOW, err);
    pthread_mutex_unlock(&e->lock);
    if (st == PR_OK) {
        *flow = shared;
        shared = NULL;
    }
cleanup:
    jobs_free(jobs, n);
    pr_flow_release(shared);
    return st;
}

bool pr_engine_withdraw(pr_engine *e, const pr_flow *flow)
{
    pthread_mutex_lock(&e->lock);
    pr_admission *a = pr_engine_admission_find(e, flow);
    pthread_mutex_unlock(&e->lock);
    pr_engine_admission_free(a);
    return a != NULL;
}

void pr_engine_admissions_fail(pr_admission *list, pr_status st, const char *message)
{
    for (pr_admission *a = list, *next; a; a = next) {
        next = a->next;
        for (size_t i = 0; i < a->n; i++) {
            pr_job *job = a->jobs[i];
            pr_job_fail(job, st, message);
            pr_result *result = job->result;
            job->result = NULL;
            job->request.done(job->request.context, result);
        }
        pr_engine_admission_free(a);
    }
}

static bool is_job_of(const pr_order_entry *entry, const void *flow)
{
    return ((const pr_job *)entry->item)->flow == flow;
}

void pr_engine_cancel(pr_engine *e, pr_flow *flow)
{
    atomic_store(&flow->is_cancelled, true);
    pthread_mutex_lock(&e->lock);
    pr_admission *outside = pr_engine_admission_find(e, flow);
    if (outside) outside->next = NULL;
    size_t n = 0;
    pr_order_entry *entries = e->waiting.n ? malloc(e->waiting.n * sizeof *entries) : NULL;
    /* Without memory they are dropped when their turn comes. */
    if (entries) n = pr_order_extract(&e->waiting, is_job_of, flow, entries);
    pthread_mutex_unlock(&e->lock);
    for (size_t i = 0; i < n; i++) {
        pr_job *job = entries[i].item;
        pr_batch_queue_drop(e->queue, job);
        pr_job_fail_over(job);
        unqueued_deliver(e, job);
    }
    free(entries);
    pr_engine_admissions_fail(outside, PR_E_CANCELLED, "cancelled");
    pr_batch_queue_cancel(e->queue, flow);
}
