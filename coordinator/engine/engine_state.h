/* coordinator/engine/engine_state.h: what a pr_engine is made of, shared by the files that move it:
 * engine.c (open, close, describe), engine_requests.c (requests on their way in and out) and
 * engine_stats.c (its numbers). */
#ifndef POOLRANK_COORDINATOR_ENGINE_ENGINE_STATE_H
#define POOLRANK_COORDINATOR_ENGINE_ENGINE_STATE_H

#include "coordinator/queue/batch_queue.h"
#include "coordinator/engine/engine.h"
#include "coordinator/fleet/fleet.h"
#include "coordinator/fleet/rank_options.h"
#include "coordinator/engine/run_local.h"
#include "worker/rank_device.h"

#include <pthread.h>

enum { PR_TOKENIZER_THREADS_MAX = 4 };

/* Jobs that wait for room, together. */
typedef struct pr_admission {
    pr_job **jobs; /* [n] */
    size_t n;
    uint64_t n_tokens;
    const pr_flow *flow;
    bool is_waited_for; /* by a sleeping thread that owns this; else it is the queue's */
    bool is_admitted;
    struct pr_admission *next;
} pr_admission;

struct pr_engine {
    pr_config settings;      /* a copy whose device and stream_weights are decided; strings and
                                JSON are borrowed */
    const pr_config *config; /* the settings */
    pr_worker_launch launch;
    pr_model *model;
    pr_log log;
    pr_worker_config worker_config;
    pr_rank_device device; /* of the worker, where it is in this process */
    pr_prepare_defaults defaults;
    pr_batch_limits limits;
    uint64_t prefix_cache_bytes; /* 0: no cache */
    pr_batch_queue *queue; /* prepared jobs, on their way to the model and back */
    pr_run_local *local;   /* the runner, where the worker is in this process, or */
    pr_fleet *fleet;       /* where replica groups are started or join; set under the lock */
    uint32_t n_jobs_max;   /* bounds of the queue */
    uint64_t n_tokens_max;
    bool block;          /* a full queue makes submit wait */
    char *description;
    pr_config *own_config;        /* owned; NULL: the caller's is borrowed */
    pr_rank_options rank_options; /* what ranks open the same model with */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t has_room;    /* jobs were admitted that somebody sleeps for */
    pthread_cond_t has_waiting; /* for tokenizer threads: waiting jobs, or room for ready parts */
    pthread_cond_t done;        /* a job that somebody waits for is done */
    pr_order waiting;    /* jobs that are not tokenized yet */
    pr_job *tickets; /* jobs that somebody may wait for, accepted or done */
    pr_admission *admissions; /* in front of the queue, the oldest first */
    size_t n_jobs_outside;    /* of them */
    uint32_t n_jobs;        /* accepted and not done */
    uint64_t n_tokens;      /* of them */
    uint32_t n_preparing;   /* in a tokenizer thread's hands */
    bool is_closing;
    bool is_loaded;

    pr_worker_info info;           /* of the worker, or of a group's pooling rank */
    atomic_bool is_load_cancelled; /* the worker need not be opened any more */

    pthread_t tokenizers[PR_TOKENIZER_THREADS_MAX];
    int n_tokenizers;
};

/* ---- engine_requests.c ---- */

/* A job has its result: hands it over. A pr_batch_queue_config's `done`. */
void pr_engine_job_deliver(void *context, pr_job *job);
/* Parts left the batch queue. Its `room`. */
void pr_engine_ready_room(void *context);
/* A tokenizer thread. */
void *pr_engine_tokenizer_main(void *context);
void pr_engine_ticket_add(pr_engine *e, pr_job *job);
void pr_engine_ticket_remove(pr_engine *e, pr_job *job);
/* What never came in is answered. Called without the lock; list: consumed. */
void pr_engine_admissions_fail(pr_admission *list, pr_status st, const char *message);

#endif
