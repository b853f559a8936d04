#include "coordinator/options/options_value.h"

#include "runtime/base/json.h"
#include "runtime/base/number.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SHOWN_MAX = 80 }; /* bytes of a bad value that a message repeats */

bool pr_option_word(const char *list, size_t i, const char **word, size_t *n)
{
    if (!list) return false;
    for (; i > 0; i--) {
        list = strchr(list, '|');
        if (!list) return false;
        list++;
    }
    *word = list;
    *n = strcspn(list, "|");
    return true;
}

/* Index of text in "a|b|c", -1 when it is not there. */
static int32_t word_index(const char *list, const char *text, size_t n_text)
{
    const char *word;
    size_t n;
    for (size_t i = 0; pr_option_word(list, i, &word, &n); i++) {
        if (n == n_text && memcmp(word, text, n) == 0) return (int32_t)i;
    }
    return -1;
}

static pr_status switch_parse(const char *text, bool *on, pr_error *err)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (!text || strcasecmp(text, yes[i]) == 0) {
            *on = true;
            return PR_OK;
        }
        if (strcasecmp(text, no[i]) == 0) {
            *on = false;
            return PR_OK;
        }
    }
    return pr_error_set(err, PR_E_ARGUMENT, "found %.*s, expected true or false", SHOWN_MAX, text);
}

/* The factor of a suffix as vLLM has them: k, m, g, t decimal, K, M, G, T binary. 0: no suffix. */
static double suffix_factor(char c)
{
    static const char letters[] = "kmgt";
    static const char binary[] = "KMGT";
    const char *at = strchr(letters, c);
    if (c && at) return pow(1000, (double)(at - letters + 1));
    at = strchr(binary, c);
    if (c && at) return pow(1024, (double)(at - binary + 1));
    return 0;
}

/* "4096", "-1", "16k", "25.6k", "8K". */
static bool int_read(const char *text, double *out)
{
    if (!*text || strspn(text, "+-0123456789.kmgtKMGT") != strlen(text)) return false;
    const char *end;
    double value = pr_number_read(text, &end);
    if (end == text) return false;
    double factor = suffix_factor(*end);
    if (factor > 0) {
        value *= factor;
        end++;
    }
    *out = value;
    return *end == '\0' && floor(value) == value;
}

static pr_status int_parse(const pr_option_row *row, const char *text, int32_t *out, pr_error *err)
{
    double value;
    if (!int_read(text, &value) || value < row->min || value > row->max) {
        if (row->max < INT32_MAX) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "found %.*s, expected a whole number from %d to %d", SHOWN_MAX,
                                text, (int)row->min, (int)row->max);
        }
        if (row->min > INT32_MIN) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "found %.*s, expected a whole number, %d or more", SHOWN_MAX, text,
                                (int)row->min);
        }
        return pr_error_set(err, PR_E_ARGUMENT, "found %.*s, expected a whole number", SHOWN_MAX,
                            text);
    }
    *out = (int32_t)value;
    return PR_OK;
}

static pr_status number_parse(const pr_option_row *row, const char *text, double *out,
                              pr_error *err)
{
    const char *end;
    double value = pr_number_read(text, &end);
    double factor = end > text ? suffix_factor(*end) : 0;
    if (factor > 0) {
        value *= factor;
        end++;
    }
    if (end == text || *end || !isfinite(value)) {
        return pr_error_set(err, PR_E_ARGUMENT, "found %.*s, expected a number", SHOWN_MAX, text);
    }
    if (row->min < row->max && (value < row->min || value > row->max)) {
        return pr_error_set(err, PR_E_ARGUMENT, "found %.*s, expected a number from %d to %d",
                            SHOWN_MAX, text, (int)row->min, (int)row->max);
    }
    *out = value;
    return PR_OK;
}

static pr_status choice_fail(const pr_option_row *row, const char *text, pr_error *err)
{
    if (row->choices_refused && word_index(row->choices_refused, text, strlen(text)) >= 0) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s is refused: %s (taken here: %s)", text,
                            row->reason, row->choices);
    }
    return pr_error_set(err, PR_E_ARGUMENT, "found %.*s, expected one of %s", SHOWN_MAX, text,
                        row->choices);
}

static pr_status choice_parse(const pr_option_row *row, const char *text, int32_t *out,
                              pr_error *err)
{
    int32_t i = word_index(row->choices, text, strlen(text));
    const char *alias;
    size_t n;
    for (size_t i_alias = 0;
         i < 0 && pr_option_word(row->choice_aliases, i_alias, &alias, &n); i_alias++) {
        size_t n_alias = strcspn(alias, "=");
        if (n_alias != strlen(text) || memcmp(alias, text, n_alias) != 0) continue;
        i = word_index(row->choices, alias + n_alias + 1, n - n_alias - 1);
        assert(i >= 0);
    }
    if (i < 0) return choice_fail(row, text, err);
    *out = i;
    return PR_OK;
}

static pr_status json_parse(const char *text, json_t **out, pr_error *err)
{
    json_t *value = NULL;
    if (pr_json_parse(text, strlen(text), "value", &value, err) != PR_OK) {
        if (err) err->status = PR_E_ARGUMENT;
        return PR_E_ARGUMENT;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return pr_error_set(err, PR_E_ARGUMENT, "found %.*s, expected a JSON object", SHOWN_MAX,
                            text);
    }
    *out = value;
    return PR_OK;
}

/* A row of another kind than CHOICE may list the only values that it takes. */
static pr_status only_check(const pr_option_row *row, const char *text, pr_error *err)
{
    if (!row->choices || word_index(row->choices, text, strlen(text)) >= 0) return PR_OK;
    return pr_error_set(err, PR_E_UNSUPPORTED, "%.*s is refused: %s (taken here: %s)", SHOWN_MAX,
                        text, row->reason, row->choices);
}

pr_status pr_option_value_parse(const pr_option_row *row, const char *text, pr_option_value *out,
                                pr_error *err)
{
    pr_status st = PR_OK;
    switch (row->kind) {
    case PR_OPTION_SWITCH:
        return switch_parse(text, &out->on, err);
    case PR_OPTION_CHOICE:
        return choice_parse(row, text, &out->i_choice, err);
    case PR_OPTION_JSON:
        return json_parse(text, &out->json, err);
    case PR_OPTION_INT:
        st = int_parse(row, text, &out->number, err);
        break;
    case PR_OPTION_NUMBER:
        st = number_parse(row, text, &out->real, err);
        break;
    case PR_OPTION_TEXT:
    case PR_OPTION_LIST:
    case PR_OPTION_KIND_COUNT:
        break;
    }
    return st == PR_OK ? only_check(row, text, err) : st;
}
