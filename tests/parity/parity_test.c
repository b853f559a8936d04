/* tests/parity/parity_test.c: poolrank's numbers against the golden answers of the tiny models.
 *
 *     parity_test [--cpu-isa c|avx2|avx512|amx|amx-c] [--dtype bfloat16] [--threads N]
 *                 [--family NAME] [--matmul-precision highest|high|medium] [--bound B]
 *                 [--ranks TPxPP] FOLDER…
 *
 * Each folder is a model of tests/parity/models. Ids are compared before numbers, so that a
 * tokenizer's mistake does not look like an arithmetic one. Without --dtype, the groups of golden
 * answers that are for float32; with it, those for that dtype. --ranks (parity_ranks_test only)
 * runs each model sharded over that many ranks, where it can be cut so. Exit: 0 all within the
 * bound, 1 not, 2 a wrong command line, 77 this processor lacks the instruction set. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* max |a - b| / max(1, max |reference|) over one request's numbers, against float32 transformers.
 * Golden answers are float64's; a group's float32_error says how far float32 transformers is from
 * them, and what is left of the bound is ours.
 * bfloat16: only weights are rounded, and the golden answers are of rounded weights: no slack.
 * --bound: of a precision that promises less. */
static double bound = 1e-5;

enum { OFFENDERS_MAX = 5 };

typedef struct tally {
    double worst;
    const char *worst_group; /* borrowed from the golden */
    size_t n_checked;
    size_t n_failed;
    const char *model;
} tally;

static void offend(tally *t, const char *group, size_t i_request, const char *what)
{
    t->n_failed++;
    if (t->n_failed <= OFFENDERS_MAX)
        printf("  %s: %s: request %zu: %s\n", t->model, group, i_request, what);
    else if (t->n_failed == OFFENDERS_MAX + 1)
        printf("  %s: more of these\n", t->model);
}

static double distance(const float *ours, const float *golden_values, size_t n)
{
    double difference = 0, scale = 1;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - (double)golden_values[i]);
        if (!(d <= difference)) difference = d; /* a NaN stays */
        scale = fmax(scale, fabs((double)golden_values[i]));
    }
    return difference / scale;
}

static void ids_check(tally *t, const char *group, size_t i_request, const json_t *want,
                      const pr_result *result)
{
    char what[256];
    if (result->status != PR_OK) {
        snprintf(what, sizeof what, "tokenize: %s", result->message ? result->message : "failed");
        offend(t, group, i_request, what);
        return;
    }
    size_t n = json_array_size(want), i = 0;
    while (i < n && i < result->n_prompt_tokens &&
           result->tokens[i] == json_integer_value(json_array_get(want, i)))
        i++;
    if (i == n && n == result->n_prompt_tokens) return;
    long found = i < result->n_prompt_tokens ? (long)result->tokens[i] : -1;
    snprintf(what, sizeof what, "%u ids, expected %zu; id %zu is %ld, expected %ld",
             result->n_prompt_tokens, n, i, found,
             i < n ? (long)json_integer_value(json_array_get(want, i)) : -1L);
    offend(t, group, i_request, what);
}

static void values_check(tally *t, const golden *g, const json_t *group, const json_t *item,
                         const pr_result *result)
{
    const char *name = golden_string(group, "name");
    size_t i_request = (size_t)json_integer_value(json_object_get(item, "request"));
    const json_t *shape = json_object_get(item, "shape");
    json_int_t n_rows = json_integer_value(json_array_get(shape, 0));
    json_int_t n_columns = json_integer_value(json_array_get(shape, 1));
    json_int_t at = json_integer_value(json_object_get(item, "at"));
    char what[256];
    t->n_checked++;
    if (result->status != PR_OK) {
        snprintf(what, sizeof what, "%s", result->message ? result->message : "failed");
    } else if (result->n_rows != n_rows || result->n_columns != n_columns) {
        snprintf(what, sizeof what, "shape [%u, %u], expected [%lld, %lld]", result->n_rows,
                 result->n_columns, (long long)n_rows, (long long)n_columns);
    } else {
        double d = distance(result->data, g->values + at, (size_t)(n_rows * n_columns));
        double limit = bound - json_number_value(json_object_get(group, "float32_error"));
        if (!(d <= t->worst)) {
            t->worst = d;
            t->worst_group = name;
        }
        if (d <= limit) return;
        snprintf(what, sizeof what, "error %.3g, bound %.3g (first value %.7g, expected %.7g)", d,
                 limit, (double)result->data[0], (double)g->values[at]);
    }
    offend(t, name, i_request, what);
}

/* Ids of every request of a group; each request alone. */
static void group_check_ids(tally *t, pr_engine *engine, const golden *g, const json_t *group)
{
    const json_t *requests = json_object_get(g->json, "requests");
    const json_t *cases = json_object_get(group, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_int_t at = json_integer_value(json_object_get(json_array_get(cases, i), "request"));
        const json_t *request = json_array_get(requests, (size_t)at);
        golden_request asked;
        if (!golden_request_init(request, NULL, &asked)) exit(2);
        asked.request.tokenize_only = true;
        pr_result *result = golden_ask(engine, &asked.request);
        if (result)
            ids_check(t, golden_string(group, "name"), (size_t)at, json_object_get(request, "ids"),
                      result);
        else
            offend(t, golden_string(group, "name"), (size_t)at, "not taken");
        pr_result_free(result);
        golden_request_deinit(&asked);
    }
}

