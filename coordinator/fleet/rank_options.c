#define _XOPEN_SOURCE 700 /* realpath */

#include "coordinator/fleet/rank_options.h"

#include "coordinator/options/options.h"
#include "runtime/base/number.h"

#include <assert.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Settings that go to the ranks as they are. The tokenizer's and the limits' change no weight, but
 * what is refused here should be refused there for the same reasons. */
static const char *const passed_on[] = {
    "task",          "dtype",         "hf-overrides",           "override-pooler-config",
    "device",        "devices",       "gpu-memory-utilization", "allow-tf32",
    "cpu-isa",       "max-model-len", "max-num-batched-tokens", "start-timeout",
    "matmul-precision", "ignore-unread-tensors",
};

/* Choice i of "a|b|c". Owned; NULL: no memory. */
static char *choice_copy(const char *choices, int i)
{
    while (i-- > 0) {
        choices = strchr(choices, '|');
        assert(choices);
        choices++;
    }
    return strndup(choices, strcspn(choices, "|"));
}

/* The value of a setting as the command line would have it; *out NULL: it is not set. */
static pr_status value_print(const pr_config *config, const pr_option_row *row, char **out,
                             pr_error *err)
{
    const char *field = (const char *)config + row->field;
    char number[32];
    *out = NULL;
    switch (row->kind) {
    case PR_OPTION_SWITCH:
        *out = strdup(*(const bool *)field ? "true" : "false");
        break;
    case PR_OPTION_NUMBER:
        pr_number_format(number, sizeof number, 'g', 17, *(const double *)field);
        *out = strdup(number);
        break;
    case PR_OPTION_TEXT:
    case PR_OPTION_LIST:
        if (!*(char *const *)field) return PR_OK;
        *out = strdup(*(char *const *)field);
        break;
    case PR_OPTION_INT:
        if (*(const int32_t *)field == 0) return PR_OK;
        snprintf(number, sizeof number, "%" PRId32, *(const int32_t *)field);
        *out = strdup(number);
        break;
    case PR_OPTION_CHOICE:
        *out = choice_copy(row->choices, *(const int *)field);
        break;
    case PR_OPTION_JSON: {
        const json_t *json = *(json_t *const *)field;
        if (!json) return PR_OK;
        *out = json_dumps(json, JSON_COMPACT);
        break;
    }
    default:
        assert(!"an option of this kind is not passed on");
    }
    return *out ? PR_OK : pr_error_nomem(err, row->name, 0);
}

/* value: consumed; NULL: no memory for it. */
static pr_status option_add(pr_rank_options *o, const char *name, char *value, pr_error *err)
{
    assert(o->n_options < PR_RANK_OPTIONS_MAX);
    char *copy = value ? strdup(name) : NULL;
    if (!copy) {
        free(value);
        return pr_error_nomem(err, "options of a rank", strlen(name));
    }
    o->options[o->n_options++] = (pr_control_option){copy, value};
    return PR_OK;
}

static pr_status settings_add(pr_rank_options *o, const pr_config *config, pr_error *err)
{
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++) {
        bool is_negated;
        char *value = NULL;
        const pr_option_row *row = pr_option_find(passed_on[i], &is_negated);
        assert(row && row->field != PR_OPTION_NO_FIELD);
        pr_status st = value_print(config, row, &value, err);
        if (st == PR_OK && value) st = option_add(o, row->name, value, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static pr_status path_add(pr_rank_options *o, const char *name, const char *path, pr_error *err)
{
    char *whole = realpath(path, NULL);
    if (!whole) return pr_error_set(err, PR_E_IO, "%s: its absolute path cannot be found", path);
    return option_add(o, name, whole, err);
}

pr_status pr_rank_options_build(const pr_config *config, const pr_model *model,
                                pr_rank_options *out, pr_error *err)
{
    pr_rank_options o = {0};
    char *tokenizer = strdup(model->tokenizer_source.path);
    pr_status st = PR_OK;
    if (!tokenizer) st = pr_error_nomem(err, "path", strlen(model->tokenizer_source.path));
    if (st == PR_OK) st = path_add(&o, "model", model->folder, err);
    if (st == PR_OK) st = path_add(&o, "tokenizer", dirname(tokenizer), err);
    if (st == PR_OK) st = settings_add(&o, config, err);
    if (st == PR_OK) {
        bool is_streamed = config->stream_weights == PR_STREAM_CHOICE_ON;
        st = option_add(&o, "stream-weights", strdup(is_streamed ? "on" : "off"), err);
    }
    if (st == PR_OK && config->has_n_threads) {
        char number[16];
        snprintf(number, sizeof number, "%" PRId32, config->n_threads);
        st = option_add(&o, "threads", strdup(number), err);
    }
    free(tokenizer);
    if (st != PR_OK) {
        pr_rank_options_deinit(&o);
        return st;
    }
    *out = o;
    return PR_OK;
}

void pr_rank_options_deinit(pr_rank_options *o)
{
    for (uint32_t i = 0; i < o->n_options; i++) {
        free(o->options[i].name);
        free(o->options[i].value);
    }
    *o = (pr_rank_options){0};
}
