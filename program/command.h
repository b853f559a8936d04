/* program/command.h: the table of commands, and what each of them is run with.
 *
 * Constant data. A command is a row here and a file command_NAME.c; main() finds the row, fills the
 * context and runs it, on the main thread. */
#ifndef POOLRANK_PROGRAM_COMMAND_H
#define POOLRANK_PROGRAM_COMMAND_H

#include "coordinator/options/config.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Exit status of the program; design: contracts. */
enum {
    PR_EXIT_DONE = 0,
    PR_EXIT_FAILED = 1,  /* at run time; the output is incomplete */
    PR_EXIT_MISTAKE = 2, /* the caller's; nothing done */
    PR_EXIT_ERRORS = 3   /* every line was answered, some with an error */
};

typedef struct pr_command_row pr_command_row;

/* All borrowed for the run. */
typedef struct pr_command_context {
    const pr_command_row *command;
    const pr_config *config; /* its task is the command's own where the row has one */
    char *const *texts;      /* [n_texts] arguments behind the model */
    size_t n_texts;
    const pr_log *log;
    /* Becomes 1 on SIGINT, and on SIGTERM where there is nothing to drain: end soon. */
    const atomic_int *is_interrupted;
    /* Becomes 1 on SIGTERM where the command drains (serve has its own way): accept nothing more,
     * finish what was accepted. The time for it (--drain-timeout) is watched by main. */
    const atomic_int *is_draining;
    bool *must_end; /* set by a run that failed and left threads at work: the process must end
                       without waiting for them */
} pr_command_context;

struct pr_command_row {
    const char *name;
    unsigned bit;         /* of the option table */
    pr_task task;         /* AUTO: as --task says */
    const char *usage;    /* behind "poolrank NAME" */
    const char *summary;  /* one line */
    const char *details;  /* what goes in and comes out */
    const char *examples; /* lines of shell */
    /* Returns the exit status; unless that is 0 or 3 it fills *err. */
    int (*run)(const pr_command_context *context, pr_error *err);
};

size_t pr_command_count(void);
const pr_command_row *pr_command_at(size_t i);             /* NULL past the end */
const pr_command_row *pr_command_find(const char *name);   /* NULL when unknown */

/* The exit status for a failure before any work was done. */
int pr_command_exit(pr_status st);

int pr_command_pool_run(const pr_command_context *context, pr_error *err);
int pr_command_tokenize_run(const pr_command_context *context, pr_error *err);
int pr_command_inspect_run(const pr_command_context *context, pr_error *err);
int pr_command_plan_run(const pr_command_context *context, pr_error *err);
int pr_command_serve_run(const pr_command_context *context, pr_error *err);
int pr_command_worker_run(const pr_command_context *context, pr_error *err);

#endif
