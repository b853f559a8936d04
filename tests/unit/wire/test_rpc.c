/* Messages of the socket protocol survive the way; what a client may not send is refused by
 * name. */
#include "runtime/wire/frame.h"
#include "runtime/wire/msgpack_write.h"
#include "runtime/wire/rpc_answer.h"
#include "runtime/wire/rpc_info.h"
#include "runtime/wire/rpc_request.h"
#include "runtime/wire/rpc_rows.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *payload_of(const pr_buffer *frame, size_t *n)
{
    *n = frame->n - PR_FRAME_HEADER_BYTES;
    return frame->data + PR_FRAME_HEADER_BYTES;
}

static void assert_text(const char *s, size_t n, const char *expected)
{
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(s, expected, n);
}

/* ---- requests ---- */

static void a_request_with_everything_survives_the_way(void **state)
{
    (void)state;
    const int32_t ids[] = {5, -1, 70000}, returned[] = {1, 0};
    pr_rpc_item items[] = {{.text = "a", .n_text = 1},
                           {.text = "q", .n_text = 1, .pair = "d\0d", .n_pair = 3},
                           {.tokens = ids, .n_tokens = 3},
                           {.tokens = ids, .n_tokens = 0}};
    pr_rpc_request q = {.kind = PR_RPC_ENCODE, .id = UINT64_MAX, .items = items, .n_items = 4};
    pr_rpc_params_init(&q.params);
    q.request_id = q.model = "name";
    q.n_request_id = q.n_model = 4;
    q.params.task = PR_TASK_REWARD;
    q.params.request.truncate_prompt_tokens = -1;
    q.params.request.truncation_side = 1;
    q.params.request.add_special_tokens = 0;
    q.params.request.normalize = 1;
    q.params.request.softmax = 0;
    q.params.request.use_activation = 1;
    q.params.request.dimensions = 12;
    q.params.request.step_tag_id = 0;
    q.params.request.returned_token_ids = returned;
    q.params.request.n_returned_token_ids = 2;
    q.params.request.priority = -7;
    q.params.timeout_ms = 1000;
    q.params.wait_ms = 2000;
    q.params.format = PR_RPC_INT8;
    q.params.per_item = true;
    pr_buffer frame;
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_request_pack(&q, &frame, NULL), PR_OK);
    size_t n;
    const char *payload = payload_of(&frame, &n);
    pr_rpc_head head;
    assert_int_equal(pr_rpc_head_read(payload, n, &head, NULL), PR_OK);
    assert_int_equal(head.kind, PR_RPC_ENCODE);
    assert_true(head.has_id && head.id == UINT64_MAX);
    pr_rpc_request got;
    pr_error err;
    assert_int_equal(pr_rpc_request_unpack(payload, n, head.kind, 4, &got, &err), PR_OK);
    assert_int_equal(got.n_items, 4);
    assert_text(got.items[0].text, got.items[0].n_text, "a");
    assert_null(got.items[0].pair);
    assert_int_equal(got.items[1].n_pair, 3);
    assert_null(got.items[2].text);
    assert_int_equal(got.items[2].n_tokens, 3);
    assert_memory_equal(got.items[2].tokens, ids, sizeof ids);
    assert_non_null(got.items[3].tokens); /* none, and yet tokens */
    assert_int_equal(got.params.request.n_returned_token_ids, 2);
    assert_memory_equal(got.params.request.returned_token_ids, returned, sizeof returned);
    got.params.request.returned_token_ids = q.params.request.returned_token_ids;
    assert_memory_equal(&got.params, &q.params, offsetof(pr_rpc_params, format));
    assert_int_equal(got.params.format, PR_RPC_INT8);
    assert_true(got.params.per_item);
    assert_text(got.model, got.n_model, "name");
    assert_text(got.request_id, got.n_request_id, "name");
    pr_rpc_request_deinit(&got);
    pr_buffer_deinit(&frame);
}

