/* coordinator/options/options_value.h: the text of one option's value, checked against its row.
 *
 * Pure; any thread. Called when a value is set, and when the configuration is built. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_OPTIONS_VALUE_H
#define POOLRANK_COORDINATOR_OPTIONS_OPTIONS_VALUE_H

#include "coordinator/options/option_row.h"
#include "runtime/base/status.h"

#include <jansson.h>

typedef struct pr_option_value {
    bool on;          /* SWITCH */
    int32_t number;   /* INT */
    double real;      /* NUMBER */
    int32_t i_choice; /* CHOICE: index into the row's choices */
    json_t *json;     /* JSON: owned (json_decref), else NULL */
} pr_option_value;

/* text: NULL means "true" for a switch; never NULL for other kinds. Only the member of the row's
 * kind is written. Fails PR_E_ARGUMENT (found and expected), PR_E_UNSUPPORTED (a value that is
 * known and refused, with the reason). The message does not name the option. */
pr_status pr_option_value_parse(const pr_option_row *row, const char *text, pr_option_value *out,
                                pr_error *err);

/* The n-th word of a list "a|b|c"; false past the end. *word is borrowed, *n its length. */
bool pr_option_word(const char *list, size_t i, const char **word, size_t *n);

#endif
