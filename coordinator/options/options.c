#include "coordinator/options/options.h"

#include "coordinator/options/options_handle.h"
#include "coordinator/options/options_table.h"
#include "coordinator/options/options_value.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX = 64 }; /* bytes of an option name, NUL included */

/* ---- the table ---- */

size_t pr_option_count(void)
{
    return pr_option_rows_count + pr_option_rows_server_count + pr_option_rows_vllm_count;
}

const pr_option_row *pr_option_at(size_t i)
{
    if (i < pr_option_rows_count) return &pr_option_rows[i];
    i -= pr_option_rows_count;
    if (i < pr_option_rows_server_count) return &pr_option_rows_server[i];
    i -= pr_option_rows_server_count;
    return i < pr_option_rows_vllm_count ? &pr_option_rows_vllm[i] : NULL;
}

/* Index of a name whose dashes are dashes; -1 when unknown. */
static int index_find(const char *name)
{
    const pr_option_row *row;
    for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
        if (strcmp(row->name, name) == 0) return (int)i;
        if (row->other_name && strcmp(row->other_name, name) == 0) return (int)i;
        if (row->short_form && strcmp(row->short_form, name) == 0) return (int)i;
    }
    return -1;
}

/* Index of a name in any spelling; -1 when unknown. */
static int name_index(const char *name, bool *is_negated)
{
    char plain[NAME_MAX];
    size_t n = strlen(name);
    *is_negated = false;
    if (n == 0 || n >= sizeof plain) return -1;
    for (size_t i = 0; i <= n; i++) plain[i] = name[i] == '_' ? '-' : name[i];
    int i = index_find(plain);
    if (i >= 0 || strncmp(plain, "no-", 3) != 0) return i;
    i = index_find(plain + 3);
    if (i < 0 || pr_option_at((size_t)i)->kind != PR_OPTION_SWITCH) return -1;
    *is_negated = true;
    return i;
}

const pr_option_row *pr_option_find(const char *name, bool *is_negated)
{
    int i = name_index(name, is_negated);
    return i < 0 ? NULL : pr_option_at((size_t)i);
}

/* Edits (insert, delete, replace) that turn a into b: Wagner and Fischer 1974, one row kept. */
size_t pr_word_distance(const char *a, const char *b)
{
    size_t cost[NAME_MAX];
    size_t n_b = strlen(b);
    assert(n_b < NAME_MAX);
    for (size_t j = 0; j <= n_b; j++) cost[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = cost[0];
        cost[0] = i + 1;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = diagonal + (a[i] == b[j - 1] ? 0 : 1);
            if (cost[j] + 1 < best) best = cost[j] + 1;
            if (cost[j - 1] + 1 < best) best = cost[j - 1] + 1;
            diagonal = cost[j];
            cost[j] = best;
        }
    }
    return cost[n_b];
}

const char *pr_option_nearest(const char *name)
{
    const char *best = NULL;
    size_t best_cost = 4;
    const pr_option_row *row;
    for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
        size_t cost = pr_word_distance(name, row->name);
        if (cost < best_cost && cost * 2 < strlen(row->name)) {
            best_cost = cost;
            best = row->name;
        }
    }
    return best;
}

/* ---- the handle ---- */

pr_options *pr_options_create_for(unsigned command)
{
    pr_options *options = calloc(1, sizeof *options);
    if (!options) return NULL;
    options->command = command;
    options->given = calloc(pr_option_count(), sizeof *options->given);
    if (!options->given) {
        free(options);
        return NULL;
    }
    return options;
}

void pr_options_free(pr_options *options)
{
    if (!options) return;
    for (size_t i = 0; i < pr_option_count(); i++) {
        for (int s = 0; s < PR_OPTION_SOURCE_COUNT; s++) free(options->given[i].values[s]);
    }
    for (size_t i = 0; i < options->n_warnings; i++) free(options->warnings[i]);
    free(options->warnings);
    free(options->given);
    free(options->hf_hub_cache);
    free(options->hf_home);
    free(options->xdg_cache_home);
    free(options->home);
    free(options);
}

pr_status pr_options_warn(pr_options *options, const char *line, pr_error *err)
{
    for (size_t i = 0; i < options->n_warnings; i++) {
        if (strcmp(options->warnings[i], line) == 0) return PR_OK;
    }
    size_t bytes = (options->n_warnings + 1) * sizeof *options->warnings;
    char **warnings = realloc(options->warnings, bytes);
    if (!warnings) return pr_error_nomem(err, "warnings", bytes);
    options->warnings = warnings;
    char *copy = strdup(line);
    if (!copy) return pr_error_nomem(err, "warning", strlen(line) + 1);
    warnings[options->n_warnings++] = copy;
    return PR_OK;
}

const char *pr_options_warning(const pr_options *options, size_t i)
{
    return i < options->n_warnings ? options->warnings[i] : NULL;
}