static void a_query_stands_in_front_of_every_item(void **state)
{
    (void)state;
    pr_rpc_item items[] = {{.text = "d1", .n_text = 2}, {.text = "d2", .n_text = 2}};
    pr_rpc_request q = {.kind = PR_RPC_SCORE, .query = "q", .n_query = 1, .items = items,
                        .n_items = 2}, got;
    pr_rpc_params_init(&q.params);
    pr_buffer frame;
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_request_pack(&q, &frame, NULL), PR_OK);
    size_t n;
    const char *payload = payload_of(&frame, &n);
    assert_int_equal(pr_rpc_request_unpack(payload, n, PR_RPC_SCORE, 2, &got, NULL), PR_OK);
    assert_text(got.items[1].text, got.items[1].n_text, "q");
    assert_text(got.items[1].pair, got.items[1].n_pair, "d2");
    pr_rpc_request_deinit(&got);
    pr_buffer_deinit(&frame);
}

/* A request as short words: 's' a string, 'i' an integer, 'b' true, 'n' nil, '[' the list of one
 * text, '0' an empty list, '{' an empty map, 'p' a list with a triple, 't' a list with a bin of
 * 3 bytes. */
static void value_write(pr_buffer *out, char what)
{
    switch (what) {
    case 's': pr_msgpack_write_text(out, "word"); break;
    case 'i': pr_msgpack_write_i64(out, -2); break;
    case 'b': pr_msgpack_write_bool(out, true); break;
    case 'n': pr_msgpack_write_nil(out); break;
    case '0': pr_msgpack_write_array(out, 0); break;
    case '{': pr_msgpack_write_map(out, 0); break;
    case '[':
        pr_msgpack_write_array(out, 1);
        pr_msgpack_write_text(out, "text");
        break;
    case 'p':
        pr_msgpack_write_array(out, 1);
        pr_msgpack_write_array(out, 3);
        for (int i = 0; i < 3; i++) pr_msgpack_write_text(out, "text");
        break;
    case 't':
        pr_msgpack_write_array(out, 1);
        pr_msgpack_write_bin(out, "abc", 3);
        break;
    default: fail();
    }
}

