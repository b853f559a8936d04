#include "server/http/http_write.h"

#include "runtime/base/json_write.h"

#include <assert.h>
#include <math.h>
#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void put(pr_buffer *b, const char *s)
{
    pr_buffer_append_str(b, s);
}

static void put_string(pr_buffer *b, const char *s)
{
    pr_json_write_str(b, s, strlen(s));
}

pr_buffer *pr_http_answer_begin(pr_http_exchange *x)
{
    x->answer.status = 200;
    x->answer.content_type = "application/json";
    return &x->answer.body;
}

void pr_http_id(pr_http_exchange *x, const char *prefix)
{
    pr_buffer *b = &x->answer.body;
    put(b, "\"id\":\"");
    put(b, prefix);
    put(b, "-");
    put(b, x->call.id); /* of letters that need no escapes */
    put(b, "\"");
}

void pr_http_model(pr_http_exchange *x)
{
    const char *name = x->params->model_name;
    put(&x->answer.body, "\"model\":");
    put_string(&x->answer.body, name ? name : pr_service_model_of(x->service)->names[0]);
}

pr_buffer *pr_http_list_begin(pr_http_exchange *x, const char *id_prefix)
{
    pr_buffer *b = pr_http_answer_begin(x);
    put(b, "{");
    pr_http_id(x, id_prefix);
    put(b, ",\"object\":\"list\",\"created\":");
    pr_json_write_int(b, (int64_t)time(NULL));
    put(b, ",");
    pr_http_model(x);
    put(b, ",\"data\":[");
    return b;
}

uint64_t pr_http_prompt_tokens(const pr_http_exchange *x)
{
    uint64_t n = 0;
    for (size_t i = 0; i < x->call.n_items; i++) n += x->call.results[i]->n_prompt_tokens;
    return n;
}

void pr_http_usage(pr_http_exchange *x)
{
    pr_buffer *b = &x->answer.body;
    int64_t n_tokens = (int64_t)pr_http_prompt_tokens(x);
    put(b, "\"usage\":{\"prompt_tokens\":");
    pr_json_write_int(b, n_tokens);
    put(b, ",\"total_tokens\":");
    pr_json_write_int(b, n_tokens);
    put(b, ",\"completion_tokens\":0,\"prompt_tokens_details\":null}");
}

void pr_http_list_end(pr_http_exchange *x)
{
    put(&x->answer.body, "],");
    pr_http_usage(x);
    put(&x->answer.body, "}");
}

void pr_http_status_error(pr_http_exchange *x, pr_status st, const char *message)
{
    pr_buffer *b = &x->answer.body;
    const pr_status_row *row = pr_status_describe(st);
    put(b, ",\"object\":\"error\",");
    size_t begin = b->n;
    pr_http_error_write(b, row->http_status, row->http_type, message, x->params->input_key);
    /* {"error":{…}} without its first brace: the last one closes the item. */
    if (b->failed) return;
    memmove(b->data + begin, b->data + begin + 1, b->n - begin - 1);
    b->n--;
}

void pr_http_item_error(pr_http_exchange *x, size_t i)
{
    const pr_result *result = x->call.results[i];
    pr_http_status_error(x, result->status, result->message ? result->message : "");
}

bool pr_http_item_begin(pr_http_exchange *x, size_t i)
{
    pr_buffer *b = &x->answer.body;
    put(b, i > 0 ? ",{\"index\":" : "{\"index\":");
    pr_json_write_int(b, (int64_t)i);
    if (x->call.results[i]->status == PR_OK) return true;
    pr_http_item_error(x, i);
    return false;
}

void pr_http_base64(pr_buffer *b, const float *x, size_t n)
{
    enum { PIECE = 768 }; /* floats: whole groups of three bytes */
    static_assert(sizeof(float) == 4, "float32");
    pr_buffer_append_char(b, '"');
    if (!pr_buffer_reserve(b, BASE64_ENCODE_RAW_LENGTH(n * 4) + 1)) return;
    for (size_t begin = 0; begin < n; begin += PIECE) {
        uint8_t bytes[PIECE * 4];
        size_t n_piece = n - begin < PIECE ? n - begin : PIECE;
        for (size_t i = 0; i < n_piece; i++) {
            uint32_t bits;
            memcpy(&bits, &x[begin + i], sizeof bits);
            for (int k = 0; k < 4; k++) bytes[4 * i + (size_t)k] = (uint8_t)(bits >> 8 * k);
        }
        base64_encode_raw(b->data + b->n, n_piece * 4, bytes);
        b->n += BASE64_ENCODE_RAW_LENGTH(n_piece * 4);
    }
    pr_buffer_append_char(b, '"');
}

void pr_http_row(pr_http_exchange *x, const pr_result *result)
{
    if (x->params->is_base64) {
        pr_http_base64(&x->answer.body, result->data, result->n_columns);
    } else {
        pr_json_write_floats(&x->answer.body, result->data, result->n_columns);
    }
}

bool pr_http_one_row_check(pr_http_exchange *x, pr_task task, const char *route)
{
    const pr_pooling *pooling = NULL;
    pr_error err;
    if (!x->model) return true;
    if (task == PR_TASK_SCORE && pr_model_scores_by_cosine(x->model)) task = PR_TASK_EMBED;
    pr_status st = pr_model_pooling(x->model, task, &pooling, &err);
    if (st == PR_OK && (pooling->type == PR_POOL_ALL || pooling->type == PR_POOL_STEP)) {
        st = pr_error_set(&err, PR_E_UNSUPPORTED,
                          "pooling %s gives several rows a text, and %s answers with one; "
                          "/pooling gives them all",
                          pr_pool_name(pooling->type), route);
    }
    return st == PR_OK || pr_http_fail(x, NULL, &err);
}

/* ---- order by score ---- */

typedef struct scored {
    size_t i;
    float score;
    bool is_good;
} scored;

/* A total order, also of what is no number: those last. */
static int scored_compare(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->is_good != y->is_good) return x->is_good ? -1 : 1;
    bool x_is_nan = isnan(x->score), y_is_nan = isnan(y->score);
    if (x_is_nan != y_is_nan) return x_is_nan ? 1 : -1;
    if (!x_is_nan && x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->i < y->i ? -1 : 1;
}

size_t *pr_http_order(pr_http_exchange *x, size_t *n_good)
{
    size_t n = x->call.n_items;
    scored *all = malloc(n * sizeof *all);
    size_t *order = malloc(n * sizeof *order);
    *n_good = 0;
    for (size_t i = 0; all && i < n; i++) {
        const pr_result *result = x->call.results[i];
        bool is_good = result->status == PR_OK;
        all[i] = (scored){i, is_good ? result->data[0] : 0, is_good};
        *n_good += is_good;
    }
    if (all && order) {
        qsort(all, n, sizeof *all, scored_compare);
        for (size_t i = 0; i < n; i++) order[i] = all[i].i;
    } else {
        pr_error err;
        pr_error_nomem(&err, "results", n * sizeof *all);
        pr_http_fail(x, NULL, &err);
        free(order);
        order = NULL;
    }
    free(all);
    return order;
}