/* The option as its source spells it, for messages. */
static const char *label(const pr_options *options, pr_option_source source, const char *name,
                         char *out, size_t out_bytes)
{
    const char *prefix = "";
    if (source == PR_OPTION_SOURCE_OPTION && options->command != PR_COMMAND_LIBRARY) {
        prefix = name[0] == '-' ? "" : "--";
    }
    if (source != PR_OPTION_SOURCE_ENVIRONMENT) {
        snprintf(out, out_bytes, "%s%s", prefix, name);
        return out;
    }
    snprintf(out, out_bytes, "POOLRANK_%s", name);
    for (char *p = out; *p; p++) {
        if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
        if (*p == '-') *p = '_';
    }
    return out;
}

static pr_status unknown_fail(const char *shown, const char *name, pr_error *err)
{
    const char *near = strlen(name) < NAME_MAX ? pr_option_nearest(name) : NULL;
    if (near) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: no such option; did you mean %s%s?", shown,
                            shown[0] == '-' ? "--" : "", near);
    }
    return pr_error_set(err, PR_E_ARGUMENT, "%s: no such option", shown);
}

/* A switch's value with "no-" applied: "true" or "false"; of a list, what was there before too.
 * Owned; NULL when there is no memory. */
static char *value_copy(const pr_option_row *row, const char *before, const char *value, bool on)
{
    if (row->kind == PR_OPTION_SWITCH) return strdup(on ? "true" : "false");
    if (row->kind != PR_OPTION_LIST || !before) return strdup(value ? value : "");
    size_t bytes = strlen(before) + strlen(value) + 2;
    char *joined = malloc(bytes);
    if (joined) snprintf(joined, bytes, "%s,%s", before, value);
    return joined;
}

/* Stores a value that was checked, and the warning of an option without effect. */
static pr_status value_store(pr_options *options, size_t i, pr_option_source source, char *value,
                             const char *shown, pr_error *err)
{
    const pr_option_row *row = pr_option_at(i);
    free(options->given[i].values[source]);
    options->given[i].values[source] = value;
    if (row->effect != PR_OPTION_ACCEPTED) return PR_OK;
    char line[256];
    snprintf(line, sizeof line, "%s has no effect: %s", shown, row->reason);
    return pr_options_warn(options, line, err);
}

pr_status pr_options_set_from(pr_options *options, pr_option_source source, const char *name,
                              const char *value, pr_error *err)
{
    char shown[NAME_MAX + 16];
    bool is_negated;
    int i = name_index(name, &is_negated);
    label(options, source, i < 0 || is_negated ? name : pr_option_at((size_t)i)->name, shown,
          sizeof shown);
    if (i < 0) return unknown_fail(shown, name, err);
    const pr_option_row *row = pr_option_at((size_t)i);
    bool applies = (row->commands & options->command) != 0;
    if (!applies && source != PR_OPTION_SOURCE_OPTION) return PR_OK;
    if (!applies && row->effect != PR_OPTION_REFUSED) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: it is not an option of this %s", shown,
                            options->command == PR_COMMAND_LIBRARY ? "library" : "command");
    }
    if (!value && row->kind != PR_OPTION_SWITCH && !row->value_is_optional) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: expected a value (%s)", shown, row->metavar);
    }
    pr_option_value parsed = {0};
    const char *text = value || row->kind == PR_OPTION_SWITCH ? value : "";
    pr_status st = pr_option_value_parse(row, text, &parsed, err);
    json_decref(parsed.json);
    if (st != PR_OK) return pr_error_context(err, st, "%s", shown);
    bool on = parsed.on != is_negated;
    if (row->effect == PR_OPTION_REFUSED && (row->kind != PR_OPTION_SWITCH || on)) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s is refused: %s", shown, row->reason);
    }
    char *copy = value_copy(row, options->given[i].values[source], value, on);
    if (!copy) return pr_error_nomem(err, "option value", value ? strlen(value) + 1 : 6);
    return value_store(options, (size_t)i, source, copy, shown, err);
}

pr_status pr_options_set(pr_options *options, const char *name, const char *value, pr_error *err)
{
    if (!options || !name || !value) {
        return pr_error_set(err, PR_E_ARGUMENT, "pr_options_set: found NULL, expected options, a "
                                                "name and a value");
    }
    return pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, name, value, err);
}

const char *pr_options_value(const pr_options *options, size_t i)
{
    for (int s = PR_OPTION_SOURCE_COUNT - 1; s >= 0; s--) {
        if (options->given[i].values[s]) return options->given[i].values[s];
    }
    return NULL;
}

static size_t own_index(const char *name)
{
    bool is_negated;
    int i = name_index(name, &is_negated);
    assert(i >= 0);
    assert(!is_negated);
    return (size_t)i;
}

const char *pr_options_text(const pr_options *options, const char *name)
{
    return pr_options_value(options, own_index(name));
}

const char *pr_options_word(const pr_options *options, const char *name)
{
    return options->given[own_index(name)].values[PR_OPTION_SOURCE_OPTION];
}

bool pr_options_is_given(const pr_options *options, const char *name)
{
    return pr_options_text(options, name) != NULL;
}
