/* Counters and histograms of the service, as a scraper reads them. */
#include "metrics_text.h"
#include "runtime/base/file.h"
#include "server/service/metrics.h"
#include "server/service/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const routes[] = {"/v1/embeddings", "/score", "other"};
enum { EMBEDDINGS, SCORE, OTHER, N_ROUTES };

static const double batch_bounds[] = {64, 1024, 1048576};

static pr_metrics *created(void)
{
    pr_metrics *m = NULL;
    assert_int_equal(pr_metrics_create(routes, N_ROUTES, &m, NULL), PR_OK);
    return m;
}

static pr_metrics_now now_of(const pr_engine_stats *engine)
{
    return (pr_metrics_now){.engine = engine,
                            .version = "0.1.0",
                            .model = "m",
                            .device = "cpu",
                            .isa = "avx2",
                            .dtype = "float32",
                            .state = "ready"};
}

static metrics_text *rendered(const pr_metrics *m, const pr_metrics_now *now)
{
    pr_buffer out;
    pr_buffer_init(&out);
    pr_metrics_render(m, now, &out);
    assert_false(out.failed);
    metrics_text *t = metrics_text_read(pr_buffer_str(&out));
    pr_buffer_deinit(&out);
    return t;
}

/* Something of everything. */
static metrics_text *rendered_full(void)
{
    pr_metrics *m = created();
    const double seconds[PR_STAGE_COUNT] = {0.0002, 0.03, 0.004};
    pr_metrics_connections(m, 3);
    pr_metrics_request(m, EMBEDDINGS, 200, 0.2);
    pr_metrics_request(m, SCORE, 429, 0.001);
    pr_metrics_item(m, EMBEDDINGS, 17, seconds);
    pr_metrics_rejected(m, PR_E_OVERLOADED);
    pr_engine_stats engine = {.n_groups = 2,
                              .n_groups_ready = 1,
                              .n_batches = 1,
                              .batch_tokens = {.bounds = batch_bounds, .n_bounds = 3}};
    engine.groups[0] = (pr_engine_group){0, "ready", 1};
    engine.groups[1] = (pr_engine_group){1, "starting", 2};
    pr_histogram_add(&engine.batch_tokens, 17);
    pr_metrics_now now = now_of(&engine);
    metrics_text *t = rendered(m, &now);
    pr_metrics_free(m);
    return t;
}

static void before_the_first_request_the_text_is_whole(void **state)
{
    (void)state;
    pr_metrics *m = created();
    const pr_engine_stats engine = {0};
    pr_metrics_now now = now_of(&engine);
    now.device = now.isa = now.dtype = NULL; /* not loaded */
    now.state = "loading";
    metrics_text *t = rendered(m, &now);
    for (size_t i = 0; i < N_ROUTES; i++) {
        char key[100];
        snprintf(key, sizeof key, "poolrank_requests_total{route=\"%s\",code=\"200\"}", routes[i]);
        assert_true(metrics_text_value(t, key) == 0);
    }
    assert_true(metrics_text_value(t, "poolrank_state{state=\"loading\"}") == 1);
    assert_true(metrics_text_value(t, "poolrank_state{state=\"ready\"}") == 0);
    assert_true(metrics_text_has(t, "poolrank_build_info{version=\"0.1.0\",model=\"m\",device=\"\","
                                    "isa=\"\",dtype=\"\"}"));
    metrics_text_free(t);
    pr_metrics_free(m);
}

static void requests_are_counted_by_route_and_code(void **state)
{
    (void)state;
    pr_metrics *m = created();
    static const struct {
        size_t i_route;
        int code, n;
    } cases[] = {{EMBEDDINGS, 200, 3}, {EMBEDDINGS, 400, 1}, {SCORE, 200, 2}, {SCORE, 429, 4},
                 {OTHER, 404, 5},      {OTHER, 100, 1},      {OTHER, 599, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int k = 0; k < cases[i].n; k++) {
            pr_metrics_request(m, cases[i].i_route, cases[i].code, 0.01);
        }
    }
    const pr_engine_stats engine = {0};
    pr_metrics_now now = now_of(&engine);
    metrics_text *t = rendered(m, &now);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[100];
        snprintf(key, sizeof key, "poolrank_requests_total{route=\"%s\",code=\"%d\"}",
                 routes[cases[i].i_route], cases[i].code);
        assert_true(metrics_text_value(t, key) == cases[i].n);
    }
    assert_false(metrics_text_has(t, "poolrank_requests_total{route=\"/score\",code=\"400\"}"));
    assert_true(metrics_text_value(t, "poolrank_request_seconds_count{route=\"/score\"}") == 6);
    assert_true(metrics_text_value(t, "poolrank_request_seconds_count{route=\"other\"}") == 7);
    metrics_text_free(t);
    pr_metrics_free(m);
}

