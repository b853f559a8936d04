#include "server/socket/socket_info.h"

#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_info.h"

#include <string.h>

static pr_rpc_text text_of(const char *s)
{
    return (pr_rpc_text){.s = s, .n = strlen(s)};
}

static void model_fill(const pr_model *model, pr_rpc_info *info)
{
    info->is_loaded = true;
    info->task = model->task;
    for (int task = PR_TASK_EMBED; task < PR_TASK_COUNT; task++) {
        if (model->is_served[task]) info->tasks |= UINT32_C(1) << task;
    }
    info->dimensions = (uint32_t)model->n_width;
    info->max_model_len = model->n_tokens_max;
    info->pooling = text_of(pr_pool_name(model->poolings[model->task].type));
    if (model->spec.labels && model->spec.n_labels <= PR_RPC_LABELS_MAX) {
        info->labels = (const char *const *)model->spec.labels;
        info->n_labels = (size_t)model->spec.n_labels;
    }
}

pr_status pr_socket_info_pack(const pr_socket_shared *s, pr_rpc_kind kind, uint64_t id,
                              pr_buffer *out, pr_error *err)
{
    const pr_service_model *model = pr_service_model_of(s->c.service);
    pr_service_state state = pr_service_state_now(s->c.service);
    pr_rpc_info info = {
        .id = id,
        .server = text_of("poolrank " POOLRANK_VERSION),
        .state = text_of(pr_service_state_name(state)),
        .model = text_of(model->names[0]),
        .frame_bytes_max = (uint64_t)s->c.config->max_body_bytes,
        .answer_bytes_max = PR_FRAME_BYTES_MAX,
        .items_max = (uint32_t)s->c.config->max_client_batch_size,
        .requests_max = PR_RPC_REQUESTS_MAX,
    };
    if (model->model) model_fill(model->model, &info);
    return pr_rpc_info_pack(kind, &info, out, err);
}

pr_status pr_socket_stats_pack(const pr_socket_shared *s, uint64_t id, pr_buffer *out,
                               pr_error *err)
{
    pr_engine_stats e;
    pr_rpc_group groups[PR_ENGINE_GROUPS_MAX];
    pr_service_stats(s->c.service, &e);
    size_t n_groups = e.n_groups < PR_ENGINE_GROUPS_MAX ? e.n_groups : PR_ENGINE_GROUPS_MAX;
    for (size_t i = 0; i < n_groups; i++) {
        groups[i] = (pr_rpc_group){.index = e.groups[i].index,
                                   .state = e.groups[i].state,
                                   .n_starts = e.groups[i].n_starts};
    }
    const pr_rpc_stats stats = {
        .id = id,
        .state = pr_service_state_name(pr_service_state_now(s->c.service)),
        .n_calls = pr_service_n_calls(s->c.service),
        .n_requests = e.n_requests,
        .n_queued = e.n_queued,
        .n_tokens = e.n_tokens,
        .tokens_per_s = e.tokens_per_s,
        .n_batches = e.n_batches,
        .n_batch_tokens = e.n_batch_tokens,
        .n_batch_requests = e.n_batch_requests,
        .n_restarts = e.n_restarts,
        .groups = groups,
        .n_groups = n_groups,
    };
    return pr_rpc_stats_pack(&stats, out, err);
}
