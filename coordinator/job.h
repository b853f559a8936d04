/* coordinator/job.h: one accepted request on its way through the engine.
 *
 * A job owns copies of the request's inputs, then its prepared token ids, then its result. It
 * belongs to one queue, or to one thread, at a time; the engine's lock guards the moves between
 * them. */
#ifndef POOLRANK_COORDINATOR_JOB_H
#define POOLRANK_COORDINATOR_JOB_H

#include "coordinator/prepare.h"
#include "worker/pooler.h"

/* A ticket of the public interface is a job that the caller waits for. */
typedef struct pr_ticket pr_job;

struct pr_ticket {
    pr_job *next;        /* in a queue */
    pr_job *ticket_next, *ticket_prev; /* among the engine's tickets, guarded by its lock */
    pr_request request;  /* its pointers lead into `inputs` */
    char *inputs;        /* owned copies of texts, tokens, returned token ids */
    pr_prepared prepared;
    int n_parts_done;
    float *first_part;   /* cosine: the embedding that came first, owned */
    int i_first_part;
    pr_result *result;   /* owned until it is handed over */
    bool is_done;        /* guarded by the engine's lock */
};

/* Copies what the request points to. NULL: no memory. */
pr_job *pr_job_create(const pr_request *request);
void pr_job_free(pr_job *job);

/* Makes the result that says why the request failed. Without memory for it the job's preallocated
 * result is left without a message: this cannot fail. */
void pr_job_fail(pr_job *job, pr_status st, const char *message);

/* The token ids of a tokenize-only job become its result. */
pr_status pr_job_finish_tokens(pr_job *job, pr_error *err);

/* Takes one part's pooled rows; true when the job has all its parts and its result is complete (or
 * says that there was no memory). */
bool pr_job_take_rows(pr_job *job, int i_part, const pr_pooled *pooled, const pr_pooled_rows *rows);

#endif
