#include "runtime/wire/rpc_info.h"

#include "runtime/wire/frame.h"
#include "runtime/wire/msgpack_write.h"

#include <assert.h>
#include <string.h>

static void u64_pack(pr_buffer *out, const char *key, uint64_t v)
{
    pr_msgpack_write_text(out, key);
    pr_msgpack_write_u64(out, v);
}

static void text_pack(pr_buffer *out, const char *key, pr_rpc_text text)
{
    pr_msgpack_write_text(out, key);
    pr_msgpack_write_str(out, text.s, text.n);
}

static void tasks_pack(const pr_rpc_info *info, pr_buffer *out)
{
    uint32_t n = 0;
    for (int t = PR_TASK_EMBED; t < PR_TASK_COUNT; t++) n += info->tasks >> t & 1;
    pr_msgpack_write_text(out, "tasks");
    pr_msgpack_write_array(out, n);
    for (int t = PR_TASK_EMBED; t < PR_TASK_COUNT; t++) {
        if (info->tasks >> t & 1) pr_msgpack_write_text(out, pr_rpc_task_name((pr_task)t));
    }
}

static void model_pack(const pr_rpc_info *info, pr_buffer *out)
{
    pr_msgpack_write_text(out, "task");
    pr_msgpack_write_text(out, pr_rpc_task_name(info->task));
    tasks_pack(info, out);
    u64_pack(out, "dimensions", info->dimensions);
    u64_pack(out, "max_model_len", info->max_model_len);
    text_pack(out, "pooling", info->pooling);
    if (info->n_labels == 0) return;
    pr_msgpack_write_text(out, "labels");
    pr_msgpack_write_array(out, (uint32_t)info->n_labels);
    for (size_t i = 0; i < info->n_labels; i++) pr_msgpack_write_text(out, info->labels[i]);
}

pr_status pr_rpc_info_pack(pr_rpc_kind kind, const pr_rpc_info *info, pr_buffer *out, pr_error *err)
{
    assert(kind == PR_RPC_HELLO || kind == PR_RPC_INFO);
    assert(info->n_labels <= PR_RPC_LABELS_MAX);
    size_t place = pr_frame_begin(out);
    pr_msgpack_write_map(out, 6 + (kind == PR_RPC_INFO) +
                                  (info->is_loaded ? 5 + (info->n_labels > 0) : 0));
    pr_msgpack_write_text(out, "kind");
    pr_msgpack_write_text(out, pr_rpc_kind_name(kind));
    if (kind == PR_RPC_INFO) u64_pack(out, "id", info->id);
    u64_pack(out, "version", PR_RPC_VERSION);
    text_pack(out, "server", info->server);
    text_pack(out, "state", info->state);
    text_pack(out, "model", info->model);
    if (info->is_loaded) model_pack(info, out);
    pr_msgpack_write_text(out, "limits");
    pr_msgpack_write_map(out, 4);
    u64_pack(out, "frame_bytes", info->frame_bytes_max);
    u64_pack(out, "answer_bytes", info->answer_bytes_max);
    u64_pack(out, "items", info->items_max);
    u64_pack(out, "requests", info->requests_max);
    return pr_frame_end(out, place, err);
}

/* ---- unpacking ---- */

static void text_take(pr_msgpack_reader *r, const char *field, pr_rpc_text *out)
{
    out->s = pr_msgpack_read_str(r, field, 0, SIZE_MAX, &out->n);
}

static void task_take(pr_msgpack_reader *r, pr_task *out)
{
    pr_rpc_text name = {0};
    text_take(r, "task", &name);
    if (name.s && !pr_rpc_task_parse(name.s, name.n, out)) *out = PR_TASK_AUTO; /* a newer one */
}

static void tasks_take(pr_msgpack_reader *r, pr_rpc_info *info)
{
    uint32_t n = pr_msgpack_read_array(r, "tasks", 0, UINT32_MAX);
    for (uint32_t i = 0; i < n && r->status == PR_OK; i++) {
        pr_task task = PR_TASK_AUTO;
        task_take(r, &task);
        info->tasks |= UINT32_C(1) << task;
    }
}

