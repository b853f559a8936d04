/* program/output_lines.h: results as JSON Lines, to a file that is whole or not there.
 *
 * A pr_output_lines owns its descriptor, its temporary file and its buffer. Called by the offline
 * commands, one thread at a time. A regular file (or a new one) is written beside its place under a
 * temporary name and renamed when complete; anything else (a pipe, a terminal, /dev/full) is
 * written to directly. After a failed write every later call returns the same failure.
 *
 * The process should ignore SIGPIPE and SIGXFSZ: a write then fails, and is reported. */
#ifndef POOLRANK_PROGRAM_OUTPUT_LINES_H
#define POOLRANK_PROGRAM_OUTPUT_LINES_H

#include "runtime/base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum pr_output_kind {
    PR_OUTPUT_EMBEDDING, /* "embedding": one row */
    PR_OUTPUT_PROBS,     /* "probs": one row */
    PR_OUTPUT_SCORE,     /* "score": value */
    PR_OUTPUT_REWARD,    /* "reward": value; "step_rewards" and the rows where given */
    PR_OUTPUT_DATA,      /* "data" and "shape": rows */
    PR_OUTPUT_TOKENS,    /* "tokens"; no "prompt_tokens" */
    PR_OUTPUT_ERROR      /* "error": {"status", "message"}; no "prompt_tokens" */
} pr_output_kind;

/* One result, all borrowed for the call. Fields of other kinds are ignored.
 * Keys are written in this order: index, id, prompt_tokens, then those of the kind. */
typedef struct pr_output_row {
    uint64_t index;
    const json_t *id; /* written as it is; NULL: none */
    pr_output_kind kind;
    uint32_t n_prompt_tokens;
    float value;               /* SCORE, REWARD */
    const float *step_rewards; /* REWARD: [n_step_rewards], NULL: no such key */
    size_t n_step_rewards;
    const float *data; /* EMBEDDING, PROBS: [n_columns]; DATA: [n_rows, n_columns] row-major;
                        * REWARD: the same, NULL: no "data" */
    uint32_t n_rows;   /* 1 unless is_token_wise */
    uint32_t n_columns;
    bool is_token_wise;    /* DATA, REWARD: nested, shape [n_rows, n_columns]; else flat, shape
                            * [n_columns] */
    const char *prompt;    /* TOKENS: [n_prompt] "prompt", what a chat template made; NULL: none */
    size_t n_prompt;
    const int32_t *tokens; /* TOKENS: [n_tokens] */
    size_t n_tokens;
    pr_status status;    /* ERROR: written as its name */
    const char *message; /* ERROR; bytes that are not UTF-8 become U+FFFD; NULL: "" */
} pr_output_row;

typedef struct pr_output_lines pr_output_lines;

/* path: NULL, "-" or /dev/stdout for standard output. Fails PR_E_IO or PR_E_NOT_FOUND with the path
 * (folder missing or not writable, file not writable), PR_E_ARGUMENT when it is a folder,
 * PR_E_NOMEM. */
pr_status pr_output_lines_open(const char *path, pr_output_lines **out, pr_error *err);

/* Adds one line to the buffer, writing out what is over its size. Fails PR_E_IO (full disk, closed
 * pipe, size limit) with the path; PR_E_NOMEM. */
pr_status pr_output_lines_write(pr_output_lines *out, const pr_output_row *row, pr_error *err);

/* Writes out what is buffered: for a reader who waits for each line. Fails as write. */
pr_status pr_output_lines_flush(pr_output_lines *out, pr_error *err);

/* Flushes, syncs and renames: the file is complete. At most once, nothing may be written after.
 * Fails as write; the temporary file is then gone at close. */
pr_status pr_output_lines_finish(pr_output_lines *out, pr_error *err);

/* Releases everything; without a successful finish the temporary file is removed and the target is
 * as it was. NULL is fine. */
void pr_output_lines_close(pr_output_lines *out);

#endif