static void what_a_client_may_not_send_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        pr_rpc_kind kind;
        const char *key;
        char value;
        pr_status status;
        const char *says;
    } cases[] = {
        {PR_RPC_EMBED, "dimensoins", 'i', PR_E_ARGUMENT, "dimensoins"},
        {PR_RPC_EMBED, "", 'i', PR_E_ARGUMENT, "no such key"},
        {PR_RPC_EMBED, "reduce", 's', PR_E_ARGUMENT, "reduce"},
        {PR_RPC_SCORE, "format", 's', PR_E_ARGUMENT, "format"},
        {PR_RPC_EMBED, "query", 's', PR_E_ARGUMENT, "query"},
        {PR_RPC_EMBED, "items", '[', PR_E_ARGUMENT, "items: found it twice"},
        {PR_RPC_EMBED, "dimensions", 'i', PR_E_INPUT, "dimensions: found -2"},
        {PR_RPC_EMBED, "truncate_prompt_tokens", 'i', PR_E_INPUT, "truncate_prompt_tokens"},
        {PR_RPC_EMBED, "truncation_side", 's', PR_E_INPUT, "left or right"},
        {PR_RPC_EMBED, "add_special_tokens", 'i', PR_E_INPUT, "expected a bool"},
        {PR_RPC_EMBED, "normalize", 's', PR_E_INPUT, "normalize"},
        {PR_RPC_EMBED, "timeout_ms", 'i', PR_E_INPUT, "timeout_ms"},
        {PR_RPC_EMBED, "wait_ms", 'b', PR_E_INPUT, "wait_ms"},
        {PR_RPC_EMBED, "priority", 's', PR_E_INPUT, "priority"},
        {PR_RPC_EMBED, "model", 'i', PR_E_INPUT, "model"},
        {PR_RPC_EMBED, "request_id", '{', PR_E_INPUT, "request_id"},
        {PR_RPC_EMBED, "format", 's', PR_E_INPUT, "f32, f16 or int8"},
        {PR_RPC_EMBED, "on_error", 's', PR_E_INPUT, "all or per_item"},
        {PR_RPC_ENCODE, "task", 's', PR_E_INPUT, "classify"},
        {PR_RPC_REWARD, "reduce", 's', PR_E_INPUT, "product"},
        {PR_RPC_REWARD, "step_tag_id", 'i', PR_E_INPUT, "step_tag_id"},
        {PR_RPC_REWARD, "returned_token_ids", '0', PR_E_INPUT, "returned_token_ids"},
        {PR_RPC_REWARD, "returned_token_ids", '[', PR_E_INPUT, "returned_token_ids"},
        {PR_RPC_PING, "items", '[', PR_E_ARGUMENT, "items"},
        {PR_RPC_CANCEL, "request_id", 's', PR_E_ARGUMENT, "request_id"},
        {PR_RPC_TOKENIZE, "normalize", 'b', PR_E_ARGUMENT, "normalize"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_buffer out;
        pr_rpc_request got;
        pr_error err = {0};
        bool has_items = pr_rpc_kind_has_items(cases[i].kind);
        pr_buffer_init(&out);
        pr_msgpack_write_map(&out, has_items ? 3 : 2);
        pr_msgpack_write_text(&out, "id");
        pr_msgpack_write_u64(&out, 1);
        if (has_items) {
            pr_msgpack_write_text(&out, "items");
            value_write(&out, '[');
        }
        pr_msgpack_write_text(&out, cases[i].key);
        value_write(&out, cases[i].value);
        pr_status st = pr_rpc_request_unpack(out.data, out.n, cases[i].kind, 10, &got, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].says)) {
            fail_msg("%s: status %d, %s", cases[i].key, (int)st, err.message);
        }
        pr_buffer_deinit(&out);
    }
}

static void items_that_are_none_are_refused(void **state)
{
    (void)state;
    static const struct {
        char value;
        pr_rpc_kind kind;
        const char *says;
    } cases[] = {{'n', PR_RPC_EMBED, "expected an array"}, {'0', PR_RPC_EMBED, "found 0 elements"},
                 {'s', PR_RPC_EMBED, "expected an array"}, {'p', PR_RPC_EMBED, "item 0"},
                 {'t', PR_RPC_EMBED, "3 bytes"},           {'[', PR_RPC_DETOKENIZE, "token ids"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_buffer out;
        pr_rpc_request got;
        pr_error err = {0};
        pr_buffer_init(&out);
        pr_msgpack_write_map(&out, 2);
        pr_msgpack_write_text(&out, "id");
        pr_msgpack_write_u64(&out, 1);
        pr_msgpack_write_text(&out, "items");
        value_write(&out, cases[i].value);
        assert_int_equal(pr_rpc_request_unpack(out.data, out.n, cases[i].kind, 10, &got, &err),
                         PR_E_INPUT);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s", err.message);
        pr_buffer_deinit(&out);
    }
}

static void parameters_that_are_nil_are_not_given(void **state)
{
    (void)state;
    pr_buffer out;
    pr_rpc_request got;
    pr_buffer_init(&out);
    pr_msgpack_write_map(&out, 4);
    pr_msgpack_write_text(&out, "dimensions");
    pr_msgpack_write_nil(&out);
    pr_msgpack_write_text(&out, "items");
    value_write(&out, '[');
    pr_msgpack_write_text(&out, "format");
    pr_msgpack_write_nil(&out);
    pr_msgpack_write_text(&out, "id");
    pr_msgpack_write_u64(&out, 1);
    assert_int_equal(pr_rpc_request_unpack(out.data, out.n, PR_RPC_EMBED, 1, &got, NULL), PR_OK);
    assert_int_equal(got.params.request.dimensions, 0);
    assert_int_equal(got.params.format, PR_RPC_F32);
    pr_rpc_request_deinit(&got);
    pr_buffer_deinit(&out);
}

static void a_request_of_too_many_items_is_too_large(void **state)
{
    (void)state;
    pr_rpc_item items[3] = {{.text = "", .n_text = 0}, {.text = ""}, {.text = ""}};
    pr_rpc_request q = {.kind = PR_RPC_EMBED, .items = items, .n_items = 3}, got;
    pr_error err;
    pr_rpc_params_init(&q.params);
    pr_buffer frame;
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_request_pack(&q, &frame, NULL), PR_OK);
    size_t n;
    const char *payload = payload_of(&frame, &n);
    assert_int_equal(pr_rpc_request_unpack(payload, n, PR_RPC_EMBED, 2, &got, &err),
                     PR_E_TOO_LARGE);
    assert_non_null(strstr(err.message, "--max-client-batch-size"));
    for (size_t cut = 0; cut < n; cut++) { /* no prefix of it is a message */
        assert_int_equal(pr_rpc_request_unpack(payload, cut, PR_RPC_EMBED, 3, &got, NULL),
                         PR_E_INPUT);
    }
    pr_buffer_deinit(&frame);
}

