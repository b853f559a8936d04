/* worker: one rank of a replica group. */
#include "program/command.h"
#include "program/worker_process.h"

#include <signal.h>
#include <unistd.h>

extern char **environ;

int pr_command_worker_run(const pr_command_context *context, pr_error *err)
{
    pr_worker_environment environment;
    /* A rank has nothing to finish when it is told to end: what it had in hand is run again. */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    pr_status st = pr_worker_environment_read(environ, &environment, err);
    if (st != PR_OK) return pr_command_exit(st);
    const pr_worker_process process = {.config = context->config,
                                       .environment = &environment,
                                       .rank = environment.rank,
                                       .n_ranks = environment.n_ranks,
                                       .log = context->log,
                                       .must_end = context->must_end};
    return pr_worker_process_run(&process, err);
}
