#include "runtime/wire/rpc_answer.h"

#include "runtime/wire/frame.h"
#include "runtime/wire/msgpack_write.h"
#include "runtime/wire/rpc_rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- packing ---- */

static uint64_t rows_count(const pr_rpc_rows_out *rows, size_t n_items)
{
    uint64_t n = 0;
    for (size_t i = 0; rows->spans && i < n_items; i++) n += rows->spans[i].n_rows;
    return n;
}

static uint64_t rows_bytes(const pr_rpc_rows_out *rows, size_t n_items)
{
    enum { HEADS_BYTES = 128, COUNT_BYTES = 5 };
    if (!rows->spans) return 0;
    uint64_t n_rows = rows_count(rows, n_items);
    uint64_t row_bytes = rows->n_columns * pr_rpc_format_bytes(rows->format);
    if (rows->format == PR_RPC_INT8) row_bytes += sizeof(float);
    return HEADS_BYTES + COUNT_BYTES * n_items + n_rows * row_bytes;
}

/* At least what the frame will take. */
static uint64_t answer_bytes(const pr_rpc_answer_out *a)
{
    enum { HEADS_BYTES = 256, COUNT_BYTES = 5, ERROR_HEADS_BYTES = 64, TEXT_HEAD_BYTES = 5 };
    uint64_t n = HEADS_BYTES + strlen(a->request_id) + COUNT_BYTES * a->n_items;
    n += rows_bytes(&a->data, a->n_items) + rows_bytes(&a->steps, a->n_items) +
         rows_bytes(&a->token_data, a->n_items);
    for (size_t i = 0; i < a->n_errors; i++) n += ERROR_HEADS_BYTES + a->errors[i].n_message;
    for (size_t i = 0; a->texts && i < a->n_items; i++) n += TEXT_HEAD_BYTES + a->n_texts[i];
    return n;
}

static void rows_numbers_pack(const pr_rpc_rows_out *rows, size_t n_items, uint64_t n_rows,
                              pr_buffer *out)
{
    size_t row_bytes = rows->n_columns * pr_rpc_format_bytes(rows->format);
    bool has_scales = rows->format == PR_RPC_INT8;
    size_t n_scales = has_scales ? n_rows * sizeof(float) : 0;
    char *scales = NULL;
    if (has_scales) { /* first, so that its place is known while bytes are written */
        pr_msgpack_write_text(out, "scales");
        if (!pr_msgpack_write_bin_space(out, n_scales)) return;
    }
    size_t scales_at = out->n - n_scales;
    pr_msgpack_write_text(out, "bytes");
    char *dst = pr_msgpack_write_bin_space(out, n_rows * row_bytes);
    if (!dst) return;
    if (has_scales) scales = out->data + scales_at;
    for (size_t i = 0; i < n_items; i++) {
        const pr_rpc_span *span = &rows->spans[i];
        if (span->n_rows == 0) continue;
        pr_rpc_rows_write(span->data, span->n_rows, rows->n_columns, rows->format, dst, scales);
        dst += span->n_rows * row_bytes;
        if (has_scales) scales += span->n_rows * sizeof(float);
    }
}

static void rows_pack(const char *name, const pr_rpc_rows_out *rows, size_t n_items,
                      pr_buffer *out)
{
    if (!rows->spans) return;
    uint64_t n_rows = rows_count(rows, n_items);
    pr_msgpack_write_text(out, name);
    pr_msgpack_write_map(out, 4 + (rows->format == PR_RPC_INT8));
    pr_msgpack_write_text(out, "dtype");
    pr_msgpack_write_text(out, pr_rpc_format_name(rows->format));
    pr_msgpack_write_text(out, "shape");
    pr_msgpack_write_array(out, 2);
    pr_msgpack_write_u64(out, n_rows);
    pr_msgpack_write_u64(out, rows->n_columns);
    pr_msgpack_write_text(out, "rows");
    pr_msgpack_write_array(out, (uint32_t)n_items);
    for (size_t i = 0; i < n_items; i++) pr_msgpack_write_u64(out, rows->spans[i].n_rows);
    rows_numbers_pack(rows, n_items, n_rows, out);
}