static void limits_take(pr_msgpack_reader *r, pr_rpc_info *info)
{
    uint32_t n_pairs = pr_msgpack_read_map(r, "limits", 0, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && r->status == PR_OK; i++) {
        size_t n = 0;
        const char *key = pr_rpc_key_read(r, &n);
        if (!key) return;
        if (pr_rpc_text_is(key, n, "frame_bytes")) {
            info->frame_bytes_max = pr_msgpack_read_u64(r, "frame_bytes", 0, UINT64_MAX);
        } else if (pr_rpc_text_is(key, n, "answer_bytes")) {
            info->answer_bytes_max = pr_msgpack_read_u64(r, "answer_bytes", 0, UINT64_MAX);
        } else if (pr_rpc_text_is(key, n, "items")) {
            info->items_max = (uint32_t)pr_msgpack_read_u64(r, "items", 0, UINT32_MAX);
        } else if (pr_rpc_text_is(key, n, "requests")) {
            info->requests_max = (uint32_t)pr_msgpack_read_u64(r, "requests", 0, UINT32_MAX);
        } else {
            pr_msgpack_skip(r, "value");
        }
    }
}

static void field_take(pr_msgpack_reader *r, pr_rpc_info *info)
{
    size_t n = 0;
    const char *key = pr_rpc_key_read(r, &n);
    if (!key) return;
    if (pr_rpc_text_is(key, n, "id")) {
        info->id = pr_msgpack_read_u64(r, "id", 0, UINT64_MAX);
    } else if (pr_rpc_text_is(key, n, "version")) {
        pr_msgpack_read_u64(r, "version", PR_RPC_VERSION, PR_RPC_VERSION);
    } else if (pr_rpc_text_is(key, n, "server")) {
        text_take(r, "server", &info->server);
    } else if (pr_rpc_text_is(key, n, "state")) {
        text_take(r, "state", &info->state);
    } else if (pr_rpc_text_is(key, n, "model")) {
        text_take(r, "model", &info->model);
    } else if (pr_rpc_text_is(key, n, "task")) {
        task_take(r, &info->task);
        info->is_loaded = true;
    } else if (pr_rpc_text_is(key, n, "tasks")) {
        tasks_take(r, info);
    } else if (pr_rpc_text_is(key, n, "dimensions")) {
        info->dimensions = (uint32_t)pr_msgpack_read_u64(r, "dimensions", 0, UINT32_MAX);
    } else if (pr_rpc_text_is(key, n, "max_model_len")) {
        info->max_model_len = (uint32_t)pr_msgpack_read_u64(r, "max_model_len", 0, UINT32_MAX);
    } else if (pr_rpc_text_is(key, n, "pooling")) {
        text_take(r, "pooling", &info->pooling);
    } else if (pr_rpc_text_is(key, n, "limits")) {
        limits_take(r, info);
    } else {
        pr_msgpack_skip(r, "value");
    }
}

pr_status pr_rpc_info_unpack(const char *payload, size_t n, pr_rpc_info *out, pr_error *err)
{
    pr_msgpack_reader r;
    pr_rpc_info info = {0};
    pr_msgpack_reader_init(&r, "info", payload, n, err);
    uint32_t n_pairs = pr_msgpack_read_map(&r, "map", 1, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && r.status == PR_OK; i++) field_take(&r, &info);
    if (r.status == PR_OK && (!info.server.s || !info.state.s || !info.model.s)) {
        pr_msgpack_fail(&r, "map", "found not all of server, state, model");
    }
    pr_status st = pr_msgpack_read_end(&r);
    if (st == PR_OK) *out = info;
    return st;
}

/* ---- stats ---- */

pr_status pr_rpc_stats_pack(const pr_rpc_stats *s, pr_buffer *out, pr_error *err)
{
    size_t place = pr_frame_begin(out);
    pr_msgpack_write_map(out, 13);
    pr_msgpack_write_text(out, "kind");
    pr_msgpack_write_text(out, "stats");
    u64_pack(out, "id", s->id);
    pr_msgpack_write_text(out, "state");
    pr_msgpack_write_text(out, s->state);
    u64_pack(out, "open_requests", s->n_calls);
    u64_pack(out, "open_items", s->n_requests);
    u64_pack(out, "queued_items", s->n_queued);
    u64_pack(out, "open_tokens", s->n_tokens);
    pr_msgpack_write_text(out, "tokens_per_s");
    pr_msgpack_write_f64(out, s->tokens_per_s);
    u64_pack(out, "batches", s->n_batches);
    u64_pack(out, "batch_tokens", s->n_batch_tokens);
    u64_pack(out, "batch_items", s->n_batch_requests);
    u64_pack(out, "restarts", s->n_restarts);
    pr_msgpack_write_text(out, "groups");
    pr_msgpack_write_array(out, (uint32_t)s->n_groups);
    for (size_t i = 0; i < s->n_groups; i++) {
        pr_msgpack_write_map(out, 3);
        u64_pack(out, "group", s->groups[i].index);
        pr_msgpack_write_text(out, "state");
        pr_msgpack_write_text(out, s->groups[i].state);
        u64_pack(out, "starts", s->groups[i].n_starts);
    }
    return pr_frame_end(out, place, err);
}
