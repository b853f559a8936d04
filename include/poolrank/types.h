/* poolrank/types.h: the words that every part of poolrank's C interface shares. */
#ifndef POOLRANK_TYPES_H
#define POOLRANK_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pr_status {
    PR_OK = 0,
    PR_E_ARGUMENT,    /* a bad option or parameter */
    PR_E_INPUT,       /* bad content of a request: not UTF-8, empty, malformed line */
    PR_E_TOO_LONG,    /* more tokens than the model takes, and no truncation asked for */
    PR_E_TOO_LARGE,   /* could never be admitted: over a fixed bound of bytes or items */
    PR_E_UNSUPPORTED, /* understood, but not served: architecture, task, tokenizer component */
    PR_E_MODEL,       /* broken model files: checkpoint, config, tokenizer */
    PR_E_NOT_FOUND,   /* a file, model or tensor that is not there */
    PR_E_IO,          /* reading or writing failed: full disk, closed pipe, permission */
    PR_E_NOMEM,       /* no memory */
    PR_E_OVERLOADED,  /* the queue is full */
    PR_E_CANCELLED,   /* nobody waits for the answer any more */
    PR_E_TIMEOUT,     /* a deadline passed */
    PR_E_UNAVAILABLE, /* not ready, shutting down, or the group is gone */
    PR_E_INTERNAL,    /* a bug or a foreign library's failure that nothing else describes */
    PR_STATUS_COUNT
} pr_status;

enum { PR_ERROR_BYTES = 1024 };

/* Callers make it: it stays as it is.
 * message: NUL-terminated, cut at PR_ERROR_BYTES - 1 on a UTF-8 boundary, without control bytes. */
typedef struct pr_error {
    pr_status status;
    char message[PR_ERROR_BYTES];
} pr_error;

typedef enum pr_task {
    PR_TASK_AUTO, /* what the model is for */
    PR_TASK_EMBED,
    PR_TASK_CLASSIFY,
    PR_TASK_SCORE,
    PR_TASK_REWARD,
    PR_TASK_COUNT
} pr_task;

#ifdef __cplusplus
}
#endif

#endif
