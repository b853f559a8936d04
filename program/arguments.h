/* program/arguments.h: the words of a command line, sorted into options and texts.
 *
 * Pure; called once, by main. */
#ifndef POOLRANK_PROGRAM_ARGUMENTS_H
#define POOLRANK_PROGRAM_ARGUMENTS_H

#include "coordinator/options/options.h"

typedef struct pr_arguments {
    char **texts; /* [n_texts] in their order; the array is owned, the words are argv's */
    size_t n_texts;
    bool wants_help;    /* --help was met; what follows it was not read */
    bool wants_version; /* likewise */
} pr_arguments;

/* argv: [argc] what follows the command's name. "--name value", "--name=value", "--switch",
 * "--no-switch", "-tp 2", "-O3"; "--" ends the options; a lone "-" is --input -.
 * The options go into `options` with PR_OPTION_SOURCE_OPTION. *out: owned (pr_arguments_deinit).
 * Fails as pr_options_set_from; PR_E_NOMEM. */
pr_status pr_arguments_parse(int argc, char **argv, pr_options *options, pr_arguments *out,
                             pr_error *err);
void pr_arguments_deinit(pr_arguments *arguments);

/* Moves the first text into the option "model" unless some source gives that one: the model may be
 * the first argument. Call after all sources were read. Fails PR_E_ARGUMENT when there is no model
 * at all; PR_E_NOMEM. */
pr_status pr_arguments_take_model(pr_arguments *arguments, pr_options *options, pr_error *err);

#endif
