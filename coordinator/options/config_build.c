#include "coordinator/options/config_build.h"

#include "coordinator/options/cpu_count.h"
#include "coordinator/options/options_handle.h"
#include "coordinator/options/options_value.h"
#include "worker/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Writes a text option. hub.hf_hub_cache is const for its readers, but the config owns it. */
static pr_status text_write(char **field, const char *value, pr_error *err)
{
    free(*field);
    *field = strdup(value);
    return *field ? PR_OK : pr_error_nomem(err, "option value", strlen(value) + 1);
}

static pr_status field_write(pr_config *config, const pr_option_row *row, const char *text,
                             pr_error *err)
{
    char *field = (char *)config + row->field;
    pr_option_value value = {0};
    pr_status st = pr_option_value_parse(row, text, &value, err);
    if (st != PR_OK) return pr_error_context(err, st, "%s", row->name);
    switch (row->kind) {
    case PR_OPTION_SWITCH:
        *(bool *)field = value.on;
        break;
    case PR_OPTION_INT:
        *(int32_t *)field = value.number;
        break;
    case PR_OPTION_CHOICE:
        *(int *)field = value.i_choice;
        break;
    case PR_OPTION_JSON:
        *(json_t **)field = value.json;
        break;
    case PR_OPTION_TEXT:
    case PR_OPTION_LIST:
        return text_write((char **)field, text, err);
    case PR_OPTION_NUMBER:
        *(double *)field = value.real;
        break;
    case PR_OPTION_KIND_COUNT:
        assert(row->field == PR_OPTION_NO_FIELD);
        break;
    }
    return PR_OK;
}

/* The places of the Hugging Face cache; --download-dir, written after it, replaces the first. */
static pr_status hub_write(const pr_options *options, pr_config *config, pr_error *err)
{
    const struct {
        const char *from;
        const char **to;
    } places[] = {
        {options->hf_hub_cache, &config->hub.hf_hub_cache},
        {options->hf_home, &config->hub.hf_home},
        {options->xdg_cache_home, &config->hub.xdg_cache_home},
        {options->home, &config->hub.home},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!places[i].from) continue;
        *places[i].to = strdup(places[i].from);
        if (!*places[i].to) return pr_error_nomem(err, "path", strlen(places[i].from) + 1);
    }
    return PR_OK;
}

/* What a row's kind and bounds do not say. */
static pr_status values_check(const pr_options *options, const pr_config *c, pr_error *err)
{
    int device;
    const char *truncate = pr_options_text(options, "truncate-prompt-tokens");
    if (truncate && c->truncate_prompt_tokens == 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "truncate-prompt-tokens: found %s, expected -1 (the model's limit) or "
                            "1 and more",
                            truncate);
    }
    if (c->gpu_memory_utilization <= 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "gpu-memory-utilization: found %g, expected more than 0, at most 1",
                            c->gpu_memory_utilization);
    }
    /* Whether there are such devices is not known yet, nor how many are needed. */
    return c->devices ? pr_device_pick(c->devices, PR_CUDA_DEVICES_MAX, 0, 1, &device, err) : PR_OK;
}

pr_status pr_config_build(const pr_options *options, pr_config *out, pr_error *err)
{
    assert(options);
    assert(out);
    pr_config config = {0};
    pr_status st = hub_write(options, &config, err);
    const pr_option_row *row;
    for (size_t i = 0; st == PR_OK && (row = pr_option_at(i)) != NULL; i++) {
        const char *value = pr_options_value(options, i);
        if (!value) value = row->initial;
        if (value && row->field != PR_OPTION_NO_FIELD) st = field_write(&config, row, value, err);
    }
    if (st != PR_OK) {
        pr_config_deinit(&config);
        return st;
    }
    if ((st = values_check(options, &config, err)) != PR_OK) {
        pr_config_deinit(&config);
        return st;
    }
    config.api_key_is_seen = pr_options_word(options, "api-key") != NULL;
    config.is_in_allocation = options->is_in_allocation;
    config.launcher_size = options->launcher_size;
    config.has_n_threads = config.n_threads > 0;
    if (config.n_threads == 0) config.n_threads = pr_cpu_count(options->slurm_cpus_per_task);
    if (config.quiet && !pr_options_is_given(options, "log-level")) config.log_level = PR_LOG_ERROR;
    *out = config;
    return PR_OK;
}
