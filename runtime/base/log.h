/* runtime/base/log.h: lines for the operator, on standard error, as text or JSON.
 *
 * A pr_log is plain data in its owner's storage and is passed down as a const pointer; each line is
 * one write(2), so lines of several threads never mix. Never log texts, token ids, vectors or keys.
 */
#ifndef POOLRANK_RUNTIME_BASE_LOG_H
#define POOLRANK_RUNTIME_BASE_LOG_H

#include <stdbool.h>

typedef enum pr_log_level { PR_LOG_ERROR, PR_LOG_WARNING, PR_LOG_INFO, PR_LOG_DEBUG } pr_log_level;
typedef enum pr_log_format { PR_LOG_TEXT, PR_LOG_JSON } pr_log_format;

typedef struct pr_log {
    int fd;             /* borrowed; -1: nothing is written */
    pr_log_level level; /* lines above it are dropped */
    pr_log_format format;
    const char *program; /* in front of a text line; borrowed */
} pr_log;

/* One line; log may be NULL. Line breaks and control bytes in the message become spaces. */
void pr_log_line(const pr_log *log, pr_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
