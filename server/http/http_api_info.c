/* What is asked of the server rather than of the model: health, models, version, metrics, load.
 * Loop thread. */
#include "server/http/http_api.h"
#include "server/http/http_write.h"

#include "kernels/cpu/cpu_backend.h"
#include "runtime/base/json_write.h"

#include <string.h>
#include <strings.h>
#include <time.h>

bool pr_http_live(pr_http_exchange *x)
{
    pr_buffer_append_str(pr_http_answer_begin(x), "{\"status\":\"live\"}");
    return true;
}

bool pr_http_ready(pr_http_exchange *x)
{
    pr_service_state state = pr_service_state_now(x->service);
    pr_buffer *b = pr_http_answer_begin(x);
    if (state != PR_SERVICE_READY) x->answer.status = 503;
    pr_buffer_printf(b, "{\"status\":\"%s\"}", pr_service_state_name(state));
    return true;
}

bool pr_http_version(pr_http_exchange *x)
{
    pr_buffer_printf(pr_http_answer_begin(x), "{\"version\":\"%s\"}", pr_version());
    return true;
}

bool pr_http_load(pr_http_exchange *x)
{
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_str(b, "{\"server_load\":");
    pr_json_write_int(b, (int64_t)pr_service_n_calls(x->service));
    pr_buffer_append_char(b, '}');
    return true;
}

/* What xinference's client chooses its handle by. */
static const char *kind_name(const pr_model *model)
{
    if (!model || model->is_served[PR_TASK_EMBED]) return "embedding";
    return model->spec.n_labels == 1 ? "rerank" : "classify";
}

/* OpenAI's object, with vLLM's and xinference's members. */
static void model_write(pr_http_exchange *x, const char *name)
{
    const pr_service_model *m = pr_service_model_of(x->service);
    const char *root = pr_service_settings(x->service)->model;
    pr_buffer *b = &x->answer.body;
    if (!root) root = m->names[0];
    pr_buffer_append_str(b, "{\"id\":");
    pr_json_write_str(b, name, strlen(name));
    pr_buffer_append_str(b, ",\"object\":\"model\",\"created\":");
    pr_json_write_int(b, m->created_s);
    pr_buffer_append_str(b, ",\"owned_by\":\"poolrank\",\"root\":");
    pr_json_write_str(b, root, strlen(root));
    pr_buffer_append_str(b, ",\"parent\":null,\"max_model_len\":");
    if (m->model)
        pr_json_write_int(b, m->model->n_tokens_max);
    else
        pr_buffer_append_str(b, "null");
    if (x->model_name) pr_buffer_printf(b, ",\"model_type\":\"%s\"", kind_name(m->model));
    pr_buffer_append_char(b, '}');
}

bool pr_http_models(pr_http_exchange *x)
{
    const pr_service_model *m = pr_service_model_of(x->service);
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_str(b, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < m->n_names; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        model_write(x, m->names[i]);
    }
    pr_buffer_append_str(b, "]}");
    return true;
}

/* Whether a path's last part is this name; "/" in it may be written as %2F. */
static bool name_is(const char *part, const char *name)
{
    for (; *part && *name; part++, name++) {
        if (*name == '/' && strncasecmp(part, "%2F", 3) == 0)
            part += 2;
        else if (*part != *name)
            return false;
    }
    return *part == *name || (strcmp(part, "/") == 0 && *name == '\0');
}

bool pr_http_model_of(pr_http_exchange *x)
{
    const pr_service_model *m = pr_service_model_of(x->service);
    const char *part = x->path + sizeof "/v1/models/" - 1;
    for (size_t i = 0; i < m->n_names; i++) {
        if (!name_is(part, m->names[i])) continue;
        pr_http_answer_begin(x);
        x->model_name = m->names[i];
        model_write(x, m->names[i]);
        return true;
    }
    pr_error err;
    pr_error_set(&err, PR_E_NOT_FOUND, "The model `%.200s` does not exist.", part);
    return pr_http_fail(x, "model", &err);
}

/* "": not on a CPU. */
static const char *isa_name(const pr_config *config)
{
    if (config->device == PR_DEVICE_CHOICE_CUDA) return "";
    if (config->cpu_isa != PR_CPU_ISA_AUTO) return pr_cpu_isa_name(config->cpu_isa);
    return pr_cpu_isa_name(pr_cpu_isa_best());
}

/* Unless --dtype says it, a GPU's is known once the model is. */
static const char *dtype_name(const pr_config *config, const pr_model *model)
{
    return pr_dtype_name(
        pr_config_dtype(config, model ? model->spec.checkpoint_dtype : PR_DTYPE_F32));
}

bool pr_http_metrics(pr_http_exchange *x)
{
    const pr_config *config = pr_service_settings(x->service);
    const pr_service_model *m = pr_service_model_of(x->service);
    pr_engine_stats stats;
    pr_service_stats(x->service, &stats);
    const pr_metrics_now now = {.engine = &stats,
                                .version = pr_version(),
                                .model = m->names[0],
                                .device = pr_device_choice_name(config->device),
                                .isa = isa_name(config),
                                .dtype = dtype_name(config, m->model),
                                .state = pr_service_state_name(pr_service_state_now(x->service)),
                                .n_calls = pr_service_n_calls(x->service),
                                .uptime_s = (double)(time(NULL) - (time_t)m->created_s)};
    pr_buffer *b = pr_http_answer_begin(x);
    x->answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    pr_metrics_render(x->metrics, &now, b);
    return true;
}

bool pr_http_info(pr_http_exchange *x)
{
    const pr_config *c = pr_service_settings(x->service);
    const pr_service_model *m = pr_service_model_of(x->service);
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_str(b, "{\"model_id\":");
    pr_json_write_str(b, m->names[0], strlen(m->names[0]));
    pr_buffer_printf(b,
                     ",\"model_sha\":null,\"model_dtype\":\"%s\",\"max_concurrent_requests\":%d,"
                     "\"max_input_length\":%u,\"max_batch_tokens\":%d,\"max_batch_requests\":%d,"
                     "\"max_client_batch_size\":%d,\"auto_truncate\":true,\"version\":\"%s\"}",
                     dtype_name(c, m->model), c->max_queued_requests,
                     m->model ? m->model->n_tokens_max : 0u, c->max_num_batched_tokens,
                     c->max_num_seqs, c->max_client_batch_size, pr_version());
    return true;
}
