#include "runtime/base/clock.h"
#include "server/http/http_transport.h"

static double seconds_of(uint64_t ns)
{
    return (double)ns * 1e-9;
}

void pr_http_report_call(pr_http_request *r)
{
    pr_metrics *metrics = r->connection->listener->server->metrics;
    const pr_http_exchange *x = &r->exchange;
    const pr_call *call = &x->call;
    if (call->error.status != PR_OK && call->error.status != PR_E_CANCELLED) {
        pr_metrics_rejected(metrics, call->error.status);
    }
    for (size_t i = 0; call->results && i < call->n_items; i++) {
        const pr_result *result = call->results[i];
        if (!result) continue;
        const double seconds[PR_STAGE_COUNT] = {
            [PR_STAGE_TOKENIZE] = seconds_of(result->tokenize_ns),
            [PR_STAGE_QUEUE] = seconds_of(result->queue_ns),
            [PR_STAGE_RUN] = seconds_of(result->run_ns),
        };
        r->n_prompt_tokens += result->n_prompt_tokens;
        pr_metrics_item(metrics, x->i_route, result->n_prompt_tokens, seconds);
    }
}

void pr_http_report_answer(pr_http_request *r, int status)
{
    const pr_http_server *server = r->connection->listener->server;
    const pr_http_exchange *x = &r->exchange;
    double seconds = seconds_of(pr_clock_ns() - r->connection->begin_ns);
    pr_metrics_request(server->metrics, x->i_route, status, seconds);
    if (!pr_log_takes(server->log, PR_LOG_INFO)) return;
    /* Neither path nor method as the client wrote them: what it sends is no text for a log. */
    const pr_log_field fields[] = {
        pr_log_text("request_id", x->call.id),
        pr_log_text("method", r->method),
        pr_log_text("route", x->route ? pr_http_route_label(x->route) : "other"),
        pr_log_integer("status", status),
        pr_log_number("ms", seconds * 1e3),
        pr_log_integer("items", (int64_t)x->call.n_items),
        pr_log_integer("prompt_tokens", r->n_prompt_tokens),
        pr_log_text("key", r->key_name[0] ? r->key_name : NULL),
    };
    pr_log_event(server->log, PR_LOG_INFO, fields, sizeof fields / sizeof *fields, "request");
}
