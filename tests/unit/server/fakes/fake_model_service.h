/* fakes/fake_model_service.h: what the routes ask of a service, without one, and results made up by
 * a number. Takes the place of server/service/service.c; each program includes this once. */
#ifndef POOLRANK_TESTS_FAKE_MODEL_SERVICE_H
#define POOLRANK_TESTS_FAKE_MODEL_SERVICE_H

#include "server/http/http_exchange.h"

#include <stdlib.h>
#include <string.h>

struct pr_service {
    pr_config config;
    pr_service_model names;
    pr_model model;
    pr_service_state state;
};

const pr_service_model *pr_service_model_of(const pr_service *s)
{
    return &s->names;
}

const pr_config *pr_service_settings(const pr_service *s)
{
    return &s->config;
}

bool pr_service_model_is_known(const pr_service *s, const char *name)
{
    for (size_t i = 0; i < s->names.n_names; i++) {
        if (strcmp(s->names.names[i], name) == 0) return true;
    }
    return false;
}

pr_service_state pr_service_state_now(const pr_service *s)
{
    return s->state;
}

const char *pr_service_state_name(pr_service_state state)
{
    static const char *const names[] = {"loading", "ready", "restarting", "draining"};
    return names[state];
}

void pr_service_stats(const pr_service *s, pr_engine_stats *out)
{
    (void)s;
    memset(out, 0, sizeof *out);
}

size_t pr_service_n_calls(const pr_service *s)
{
    (void)s;
    return 3;
}

/* A model with every task, 3 labels, and one row a text but for rewards: those by pool. */
static void fake_service_init(pr_service *s, pr_pool reward_pool)
{
    static const char *const names[] = {"m", "other"};
    static char *labels[] = {"bad", "so \"so\"", "good"};
    static const char tokenizer[] =
        "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":"
        "\"##\",\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":2,\"##c\":3}}"
        "}";
    memset(s, 0, sizeof *s);
    s->state = PR_SERVICE_READY;
    s->config.max_client_batch_size = 64;
    s->config.queue_timeout = 150;
    s->config.model = (char *)"folder";
    s->names = (pr_service_model){names, 2, 1700000000, &s->model};
    s->model.spec.head = PR_HEAD_SCORE;
    s->model.spec.n_labels = 3;
    s->model.spec.labels = labels;
    s->model.n_tokens_max = 512;
    for (int task = PR_TASK_EMBED; task < PR_TASK_COUNT; task++) {
        s->model.is_served[task] = true;
        s->model.poolings[task].type = PR_POOL_LAST;
    }
    s->model.task = PR_TASK_EMBED;
    s->model.poolings[PR_TASK_REWARD].type = reward_pool;
    s->model.poolings[PR_TASK_REWARD].step_tag_id = 77;
    if (pr_tokenizer_parse(tokenizer, sizeof tokenizer - 1, "fake", &s->model.tokenizer, NULL) !=
        PR_OK) {
        abort();
    }
}

static void fake_service_deinit(pr_service *s)
{
    pr_tokenizer_free(s->model.tokenizer);
}

/* data[i] is i / 8 from first on. */
__attribute__((unused)) static pr_result *fake_result(uint32_t n_rows, uint32_t n_columns,
                                                      bool is_token_wise, float first)
{
    size_t n = (size_t)n_rows * n_columns;
    pr_result *r = calloc(1, sizeof *r);
    if (!r || !(r->data = malloc((n ? n : 1) * sizeof *r->data))) abort();
    r->n_prompt_tokens = 4;
    r->n_rows = n_rows;
    r->n_columns = n_columns;
    r->is_token_wise = is_token_wise;
    for (size_t i = 0; i < n; i++) r->data[i] = first + (float)i / 8;
    return r;
}

__attribute__((unused)) static pr_result *fake_failure(pr_status st, const char *message)
{
    pr_result *r = calloc(1, sizeof *r);
    if (!r || !(r->message = strdup(message))) abort();
    r->status = st;
    return r;
}

__attribute__((unused)) static pr_result *fake_tokens(uint32_t n)
{
    pr_result *r = calloc(1, sizeof *r);
    if (!r || !(r->tokens = malloc((n ? n : 1) * sizeof *r->tokens))) abort();
    r->n_prompt_tokens = n;
    for (uint32_t i = 0; i < n; i++) r->tokens[i] = (int32_t)i;
    return r;
}

/* Room for results, which the caller fills. */
static void fake_results(pr_http_exchange *x)
{
    if (x->call.n_items == 0) return;
    x->call.results = calloc(x->call.n_items, sizeof *x->call.results);
    if (!x->call.results) abort();
}

#endif
