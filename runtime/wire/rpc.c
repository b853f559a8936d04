#include "runtime/wire/rpc.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- names ---- */

static const char *const kind_names[] = {
    [PR_RPC_HELLO] = "hello",       [PR_RPC_INFO] = "info",
    [PR_RPC_STATS] = "stats",       [PR_RPC_EMBED] = "embed",
    [PR_RPC_CLASSIFY] = "classify", [PR_RPC_SCORE] = "score",
    [PR_RPC_REWARD] = "reward",     [PR_RPC_ENCODE] = "encode",
    [PR_RPC_TOKENIZE] = "tokenize", [PR_RPC_DETOKENIZE] = "detokenize",
    [PR_RPC_PING] = "ping",         [PR_RPC_CANCEL] = "cancel",
    [PR_RPC_ANSWER] = "answer",     [PR_RPC_ERROR] = "error",
    [PR_RPC_PONG] = "pong",         [PR_RPC_ALIVE] = "alive",
};
static_assert(sizeof kind_names / sizeof *kind_names == PR_RPC_KIND_COUNT, "one name per kind");
static_assert(PR_RPC_KIND_COUNT <= 32, "kinds fit a set of bits");

static const char *const format_names[] = {
    [PR_RPC_F32] = "f32", [PR_RPC_F16] = "f16", [PR_RPC_INT8] = "int8", [PR_RPC_I32] = "i32"};
static_assert(sizeof format_names / sizeof *format_names == PR_RPC_FORMAT_COUNT, "names");

static const char *const reduce_names[] = {
    [PR_RPC_REDUCE_LAST] = "last", [PR_RPC_REDUCE_MEAN] = "mean", [PR_RPC_REDUCE_MIN] = "min",
    [PR_RPC_REDUCE_PRODUCT] = "product"};
static_assert(sizeof reduce_names / sizeof *reduce_names == PR_RPC_REDUCE_COUNT, "names");

static const char *const task_names[] = {
    [PR_TASK_AUTO] = "auto", [PR_TASK_EMBED] = "embed", [PR_TASK_CLASSIFY] = "classify",
    [PR_TASK_SCORE] = "score", [PR_TASK_REWARD] = "reward"};
static_assert(sizeof task_names / sizeof *task_names == PR_TASK_COUNT, "names");

bool pr_rpc_text_is(const char *s, size_t n, const char *text)
{
    return strlen(text) == n && memcmp(s, text, n) == 0;
}

/* The index of a name; n_names when it is none of them. */
static size_t name_find(const char *const *names, size_t n_names, const char *s, size_t n)
{
    size_t i = 0;
    while (i < n_names && !pr_rpc_text_is(s, n, names[i])) i++;
    return i;
}

const char *pr_rpc_kind_name(pr_rpc_kind kind)
{
    assert(kind < PR_RPC_KIND_COUNT);
    return kind_names[kind];
}

bool pr_rpc_kind_parse(const char *name, size_t n, pr_rpc_kind *out)
{
    size_t i = name_find(kind_names, PR_RPC_KIND_COUNT, name, n);
    if (i == PR_RPC_KIND_COUNT) return false;
    *out = (pr_rpc_kind)i;
    return true;
}

const char *pr_rpc_format_name(pr_rpc_format format)
{
    assert(format < PR_RPC_FORMAT_COUNT);
    return format_names[format];
}

bool pr_rpc_format_parse(const char *name, size_t n, pr_rpc_format *out)
{
    size_t i = name_find(format_names, PR_RPC_FORMAT_COUNT, name, n);
    if (i == PR_RPC_FORMAT_COUNT) return false;
    *out = (pr_rpc_format)i;
    return true;
}

size_t pr_rpc_format_bytes(pr_rpc_format format)
{
    static const size_t bytes[PR_RPC_FORMAT_COUNT] = {4, 2, 1, 4};
    assert(format < PR_RPC_FORMAT_COUNT);
    return bytes[format];
}

const char *pr_rpc_reduce_name(pr_rpc_reduce reduce)
{
    assert(reduce < PR_RPC_REDUCE_COUNT);
    return reduce_names[reduce];
}