static pr_ticket *case_submit(tally *t, pr_engine *engine, const golden *g, const json_t *group,
                              const json_t *item)
{
    json_int_t at = json_integer_value(json_object_get(item, "request"));
    const json_t *request = json_array_get(json_object_get(g->json, "requests"), (size_t)at);
    golden_request asked;
    if (!golden_request_init(request, json_object_get(group, "params"), &asked)) exit(2);
    pr_ticket *ticket = NULL;
    pr_error error = {0};
    if (pr_engine_submit(engine, &asked.request, &ticket, &error) != PR_OK) {
        offend(t, golden_string(group, "name"), (size_t)at, error.message);
        ticket = NULL;
    }
    golden_request_deinit(&asked);
    return ticket;
}

/* The numbers of a group; all its requests in the queue together. */
static void group_check_values(tally *t, pr_engine *engine, const golden *g, const json_t *group)
{
    const json_t *cases = json_object_get(group, "cases");
    size_t n = json_array_size(cases);
    pr_ticket **tickets = calloc(n, sizeof *tickets);
    if (!tickets) exit(2);
    for (size_t i = 0; i < n; i++)
        tickets[i] = case_submit(t, engine, g, group, json_array_get(cases, i));
    for (size_t i = 0; i < n; i++) {
        pr_result *result = NULL;
        pr_error error = {0};
        if (!tickets[i]) continue;
        if (pr_engine_wait(engine, tickets[i], &result, &error) == PR_OK)
            values_check(t, g, group, json_array_get(cases, i), result);
        else
            offend(t, golden_string(group, "name"), i, error.message);
        pr_result_free(result);
    }
    free(tickets);
}

static bool group_applies(const json_t *group, const golden_setting *setting)
{
    const char *dtype = golden_string(json_object_get(group, "options"), "dtype");
    return strcmp(*dtype ? dtype : "float32", setting->dtype ? setting->dtype : "float32") == 0;
}

/* false when a number is off. Groups with the same options stand side by side and share an engine.
 * n_groups counts those that applied. */
static bool model_check(const golden *g, const golden_setting *setting, size_t *n_groups)
{
    const json_t *groups = json_object_get(g->json, "groups"), *opened = NULL;
    pr_engine *engine = NULL;
    tally t = {.model = golden_string(g->json, "model"), .worst_group = "-"};
    bool is_any = false;
    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *group = json_array_get(groups, i);
        const json_t *options = json_object_get(group, "options");
        if (!group_applies(group, setting)) continue;
        if (!opened || !json_equal(opened, options)) {
            pr_engine_close(engine);
            engine = golden_engine_open(g->folder, options, setting);
            opened = options;
        }
        is_any = true;
        *n_groups += 1;
        if (!engine) {
            offend(&t, golden_string(group, "name"), 0, "the engine does not open");
            continue;
        }
        group_check_ids(&t, engine, g, group);
        group_check_values(&t, engine, g, group);
    }
    pr_engine_close(engine);
    if (is_any)
        printf("%s %-22s worst error %.2e (%s), %zu answers, %zu failures\n",
               t.n_failed ? "FAIL" : "ok  ", t.model, t.worst, t.worst_group, t.n_checked,
               t.n_failed);
    return t.n_failed == 0;
}

static bool folder_check(const char *folder, const char *family, const golden_setting *setting,
                         size_t *n_groups)
{
    golden g;
    if (!golden_load(folder, &g)) return false;
    bool is_good = true;
    if ((!family || strcmp(family, golden_string(g.json, "family")) == 0) &&
        golden_ranks_fit(folder, setting))
        is_good = model_check(&g, setting, n_groups);
    golden_unload(&g);
    fflush(stdout);
    return is_good;
}

int main(int argc, char **argv)
{
    golden_setting setting = {0};
    const char *family = NULL;
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--cpu-isa") == 0)
            setting.cpu_isa = argv[i + 1];
        else if (strcmp(argv[i], "--dtype") == 0)
            setting.dtype = argv[i + 1];
        else if (strcmp(argv[i], "--matmul-precision") == 0)
            setting.precision = argv[i + 1];
        else if (strcmp(argv[i], "--bound") == 0)
            bound = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--threads") == 0)
            setting.threads = argv[i + 1];
#ifdef GOLDEN_HAS_RANKS
        else if (strcmp(argv[i], "--ranks") == 0)
            setting.ranks = argv[i + 1];
#endif
        else if (strcmp(argv[i], "--family") == 0)
            family = argv[i + 1];
        else
            break;
    }
    if (i >= argc || strncmp(argv[i], "--", 2) == 0) {
        printf("usage: parity_test [--cpu-isa ISA] [--dtype bfloat16] [--threads N] "
               "[--matmul-precision P] [--bound B] [--family NAME] [--ranks TPxPP] FOLDER…\n");
        return 2;
    }
    if (setting.cpu_isa && !golden_isa_runs_here(setting.cpu_isa)) {
        printf("SKIPPED: this processor has no %s\n", setting.cpu_isa);
        return GOLDEN_SKIPPED;
    }
    int n_bad = 0;
    size_t n_groups = 0;
    for (; i < argc; i++)
        if (!folder_check(argv[i], family, &setting, &n_groups)) n_bad++;
    if (n_groups == 0) printf("FAIL no golden answers for this family and dtype\n");
    return n_bad || n_groups == 0 ? 1 : 0;
}
