/* coordinator/queue/job.h: one accepted request on its way through the engine.
 *
 * A job owns copies of the request's inputs, then its prepared token ids, then its result. It
 * belongs to one queue, or to one thread, at a time; the engine's lock guards the moves between
 * them. */
#ifndef POOLRANK_COORDINATOR_QUEUE_JOB_H
#define POOLRANK_COORDINATOR_QUEUE_JOB_H

#include "coordinator/queue/order.h"
#include "coordinator/model/prepare.h"
#include "worker/pooler.h"

/* A ticket of the public interface is a job that the caller waits for. */
typedef struct pr_ticket pr_job;

struct pr_ticket {
    pr_job *ticket_next, *ticket_prev; /* among the engine's tickets, guarded by its lock */
    pr_request request;  /* its pointers lead into `inputs` */
    char *inputs;        /* owned copies of texts, tokens, returned token ids */
    pr_flow *flow;       /* shared, or own_flow */
    pr_flow own_flow;
    uint64_t n_tokens;   /* counted for it in the bounds and the order: about, until tokenized */
    pr_place place;      /* what follows is guarded by the batch queue's lock */
    bool has_left;       /* the order */
    int n_parts_queued;
    uint64_t submit_ns, tokenize_ns, taken_ns; /* pr_clock_ns; how long; pr_clock_ns */
    pr_prepared prepared;
    int n_parts_done;
    float *first_part;   /* cosine: the embedding that came first, owned */
    pr_result *result;   /* owned until it is handed over */
    bool is_done;        /* guarded by the engine's lock */
};

/* Copies what the request points to. flow: the job takes a share of it; NULL: it is a flow of its
 * own. NULL: no memory. */
pr_job *pr_job_create(const pr_request *request, pr_flow *flow);
void pr_job_free(pr_job *job);

/* A flow that the caller owns a share of (pr_flow_release); NULL: no memory. */
pr_flow *pr_flow_create(int32_t priority, uint32_t timeout_ms);
void pr_flow_release(pr_flow *flow); /* NULL is fine */

/* Nobody waits for it, or it is too late. */
bool pr_job_is_over(const pr_job *job, uint64_t now_ns);
/* The failure that says so. */
void pr_job_fail_over(pr_job *job);

/* Makes the result that says why the request failed. Without memory for it the job's preallocated
 * result is left without a message: this cannot fail. */
void pr_job_fail(pr_job *job, pr_status st, const char *message);

/* The token ids of a tokenize-only job become its result. */
pr_status pr_job_finish_tokens(pr_job *job, pr_error *err);

/* Takes one part's pooled rows; true when the job has all its parts and its result is complete (or
 * says that there was no memory). */
bool pr_job_take_rows(pr_job *job, int i_part, const pr_pooled *pooled, const pr_pooled_rows *rows);

#endif
