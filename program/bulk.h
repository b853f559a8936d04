/* program/bulk.h: many requests through the engine, answered in their order with bounded
 * memory.
 *
 * Two threads: one reads lines and submits, the calling one waits for answers in order and writes
 * them, so that a line is answered although no other follows.
 *
 *     lines → reader thread → engine ─┐
 *                  └── ring of tickets, in order ──→ calling thread → output
 *
 * How many requests are between the two is bounded, by number and by what their texts and results
 * weigh. Called by the offline commands. */
#ifndef POOLRANK_PROGRAM_BULK_H
#define POOLRANK_PROGRAM_BULK_H

#include "program/answer.h"
#include "program/command.h"
#include "program/input_lines.h"
#include "program/output_lines.h"

typedef struct pr_bulk {
    const pr_command_context *context;
    pr_engine *engine;
    pr_answer *answer;     /* the reader reads kind, pool and return_tokens */
    pr_task task;          /* of every request */
    bool takes_pairs;      /* score: a line must be a pair */
    pr_output_lines *output;
} pr_bulk;

/* Every line of `input` is answered. Returns the exit status; with PR_EXIT_FAILED *err says why and
 * *is_abandoned whether the engine still works on requests that nobody waits for: it would finish
 * them before it closes, so the process should end instead. The reader may then go on, and needs
 * bulk, the engine and input until that end; output it does not touch. */
int pr_bulk_run_lines(const pr_bulk *bulk, pr_input_lines *input, bool *is_abandoned,
                      pr_error *err);

/* Requests of the command line: all are answered, or nothing is written. items: [n], consumed. */
int pr_bulk_run_items(const pr_bulk *bulk, pr_input_item *items, size_t n, pr_error *err);

/* Whether a status is one line's own fault, answered with an error; else the run has failed. */
bool pr_bulk_is_line_error(pr_status st);

#endif