static void a_hello_survives_the_way_and_another_version_is_refused(void **state)
{
    (void)state;
    pr_buffer frame;
    pr_error err;
    pr_rpc_hello hello = {.key = "k", .n_key = 1, .client = "me", .n_client = 2}, got;
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_hello_pack(&hello, &frame, NULL), PR_OK);
    size_t n;
    const char *payload = payload_of(&frame, &n);
    assert_int_equal(pr_rpc_hello_unpack(payload, n, &got, NULL), PR_OK);
    assert_text(got.key, got.n_key, "k");
    assert_text(got.client, got.n_client, "me");
    pr_buffer_clear(&frame);
    pr_msgpack_write_map(&frame, 1);
    pr_msgpack_write_text(&frame, "version");
    pr_msgpack_write_u64(&frame, 2);
    assert_int_equal(pr_rpc_hello_unpack(frame.data, frame.n, &got, &err), PR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "found 2, expected 1"));
    pr_buffer_deinit(&frame);
}

/* ---- numbers ---- */

static void int8_rows_are_rounded_as_documented(void **state)
{
    (void)state;
    const float rows[5][4] = {{127, -127, 2.5f, 3.5f},       /* scale 1: ties to even */
                              {0, 0, 0, 0},
                              {1, INFINITY, 2, 3},
                              {1e-45f, -1e-45f, 0, 0},       /* the scale underflows */
                              {-0.5f, 0.25f, 0.125f, 0.0f}};
    const int8_t expected[5][4] = {{127, -127, 2, 4}, {0}, {0}, {0}, {-127, 64, 32, 0}};
    char bytes[20], scales[20];
    float back[20], scale[5];
    pr_rpc_rows_write(rows, 5, 4, PR_RPC_INT8, bytes, scales);
    memcpy(scale, scales, sizeof scale);
    assert_memory_equal(bytes, expected, sizeof expected);
    assert_true(scale[0] == 1.0f && scale[1] == 0.0f && isnan(scale[2]) && scale[3] == 0.0f);
    assert_true(scale[4] == 0.5f / 127.0f);
    pr_rpc_rows_read(bytes, scales, 5, 4, PR_RPC_INT8, back);
    assert_true(back[0] == 127.0f && back[4] == 0.0f && isnan(back[8]));
    assert_true(back[16] == -127.0f * scale[4]);
}

/* ---- answers ---- */

