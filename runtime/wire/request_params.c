#include "runtime/wire/request_params.h"

#include "runtime/base/json.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    POOLING = PR_USE_EMBED | PR_USE_CLASSIFY | PR_USE_SCORE | PR_USE_REWARD | PR_USE_ENCODE,
    ENGINE = POOLING | PR_USE_TOKENIZE
};

#define FIELD(name) offsetof(pr_request, name)

static const pr_param_row rows[] = {
    [PR_PARAM_TRUNCATE_PROMPT_TOKENS] = {"truncate_prompt_tokens", PR_PARAM_LIMIT,
                                         ENGINE | PR_USE_LINE, FIELD(truncate_prompt_tokens), 0, 0,
                                         0},
    [PR_PARAM_TRUNCATION_SIDE] = {"truncation_side", PR_PARAM_SIDE, ENGINE | PR_USE_LINE,
                                  FIELD(truncation_side), 0, 0, -1},
    [PR_PARAM_ADD_SPECIAL_TOKENS] = {"add_special_tokens", PR_PARAM_SWITCH, ENGINE | PR_USE_LINE,
                                     FIELD(add_special_tokens), 0, 0, -1},
    [PR_PARAM_NORMALIZE] = {"normalize", PR_PARAM_SWITCH, POOLING | PR_USE_LINE, FIELD(normalize),
                            0, 0, -1},
    [PR_PARAM_SOFTMAX] = {"softmax", PR_PARAM_SWITCH, POOLING | PR_USE_LINE, FIELD(softmax), 0, 0,
                          -1},
    [PR_PARAM_USE_ACTIVATION] = {"use_activation", PR_PARAM_SWITCH, POOLING | PR_USE_LINE,
                                 FIELD(use_activation), 0, 0, -1},
    [PR_PARAM_DIMENSIONS] = {"dimensions", PR_PARAM_INT, PR_USE_EMBED | PR_USE_ENCODE | PR_USE_LINE,
                             FIELD(dimensions), 0, 1, 0},
    [PR_PARAM_STEP_TAG_ID] = {"step_tag_id", PR_PARAM_INT,
                              PR_USE_REWARD | PR_USE_ENCODE | PR_USE_LINE, FIELD(step_tag_id), 0, 0,
                              -1},
    [PR_PARAM_RETURNED_TOKEN_IDS] = {"returned_token_ids", PR_PARAM_IDS,
                                     PR_USE_REWARD | PR_USE_ENCODE | PR_USE_LINE,
                                     FIELD(returned_token_ids), FIELD(n_returned_token_ids), 0, 0},
    [PR_PARAM_PRIORITY] = {"priority", PR_PARAM_INT, ENGINE, FIELD(priority), 0, INT32_MIN, 0},
};
static_assert(sizeof rows / sizeof *rows == PR_PARAM_COUNT, "one row per parameter");

const pr_param_row *pr_param_describe(pr_param_id id)
{
    assert((unsigned)id < PR_PARAM_COUNT);
    return &rows[id];
}

const pr_param_row *pr_param_find(const char *key, size_t n_key, unsigned use)
{
    for (size_t i = 0; i < PR_PARAM_COUNT; i++) {
        if (!(rows[i].uses & use) || strlen(rows[i].key) != n_key) continue;
        if (memcmp(rows[i].key, key, n_key) == 0) return &rows[i];
    }
    return NULL;
}

/* ---- fields ---- */

static bool is_narrow(const pr_param_row *row)
{
    return row->type == PR_PARAM_SWITCH || row->type == PR_PARAM_SIDE;
}

static const char *field_of(const pr_param_row *row, const pr_request *request)
{
    return (const char *)request + row->field;
}

int64_t pr_param_value(const pr_param_row *row, const pr_request *request)
{
    const char *field = field_of(row, request);
    int32_t value;
    assert(row->type != PR_PARAM_IDS);
    if (is_narrow(row)) return (signed char)*field;
    memcpy(&value, field, sizeof value);
    return value;
}

void pr_param_set(const pr_param_row *row, int32_t value, pr_request *request)
{
    char *field = (char *)request + row->field;
    assert(row->type != PR_PARAM_IDS);
    if (is_narrow(row)) {
        assert(value >= -1 && value <= 1);
        *field = (char)value;
    } else {
        memcpy(field, &value, sizeof value);
    }
}

void pr_param_ids_set(const pr_param_row *row, const int32_t *ids, size_t n, pr_request *request)
{
    assert(row->type == PR_PARAM_IDS);
    memcpy((char *)request + row->field, &ids, sizeof ids);
    memcpy((char *)request + row->n_field, &n, sizeof n);
}