bool pr_rpc_reduce_parse(const char *name, size_t n, pr_rpc_reduce *out)
{
    size_t i = name_find(reduce_names, PR_RPC_REDUCE_COUNT, name, n);
    if (i == PR_RPC_REDUCE_COUNT) return false;
    *out = (pr_rpc_reduce)i;
    return true;
}

const char *pr_rpc_task_name(pr_task task)
{
    assert(task < PR_TASK_COUNT);
    return task_names[task];
}

bool pr_rpc_task_parse(const char *name, size_t n, pr_task *out)
{
    size_t i = name_find(task_names, PR_TASK_COUNT, name, n);
    if (i == PR_TASK_COUNT) return false;
    *out = (pr_task)i;
    return true;
}

pr_status pr_rpc_status_parse(const char *name, size_t n)
{
    for (int st = PR_OK; st < PR_STATUS_COUNT; st++) {
        if (pr_rpc_text_is(name, n, pr_status_describe((pr_status)st)->name)) return (pr_status)st;
    }
    return PR_E_INTERNAL;
}

bool pr_rpc_kind_has_items(pr_rpc_kind kind)
{
    return kind >= PR_RPC_EMBED && kind <= PR_RPC_DETOKENIZE;
}

/* ---- maps ---- */

const char *pr_rpc_key_read(pr_msgpack_reader *r, size_t *n)
{
    return pr_msgpack_read_str(r, "key", 0, SIZE_MAX, n);
}

pr_status pr_rpc_key_refuse(pr_msgpack_reader *r, const char *key, size_t n, const char *why)
{
    enum { SHOWN_BYTES = 40 };
    if (r->status != PR_OK) return r->status;
    char shown[SHOWN_BYTES + 1];
    size_t n_shown = n < SHOWN_BYTES ? n : SHOWN_BYTES;
    for (size_t i = 0; i < n_shown; i++) {
        shown[i] = key[i] > 0x20 && key[i] < 0x7F ? key[i] : '?';
    }
    shown[n_shown] = '\0';
    r->status = pr_error_set(r->err, PR_E_ARGUMENT, "%s: %s: %s", r->message, shown, why);
    return r->status;
}

static void head_field_read(pr_msgpack_reader *r, pr_rpc_head *head, bool *has_kind)
{
    size_t n = 0;
    const char *key = pr_rpc_key_read(r, &n);
    if (!key) return;
    if (pr_rpc_text_is(key, n, "kind")) {
        if (*has_kind) pr_msgpack_fail(r, "kind", "found it twice");
        *has_kind = true;
        const char *name = pr_msgpack_read_str(r, "kind", 1, SIZE_MAX, &n);
        if (!name) return;
        if (!pr_rpc_kind_parse(name, n, &head->kind)) head->kind = PR_RPC_KIND_COUNT;
        snprintf(head->kind_name, sizeof head->kind_name, "%.*s", (int)(n < 31 ? n : 31), name);
    } else if (pr_rpc_text_is(key, n, "id")) {
        if (head->has_id) pr_msgpack_fail(r, "id", "found it twice");
        head->has_id = pr_msgpack_next(r) != PR_MSGPACK_NIL;
        if (head->has_id) {
            head->id = pr_msgpack_read_u64(r, "id", 0, UINT64_MAX);
        } else {
            pr_msgpack_skip(r, "id");
        }
    } else {
        pr_msgpack_skip(r, "value");
    }
}

pr_status pr_rpc_head_read(const char *payload, size_t n, pr_rpc_head *out, pr_error *err)
{
    pr_msgpack_reader r;
    pr_rpc_head head = {.kind = PR_RPC_KIND_COUNT};
    bool has_kind = false;
    pr_msgpack_reader_init(&r, "message", payload, n, err);
    uint32_t n_pairs = pr_msgpack_read_map(&r, "map", 1, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && r.status == PR_OK; i++) {
        head_field_read(&r, &head, &has_kind);
    }
    if (r.status == PR_OK && !has_kind) pr_msgpack_fail(&r, "kind", "found none");
    pr_status st = pr_msgpack_read_end(&r);
    if (st == PR_OK) *out = head;
    return st;
}
