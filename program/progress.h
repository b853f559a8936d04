/* program/progress.h: how many lines are done, on standard error, for a person who watches.
 *
 * Plain storage of its caller, one thread. Writes only when standard error is a terminal and the
 * answers do not go to one. */
#ifndef POOLRANK_PROGRAM_PROGRESS_H
#define POOLRANK_PROGRAM_PROGRESS_H

#include "coordinator/options/config.h"

typedef struct pr_progress {
    bool is_shown;
    uint64_t n_lines;
    uint64_t n_errors;
    int64_t begin_ms;
    int64_t shown_ms; /* when the line was last written */
} pr_progress;

void pr_progress_start(pr_progress *progress, const pr_config *config);
void pr_progress_count(pr_progress *progress, bool is_error); /* one more line */
void pr_progress_end(pr_progress *progress);                  /* removes the line */

#endif
