/* server/http/http_exchange.h: bodies to calls, results to answers, without engine and transport.
 * Numbers and every route's shape are held by tests/service/test_http_api.py; here is what a
 * running server does not show: the calls, and what comes back on any result. */
#include "fakes/fake_model_service.h"

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "server/http/http_params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <math.h>

typedef struct fixture {
    pr_service service;
    pr_http_exchange x;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (!f) return -1;
    fake_service_init(&f->service, PR_POOL_STEP);
    pr_http_exchange_init(&f->x, &f->service, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    pr_http_exchange_deinit(&f->x);
    fake_service_deinit(&f->service);
    free(f);
    return 0;
}

/* A fresh exchange with this request, parsed. */
static bool post(fixture *f, const char *path, const char *body)
{
    pr_http_exchange *x = &f->x;
    pr_http_exchange_deinit(x);
    pr_http_exchange_init(x, &f->service, NULL);
    strcpy(x->call.id, "id1");
    x->method = "POST";
    x->path = path;
    x->body = body;
    x->n_body = strlen(body);
    assert_true(pr_http_exchange_route(x));
    assert_true(pr_http_route_has_call(x->route));
    return pr_http_exchange_parse(x);
}

static const char *body_of(fixture *f)
{
    return pr_buffer_str(&f->x.answer.body);
}

static void assert_answer(fixture *f, int status, const char *part)
{
    json_t *json = NULL;
    assert_int_equal(f->x.answer.status, status);
    assert_int_equal(
        pr_json_parse(f->x.answer.body.data, f->x.answer.body.n, "answer", &json, NULL), PR_OK);
    json_decref(json);
    if (!strstr(body_of(f), part)) fail_msg("found %s, expected %s in it", body_of(f), part);
}

static const char *header_of(const fixture *f, const char *name)
{
    for (size_t i = 0; i < f->x.answer.n_headers; i++) {
        if (strcmp(f->x.answer.headers[i].name, name) == 0) return f->x.answer.headers[i].value;
    }
    return NULL;
}

static void parameters_reach_every_item(void **state)
{
    fixture *f = *state;
    assert_true(post(f, "/v1/embeddings",
                     "{\"input\":[\"a\\u0000b\",\"c\"],\"dimensions\":7,\"normalize\":false,"
                     "\"use_activation\":true,\"truncate_prompt_tokens\":-1,\"truncation_side\":"
                     "\"left\",\"add_special_tokens\":false,\"priority\":-3,\"timeout\":1.5,"
                     "\"request_id\":\"r\"}"));
    assert_int_equal(f->x.call.n_items, 2);
    for (size_t i = 0; i < 2; i++) {
        const pr_request *r = &f->x.call.items[i];
        assert_int_equal(r->task, PR_TASK_EMBED);
        assert_int_equal(r->dimensions, 7);
        assert_int_equal(r->normalize, 0);
        assert_int_equal(r->use_activation, 1);
        assert_int_equal(r->softmax, -1);
        assert_int_equal(r->truncate_prompt_tokens, -1);
        assert_int_equal(r->truncation_side, 1);
        assert_int_equal(r->add_special_tokens, 0);
    }
    assert_int_equal(f->x.call.items[0].n_text, 3);
    assert_int_equal(f->x.call.priority, -3);
    assert_int_equal(f->x.call.timeout_ms, 1500);
    assert_int_equal(f->x.call.wait_ms, 0);
    assert_string_equal(f->x.call.id, "r");
}

/* docs/http-api.md has the table; null is as if the key were not there, whatever it is. */
static void what_other_servers_clients_send_does_what_they_mean(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *path, *body, *refused; /* NULL: taken */
    } cases[] = {
        {"/v1/embeddings", "{\"input\":\"a\",\"foo\":null}", NULL},
        {"/v1/embeddings", "{\"input\":\"a\",\"foo\":1}", "unknown parameter"},
        {"/v1/embeddings/", "{\"input\":[{\"text\":\"a\"},\"b\"],\"embedding_type\":\"float\"}",
         NULL},
        {"/embeddings", "{\"input\":[{\"image\":\"a\"}]}", "input[0]"},
        {"/v1/embeddings", "{\"input\":\"a\",\"late_chunking\":false}", NULL},
        {"/v1/embeddings", "{\"input\":\"a\",\"late_chunking\":true}", "late chunking"},
        {"/v1/embeddings", "{\"input\":\"a\",\"input_type\":\"query\"}", "prompts"},
        {"/v1/embeddings", "{\"input\":\"a\",\"output_dtype\":\"int8\"}", "output_dtype"},
        {"/rerank", "{\"query\":\"q\",\"documents\":[\"d\"],\"rank_fields\":[\"text\"]}", NULL},
        {"/rerank", "{\"query\":\"q\",\"documents\":[\"d\"],\"rank_fields\":[\"t\"]}",
         "rank_fields"},
        {"/rerank", "{\"query\":\"q\",\"documents\":[\"d\"],\"max_tokens_per_doc\":512}", NULL},
        {"/rerank", "{\"query\":\"q\",\"documents\":[\"d\"],\"max_tokens_per_doc\":511}",
         "max_tokens_per_doc"},
        {"/v1/rerank",
         "{\"query\":\"q\",\"documents\":[\"d\"],\"kwargs\":\"{}\",\"return_len\":null,"
         "\"max_chunks_per_doc\":3}",
         NULL},
        {"/v1/embed", "{\"texts\":[\"a\"],\"embedding_types\":[\"int4\"]}", "embedding_types"},
        {"/v2/embed", "{\"inputs\":[{\"content\":[]}]}", "one text each"},
        {"/embed", "{\"inputs\":\"a\",\"parameters\":{\"normalize\":false},\"options\":{}}", NULL},
        {"/embed", "{\"inputs\":\"a\",\"parameters\":{\"parameters\":{}}}", "parameters"},
        {"/embed", "{\"inputs\":\"a\",\"parameters\":{\"foo\":2}}", "unknown parameter"},
        {"/predict", "{\"inputs\":[[\"a\"],[\"a\",\"b\"]]}", NULL},
        {"/predict", "{\"inputs\":[[\"a\",\"b\",\"a\"]]}", "found 3 texts"},
        {"/invocations", "{\"input\":\"a\"}", NULL},
        {"/invocations", "{\"query\":\"a\",\"documents\":[\"b\"]}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool is_taken = post(f, cases[i].path, cases[i].body);
        if (is_taken != !cases[i].refused) fail_msg("%s: %s", cases[i].body, body_of(f));
        if (!is_taken) assert_answer(f, 400, cases[i].refused);
    }
    assert_true(post(f, "/v1/classify", "{\"input\":\"a\",\"activation\":false}"));
    assert_int_equal(f->x.call.items[0].use_activation, 0);
    assert_true(post(f, "/embed", "{\"inputs\":\"a\",\"parameters\":{\"normalize\":false}}"));
    assert_int_equal(f->x.call.items[0].normalize, 0);
    assert_true(post(f, "/rerank", "{\"query\":\"q\",\"documents\":[\"d\"],\"top_k\":1}"));
    assert_int_equal(f->x.params->top_n, 1);
    assert_true(post(f, "/", "{\"inputs\":{\"query\":\"q\",\"texts\":[\"d\",\"e\"]}}"));
    assert_int_equal(f->x.call.n_items, 2);
    assert_int_equal(f->x.call.items[1].task, PR_TASK_SCORE);
    f->service.model.task = PR_TASK_EMBED; /* the name outlives the object that the texts are in */
    f->service.model.spec.head = PR_HEAD_NONE;
    assert_true(
        post(f, "/similarity",
             "{\"model\":\"other\",\"inputs\":{\"source_sentence\":\"a\",\"sentences\":[\"b\"]}}"));
    assert_string_equal(f->x.params->model_name, "other");
    assert_false(post(f, "/similarity", "{\"inputs\":{\"source_sentence\":\"a\"}}"));
}

static void a_model_with_a_head_says_where_its_numbers_are(void **state)
{
    fixture *f = *state;
    f->service.model.is_served[PR_TASK_EMBED] = false;
    f->service.model.task = PR_TASK_CLASSIFY;
    assert_false(post(f, "/v1/embeddings", "{\"input\":\"a\"}"));
    assert_answer(f, 400, "POST /classify");
    f->service.model.task = PR_TASK_REWARD; /* verl asks SGLang's engine so */
    assert_true(post(f, "/v1/embeddings", "{\"input\":\"a\"}"));
    assert_int_equal(f->x.call.items[0].task, PR_TASK_REWARD);
    assert_true(f->x.call.items[0].last_row_only);
    assert_true(post(f, "/", "{\"inputs\":\"a\"}"));
    assert_int_equal(f->x.call.items[0].task, PR_TASK_CLASSIFY);
}

static void get_reward_waits_for_room_and_takes_the_texts_as_they_are(void **state)
{
    fixture *f = *state;
    assert_true(post(f, "/get_reward", "{\"query\":[\"a\"],\"prompts\":[],\"labels\":null}"));
    const pr_request *r = &f->x.call.items[0];
    assert_int_equal(f->x.call.wait_ms, 150000);
    assert_int_equal(r->task, PR_TASK_REWARD);
    assert_int_equal(r->truncate_prompt_tokens, -1);
    assert_int_equal(r->add_special_tokens, 0);
    assert_true(r->last_row_only);
    assert_true(post(f, "/get_reward", "{\"query\":[\"a\"],\"reduce\":\"min\"}"));
    assert_false(f->x.call.items[0].last_row_only);
    f->service.model.spec.head = PR_HEAD_NONE;
    assert_false(post(f, "/get_reward", "{\"query\":[\"a\"]}"));
    assert_answer(f, 400, "no reward head");
}

static void a_model_whose_tokens_all_have_rows_is_refused_where_there_is_one(void **state)
{
    fixture *f = *state;
    f->service.model.poolings[PR_TASK_EMBED].type = PR_POOL_ALL;
    assert_false(post(f, "/v1/embeddings", "{\"input\":\"a\"}"));
    assert_answer(f, 400, "pooling ALL gives several rows");
    assert_true(post(f, "/pooling", "{\"input\":\"a\"}"));
}

static void a_call_that_failed_is_the_answer(void **state)
{
    fixture *f = *state;
    assert_true(post(f, "/v1/embeddings", "{\"input\":[\"a\"]}"));
    pr_error_set(&f->x.call.error, PR_E_OVERLOADED, "the queue is full");
    f->x.call.retry_after_s = 9;
    pr_http_exchange_format(&f->x);
    assert_answer(f, 429, "\"type\":\"OverloadedError\"");
    assert_string_equal(header_of(f, "Retry-After"), "9");
}

static void the_first_failed_item_fails_the_request(void **state)
{
    fixture *f = *state;
    assert_true(post(f, "/v1/embeddings", "{\"input\":[\"a\",\"b\",\"c\"]}"));
    fake_results(&f->x);
    f->x.call.results[0] = fake_result(1, 2, false, 0);
    f->x.call.results[1] = fake_failure(PR_E_INPUT, "no \xff tokens");
    f->x.call.results[2] = fake_failure(PR_E_INTERNAL, "never told");
    pr_http_exchange_format(&f->x);
    assert_answer(f, 400, "input[1]: no \xEF\xBF\xBD tokens");
}

static void a_group_that_was_lost_is_unavailable_and_may_be_tried_again(void **state)
{
    fixture *f = *state;
    assert_true(post(f, "/score", "{\"text_1\":\"a\",\"text_2\":[\"b\"]}"));
    fake_results(&f->x);
    f->x.call.results[0] = fake_failure(PR_E_UNAVAILABLE, "the group is gone");
    pr_http_exchange_format(&f->x);
    assert_answer(f, 503, "\"param\":null");
    assert_string_equal(header_of(f, "Retry-After"), "1");
}

static void numbers_that_are_none_are_ranked_last_and_written_null(void **state)
{
    fixture *f = *state;
    assert_true(post(f, "/rerank",
                     "{\"query\":\"q\",\"documents\":[\"a\",\"b\",\"c\",\"d\"],"
                     "\"return_documents\":false}"));
    fake_results(&f->x);
    const float scores[] = {NAN, 0.5f, -INFINITY, 0.5f};
    for (size_t i = 0; i < 4; i++) f->x.call.results[i] = fake_result(1, 1, false, scores[i]);
    pr_http_exchange_format(&f->x);
    assert_answer(f, 200,
                  "\"results\":[{\"index\":1,\"relevance_score\":0.5},{\"index\":3,"
                  "\"relevance_score\":0.5},{\"index\":2,\"relevance_score\":null},{\"index\":0,"
                  "\"relevance_score\":null}]");
}

static void an_answer_may_be_formatted_before_the_model_was_known_to_parse(void **state)
{
    fixture *f = *state;
    f->service.names.model = NULL;
    assert_true(post(f, "/get_reward", "{\"query\":\"a\"}"));
    assert_null(f->x.model);
    f->service.names.model = &f->service.model;
    fake_results(&f->x);
    f->x.call.results[0] = fake_result(1, 2, true, 0.5f);
    pr_http_exchange_format(&f->x);
    assert_answer(f, 200,
                  "{\"rewards\":[0.625],\"scores\":[0.625],\"extra_logs\":"
                  "{\"dummy_scores\":[0.625]}}");
}

static void base64_has_every_length(void **state)
{
    fixture *f = *state;
    for (uint32_t n = 1; n < 2000; n += n < 10 ? 1 : 251) {
        assert_true(post(f, "/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"base64\"}"));
        fake_results(&f->x);
        f->x.call.results[0] = fake_result(1, n, false, 1);
        pr_http_exchange_format(&f->x);
        assert_answer(f, 200, "\"embedding\":\"AACAP"); /* 1.0f, little-endian */
        const char *at = strstr(body_of(f), "AACAP");
        assert_int_equal(strcspn(at, "\""), (n * 4 + 2) / 3 * 4);
    }
}

static void health_follows_the_state(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < PR_SERVICE_STATE_COUNT; i++) {
        f->service.state = (pr_service_state)i;
        pr_http_exchange_deinit(&f->x);
        pr_http_exchange_init(&f->x, &f->service, NULL);
        f->x.method = "GET";
        f->x.path = "/readyz";
        assert_true(pr_http_exchange_route(&f->x));
        assert_false(pr_http_route_needs_key(f->x.route));
        assert_false(pr_http_route_has_call(f->x.route));
        assert_true(pr_http_exchange_parse(&f->x));
        assert_answer(f, i == PR_SERVICE_READY ? 200 : 503,
                      pr_service_state_name((pr_service_state)i));
    }
}