/* A value on a bound belongs below it. */
static void latencies_fall_into_their_buckets(void **state)
{
    (void)state;
    pr_metrics *m = created();
    static const double seconds[] = {0.00001, 0.0001, 0.00011, 0.25, 149, 151, 100000};
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        pr_metrics_request(m, SCORE, 200, seconds[i]);
    }
    const pr_engine_stats engine = {0};
    pr_metrics_now now = now_of(&engine);
    metrics_text *t = rendered(m, &now);
    static const struct {
        const char *le;
        int n;
    } cases[] = {{"0.0001", 2}, {"0.00025", 3}, {"0.1", 3}, {"0.25", 4},
                 {"60", 4},     {"150", 5},     {"+Inf", 7}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[100];
        snprintf(key, sizeof key, "poolrank_request_seconds_bucket{route=\"/score\",le=\"%s\"}",
                 cases[i].le);
        assert_true(metrics_text_value(t, key) == cases[i].n);
    }
    double sum = metrics_text_value(t, "poolrank_request_seconds_sum{route=\"/score\"}");
    assert_true(sum > 100300.25 && sum < 100300.2503);
    metrics_text_free(t);
    pr_metrics_free(m);
}

static void a_text_is_counted_in_the_stages_that_it_came_through(void **state)
{
    (void)state;
    pr_metrics *m = created();
    static const double whole[PR_STAGE_COUNT] = {0.001, 0.02, 0.3}, refused[PR_STAGE_COUNT] = {0.5};
    pr_metrics_item(m, EMBEDDINGS, 10, whole);
    pr_metrics_item(m, EMBEDDINGS, 5, whole);
    pr_metrics_item(m, SCORE, 0, refused);
    const pr_engine_stats engine = {0};
    pr_metrics_now now = now_of(&engine);
    metrics_text *t = rendered(m, &now);
    assert_true(metrics_text_value(t, "poolrank_prompt_tokens_total") == 15);
    assert_true(metrics_text_value(t, "poolrank_queue_wait_seconds_count") == 2);
    assert_true(metrics_text_value(t, "poolrank_queue_wait_seconds_sum") == 0.04);
#define STAGE(what, route, stage)                                                                  \
    "poolrank_request_stage_seconds_" what "{route=\"" route "\",stage=\"" stage "\"}"
    assert_true(metrics_text_value(t, STAGE("count", "/v1/embeddings", "tokenize")) == 2);
    assert_true(metrics_text_value(t, STAGE("count", "/v1/embeddings", "queue")) == 2);
    assert_true(metrics_text_value(t, STAGE("sum", "/v1/embeddings", "run")) == 0.6);
    assert_true(metrics_text_value(t, STAGE("sum", "/score", "tokenize")) == 0.5);
    assert_false(metrics_text_has(t, STAGE("count", "/score", "queue")));
    assert_false(metrics_text_has(t, STAGE("count", "/score", "run")));
#undef STAGE
    metrics_text_free(t);
    pr_metrics_free(m);
}

static void rejections_are_counted_by_the_status_name(void **state)
{
    (void)state;
    pr_metrics *m = created();
    for (int st = 1; st < PR_STATUS_COUNT; st++) {
        for (int k = 0; k < st; k++) pr_metrics_rejected(m, (pr_status)st);
    }
    const pr_engine_stats engine = {0};
    pr_metrics_now now = now_of(&engine);
    metrics_text *t = rendered(m, &now);
    for (int st = 1; st < PR_STATUS_COUNT; st++) {
        char key[100];
        snprintf(key, sizeof key, "poolrank_rejected_total{reason=\"%s\"}",
                 pr_status_describe((pr_status)st)->name);
        assert_true(metrics_text_value(t, key) == st);
    }
    metrics_text_free(t);
    pr_metrics_free(m);
}