static void answers_survive_the_way_in_every_format(void **state)
{
    (void)state;
    const float a[] = {1, -2, 0.5f}, b[] = {4, 5, 6, 7, 8, 9};
    const pr_rpc_span spans[] = {{a, 1}, {NULL, 0}, {b, 2}};
    const float steps[] = {0.5f, 0.25f};
    const pr_rpc_span step_spans[] = {{steps, 2}, {NULL, 0}, {NULL, 0}};
    const uint32_t n_prompt_tokens[] = {3, 0, 70000};
    const pr_rpc_item_error error = {.i_item = 1, .status = PR_E_TOO_LONG, .message = "why",
                                     .n_message = 3};
    for (int format = PR_RPC_F32; format <= PR_RPC_INT8; format++) {
        const pr_rpc_answer_out out = {
            .id = 9, .request_id = "r", .n_items = 3, .n_prompt_tokens = n_prompt_tokens,
            .is_token_wise = true, .data = {(pr_rpc_format)format, 3, spans},
            .steps = {PR_RPC_F32, 1, step_spans}, .errors = &error, .n_errors = 1};
        pr_buffer frame;
        pr_rpc_answer got;
        float back[9];
        pr_buffer_init(&frame);
        assert_int_equal(pr_rpc_answer_pack(&out, &frame, NULL), PR_OK);
        size_t n;
        const char *payload = payload_of(&frame, &n);
        assert_int_equal(pr_rpc_answer_unpack(payload, n, &got, NULL), PR_OK);
        assert_true(got.id == 9 && got.n_items == 3 && got.is_token_wise);
        assert_memory_equal(got.n_prompt_tokens, n_prompt_tokens, sizeof n_prompt_tokens);
        assert_true(got.data.n_rows == 3 && got.data.n_columns == 3);
        assert_true(got.data.rows[0] == 1 && got.data.rows[1] == 0 && got.data.rows[2] == 2);
        pr_rpc_rows_read(got.data.bytes, got.data.scales, 3, 3, got.data.format, back);
        for (int i = 0; i < 9; i++) {
            float expected = i < 3 ? a[i] : b[i - 3];
            assert_true(fabsf(back[i] - expected) <= (format == PR_RPC_INT8 ? 0.04f : 0));
        }
        assert_true(got.steps.is_there && got.steps.n_rows == 2 && !got.token_data.is_there);
        assert_true(got.n_errors == 1 && got.errors[0].status == PR_E_TOO_LONG);
        assert_text(got.errors[0].message, got.errors[0].n_message, "why");
        pr_rpc_answer_deinit(&got);
        for (size_t cut = 0; cut < n; cut++) {
            assert_int_not_equal(pr_rpc_answer_unpack(payload, cut, &got, NULL), PR_OK);
        }
        pr_buffer_deinit(&frame);
    }
}

static void an_answer_longer_than_a_frame_is_refused_before_it_is_written(void **state)
{
    (void)state;
    const float one = 1;
    const pr_rpc_span span = {&one, UINT32_MAX}; /* nobody reads them */
    const pr_rpc_answer_out out = {.request_id = "", .n_items = 1, .data = {PR_RPC_F32, 1, &span}};
    pr_buffer frame;
    pr_error err;
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_answer_pack(&out, &frame, &err), PR_E_TOO_LARGE);
    assert_int_equal(frame.n, 0);
    assert_non_null(strstr(err.message, "int8"));
}

