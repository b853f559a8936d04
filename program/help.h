/* program/help.h: every text about commands and options, made from their two tables.
 *
 * Pure: appends to a buffer (whose `failed` flag tells of lost memory). Called by main for --help,
 * and at build time for the man page, the shell completions and docs/engine-arguments.md. */
#ifndef POOLRANK_PROGRAM_HELP_H
#define POOLRANK_PROGRAM_HELP_H

#include "program/command.h"
#include "coordinator/options/options.h"
#include "runtime/base/buffer.h"

void pr_help_program(pr_buffer *out);                                 /* poolrank --help */
void pr_help_command(const pr_command_row *command, pr_buffer *out);  /* poolrank NAME --help */

void pr_help_man(pr_buffer *out);              /* poolrank.1 */
void pr_help_completion_bash(pr_buffer *out);
void pr_help_completion_zsh(pr_buffer *out);   /* _poolrank */
void pr_help_engine_arguments(pr_buffer *out); /* docs/engine-arguments.md */

/* The generator of a kind ("man", "completion-bash", "completion-zsh", "engine-arguments"); NULL
 * when unknown. */
void (*pr_help_generator(const char *kind))(pr_buffer *out);

/* "Model", "Execution", …: the heading of a group. */
const char *pr_help_group_title(pr_option_group group);

/* "--dtype DTYPE, -q": an option with its other spellings and its metavar. */
void pr_help_spelling(const pr_option_row *row, pr_buffer *out);

/* What is taken when the option is not given, in words; NULL: nothing to say. */
const char *pr_help_default(const pr_option_row *row);

#endif