static void the_engines_numbers_are_those_of_the_scrape(void **state)
{
    (void)state;
    pr_metrics *m = created();
    pr_engine_stats engine = {.n_requests = 9,
                              .n_queued = 7,
                              .n_tokens = 1234,
                              .tokens_per_s = 5678.5,
                              .n_batches = 42,
                              .n_groups = 2,
                              .n_groups_ready = 1,
                              .n_restarts = 3,
                              .batch_tokens = {.bounds = batch_bounds, .n_bounds = 3}};
    static const double tokens[] = {64, 65, 1048577};
    for (size_t i = 0; i < 3; i++) pr_histogram_add(&engine.batch_tokens, tokens[i]);
    engine.groups[0] = (pr_engine_group){4, "ready", 1};
    engine.groups[1] = (pr_engine_group){7, "starting", 4};
    pr_metrics_now now = now_of(&engine);
    now.n_calls = 5;
    now.uptime_s = 12.5;
    pr_metrics_connections(m, 1);
    pr_metrics_connections(m, 1);
    pr_metrics_connections(m, -1);
    metrics_text *t = rendered(m, &now);
    static const struct {
        const char *key;
        double value;
    } cases[] = {
        {"poolrank_queue_requests", 7},
        {"poolrank_running_requests", 2},
        {"poolrank_queue_tokens", 1234},
        {"poolrank_tokens_per_second", 5678.5},
        {"poolrank_batches_total", 42},
        {"poolrank_prefix_saved_tokens_total", 0},
        {"poolrank_batch_tokens_bucket{le=\"64\"}", 1},
        {"poolrank_batch_tokens_bucket{le=\"1024\"}", 2},
        {"poolrank_batch_tokens_bucket{le=\"1048576\"}", 2},
        {"poolrank_batch_tokens_bucket{le=\"+Inf\"}", 3},
        {"poolrank_batch_tokens_sum", 1048706},
        {"poolrank_group_state{group=\"4\",state=\"ready\"}", 1},
        {"poolrank_group_state{group=\"4\",state=\"starting\"}", 0},
        {"poolrank_group_state{group=\"7\",state=\"ready\"}", 0},
        {"poolrank_group_state{group=\"7\",state=\"starting\"}", 1},
        {"poolrank_groups_ready", 1},
        {"poolrank_group_restarts_total", 3},
        {"poolrank_open_requests", 5},
        {"poolrank_connections", 1},
        {"poolrank_uptime_seconds", 12.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(metrics_text_value(t, cases[i].key) == cases[i].value);
    }
    metrics_text_free(t);
    pr_metrics_free(m);
}

/* However many groups join, what is shown of them is bounded. */
static void groups_beyond_the_bound_are_not_shown(void **state)
{
    (void)state;
    pr_metrics *m = created();
    pr_engine_stats engine = {.n_groups = 1000, .n_groups_ready = 1000};
    for (uint32_t i = 0; i < PR_ENGINE_GROUPS_MAX; i++) {
        engine.groups[i] = (pr_engine_group){i, "ready", 1};
    }
    pr_metrics_now now = now_of(&engine);
    metrics_text *t = rendered(m, &now);
    assert_int_equal(metrics_text_family(t, "poolrank_group_state")->n_samples,
                     4 * PR_ENGINE_GROUPS_MAX);
    assert_true(metrics_text_value(t, "poolrank_groups_ready") == 1000);
    metrics_text_free(t);
    pr_metrics_free(m);
}

static void every_state_of_the_service_has_a_sample(void **state)
{
    (void)state;
    pr_metrics *m = created();
    const pr_engine_stats engine = {0};
    for (int k = 0; k < PR_SERVICE_STATE_COUNT; k++) {
        pr_metrics_now now = now_of(&engine);
        now.state = pr_service_state_name((pr_service_state)k);
        metrics_text *t = rendered(m, &now);
        assert_int_equal(metrics_text_family(t, "poolrank_state")->n_samples,
                         PR_SERVICE_STATE_COUNT);
        for (int i = 0; i < PR_SERVICE_STATE_COUNT; i++) {
            char key[100];
            snprintf(key, sizeof key, "poolrank_state{state=\"%s\"}",
                     pr_service_state_name((pr_service_state)i));
            assert_true(metrics_text_value(t, key) == (i == k));
        }
        metrics_text_free(t);
    }
    pr_metrics_free(m);
}

static void label_values_are_escaped(void **state)
{
    (void)state;
    pr_metrics *m = created();
    const pr_engine_stats engine = {0};
    pr_metrics_now now = now_of(&engine);
    now.model = "/a \"b\"\\c\nd\xFF\xC3\xA9\xC3";
    metrics_text *t = rendered(m, &now);
    assert_true(metrics_text_has(
        t, "poolrank_build_info{version=\"0.1.0\",model=\"/a \\\"b\\\"\\\\c\\nd?\xC3\xA9?\","
           "device=\"cpu\",isa=\"avx2\",dtype=\"float32\"}"));
    metrics_text_free(t);
    pr_metrics_free(m);
}

static void the_process_is_measured(void **state)
{
    (void)state;
    metrics_text *t = rendered_full();
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    metrics_text *more = rendered_full();
    close(fds[0]);
    close(fds[1]);
    assert_true(metrics_text_value(more, "process_open_fds") -
                    metrics_text_value(t, "process_open_fds") ==
                2);
    assert_true(metrics_text_value(t, "process_resident_memory_bytes") > 100000);
    assert_true(metrics_text_value(more, "process_cpu_seconds_total") >=
                metrics_text_value(t, "process_cpu_seconds_total"));
    double age_s = (double)time(NULL) - metrics_text_value(t, "process_start_time_seconds");
    assert_true(age_s > -2 && age_s < 60);
    metrics_text_free(t);
    metrics_text_free(more);
}

/* ---- the document ---- */

/* The contents of `…` at *at, which moves behind; "" when there is none before the next bar. */
static void quoted_read(const char **at, char *out, size_t n_out)
{
    const char *open = *at + strcspn(*at, "`|\n");
    out[0] = '\0';
    if (*open != '`') return;
    size_t n = strcspn(open + 1, "`\n");
    assert_true(n < n_out);
    memcpy(out, open + 1, n);
    out[n] = '\0';
    *at = open + 1 + n + 1;
}

/* One row: | `name` | type | `label`, `label` | … */
static void row_check(const char *row, const metrics_text *t)
{
    char name[80], label[40], labels[128] = "";
    const char *at = row;
    at++;
    quoted_read(&at, name, sizeof name);
    const metrics_family *f = metrics_text_family(t, name);
    if (!f) fail_msg("docs/operations.md has %s, which is not there", name);
    at += strcspn(at, "|") + 2;
    if (strncmp(at, f->type, strlen(f->type)) != 0) fail_msg("%s is a %s", name, f->type);
    at += strcspn(at, "|") + 1;
    for (quoted_read(&at, label, sizeof label); *label; quoted_read(&at, label, sizeof label)) {
        size_t n = strlen(labels);
        snprintf(labels + n, sizeof labels - n, "%s%s", n ? "," : "", label);
    }
    if (strcmp(labels, f->labels) != 0) {
        fail_msg("%s: labels: found %s in docs/operations.md, expected %s", name, labels,
                 f->labels);
    }
}

static void names_types_and_labels_are_those_of_the_document(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n_text = 0, n_rows = 0;
    pr_error err;
    if (pr_file_read(PR_TESTS_DIR "/../docs/operations.md", 1 << 20, &text, &n_text, &err) !=
        PR_OK) {
        fail_msg("%s", err.message);
    }
    metrics_text *t = rendered_full();
    for (const char *row = text; row && row < text + n_text; row = strchr(row, '\n')) {
        if (*row == '\n') row++;
        bool is_metric =
            strncmp(row, "| `poolrank_", 12) == 0 || strncmp(row, "| `process_", 11) == 0;
        if (!is_metric) continue;
        row_check(row, t);
        n_rows++;
    }
    for (size_t i = 0; i < t->n_families; i++) {
        char row[100];
        snprintf(row, sizeof row, "\n| `%s` |", t->families[i].name);
        if (!strstr(text, row)) fail_msg("docs/operations.md lacks %s", t->families[i].name);
    }
    assert_int_equal(n_rows, t->n_families);
    metrics_text_free(t);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_first_request_the_text_is_whole),
        cmocka_unit_test(requests_are_counted_by_route_and_code),
        cmocka_unit_test(latencies_fall_into_their_buckets),
        cmocka_unit_test(a_text_is_counted_in_the_stages_that_it_came_through),
        cmocka_unit_test(rejections_are_counted_by_the_status_name),
        cmocka_unit_test(the_engines_numbers_are_those_of_the_scrape),
        cmocka_unit_test(groups_beyond_the_bound_are_not_shown),
        cmocka_unit_test(every_state_of_the_service_has_a_sample),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(the_process_is_measured),
        cmocka_unit_test(names_types_and_labels_are_those_of_the_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