static void all_routes_but_health_need_a_key(void **state)
{
    fixture *f = *state;
    size_t n, n_open = 0;
    const char *const *labels = pr_http_route_labels(&n);
    assert_string_equal(labels[n - 1], "other");
    for (size_t i = 0; i + 1 < n; i++) {
        pr_http_exchange x;
        pr_http_exchange_init(&x, &f->service, NULL);
        x.path = labels[i];
        x.method = "GET";
        if (!pr_http_exchange_route(&x)) {
            x.answer.n_headers = 0;
            x.method = "POST";
            assert_true(pr_http_exchange_route(&x));
        }
        assert_int_equal(x.i_route, i);
        assert_string_equal(pr_http_route_label(x.route), labels[i]);
        n_open += !pr_http_route_needs_key(x.route);
        pr_http_exchange_deinit(&x);
    }
    assert_int_equal(n_open, 4); /* /health /ping /readyz /livez */
}

static void the_metrics_port_knows_one_path(void **state)
{
    fixture *f = *state;
    f->x.is_metrics_port = true;
    f->x.method = "GET";
    f->x.path = "/v1/models";
    assert_false(pr_http_exchange_route(&f->x));
    assert_answer(f, 404, "/v1/models");
    f->x.path = "/metrics";
    assert_true(pr_http_exchange_route(&f->x));
}

