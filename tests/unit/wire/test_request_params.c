/* runtime/wire/request_params.h: one row a parameter, and every way in reads it. */
#include "runtime/base/json.h"
#include "runtime/wire/request_params.h"
#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    unsigned use;
    pr_rpc_kind kind;
} kinds[] = {{PR_USE_EMBED, PR_RPC_EMBED},   {PR_USE_CLASSIFY, PR_RPC_CLASSIFY},
             {PR_USE_SCORE, PR_RPC_SCORE},   {PR_USE_REWARD, PR_RPC_REWARD},
             {PR_USE_ENCODE, PR_RPC_ENCODE}, {PR_USE_TOKENIZE, PR_RPC_TOKENIZE}};

static const int32_t ids[] = {7, 0, 9};

static void value_set(const pr_param_row *row, pr_request *r)
{
    if (row->type == PR_PARAM_IDS)
        pr_param_ids_set(row, ids, 3, r);
    else
        pr_param_set(row, 1, r);
}

static void assert_value(const pr_param_row *row, const pr_request *r)
{
    size_t n = 0;
    assert_true(pr_param_is_set(row, r));
    if (row->type == PR_PARAM_IDS) {
        assert_memory_equal(pr_param_ids(row, r, &n), ids, sizeof ids);
        assert_int_equal(n, 3);
    } else {
        assert_int_equal(pr_param_value(row, r), 1);
    }
}

/* All others are unset. */
static void assert_only(pr_param_id id, const pr_request *r)
{
    for (int i = 0; i < PR_PARAM_COUNT; i++) {
        assert_int_equal(pr_param_is_set(pr_param_describe((pr_param_id)i), r), i == (int)id);
    }
    assert_value(pr_param_describe(id), r);
}

static void every_parameter_goes_by_the_socket_where_its_row_says_so(void **state)
{
    (void)state;
    for (int i = 0; i < PR_PARAM_COUNT; i++) {
        const pr_param_row *row = pr_param_describe((pr_param_id)i);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            pr_rpc_item item = {.text = "a", .n_text = 1};
            pr_rpc_request q = {.kind = kinds[k].kind, .items = &item, .n_items = 1}, got;
            pr_buffer frame;
            pr_error err = {0};
            pr_buffer_init(&frame);
            pr_rpc_params_init(&q.params);
            value_set(row, &q.params.request);
            assert_int_equal(pr_rpc_request_pack(&q, &frame, NULL), PR_OK);
            pr_status st =
                pr_rpc_request_unpack(frame.data + PR_FRAME_HEADER_BYTES,
                                      frame.n - PR_FRAME_HEADER_BYTES, q.kind, 1, &got, &err);
            if (row->uses & kinds[k].use) {
                assert_int_equal(st, PR_OK);
                assert_only((pr_param_id)i, &got.params.request);
                pr_rpc_request_deinit(&got);
            } else {
                assert_int_equal(st, PR_E_ARGUMENT);
                assert_non_null(strstr(err.message, row->key));
            }
            pr_buffer_deinit(&frame);
        }
    }
}

static const char *json_of(const pr_param_row *row)
{
    switch (row->type) {
    case PR_PARAM_SWITCH:
        return "{\"v\":true}";
    case PR_PARAM_SIDE:
        return "{\"v\":\"left\"}";
    case PR_PARAM_INT:
    case PR_PARAM_LIMIT:
        return "{\"v\":1}";
    case PR_PARAM_IDS:
        return "{\"v\":[7,0,9]}";
    }
    return NULL;
}

static void every_parameter_is_read_from_json_and_applied(void **state)
{
    (void)state;
    for (int i = 0; i < PR_PARAM_COUNT; i++) {
        const pr_param_row *row = pr_param_describe((pr_param_id)i);
        const char *text = json_of(row);
        json_t *json = NULL;
        int32_t *owned = NULL;
        pr_request r = {0}, applied = {0};
        pr_error err;
        pr_params_unset(&r);
        pr_params_unset(&applied);
        assert_int_equal(pr_json_parse(text, strlen(text), "value", &json, NULL), PR_OK);
        assert_int_equal(pr_param_json_read(row, json_object_get(json, "v"), &r, &owned, &err),
                         PR_OK);
        assert_only((pr_param_id)i, &r);
        pr_params_apply(&r, &applied);
        assert_only((pr_param_id)i, &applied);
        /* An object is the value of none. */
        int32_t *none = NULL;
        assert_int_equal(pr_param_json_read(row, json, &r, &none, &err), PR_E_INPUT);
        assert_int_equal(strncmp(err.message, row->key, strlen(row->key)), 0);
        assert_null(none);
        free(owned);
        json_decref(json);
    }
}

static void a_key_is_found_for_its_uses_only(void **state)
{
    (void)state;
    assert_ptr_equal(pr_param_find("softmax", 7, PR_USE_SCORE),
                     pr_param_describe(PR_PARAM_SOFTMAX));
    assert_null(pr_param_find("softmax", 7, PR_USE_TOKENIZE));
    assert_null(pr_param_find("softma", 6, PR_USE_SCORE));
    assert_null(pr_param_find("priority", 8, PR_USE_LINE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_goes_by_the_socket_where_its_row_says_so),
        cmocka_unit_test(every_parameter_is_read_from_json_and_applied),
        cmocka_unit_test(a_key_is_found_for_its_uses_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