static void errors_pack(const pr_rpc_answer_out *a, pr_buffer *out)
{
    if (a->n_errors == 0) return;
    pr_msgpack_write_text(out, "errors");
    pr_msgpack_write_array(out, (uint32_t)a->n_errors);
    for (size_t i = 0; i < a->n_errors; i++) {
        const pr_rpc_item_error *e = &a->errors[i];
        pr_msgpack_write_map(out, 3);
        pr_msgpack_write_text(out, "item");
        pr_msgpack_write_u64(out, e->i_item);
        pr_msgpack_write_text(out, "status");
        pr_msgpack_write_text(out, pr_status_describe(e->status)->name);
        pr_msgpack_write_text(out, "message");
        pr_msgpack_write_str(out, e->message, e->n_message);
    }
}

static void lists_pack(const pr_rpc_answer_out *a, pr_buffer *out)
{
    if (a->n_prompt_tokens) {
        pr_msgpack_write_text(out, "prompt_tokens");
        pr_msgpack_write_array(out, (uint32_t)a->n_items);
        for (size_t i = 0; i < a->n_items; i++) pr_msgpack_write_u64(out, a->n_prompt_tokens[i]);
    }
    if (a->texts) {
        pr_msgpack_write_text(out, "texts");
        pr_msgpack_write_array(out, (uint32_t)a->n_items);
        for (size_t i = 0; i < a->n_items; i++) {
            pr_msgpack_write_str(out, a->texts[i], a->n_texts[i]);
        }
    }
}

pr_status pr_rpc_answer_pack(const pr_rpc_answer_out *a, pr_buffer *out, pr_error *err)
{
    uint64_t n_bytes = answer_bytes(a);
    if (n_bytes > PR_FRAME_BYTES_MAX) {
        return pr_error_set(err, PR_E_TOO_LARGE,
                            "the answer has %llu bytes, expected at most %d in a frame; ask for "
                            "fewer items, or for f16 or int8",
                            (unsigned long long)n_bytes, (int)PR_FRAME_BYTES_MAX);
    }
    if (!pr_buffer_reserve(out, n_bytes)) return pr_error_nomem(err, "answer", n_bytes);
    size_t place = pr_frame_begin(out);
    uint32_t n_pairs = 4 + a->is_token_wise + (a->n_errors > 0) + (a->n_prompt_tokens != NULL) +
                       (a->texts != NULL) + (a->data.spans != NULL) + (a->steps.spans != NULL) +
                       (a->token_data.spans != NULL);
    pr_msgpack_write_map(out, n_pairs);
    pr_msgpack_write_text(out, "kind");
    pr_msgpack_write_text(out, "answer");
    pr_msgpack_write_text(out, "id");
    pr_msgpack_write_u64(out, a->id);
    pr_msgpack_write_text(out, "request_id");
    pr_msgpack_write_text(out, a->request_id);
    pr_msgpack_write_text(out, "items");
    pr_msgpack_write_u64(out, a->n_items);
    if (a->is_token_wise) {
        pr_msgpack_write_text(out, "token_wise");
        pr_msgpack_write_bool(out, true);
    }
    errors_pack(a, out);
    lists_pack(a, out);
    rows_pack("data", &a->data, a->n_items, out);
    rows_pack("steps", &a->steps, a->n_items, out);
    rows_pack("token_data", &a->token_data, a->n_items, out);
    return pr_frame_end(out, place, err);
}

/* ---- unpacking ---- */

/* n_items stands for every list; it may come behind some of them. */
static bool count_agrees(pr_msgpack_reader *r, pr_rpc_answer *a, const char *field, uint32_t n)
{
    if (r->status != PR_OK) return false;
    if (a->n_items == SIZE_MAX) a->n_items = n;
    if (a->n_items == n) return true;
    pr_msgpack_fail(r, field, "found %u items, elsewhere %zu", n, a->n_items);
    return false;
}

/* A list of small numbers, one for each item; NULL when there are none or the reader fails. */
static uint32_t *counts_take(pr_msgpack_reader *r, pr_rpc_answer *a, const char *field)
{
    uint32_t n = pr_msgpack_read_array(r, field, 0, UINT32_MAX);
    if (!count_agrees(r, a, field, n)) return NULL;
    uint32_t *counts = calloc(n + 1, sizeof *counts);
    if (!counts) {
        r->status = pr_error_nomem(r->err, field, n * sizeof *counts);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        counts[i] = (uint32_t)pr_msgpack_read_u64(r, field, 0, UINT32_MAX);
    }
    return counts;
}

