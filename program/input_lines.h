/* program/input_lines.h: bulk input, one request a line.
 *
 * A pr_input_lines owns its read buffer, which is bounded by the longest line allowed, and the
 * descriptor when it opened one. Called by the offline commands, one thread at a time. What is
 * wrong with a line becomes an item of kind PR_INPUT_ERROR; only a failing read or missing memory
 * ends the reading.
 *
 * A line whose first byte is `{` is a JSON object; any other is text, verbatim without its "\n" or
 * "\r\n". The last line may lack its newline; an empty line is an empty text. */
#ifndef POOLRANK_PROGRAM_INPUT_LINES_H
#define POOLRANK_PROGRAM_INPUT_LINES_H

#include "include/poolrank/engine.h"
#include "runtime/base/status.h"

#include <jansson.h>
#include <stdatomic.h>

enum { PR_INPUT_LINE_BYTES_MAX = 16 * 1024 * 1024 }; /* the default bound of one line */

typedef enum pr_input_kind {
    PR_INPUT_TEXT,
    PR_INPUT_PAIR, /* {"query", "document"} or {"text", "text_pair"} */
    PR_INPUT_TOKENS,
    PR_INPUT_MESSAGES, /* {"messages"}, with "tools" and the other members of engine.h */
    PR_INPUT_ERROR /* this line cannot become a request; status and message say why */
} pr_input_kind;

/* One line. Everything it points to is its own; release with pr_input_item_deinit. */
typedef struct pr_input_item {
    uint64_t index; /* line number, from 0 */
    pr_input_kind kind;
    pr_status status; /* PR_OK, or for PR_INPUT_ERROR: PR_E_INPUT, PR_E_TOO_LARGE, … */
    char *message;    /* of an error; else NULL */
    json_t *id;       /* a string or an integer, NULL when none was given; also of errors */
    char *text;       /* TEXT, PAIR (the query): [n_text] bytes of UTF-8, then a NUL */
    size_t n_text;
    char *text_pair; /* PAIR: [n_text_pair], then a NUL */
    size_t n_text_pair;
    char *messages; /* MESSAGES: [n_messages] of JSON, then a NUL */
    size_t n_messages;
    int32_t *tokens; /* TOKENS: [n_tokens], at least one, none negative */
    size_t n_tokens;
    pr_request params; /* its parameters only: the rows of runtime/wire/request_params.h */
    int32_t *ids;      /* that params borrows */
} pr_input_item;

/* Releases what the item owns and leaves it empty; an item that was cleared to zero is fine. */
void pr_input_item_deinit(pr_input_item *item);

/* Points the request's inputs into the item and sets the parameters that the line gave; what it
 * left unset stays as the caller initialised it. Not for errors (asserted). The request borrows
 * from the item until it is submitted. */
void pr_input_item_apply(const pr_input_item *item, pr_request *request);

/* One line without its newline: [n] bytes. Pure. *item: written whole, index 0, owned.
 * Returns PR_E_NOMEM only; everything else that is wrong is in the item. */
pr_status pr_input_line_parse(const char *line, size_t n, pr_input_item *item, pr_error *err);

typedef struct pr_input_lines pr_input_lines;

/* Reads from fd, borrowed until close. name: for messages, copied. line_bytes_max: 0 for the
 * default. Fails PR_E_NOMEM. */
pr_status pr_input_lines_create(int fd, const char *name, size_t line_bytes_max,
                                pr_input_lines **out, pr_error *err);

/* The same over a file, FIFO or device; NULL or "-": standard input. Opening a FIFO waits for its
 * writer. Fails PR_E_NOT_FOUND, PR_E_ARGUMENT for a folder, PR_E_IO, PR_E_NOMEM. */
pr_status pr_input_lines_open(const char *path, size_t line_bytes_max, pr_input_lines **out,
                              pr_error *err);

/* A flag that a signal handler sets: reading then fails with PR_E_CANCELLED, within a moment also
 * where it waits for input. Borrowed until close. */
void pr_input_lines_watch(pr_input_lines *in, const atomic_int *is_interrupted);

/* Whether the input is a regular file, which has an end that was not reached when reading stops;
 * of a pipe, what was not read was not accepted. */
bool pr_input_lines_is_file(const pr_input_lines *in);

void pr_input_lines_close(pr_input_lines *in);

/* The next line, as soon as it is there. *has_item: false at the end of input, *item is then
 * untouched; else *item is owned by the caller. Fails PR_E_IO, PR_E_NOMEM, with the name. */
pr_status pr_input_lines_next(pr_input_lines *in, pr_input_item *item, bool *has_item,
                              pr_error *err);

#endif