const int32_t *pr_param_ids(const pr_param_row *row, const pr_request *request, size_t *n)
{
    const int32_t *ids;
    assert(row->type == PR_PARAM_IDS);
    memcpy(&ids, field_of(row, request), sizeof ids);
    memcpy(n, (const char *)request + row->n_field, sizeof *n);
    return ids;
}

bool pr_param_is_set(const pr_param_row *row, const pr_request *request)
{
    size_t n;
    if (row->type != PR_PARAM_IDS) return pr_param_value(row, request) != row->unset;
    return pr_param_ids(row, request, &n);
}

void pr_params_unset(pr_request *request)
{
    for (size_t i = 0; i < PR_PARAM_COUNT; i++) {
        if (rows[i].type == PR_PARAM_IDS) {
            pr_param_ids_set(&rows[i], NULL, 0, request);
        } else {
            pr_param_set(&rows[i], rows[i].unset, request);
        }
    }
}

void pr_params_apply(const pr_request *from, pr_request *to)
{
    for (size_t i = 0; i < PR_PARAM_COUNT; i++) {
        const pr_param_row *row = &rows[i];
        if (!pr_param_is_set(row, from)) continue;
        if (row->type == PR_PARAM_IDS) {
            size_t n;
            const int32_t *ids = pr_param_ids(row, from, &n);
            pr_param_ids_set(row, ids, n, to);
        } else {
            pr_param_set(row, (int32_t)pr_param_value(row, from), to);
        }
    }
}

pr_status pr_param_range_check(const pr_param_row *row, int64_t value, pr_error *err)
{
    int32_t min = row->type == PR_PARAM_LIMIT ? -1 : row->min;
    if (row->type == PR_PARAM_LIMIT && value == 0) {
        return pr_error_set(err, PR_E_INPUT,
                            "%s: found 0, expected -1 (the model's limit) or at least 1", row->key);
    }
    if (value >= min && value <= INT32_MAX) return PR_OK;
    return pr_error_set(err, PR_E_INPUT, "%s: found %lld, expected %d to %d", row->key,
                        (long long)value, min, INT32_MAX);
}

/* ---- JSON ---- */

static pr_status wrong(const char *key, const json_t *value, const char *expected, pr_error *err)
{
    return pr_error_set(err, PR_E_INPUT, "%s: found %s, expected %s", key, pr_json_type_name(value),
                        expected);
}

static pr_status ids_read(const char *key, const json_t *value, int32_t **out, pr_error *err)
{
    size_t n = json_array_size(value);
    if (!json_is_array(value)) return wrong(key, value, "an array of token ids", err);
    if (n == 0 || n > PR_PARAM_IDS_MAX) {
        return pr_error_set(err, PR_E_INPUT, "%s: found %zu of them, expected 1 to %d", key, n,
                            PR_PARAM_IDS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(value, i);
        json_int_t number = json_integer_value(id);
        if (json_is_integer(id) && number >= 0 && number <= INT32_MAX) continue;
        return pr_error_set(err, PR_E_INPUT, "%s: element %zu: expected an integer of 0 to %d", key,
                            i, INT32_MAX);
    }
    int32_t *ids = malloc(n * sizeof *ids);
    if (!ids) return pr_error_nomem(err, key, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(value, i));
    *out = ids;
    return PR_OK;
}

static pr_status side_read(const char *key, const json_t *value, int32_t *out, pr_error *err)
{
    if (!json_is_string(value)) return wrong(key, value, "right|left", err);
    const char *side = json_string_value(value);
    *out = strcmp(side, "left") == 0;
    if (*out || strcmp(side, "right") == 0) return PR_OK;
    return pr_error_set(err, PR_E_INPUT, "%s: found \"%.40s\", expected right|left", key, side);
}

pr_status pr_param_json_read(const pr_param_row *row, const json_t *value, pr_request *request,
                             int32_t **ids, pr_error *err)
{
    int32_t number = 0;
    pr_status st = PR_OK;
    switch (row->type) {
    case PR_PARAM_SWITCH:
        if (!json_is_boolean(value)) return wrong(row->key, value, "true or false", err);
        number = json_is_true(value);
        break;
    case PR_PARAM_SIDE:
        st = side_read(row->key, value, &number, err);
        break;
    case PR_PARAM_INT:
    case PR_PARAM_LIMIT:
        if (!json_is_integer(value)) return wrong(row->key, value, "an integer", err);
        st = pr_param_range_check(row, json_integer_value(value), err);
        if (st == PR_OK) number = (int32_t)json_integer_value(value);
        break;
    case PR_PARAM_IDS:
        assert(!*ids);
        st = ids_read(row->key, value, ids, err);
        if (st == PR_OK) pr_param_ids_set(row, *ids, json_array_size(value), request);
        return st;
    }
    if (st == PR_OK) pr_param_set(row, number, request);
    return st;
}
