#include "program/arguments.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_NAME_BYTES = 64 };

/* What a word says, before it is applied. */
typedef struct option_word {
    char name[OPTION_NAME_BYTES]; /* without "--"; a short form with its "-" */
    const char *value;            /* behind "=" or behind a short form; NULL: none */
} option_word;

/* The row whose short form the word begins with, the longest one; NULL: none. */
static const pr_option_row *short_form_find(const char *word)
{
    const pr_option_row *best = NULL;
    const pr_option_row *row;
    for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
        if (!row->short_form || strncmp(word, row->short_form, strlen(row->short_form)) != 0) {
            continue;
        }
        if (!best || strlen(row->short_form) > strlen(best->short_form)) best = row;
    }
    return best;
}

static pr_status word_split(const char *word, option_word *out, pr_error *err)
{
    *out = (option_word){0};
    if (word[1] != '-') {
        const pr_option_row *row = short_form_find(word);
        if (!row) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "%.40s: no such option; a text that begins with - goes behind --",
                                word);
        }
        size_t n = strlen(row->short_form);
        memcpy(out->name, row->short_form, n);
        if (word[n]) out->value = word + n + (word[n] == '=' ? 1 : 0);
        return PR_OK;
    }
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word - 2) : strlen(word) - 2;
    if (n == 0 || n >= sizeof out->name) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "%.40s…: no such option; a text that begins with - goes behind --",
                            word);
    }
    memcpy(out->name, word + 2, n);
    out->value = equals ? equals + 1 : NULL;
    return PR_OK;
}

/* Whether the next word is this option's value rather than an option. */
static bool next_is_value(const pr_option_row *row, const char *next)
{
    if (row->value_is_optional) return next[0] != '-';
    bool is_negated;
    return strncmp(next, "--", 2) != 0 || !pr_option_find(next + 2, &is_negated);
}

/* Applies one option; *i is its word, and its value's when that stands apart. */
static pr_status option_take(int argc, char **argv, int *i, pr_options *options, pr_arguments *out,
                             pr_error *err)
{
    option_word word;
    pr_status st = word_split(argv[*i], &word, err);
    if (st != PR_OK) return st;
    bool is_negated = false;
    const pr_option_row *row = pr_option_find(word.name, &is_negated);
    if (row && strcmp(row->name, "help") == 0) {
        out->wants_help = true;
        return PR_OK;
    }
    if (row && strcmp(row->name, "version") == 0) {
        out->wants_version = true;
        return PR_OK;
    }
    bool takes_value = row && row->kind != PR_OPTION_SWITCH && !word.value;
    if (takes_value && *i + 1 < argc && next_is_value(row, argv[*i + 1])) word.value = argv[++*i];
    return pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, word.name, word.value, err);
}

pr_status pr_arguments_parse(int argc, char **argv, pr_options *options, pr_arguments *out,
                             pr_error *err)
{
    assert(options);
    assert(out);
    pr_status st = PR_OK;
    pr_arguments arguments = {0};
    size_t bytes = ((size_t)argc + 1) * sizeof *arguments.texts;
    arguments.texts = calloc(1, bytes);
    if (!arguments.texts) return pr_error_nomem(err, "arguments", bytes);
    bool options_end = false;
    for (int i = 0; i < argc && !arguments.wants_help && !arguments.wants_version; i++) {
        char *word = argv[i];
        if (!options_end && strcmp(word, "--") == 0) {
            options_end = true;
        } else if (!options_end && strcmp(word, "-") == 0) {
            st = pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, "input", "-", err);
        } else if (!options_end && word[0] == '-') {
            st = option_take(argc, argv, &i, options, &arguments, err);
        } else {
            arguments.texts[arguments.n_texts++] = word;
        }
        if (st != PR_OK) goto cleanup;
    }
    *out = arguments;
    arguments.texts = NULL;
cleanup:
    free(arguments.texts);
    return st;
}

void pr_arguments_deinit(pr_arguments *arguments)
{
    free(arguments->texts);
    *arguments = (pr_arguments){0};
}

pr_status pr_arguments_take_model(pr_arguments *arguments, pr_options *options, pr_error *err)
{
    if (pr_options_is_given(options, "model")) return PR_OK;
    if (arguments->n_texts == 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "no model: expected --model DIR (a folder, or a name of the local "
                            "Hugging Face cache), or the model as the first argument");
    }
    pr_status st = pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, "model",
                                       arguments->texts[0], err);
    if (st != PR_OK) return st;
    arguments->n_texts--;
    memmove(arguments->texts, arguments->texts + 1,
            arguments->n_texts * sizeof *arguments->texts);
    return PR_OK;
}