static void shape_take(pr_msgpack_reader *r, pr_rpc_rows *rows)
{
    pr_msgpack_read_array(r, "shape", 2, 2);
    rows->n_rows = pr_msgpack_read_u64(r, "shape", 0, UINT32_MAX);
    rows->n_columns = (uint32_t)pr_msgpack_read_u64(r, "shape", 0, UINT32_MAX);
}

static void rows_field_take(pr_msgpack_reader *r, pr_rpc_answer *a, pr_rpc_rows *rows,
                            size_t *n_bytes, size_t *n_scales)
{
    size_t n = 0;
    const char *key = pr_rpc_key_read(r, &n);
    if (!key) return;
    if (pr_rpc_text_is(key, n, "dtype")) {
        const char *name = pr_msgpack_read_str(r, "dtype", 1, 64, &n);
        if (name && !pr_rpc_format_parse(name, n, &rows->format)) {
            pr_msgpack_fail(r, "dtype", "found another word, expected f32, f16, int8 or i32");
        }
    } else if (pr_rpc_text_is(key, n, "shape")) {
        shape_take(r, rows);
    } else if (pr_rpc_text_is(key, n, "rows")) {
        free(rows->rows);
        rows->rows = counts_take(r, a, "rows");
    } else if (pr_rpc_text_is(key, n, "bytes")) {
        rows->bytes = pr_msgpack_read_bin(r, "bytes", 0, SIZE_MAX, n_bytes);
    } else if (pr_rpc_text_is(key, n, "scales")) {
        rows->scales = pr_msgpack_read_bin(r, "scales", 0, SIZE_MAX, n_scales);
    } else {
        pr_msgpack_skip(r, "value");
    }
}

static void rows_take(pr_msgpack_reader *r, pr_rpc_answer *a, const char *field, pr_rpc_rows *rows)
{
    size_t n_bytes = 0, n_scales = 0;
    rows->is_there = true;
    rows->format = PR_RPC_FORMAT_COUNT;
    uint32_t n_pairs = pr_msgpack_read_map(r, field, 0, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && r->status == PR_OK; i++) {
        rows_field_take(r, a, rows, &n_bytes, &n_scales);
    }
    if (r->status != PR_OK) return;
    if (!rows->rows || !rows->bytes || rows->format == PR_RPC_FORMAT_COUNT) {
        pr_msgpack_fail(r, field, "found not all of dtype, shape, rows, bytes");
        return;
    }
    uint64_t n_rows = 0;
    for (size_t i = 0; i < a->n_items; i++) n_rows += rows->rows[i];
    /* Both factors are below 2^32, so that the product of them and 4 may pass 2^64. */
    unsigned __int128 n_expected =
        (unsigned __int128)rows->n_rows * rows->n_columns * pr_rpc_format_bytes(rows->format);
    bool has_scales = rows->format == PR_RPC_INT8;
    if (n_rows != rows->n_rows || n_expected != n_bytes ||
        (has_scales && n_scales != rows->n_rows * sizeof(float))) {
        pr_msgpack_fail(r, field, "shape, rows and bytes do not agree");
    }
}

static void item_error_take(pr_msgpack_reader *r, pr_rpc_item_error *e)
{
    uint32_t n_pairs = pr_msgpack_read_map(r, "errors", 0, UINT32_MAX);
    e->status = PR_E_INTERNAL;
    e->message = "";
    for (uint32_t i = 0; i < n_pairs && r->status == PR_OK; i++) {
        size_t n = 0;
        const char *key = pr_rpc_key_read(r, &n);
        if (!key) return;
        if (pr_rpc_text_is(key, n, "item")) {
            e->i_item = pr_msgpack_read_u64(r, "item", 0, UINT32_MAX);
        } else if (pr_rpc_text_is(key, n, "status")) {
            const char *name = pr_msgpack_read_str(r, "status", 0, 64, &n);
            if (name) e->status = pr_rpc_status_parse(name, n);
        } else if (pr_rpc_text_is(key, n, "message")) {
            e->message = pr_msgpack_read_str(r, "message", 0, SIZE_MAX, &e->n_message);
        } else {
            pr_msgpack_skip(r, "value");
        }
    }
}

