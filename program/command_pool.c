/* encode, embed, classify, reward, score: texts or lines through the engine. */
#include "program/bulk.h"
#include "program/command.h"
#include "coordinator/engine/engine.h"
#include "coordinator/options/options.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What one run holds. */
typedef struct run {
    const pr_command_context *context;
    pr_config config; /* the engine's: borrows the strings of the context's */
    pr_input_lines *input; /* NULL: texts are arguments */
    pr_output_lines *output;
    pr_engine *engine;
    pr_answer answer;
    pr_bulk bulk;
} run;

static pr_output_kind output_kind(const pr_command_row *command)
{
    switch (command->bit) {
    case PR_COMMAND_EMBED:
        return PR_OUTPUT_EMBEDDING;
    case PR_COMMAND_CLASSIFY:
        return PR_OUTPUT_PROBS;
    case PR_COMMAND_SCORE:
        return PR_OUTPUT_SCORE;
    case PR_COMMAND_REWARD:
        return PR_OUTPUT_REWARD;
    default:
        return PR_OUTPUT_DATA;
    }
}

static bool takes_pairs(const pr_command_context *context)
{
    return context->command->bit == PR_COMMAND_SCORE;
}

/* Before anything is opened: is there something to do, and only one kind of it? */
static pr_status texts_check(const pr_command_context *context, pr_error *err)
{
    if (context->config->input) {
        if (context->n_texts == 0) return PR_OK;
        return pr_error_set(err, PR_E_ARGUMENT,
                            "found --input and the text \"%.40s\", expected one of the two",
                            context->texts[0]);
    }
    if (takes_pairs(context) && context->n_texts == 1) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "found one text, expected a query and at least one document");
    }
    if (context->n_texts > 0) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT,
                        takes_pairs(context)
                            ? "no texts: expected QUERY DOCUMENT…, or --input FILE (-: standard "
                              "input)"
                            : "no texts: expected TEXT…, or --input FILE (-: standard input)");
}

static pr_status engine_open(run *r, pr_error *err)
{
    const pr_command_context *context = r->context;
    pr_config *config = &r->config;
    *config = *context->config;
    config->block = true; /* the reader waits for room */
    config->has_few_texts = !config->input; /* not worth filling memory with all weights */
    config->needs_reward_head = context->command->bit == PR_COMMAND_REWARD;
    pr_status st = pr_engine_open_config(config, &r->engine, err);
    if (st != PR_OK) return st;
    if (*context->is_interrupted || *context->is_draining) {
        return pr_error_set(err, PR_E_CANCELLED, "interrupted");
    }
    const pr_model *model = pr_engine_model(r->engine);
    const pr_pooling *pooling = NULL;
    pr_task task = context->command->task;
    if (task == PR_TASK_SCORE && pr_model_scores_by_cosine(model)) task = PR_TASK_EMBED;
    st = pr_model_pooling(model, task, &pooling, err);
    if (st != PR_OK) return st;
    return pr_answer_init(&r->answer, output_kind(context->command), pooling, config, err);
}

/* The files before the model: a name that is wrong is told at once. */
static pr_status run_open(run *r, pr_error *err)
{
    const pr_config *config = r->context->config;
    pr_status st = texts_check(r->context, err);
    if (st == PR_OK && config->input) st = pr_input_lines_open(config->input, 0, &r->input, err);
    if (st == PR_OK && r->input) pr_input_lines_watch(r->input, r->context->is_draining);
    if (st == PR_OK) st = pr_output_lines_open(config->output, &r->output, err);
    if (st != PR_OK) return st == PR_E_NOMEM ? st : PR_E_ARGUMENT; /* the caller's mistake */
    if ((st = engine_open(r, err)) != PR_OK) return st;
    r->bulk = (pr_bulk){.context = r->context,
                        .engine = r->engine,
                        .answer = &r->answer,
                        .task = r->context->command->task,
                        .takes_pairs = takes_pairs(r->context),
                        .output = r->output};
    return PR_OK;
}

static pr_status item_make(pr_input_item *item, const char *text, const char *pair, pr_error *err)
{
    /* The parser of an empty line gives every parameter its value for "unset". */
    pr_status st = pr_input_line_parse("", 0, item, err);
    if (st != PR_OK) return st;
    free(item->text);
    item->kind = pair ? PR_INPUT_PAIR : PR_INPUT_TEXT;
    item->text = strdup(text);
    item->n_text = strlen(text);
    item->text_pair = pair ? strdup(pair) : NULL;
    item->n_text_pair = pair ? strlen(pair) : 0;
    bool has_memory = item->text && (!pair || item->text_pair);
    return has_memory ? PR_OK : pr_error_nomem(err, "text", item->n_text + item->n_text_pair);
}

/* Texts of the command line: one request each, or for score the query with each document. */
static int arguments_run(const run *r, pr_error *err)
{
    const pr_command_context *context = r->context;
    size_t n_queries = r->bulk.takes_pairs ? 1 : 0;
    assert(context->n_texts > n_queries);
    size_t n = context->n_texts - n_queries;
    const char *query = context->texts[0];
    pr_input_item *items = calloc(n, sizeof *items);
    pr_status st = items ? PR_OK : pr_error_nomem(err, "texts", n * sizeof *items);
    for (size_t i = 0; st == PR_OK && i < n; i++) {
        const char *text = context->texts[n_queries + i];
        st = n_queries ? item_make(&items[i], query, text, err)
                       : item_make(&items[i], text, NULL, err);
    }
    int exit_status = PR_EXIT_FAILED;
    if (st == PR_OK) exit_status = pr_bulk_run_items(&r->bulk, items, n, err);
    for (size_t i = 0; items && i < n; i++) pr_input_item_deinit(&items[i]);
    free(items);
    return exit_status;
}

int pr_command_pool_run(const pr_command_context *context, pr_error *err)
{
    bool is_abandoned = false;
    int exit_status;
    run *r = calloc(1, sizeof *r);
    if (!r) return pr_command_exit(pr_error_nomem(err, "run", sizeof *r));
    r->context = context;
    pr_status st = run_open(r, err);
    if (st != PR_OK) {
        exit_status = pr_command_exit(st);
    } else if (r->input) {
        exit_status = pr_bulk_run_lines(&r->bulk, r->input, &is_abandoned, err);
    } else {
        exit_status = arguments_run(r, err);
    }
    pr_output_lines_close(r->output);
    if (is_abandoned) {
        /* The reader and the engine are still at work on the rest, and use r until the end. */
        *context->must_end = true;
        return exit_status;
    }
    pr_engine_close(r->engine);
    pr_input_lines_close(r->input);
    pr_answer_deinit(&r->answer);
    free(r);
    return exit_status;
}
