/* runtime/base/status.h: what went wrong, as a status that a program acts on and a message that a
 * person reads.
 *
 * A pr_error is plain caller-owned storage (usually on the stack); nothing here allocates, so an
 * out-of-memory error can be reported too. Called by everybody, on any thread. */
#ifndef POOLRANK_RUNTIME_BASE_STATUS_H
#define POOLRANK_RUNTIME_BASE_STATUS_H

#include "include/poolrank/types.h"

#include <stdbool.h>
#include <stddef.h>

/* One row of the table that maps a status to the outside. */
typedef struct pr_status_row {
    const char *name; /* "too_long"; also the wire code */
    int exit_status;  /* of a command that fails with it before any work is done */
    int http_status;
    const char *http_type; /* "type" of an OpenAI error object */
} pr_status_row;

const pr_status_row *pr_status_describe(pr_status st);

/* Writes the message (printf form) and returns st, so that `return pr_error_set(err, …)` reads
 * well. err may be NULL. Bytes of the message below 0x20 are replaced by spaces. */
pr_status pr_error_set(pr_error *err, pr_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "fmt: " in front of the message that is there and returns st unchanged. err may be NULL. */
pr_status pr_error_context(pr_error *err, pr_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* PR_E_NOMEM with "what: N bytes". */
pr_status pr_error_nomem(pr_error *err, const char *what, size_t bytes);

/* The status and text for an errno value: ENOENT → NOT_FOUND, ENOMEM → NOMEM, else IO.
 * The message is "what: strerror(errnum)". */
pr_status pr_error_errno(pr_error *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