static void errors_survive_the_way(void **state)
{
    (void)state;
    const pr_rpc_error about_one = {.has_id = true, .id = 4, .status = PR_E_OVERLOADED,
                                    .message = "full", .n_message = 4, .retry_after_s = 3,
                                    .i_item = 2, .request_id = "r", .n_request_id = 1};
    const pr_rpc_error about_all = {.status = PR_E_INPUT, .message = "", .i_item = -1};
    pr_buffer frame;
    pr_rpc_error got;
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_error_pack(&about_one, &frame, NULL), PR_OK);
    size_t n;
    const char *payload = payload_of(&frame, &n);
    assert_int_equal(pr_rpc_error_unpack(payload, n, &got, NULL), PR_OK);
    assert_true(got.has_id && got.id == 4 && got.status == PR_E_OVERLOADED);
    assert_true(got.retry_after_s == 3 && got.i_item == 2 && got.n_request_id == 1);
    pr_buffer_clear(&frame);
    assert_int_equal(pr_rpc_error_pack(&about_all, &frame, NULL), PR_OK);
    payload = payload_of(&frame, &n);
    assert_int_equal(pr_rpc_error_unpack(payload, n, &got, NULL), PR_OK);
    assert_true(!got.has_id && got.i_item == -1 && !got.request_id && got.status == PR_E_INPUT);
    pr_buffer_deinit(&frame);
}

static void info_survives_the_way_with_and_without_a_model(void **state)
{
    (void)state;
    const char *const labels[] = {"no", "yes"};
    for (int is_loaded = 0; is_loaded < 2; is_loaded++) {
        pr_rpc_info info = {.id = 3, .server = {"s", 1}, .state = {"ready", 5}, .model = {"m", 1},
                            .is_loaded = is_loaded, .task = PR_TASK_CLASSIFY,
                            .tasks = 1u << PR_TASK_CLASSIFY | 1u << PR_TASK_SCORE,
                            .dimensions = 2, .max_model_len = 512, .pooling = {"CLS", 3},
                            .labels = labels, .n_labels = 2, .frame_bytes_max = 1 << 26,
                            .answer_bytes_max = 1 << 28, .items_max = 2048, .requests_max = 7};
        pr_buffer frame;
        pr_rpc_info got;
        pr_buffer_init(&frame);
        assert_int_equal(pr_rpc_info_pack(PR_RPC_INFO, &info, &frame, NULL), PR_OK);
        size_t n;
        const char *payload = payload_of(&frame, &n);
        assert_int_equal(pr_rpc_info_unpack(payload, n, &got, NULL), PR_OK);
        assert_int_equal(got.is_loaded, is_loaded);
        assert_true(got.id == 3 && got.frame_bytes_max == 1 << 26 && got.requests_max == 7);
        if (is_loaded) assert_true(got.tasks == info.tasks && got.max_model_len == 512);
        pr_buffer_deinit(&frame);
    }
}

static void what_is_no_message_has_no_head(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {{"\xC0", 1}, {"\x80", 1}, {"\x81\xA4kind\x01", 7}, {"\x81\x01\xC0", 3},
                 {"\x81\xA2id\x01", 5}, {"\x82\xA4kind\xA1x\xA4kind\xA1x", 15},
                 {"\x81\xA4kind\xA1x\xC0", 9}, {"\x82\xA4kind\xA1x\xA2id\xFF", 12},
                 {"\xDF\xFF\xFF\xFF\xFF", 5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_rpc_head head;
        assert_int_equal(pr_rpc_head_read(cases[i].bytes, cases[i].n, &head, NULL), PR_E_INPUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_with_everything_survives_the_way),
        cmocka_unit_test(a_query_stands_in_front_of_every_item),
        cmocka_unit_test(what_a_client_may_not_send_is_refused_by_name),
        cmocka_unit_test(items_that_are_none_are_refused),
        cmocka_unit_test(parameters_that_are_nil_are_not_given),
        cmocka_unit_test(a_request_of_too_many_items_is_too_large),
        cmocka_unit_test(a_hello_survives_the_way_and_another_version_is_refused),
        cmocka_unit_test(int8_rows_are_rounded_as_documented),
        cmocka_unit_test(answers_survive_the_way_in_every_format),
        cmocka_unit_test(an_answer_longer_than_a_frame_is_refused_before_it_is_written),
        cmocka_unit_test(errors_survive_the_way),
        cmocka_unit_test(info_survives_the_way_with_and_without_a_model),
        cmocka_unit_test(what_is_no_message_has_no_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
