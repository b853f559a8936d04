/* coordinator/engine/engine_admission.h: who may come into the engine's queue now, and the order of
 * those that wait for room in front of it.
 *
 * One queue, first come first served: what does not fit stops those behind it, so that nobody
 * starves and nobody has to try again. It moves whenever a job leaves. All functions are called
 * with the engine's lock. */
#ifndef POOLRANK_COORDINATOR_ENGINE_ENGINE_ADMISSION_H
#define POOLRANK_COORDINATOR_ENGINE_ENGINE_ADMISSION_H

#include "coordinator/engine/engine_state.h"

typedef enum pr_admission_mode {
    PR_ADMIT_NOW,   /* or refuse */
    PR_ADMIT_SLEEP, /* the calling thread sleeps until there is room */
    PR_ADMIT_LATER  /* when there is room; the call returns at once */
} pr_admission_mode;

/* Admits all of jobs [n] or none. jobs: each is consumed on PR_OK, and NULL then. Fails
 * PR_E_OVERLOADED (NOW), PR_E_UNAVAILABLE (the engine is closing), PR_E_NOMEM. */
pr_status pr_engine_admit(pr_engine *e, pr_job **jobs, size_t n, uint64_t n_tokens,
                          pr_admission_mode mode, pr_error *err);

/* A job has left, or weighs less than was thought: admits those that fit now. */
void pr_engine_admissions_settle(pr_engine *e);

/* Takes a flow's jobs out that wait since LATER, owned by the caller; NULL: none do. */
pr_admission *pr_engine_admission_find(pr_engine *e, const pr_flow *flow);
/* All of them, linked by next. */
pr_admission *pr_engine_admissions_take(pr_engine *e);
/* With its jobs; NULL is fine. */
void pr_engine_admission_free(pr_admission *a);

#endif