static void errors_take(pr_msgpack_reader *r, pr_rpc_answer *a)
{
    uint32_t n = pr_msgpack_read_array(r, "errors", 0, UINT32_MAX);
    if (r->status != PR_OK || a->errors) {
        pr_msgpack_fail(r, "errors", "found it twice");
        return;
    }
    a->errors = calloc(n + 1, sizeof *a->errors);
    if (!a->errors) {
        r->status = pr_error_nomem(r->err, "errors", n * sizeof *a->errors);
        return;
    }
    for (uint32_t i = 0; i < n && r->status == PR_OK; i++) item_error_take(r, &a->errors[i]);
    a->n_errors = n;
}

static void texts_take(pr_msgpack_reader *r, pr_rpc_answer *a)
{
    uint32_t n = pr_msgpack_read_array(r, "texts", 0, UINT32_MAX);
    if (!count_agrees(r, a, "texts", n)) return;
    if (a->texts) {
        pr_msgpack_fail(r, "texts", "found it twice");
        return;
    }
    a->texts = calloc(n + 1, sizeof *a->texts);
    a->n_texts = calloc(n + 1, sizeof *a->n_texts);
    if (!a->texts || !a->n_texts) {
        r->status = pr_error_nomem(r->err, "texts", n * sizeof *a->texts);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        a->texts[i] = pr_msgpack_read_str(r, "texts", 0, SIZE_MAX, &a->n_texts[i]);
    }
}

static pr_rpc_rows *rows_named(pr_rpc_answer *a, const char *key, size_t n)
{
    if (pr_rpc_text_is(key, n, "data")) return &a->data;
    if (pr_rpc_text_is(key, n, "steps")) return &a->steps;
    return pr_rpc_text_is(key, n, "token_data") ? &a->token_data : NULL;
}

static void answer_field_take(pr_msgpack_reader *r, pr_rpc_answer *a)
{
    size_t n = 0;
    const char *key = pr_rpc_key_read(r, &n);
    if (!key) return;
    pr_rpc_rows *rows = rows_named(a, key, n);
    if (rows && rows->is_there) {
        pr_msgpack_fail(r, "rows", "found it twice");
    } else if (rows) {
        rows_take(r, a, "rows", rows);
    } else if (pr_rpc_text_is(key, n, "id")) {
        a->id = pr_msgpack_read_u64(r, "id", 0, UINT64_MAX);
    } else if (pr_rpc_text_is(key, n, "items")) {
        count_agrees(r, a, "items", (uint32_t)pr_msgpack_read_u64(r, "items", 0, UINT32_MAX));
    } else if (pr_rpc_text_is(key, n, "request_id")) {
        a->request_id = pr_msgpack_read_str(r, "request_id", 0, SIZE_MAX, &a->n_request_id);
    } else if (pr_rpc_text_is(key, n, "token_wise")) {
        a->is_token_wise = pr_msgpack_read_bool(r, "token_wise");
    } else if (pr_rpc_text_is(key, n, "errors")) {
        errors_take(r, a);
    } else if (pr_rpc_text_is(key, n, "texts")) {
        texts_take(r, a);
    } else if (pr_rpc_text_is(key, n, "prompt_tokens")) {
        free(a->n_prompt_tokens);
        a->n_prompt_tokens = counts_take(r, a, "prompt_tokens");
    } else {
        pr_msgpack_skip(r, "value");
    }
}

pr_status pr_rpc_answer_unpack(const char *payload, size_t n, pr_rpc_answer *out, pr_error *err)
{
    pr_msgpack_reader r;
    pr_rpc_answer a = {.n_items = SIZE_MAX};
    pr_msgpack_reader_init(&r, "answer", payload, n, err);
    uint32_t n_pairs = pr_msgpack_read_map(&r, "map", 1, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && r.status == PR_OK; i++) answer_field_take(&r, &a);
    if (r.status == PR_OK && a.n_items == SIZE_MAX) pr_msgpack_fail(&r, "items", "found none");
    for (size_t i = 0; i < a.n_errors && r.status == PR_OK; i++) {
        if (a.errors[i].i_item >= a.n_items) {
            pr_msgpack_fail(&r, "errors", "found item %zu of %zu", a.errors[i].i_item, a.n_items);
        }
    }
    pr_status st = pr_msgpack_read_end(&r);
    if (st == PR_OK) {
        *out = a;
    } else {
        pr_rpc_answer_deinit(&a);
    }
    return st;
}

void pr_rpc_answer_deinit(pr_rpc_answer *answer)
{
    free(answer->n_prompt_tokens);
    free(answer->data.rows);
    free(answer->steps.rows);
    free(answer->token_data.rows);
    free(answer->errors);
    free(answer->texts);
    free(answer->n_texts);
    *answer = (pr_rpc_answer){0};
}

