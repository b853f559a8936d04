#include "coordinator/engine/engine_admission.h"

#include <assert.h>
#include <stdlib.h>

static bool is_full(const pr_engine *e, size_t n_jobs)
{
    return e->n_jobs + n_jobs > e->n_jobs_max;
}

/* A job over the bound of tokens is let in when it is alone. */
static bool is_heavy(const pr_engine *e, uint64_t n_tokens)
{
    return e->n_jobs > 0 && e->n_tokens + n_tokens > e->n_tokens_max;
}

static pr_status refuse(const pr_engine *e, size_t n_jobs, uint64_t n_tokens, pr_error *err)
{
    if (is_full(e, n_jobs)) {
        return pr_error_set(err, PR_E_OVERLOADED,
                            "the queue is full: %u of %u requests (--max-queued-requests)",
                            e->n_jobs, e->n_jobs_max);
    }
    if (is_heavy(e, n_tokens)) {
        return pr_error_set(err, PR_E_OVERLOADED,
                            "the queue is full: %llu of %llu tokens (--max-queued-tokens)",
                            (unsigned long long)e->n_tokens, (unsigned long long)e->n_tokens_max);
    }
    return pr_error_set(err, PR_E_OVERLOADED,
                        "the queue is full: others wait for room already (--max-queued-requests, "
                        "--max-queued-tokens)");
}

/* There is room in `waiting`. */
static void job_admit(pr_engine *e, pr_job *job)
{
    pr_batch_queue_arrive(e->queue, job);
    pr_order_push(&e->waiting, &(pr_order_entry){job->place, job, 0});
    e->n_jobs++;
    e->n_tokens += job->n_tokens;
    if (!job->request.done) pr_engine_ticket_add(e, job);
}

static void jobs_admit(pr_engine *e, pr_job **jobs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        job_admit(e, jobs[i]);
        jobs[i] = NULL; /* the engine's */
    }
    pthread_cond_broadcast(&e->has_waiting);
}

void pr_engine_admissions_settle(pr_engine *e)
{
    bool is_any = false;
    for (pr_admission *a; (a = e->admissions) != NULL; is_any = true) {
        if (is_full(e, a->n) || is_heavy(e, a->n_tokens)) break;
        e->admissions = a->next;
        e->n_jobs_outside -= a->n;
        jobs_admit(e, a->jobs, a->n);
        a->is_admitted = true;
        if (a->is_waited_for) continue; /* its owner wakes up */
        free(a->jobs);
        free(a);
    }
    if (is_any) pthread_cond_broadcast(&e->has_room);
}

static void admission_append(pr_engine *e, pr_admission *a)
{
    pr_admission **last = &e->admissions;
    while (*last) last = &(*last)->next;
    *last = a;
    e->n_jobs_outside += a->n;
}

static bool admission_take_out(pr_engine *e, const pr_admission *a)
{
    pr_admission **at = &e->admissions;
    while (*at && *at != a) at = &(*at)->next;
    if (!*at) return false;
    *at = a->next;
    e->n_jobs_outside -= a->n;
    return true;
}

/* Sleeps until it is admitted. */
static pr_status admission_await(pr_engine *e, pr_admission *a, pr_error *err)
{
    a->is_waited_for = true;
    while (!a->is_admitted && !e->is_closing) pthread_cond_wait(&e->has_room, &e->lock);
    if (a->is_admitted) return PR_OK;
    admission_take_out(e, a);
    return pr_error_set(err, PR_E_UNAVAILABLE, "the engine is closing");
}

pr_status pr_engine_admit(pr_engine *e, pr_job **jobs, size_t n, uint64_t n_tokens,
                          pr_admission_mode mode, pr_error *err)
{
    if (e->is_closing) return pr_error_set(err, PR_E_UNAVAILABLE, "the engine is closing");
    if (!pr_order_reserve(&e->waiting, e->n_jobs_outside + n)) {
        return pr_error_nomem(err, "queue", n * sizeof(pr_order_entry));
    }
    if (!e->admissions && !is_full(e, n) && !is_heavy(e, n_tokens)) {
        jobs_admit(e, jobs, n);
        return PR_OK;
    }
    pr_admission here = {.jobs = jobs, .n = n, .n_tokens = n_tokens};
    switch (mode) {
    case PR_ADMIT_NOW: return refuse(e, n, n_tokens, err);
    case PR_ADMIT_SLEEP: admission_append(e, &here); return admission_await(e, &here, err);
    case PR_ADMIT_LATER: break;
    }
    pr_admission *a = malloc(sizeof *a);
    pr_job **own = malloc(n * sizeof *own);
    if (!a || !own) {
        free(a);
        free(own);
        return pr_error_nomem(err, "queue", n * sizeof *own);
    }
    *a = here;
    a->jobs = own;
    a->flow = jobs[0]->flow;
    for (size_t i = 0; i < n; i++) {
        own[i] = jobs[i];
        jobs[i] = NULL;
    }
    admission_append(e, a);
    return PR_OK;
}

pr_admission *pr_engine_admission_find(pr_engine *e, const pr_flow *flow)
{
    pr_admission *a = e->admissions;
    while (a && (a->is_waited_for || a->flow != flow)) a = a->next;
    if (!a) return NULL;
    admission_take_out(e, a);
    pr_engine_admissions_settle(e); /* it may have stood in front of others that fit */
    return a;
}

pr_admission *pr_engine_admissions_take(pr_engine *e)
{
    pr_admission *first = NULL, **last = &first;
    for (pr_admission *a = e->admissions, *next; a; a = next) {
        next = a->next;
        if (a->is_waited_for) continue; /* its owner sees that the engine is closing */
        admission_take_out(e, a);
        a->next = NULL;
        *last = a;
        last = &a->next;
    }
    return first;
}

void pr_engine_admission_free(pr_admission *a)
{
    if (!a) return;
    for (size_t i = 0; i < a->n; i++) pr_job_free(a->jobs[i]);
    free(a->jobs);
    free(a);
}
