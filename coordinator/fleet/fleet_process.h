/* coordinator/fleet/fleet_process.h: one launched mpirun or srun: started in a session of its own,
 * its output line by line, killed with everything in its session.
 *
 * A pr_process owns the child and the pipe of its output; it frees itself when both have ended.
 * Used by the fleet, on its loop thread only. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_PROCESS_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_PROCESS_H

#include "coordinator/fleet/launcher.h"

#include <uv.h>

enum { PR_PROCESS_LINE_BYTES = 512 };

typedef struct pr_process pr_process;

typedef struct pr_process_config {
    uv_loop_t *loop;
    const pr_launch_command *command; /* borrowed for the call */
    /* A line of its output, without the line feed. */
    void (*line)(void *context, pr_process *p, const char *text);
    /* It has ended and said all it had to say: `how` is "ended with status 1: last lines". The
     * process is gone afterwards. */
    void (*ended)(void *context, pr_process *p, const char *how);
    void *context; /* borrowed until ended */
} pr_process_config;

/* Fails PR_E_NOT_FOUND, PR_E_IO, PR_E_NOMEM. */
pr_status pr_process_start(const pr_process_config *config, pr_process **out, pr_error *err);

/* SIGKILL to the launcher, then to all processes of its session (mpirun gives each rank a process
 * group of its own). `ended` still comes. */
void pr_process_kill(pr_process *p);
/* SIGTERM to the launcher only: srun then ends its step on every node. */
void pr_process_terminate(pr_process *p);

int pr_process_pid(const pr_process *p);
/* Of its output so far, in one line: what a rank called an error, else the last lines; "" without
 * any. Borrowed until the next call. */
const char *pr_process_last_words(pr_process *p);

#endif