static void bad_json_is_told_without_its_text(void **state)
{
    fixture *f = *state;
    assert_false(post(f, "/pooling", "{\"input\":\"a\" secret}"));
    assert_answer(f, 400, "not JSON");
    assert_null(strstr(body_of(f), "secret"));
}

/* Prints what the two halves of a request cost; the bound only finds what is badly wrong. */
static void one_text_is_parsed_and_formatted_in_microseconds(void **state)
{
    enum { N = 2000, N_COLUMNS = 384 };
    fixture *f = *state;
    uint64_t total_ns = 0;
    for (int i = 0; i < N; i++) {
        uint64_t begin_ns = pr_clock_ns();
        assert_true(
            post(f, "/v1/embeddings", "{\"model\":\"m\",\"input\":\"a text of some words\"}"));
        total_ns += pr_clock_ns() - begin_ns;
        fake_results(&f->x);
        pr_result *r = f->x.call.results[0] = fake_result(1, N_COLUMNS, false, 0);
        for (int k = 0; k < N_COLUMNS; k++) r->data[k] = sinf((float)(i + k)) * 0.1f;
        begin_ns = pr_clock_ns();
        pr_http_exchange_format(&f->x);
        total_ns += pr_clock_ns() - begin_ns;
    }
    print_message("parse and format: %.1f us\n", (double)total_ns / N / 1000);
    assert_true(total_ns / N < 5000 * 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(parameters_reach_every_item),
        TEST(what_other_servers_clients_send_does_what_they_mean),
        TEST(a_model_with_a_head_says_where_its_numbers_are),
        TEST(get_reward_waits_for_room_and_takes_the_texts_as_they_are),
        TEST(a_model_whose_tokens_all_have_rows_is_refused_where_there_is_one),
        TEST(a_call_that_failed_is_the_answer),
        TEST(the_first_failed_item_fails_the_request),
        TEST(a_group_that_was_lost_is_unavailable_and_may_be_tried_again),
        TEST(numbers_that_are_none_are_ranked_last_and_written_null),
        TEST(an_answer_may_be_formatted_before_the_model_was_known_to_parse),
        TEST(base64_has_every_length),
        TEST(health_follows_the_state),
        TEST(all_routes_but_health_need_a_key),
        TEST(the_metrics_port_knows_one_path),
        TEST(bad_json_is_told_without_its_text),
        TEST(one_text_is_parsed_and_formatted_in_microseconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
