/* runtime/base/log.h: lines for the operator, on standard error, as text or JSON.
 *
 *     text   poolrank: warning: it is told in words name=value other="a value"
 *     JSON   {"ts":"2026-01-31T12:34:56.789Z","level":"warning","message":"it is …","name":"value"}
 *
 * A pr_log is plain data in its owner's storage and is passed down as a const pointer. A line is
 * one write(2) of at most PR_LOG_LINE_BYTES, which a pipe takes whole: lines of several threads and
 * processes never mix. No memory is allocated. Never log texts, token ids, vectors or keys. */
#ifndef POOLRANK_RUNTIME_BASE_LOG_H
#define POOLRANK_RUNTIME_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum pr_log_level { PR_LOG_ERROR, PR_LOG_WARNING, PR_LOG_INFO, PR_LOG_DEBUG } pr_log_level;
typedef enum pr_log_format { PR_LOG_TEXT, PR_LOG_JSON } pr_log_format;

enum {
    PR_LOG_LINE_BYTES = 4096, /* PIPE_BUF of Linux; a longer message is cut, its fields are kept */
    PR_LOG_FIELDS_MAX = 8,
    PR_LOG_NAME_BYTES_MAX = 32,
    PR_LOG_VALUE_BYTES_MAX = 256, /* as it stands in the line; a longer value is cut */
};

typedef struct pr_log {
    int fd;             /* borrowed; -1: nothing is written */
    pr_log_level level; /* lines above it are dropped */
    pr_log_format format;
    const char *program; /* in front of a text line; borrowed */
} pr_log;

typedef enum pr_log_kind {
    PR_LOG_KIND_TEXT,
    PR_LOG_KIND_INTEGER,
    PR_LOG_KIND_NUMBER, /* not finite: null in JSON */
} pr_log_kind;

/* One thing that a line is about. Made by the functions below. */
typedef struct pr_log_field {
    const char *name; /* constant, [a-z0-9_], not "ts", "level" or "message" */
    pr_log_kind kind;
    bool is_said; /* the message says it already: only JSON has the field */
    union {
        const char *text; /* NULL: the field is left out */
        int64_t integer;
        double number;
    };
} pr_log_field;

static inline pr_log_field pr_log_text(const char *name, const char *value)
{
    return (pr_log_field){.name = name, .kind = PR_LOG_KIND_TEXT, .text = value};
}

static inline pr_log_field pr_log_integer(const char *name, int64_t value)
{
    return (pr_log_field){.name = name, .kind = PR_LOG_KIND_INTEGER, .integer = value};
}

static inline pr_log_field pr_log_number(const char *name, double value)
{
    return (pr_log_field){.name = name, .kind = PR_LOG_KIND_NUMBER, .number = value};
}

/* The same field, of a message that says it in words: pr_log_said(pr_log_integer("rank", 1)). */
static inline pr_log_field pr_log_said(pr_log_field field)
{
    field.is_said = true;
    return field;
}

/* Whether a line of that level would be written; log may be NULL. */
static inline bool pr_log_takes(const pr_log *log, pr_log_level level)
{
    return log && log->fd >= 0 && level <= log->level;
}

/* One line; log may be NULL. In message and values, line breaks and control bytes become spaces,
 * bytes that are no UTF-8 become '?'. */
void pr_log_line(const pr_log *log, pr_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with fields [n_fields], at most PR_LOG_FIELDS_MAX; borrowed for the call. */
void pr_log_event(const pr_log *log, pr_log_level level, const pr_log_field *fields,
                  size_t n_fields, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
