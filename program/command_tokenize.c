/* tokenize: texts to token ids, without weights. */
#include "program/bulk.h"
#include "program/command.h"
#include "coordinator/model/model.h"
#include "coordinator/model/prepare.h"
#include "program/progress.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    const pr_command_context *context;
    pr_input_lines *input;
    pr_output_lines *output;
    pr_model *model;
    uint32_t n_tokens_max; /* the model's limit; it holds where truncation is asked for */
} run;

static pr_status run_open(run *r, pr_error *err)
{
    const pr_command_context *context = r->context;
    const pr_config *config = context->config;
    if (!config->input == (context->n_texts == 0)) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "found %s, expected TEXT… or --input FILE (-: standard input)",
                            config->input ? "both" : "no texts");
    }
    pr_status st = PR_OK;
    if (config->input) st = pr_input_lines_open(config->input, 0, &r->input, err);
    if (st == PR_OK) st = pr_output_lines_open(config->output, &r->output, err);
    if (st != PR_OK) return st == PR_E_NOMEM ? st : PR_E_ARGUMENT; /* the caller's mistake */
    if (r->input) pr_input_lines_watch(r->input, context->is_interrupted);
    st = pr_model_open_tokenizer(config, &r->model, err);
    if (st != PR_OK) return st;
    r->n_tokens_max = r->model->n_tokens_max;
    pr_model_warn(r->model, context->log);
    return PR_OK;
}

/* One request to its ids; *out is owned (pr_prepared_deinit). */
static pr_status request_tokenize(run *r, const pr_request *request, pr_prepared *out,
                                  pr_error *err)
{
    const pr_config *config = r->context->config;
    pr_prepare_defaults defaults = {.truncate_prompt_tokens = config->truncate_prompt_tokens,
                                    .add_special_tokens = config->add_special_tokens};
    bool truncates = request->truncate_prompt_tokens || config->truncate_prompt_tokens;
    r->model->n_tokens_max = truncates ? r->n_tokens_max : (uint32_t)INT32_MAX;
    return pr_prepare(r->model, &defaults, request, out, err);
}

static pr_status tokens_write(run *r, uint64_t index, const json_t *id, const pr_prepared *prepared,
                              pr_error *err)
{
    pr_output_row row = {.index = index,
                         .id = id,
                         .kind = PR_OUTPUT_TOKENS,
                         .prompt = prepared->rendered.data,
                         .n_prompt = prepared->rendered.n,
                         .tokens = prepared->parts[0].ids,
                         .n_tokens = prepared->parts[0].n};
    return pr_output_lines_write(r->output, &row, err);
}

/* One line: its tokens or its error. Fails when the run has failed. */
static pr_status line_answer(run *r, const pr_input_item *item, bool *is_error, pr_error *err)
{
    pr_error why = {0};
    pr_prepared prepared = {0};
    pr_status st;
    if (item->kind == PR_INPUT_ERROR) {
        st = pr_error_set(&why, item->status, "%s", item->message ? item->message : "");
    } else {
        pr_request request;
        pr_request_init(&request);
        request.tokenize_only = true;
        pr_input_item_apply(item, &request);
        st = request_tokenize(r, &request, &prepared, &why);
    }
    *is_error = st != PR_OK;
    if (st == PR_OK) {
        st = tokens_write(r, item->index, item->id, &prepared, err);
    } else if (pr_bulk_is_line_error(st)) {
        pr_output_row row = {.index = item->index,
                             .id = item->id,
                             .kind = PR_OUTPUT_ERROR,
                             .status = st,
                             .message = why.message};
        st = pr_output_lines_write(r->output, &row, err);
    } else {
        st = pr_error_set(err, st, "line %llu: %s", (unsigned long long)item->index + 1,
                          why.message);
    }
    pr_prepared_deinit(&prepared);
    return st;
}

static pr_status lines_answer(run *r, pr_progress *progress, pr_error *err)
{
    const pr_config *config = r->context->config;
    for (;;) {
        pr_input_item item = {0};
        bool has_item = false;
        bool is_error = false;
        pr_status st = pr_input_lines_next(r->input, &item, &has_item, err);
        if (st != PR_OK || !has_item) return st;
        st = line_answer(r, &item, &is_error, err);
        pr_input_item_deinit(&item);
        if (st == PR_OK && !config->output) st = pr_output_lines_flush(r->output, err);
        if (st != PR_OK) return st;
        pr_progress_count(progress, is_error);
        if (*r->context->is_interrupted) return pr_error_set(err, PR_E_CANCELLED, "interrupted");
        if (config->max_errors >= 0 && progress->n_errors > (uint64_t)config->max_errors) {
            return pr_error_set(err, PR_E_INPUT,
                                "gave up at line %llu: more than %d errors (--max-errors)",
                                (unsigned long long)progress->n_lines, (int)config->max_errors);
        }
    }
}

static int lines_run(run *r, pr_error *err)
{
    pr_progress progress;
    pr_progress_start(&progress, r->context->config);
    pr_status st = lines_answer(r, &progress, err);
    pr_progress_end(&progress);
    if (st != PR_OK) (void)pr_output_lines_flush(r->output, NULL);
    if (st == PR_OK) st = pr_output_lines_finish(r->output, err);
    if (st != PR_OK) return PR_EXIT_FAILED;
    bool has_errors = progress.n_errors > 0 && !r->context->config->allow_errors;
    return has_errors ? PR_EXIT_ERRORS : PR_EXIT_DONE;
}

/* All texts or none: they are tokenized before the first is written. */
static int texts_run(run *r, pr_error *err)
{
    size_t n = r->context->n_texts;
    pr_prepared *prepared = calloc(n, sizeof *prepared);
    pr_status st = prepared ? PR_OK : pr_error_nomem(err, "texts", n * sizeof *prepared);
    int exit_status = st == PR_OK ? PR_EXIT_DONE : PR_EXIT_FAILED;
    for (size_t i = 0; exit_status == PR_EXIT_DONE && i < n; i++) {
        pr_request request;
        pr_request_init(&request);
        request.tokenize_only = true;
        if (r->context->config->messages) {
            request.messages = r->context->texts[i];
            request.n_messages = strlen(request.messages);
        } else {
            request.text = r->context->texts[i];
            request.n_text = strlen(request.text);
        }
        st = request_tokenize(r, &request, &prepared[i], err);
        if (st == PR_OK) continue;
        pr_error_context(err, st, "text %zu", i + 1);
        exit_status = pr_bulk_is_line_error(st) ? PR_EXIT_MISTAKE : PR_EXIT_FAILED;
    }
    for (size_t i = 0; exit_status == PR_EXIT_DONE && i < n; i++) {
        if (tokens_write(r, i, NULL, &prepared[i], err) != PR_OK) exit_status = PR_EXIT_FAILED;
    }
    if (exit_status == PR_EXIT_DONE && pr_output_lines_finish(r->output, err) != PR_OK) {
        exit_status = PR_EXIT_FAILED;
    }
    for (size_t i = 0; prepared && i < n; i++) pr_prepared_deinit(&prepared[i]);
    free(prepared);
    return exit_status;
}

int pr_command_tokenize_run(const pr_command_context *context, pr_error *err)
{
    run r = {.context = context};
    int exit_status;
    pr_status st = run_open(&r, err);
    if (st != PR_OK) {
        exit_status = pr_command_exit(st);
    } else {
        exit_status = r.input ? lines_run(&r, err) : texts_run(&r, err);
    }
    pr_model_close(r.model);
    pr_output_lines_close(r.output);
    pr_input_lines_close(r.input);
    return exit_status;
}