/* ---- errors ---- */

pr_status pr_rpc_error_pack(const pr_rpc_error *e, pr_buffer *out, pr_error *err)
{
    size_t place = pr_frame_begin(out);
    pr_msgpack_write_map(out, 4 + (e->retry_after_s > 0) + (e->i_item >= 0) +
                                  (e->request_id != NULL));
    pr_msgpack_write_text(out, "kind");
    pr_msgpack_write_text(out, "error");
    pr_msgpack_write_text(out, "id");
    if (e->has_id) {
        pr_msgpack_write_u64(out, e->id);
    } else {
        pr_msgpack_write_nil(out);
    }
    pr_msgpack_write_text(out, "status");
    pr_msgpack_write_text(out, pr_status_describe(e->status)->name);
    pr_msgpack_write_text(out, "message");
    pr_msgpack_write_str(out, e->message, e->n_message);
    if (e->retry_after_s > 0) {
        pr_msgpack_write_text(out, "retry_after_s");
        pr_msgpack_write_u64(out, e->retry_after_s);
    }
    if (e->i_item >= 0) {
        pr_msgpack_write_text(out, "item");
        pr_msgpack_write_i64(out, e->i_item);
    }
    if (e->request_id) {
        pr_msgpack_write_text(out, "request_id");
        pr_msgpack_write_str(out, e->request_id, e->n_request_id);
    }
    return pr_frame_end(out, place, err);
}

static void error_field_take(pr_msgpack_reader *r, pr_rpc_error *e)
{
    size_t n = 0;
    const char *key = pr_rpc_key_read(r, &n);
    if (!key) return;
    if (pr_rpc_text_is(key, n, "id")) {
        e->has_id = pr_msgpack_next(r) != PR_MSGPACK_NIL;
        if (e->has_id) {
            e->id = pr_msgpack_read_u64(r, "id", 0, UINT64_MAX);
        } else {
            pr_msgpack_skip(r, "id");
        }
    } else if (pr_rpc_text_is(key, n, "status")) {
        const char *name = pr_msgpack_read_str(r, "status", 0, 64, &n);
        if (name) e->status = pr_rpc_status_parse(name, n);
        if (e->status == PR_OK) e->status = PR_E_INTERNAL;
    } else if (pr_rpc_text_is(key, n, "message")) {
        e->message = pr_msgpack_read_str(r, "message", 0, SIZE_MAX, &e->n_message);
    } else if (pr_rpc_text_is(key, n, "retry_after_s")) {
        e->retry_after_s = (uint32_t)pr_msgpack_read_u64(r, "retry_after_s", 0, UINT32_MAX);
    } else if (pr_rpc_text_is(key, n, "item")) {
        e->i_item = pr_msgpack_read_i64(r, "item", 0, UINT32_MAX);
    } else if (pr_rpc_text_is(key, n, "request_id")) {
        e->request_id = pr_msgpack_read_str(r, "request_id", 0, SIZE_MAX, &e->n_request_id);
    } else {
        pr_msgpack_skip(r, "value");
    }
}

pr_status pr_rpc_error_unpack(const char *payload, size_t n, pr_rpc_error *out, pr_error *err)
{
    pr_msgpack_reader r;
    pr_rpc_error e = {.status = PR_E_INTERNAL, .message = "", .i_item = -1};
    pr_msgpack_reader_init(&r, "error", payload, n, err);
    uint32_t n_pairs = pr_msgpack_read_map(&r, "map", 1, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && r.status == PR_OK; i++) error_field_take(&r, &e);
    pr_status st = pr_msgpack_read_end(&r);
    if (st == PR_OK) *out = e;
    return st;
}

pr_status pr_rpc_plain_pack(pr_rpc_kind kind, uint64_t id, pr_buffer *out, pr_error *err)
{
    assert(kind == PR_RPC_PONG || kind == PR_RPC_ALIVE);
    size_t place = pr_frame_begin(out);
    pr_msgpack_write_map(out, kind == PR_RPC_PONG ? 2 : 1);
    pr_msgpack_write_text(out, "kind");
    pr_msgpack_write_text(out, pr_rpc_kind_name(kind));
    if (kind == PR_RPC_PONG) {
        pr_msgpack_write_text(out, "id");
        pr_msgpack_write_u64(out, id);
    }
    return pr_frame_end(out, place, err);
}
