/* One request on its way:
 *
 *     begin ── headers ──► refused? ──────────────────────────────────────┐
 *       │ data*                                                           │
 *     go: parse (small: here; large: pool thread) ──► error, or no call ──┤
 *       │ connection suspended                                            │
 *     pr_service_call_begin … done ──► format (here or pool thread)       │
 *       │ connection resumed                                              ▼
 *     go ──────────────────────────────────────────────────────► answer queued ──► free
 */
#include "runtime/base/clock.h"
#include "server/http/http_transport.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    /* Bodies up to this are parsed on the loop thread: that takes some 50 us, a pool thread and the
     * way there and back as much, and most requests are smaller by far. */
    PARSE_HERE_BYTES = 16384,
    /* Numbers that are formatted on the loop thread: some 100 us. */
    FORMAT_HERE_FLOATS = 4096,
    /* Of a body whose length is known so much memory is taken at once; more as it arrives. */
    RESERVE_BYTES_MAX = 1 << 20,
};

static pr_http_server *server_of(const pr_http_request *r)
{
    return r->connection->listener->server;
}

/* ---- the answer ---- */

static void answer_error(pr_http_request *r, int http_status, pr_status st, const char *type,
                         const char *message, bool closes)
{
    pr_http_exchange *x = &r->exchange;
    pr_error err = {.status = st};
    pr_error_set(&err, st, "%s", message);
    pr_buffer_clear(&x->answer.body);
    x->answer.n_headers = 0;
    pr_http_exchange_error(x, http_status, type ? type : pr_status_describe(st)->http_type, &err,
                           NULL, http_status == 503 ? 1 : 0);
    x->answer.closes |= closes;
}

static bool header_add(struct MHD_Response *response, const char *name, const char *value)
{
    return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool cors_add(const pr_http_request *r, struct MHD_Response *response)
{
    const pr_http_origins *origins = server_of(r)->origins;
    const char *origin = r->head.text[PR_HTTP_FIELD_ORIGIN];
    if (!origins) return true;
    const char *allowed = origin ? pr_http_origins_allow(origins, origin) : NULL;
    bool ok = header_add(response, "Vary", "Origin");
    if (!allowed) return ok;
    return ok && header_add(response, "Access-Control-Allow-Origin", allowed) &&
           header_add(response, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
}

static struct MHD_Response *response_make(pr_http_request *r)
{
    pr_http_answer *a = &r->exchange.answer;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        a->body.n, a->body.data, MHD_RESPMEM_MUST_FREE);
    if (!response) return NULL;
    pr_buffer_init(&a->body); /* its memory is the response's */
    bool ok = header_add(response, "X-Request-Id", r->exchange.call.id) && cors_add(r, response);
    if (ok && a->content_type) ok = header_add(response, "Content-Type", a->content_type);
    for (size_t i = 0; ok && i < a->n_headers; i++) {
        ok = header_add(response, a->headers[i].name, a->headers[i].value);
    }
    bool closes = a->closes || (server_of(r)->is_refusing && !r->connection->listener->is_metrics);
    if (ok && closes) ok = header_add(response, "Connection", "close");
    if (ok) return response;
    MHD_destroy_response(response);
    return NULL;
}

static void body_free(pr_http_request *r)
{
    server_of(r)->body_bytes -= r->body.n;
    pr_buffer_deinit(&r->body);
    r->exchange.body = NULL;
    r->exchange.n_body = 0;
}

/* Only in libmicrohttpd's callback for the request. */
static enum MHD_Result answer_send(pr_http_request *r)
{
    pr_http_answer *a = &r->exchange.answer;
    if (r->is_gone) return MHD_NO; /* closes; request_free reports it */
    if (a->status == 0 || a->body.failed) {
        answer_error(r, 0, a->body.failed ? PR_E_NOMEM : PR_E_INTERNAL, NULL,
                     a->body.failed ? "no memory for the answer" : "no answer was made", false);
    }
    int status = a->status;
    uint64_t n_body = a->body.n;
    struct MHD_Response *response = response_make(r);
    if (!response) return MHD_NO;
    r->stage = PR_HTTP_STAGE_SENT;
    body_free(r);
    pr_http_report_answer(r, status);
    pr_http_connection_phase(r->connection, PR_HTTP_PHASE_SENDING, n_body);
    enum MHD_Result result = MHD_queue_response(r->connection->mhd, (unsigned)status, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- while it is served ---- */

void pr_http_request_left(pr_http_request *r)
{
    if (r->is_gone) return;
    r->is_gone = true;
    if (r->stage == PR_HTTP_STAGE_SERVE) {
        pr_service_call_cancel(r->exchange.service, &r->exchange.call);
    }
}

static void request_suspend(pr_http_request *r)
{
    MHD_suspend_connection(r->connection->mhd);
    r->is_suspended = true;
    pr_http_connection_look(r->connection); /* it may have left already */
}

/* The answer can be queued only from libmicrohttpd's callback, which comes in its next run. There,
 * 0.9.75 first goes through the connections that have a timeout of their own, calls us and gets the
 * answer, and only then through those whose sockets are ready. A connection without such a timeout
 * is only in the second list, and there it is read from before we are called: that wastes a system
 * call, and where the client has half-closed it ends the connection without an answer. So every
 * connection is given a timeout before it is resumed; on_completed takes it back, to keep that list
 * short. The timeout itself does good too: an answer of which nothing could be sent for so long. */
static void request_ready(pr_http_request *r)
{
    pr_http_server *server = server_of(r);
    struct MHD_Connection *mhd = r->connection->mhd;
    assert(r->is_suspended);
    r->stage = PR_HTTP_STAGE_READY;
    r->is_suspended = false;
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT,
                              (unsigned)server->config->read_timeout);
    MHD_resume_connection(mhd);
    pr_http_listener_wake(r->connection->listener);
}

/* ---- results → answer ---- */

static void format_work(uv_work_t *work)
{
    pr_http_request *r = work->data;
    pr_http_exchange_format(&r->exchange);
    /* A request of many texts is made of many small pieces of memory; not on the loop thread. */
    json_decref(r->exchange.json);
    r->exchange.json = NULL;
    pr_call_deinit(&r->exchange.call);
}

static void format_done(uv_work_t *work, int status)
{
    (void)status;
    request_ready(work->data);
}

static uint64_t floats_count(const pr_call *call)
{
    uint64_t n = 0;
    for (size_t i = 0; call->results && i < call->n_items; i++) {
        const pr_result *result = call->results[i];
        if (!result) continue;
        n += (uint64_t)result->n_rows * result->n_columns;
        if (result->tokens) n += result->n_prompt_tokens;
    }
    return n;
}

static void on_call_done(pr_call *call)
{
    pr_http_request *r = call->context;
    pr_http_report_call(r);
    if (r->is_gone) {
        request_ready(r);
    } else if (floats_count(call) <= FORMAT_HERE_FLOATS) {
        pr_http_exchange_format(&r->exchange);
        request_ready(r);
    } else {
        r->stage = PR_HTTP_STAGE_FORMAT;
        uv_queue_work(server_of(r)->loop, &r->work, format_work, format_done);
    }
}

/* ---- body → call ---- */

static void call_begin(pr_http_request *r)
{
    pr_call *call = &r->exchange.call;
    r->stage = PR_HTTP_STAGE_SERVE;
    call->done = on_call_done;
    call->context = r;
    pr_service_call_begin(r->exchange.service, call);
}

static void parse_work(uv_work_t *work)
{
    pr_http_request *r = work->data;
    r->is_parsed = pr_http_exchange_parse(&r->exchange);
}

static void parse_done(uv_work_t *work, int status)
{
    pr_http_request *r = work->data;
    (void)status;
    if (r->is_parsed && !r->is_gone && r->exchange.answer.status == 0) call_begin(r);
    else request_ready(r);
}

static enum MHD_Result not_loaded(pr_http_request *r)
{
    enum { RETRY_S = 5 };
    const pr_error err = {PR_E_UNAVAILABLE, "the model is being loaded"};
    pr_metrics_rejected(server_of(r)->metrics, PR_E_UNAVAILABLE);
    pr_http_exchange_error(&r->exchange, 0, NULL, &err, NULL, RETRY_S);
    return answer_send(r);
}

/* The request is whole. */
static enum MHD_Result request_serve(pr_http_request *r)
{
    pr_http_exchange *x = &r->exchange;
    bool has_call = pr_http_route_has_call(x->route);
    x->body = r->body.data ? r->body.data : "";
    x->n_body = r->body.n;
    pr_http_connection_phase(r->connection, PR_HTTP_PHASE_SERVING, 0);
    /* Not read at all: the model that it would be held against comes while pool threads read. */
    if (has_call && !pr_service_model_of(x->service)->model) return not_loaded(r);
    if (has_call && x->n_body > PARSE_HERE_BYTES) {
        r->stage = PR_HTTP_STAGE_PARSE;
        request_suspend(r);
        uv_queue_work(server_of(r)->loop, &r->work, parse_work, parse_done);
        return MHD_YES;
    }
    bool goes_on = pr_http_exchange_parse(x) && has_call && x->answer.status == 0;
    if (!goes_on) return answer_send(r);
    request_suspend(r);
    if (r->is_gone) request_ready(r);
    else call_begin(r);
    return MHD_YES;
}

enum MHD_Result pr_http_request_go(pr_http_request *r)
{
    switch (r->stage) {
    case PR_HTTP_STAGE_BODY: return request_serve(r);
    case PR_HTTP_STAGE_DISCARD:
    case PR_HTTP_STAGE_READY: return answer_send(r);
    case PR_HTTP_STAGE_PARSE:
    case PR_HTTP_STAGE_SERVE:
    case PR_HTTP_STAGE_FORMAT:
    case PR_HTTP_STAGE_SENT: break;
    }
    return MHD_YES;
}

/* ---- headers and body ---- */

static const char *method_known(const char *method)
{
    static const char *const methods[] = {"POST",    "GET",   "HEAD", "PUT",
                                          "OPTIONS", "PATCH", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(method, methods[i]) == 0) return methods[i];
    }
    return "other";
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t n_name, const char *value, size_t n_value)
{
    (void)kind;
    pr_http_head_add(cls, name, n_name, value, n_value);
    return MHD_YES;
}

static bool key_is_good(pr_http_request *r)
{
    const pr_api_keys *keys = server_of(r)->keys;
    const char *authorization = r->head.text[PR_HTTP_FIELD_AUTHORIZATION];
    const char *key = r->head.text[PR_HTTP_FIELD_API_KEY], *name = NULL;
    size_t n = r->head.n[PR_HTTP_FIELD_API_KEY];
    if (authorization) {
        size_t n_bearer = 0;
        const char *bearer = pr_api_key_of_header(authorization, &n_bearer);
        if (bearer) name = pr_api_keys_find(keys, bearer, n_bearer);
    }
    if (!name && key) name = pr_api_keys_find(keys, key, n);
    /* Copied: keys may be read anew before this request is answered. */
    if (name) snprintf(r->key_name, sizeof r->key_name, "%s", name);
    return name;
}

/* A browser asks whether a page may send what it is about to send. */
static bool preflight_answer(pr_http_request *r)
{
    pr_http_answer *a = &r->exchange.answer;
    const char *origin = r->head.text[PR_HTTP_FIELD_ORIGIN];
    if (!server_of(r)->origins || strcmp(r->method, "OPTIONS") != 0 || !origin ||
        !r->head.text[PR_HTTP_FIELD_PREFLIGHT_METHOD]) {
        return false;
    }
    a->status = MHD_HTTP_NO_CONTENT;
    if (pr_http_origins_allow(server_of(r)->origins, origin)) {
        pr_http_answer_header(a, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        pr_http_answer_header(a, "Access-Control-Allow-Headers",
                              "Authorization, Content-Type, X-API-Key, X-Request-Id");
        pr_http_answer_header(a, "Access-Control-Max-Age", "600");
    }
    return true;
}

static void too_large(pr_http_request *r)
{
    char message[128];
    snprintf(message, sizeof message, "body: expected at most %d bytes (--max-body-bytes)",
             server_of(r)->config->max_body_bytes);
    pr_metrics_rejected(server_of(r)->metrics, PR_E_TOO_LARGE);
    answer_error(r, MHD_HTTP_CONTENT_TOO_LARGE, PR_E_TOO_LARGE, NULL, message, true);
}

/* What can be said of the request by its headers alone. An answer is there if it is refused. */
static void request_judge(pr_http_request *r)
{
    pr_http_server *server = server_of(r);
    pr_http_exchange *x = &r->exchange;
    if (r->head.fault) {
        answer_error(r, MHD_HTTP_BAD_REQUEST, PR_E_INPUT, NULL, r->head.fault, true);
        return;
    }
    if (!x->is_metrics_port && preflight_answer(r)) return;
    bool fits = pr_http_exchange_route(x);
    /* Who has no key is not told which paths there are. */
    bool needs_key = !x->is_metrics_port && (!x->route || pr_http_route_needs_key(x->route));
    if (needs_key && pr_api_keys_are_needed(server->keys) && !key_is_good(r)) {
        answer_error(r, MHD_HTTP_UNAUTHORIZED, PR_E_ARGUMENT, "AuthenticationError",
                     "no API key, or one that is not known: expected Authorization: Bearer KEY",
                     false);
    } else if (!fits) {
        return;
    } else if (needs_key && server->is_refusing) {
        pr_metrics_rejected(server->metrics, PR_E_UNAVAILABLE);
        answer_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PR_E_UNAVAILABLE, NULL,
                     "the server is shutting down", true);
    } else if (r->head.n_body > (uint64_t)server->config->max_body_bytes) {
        too_large(r);
    }
}

static void exchange_begin(pr_http_request *r, const char *method, const char *url)
{
    pr_http_server *server = server_of(r);
    pr_http_exchange *x = &r->exchange;
    const pr_http_head *head = &r->head;
    size_t n_labels = 0;
    pr_http_exchange_init(x, server->service, server->metrics);
    pr_http_route_labels(&n_labels);
    x->i_route = n_labels - 1;
    r->method = method_known(method);
    x->method = strcmp(method, "HEAD") == 0 ? "GET" : method; /* the body is not sent then */
    x->path = url;
    x->is_metrics_port = r->connection->listener->is_metrics;
    x->content_type = head->text[PR_HTTP_FIELD_CONTENT_TYPE];
    x->key_name = r->key_name;
    pr_request_id_take(x->call.id, head->text[PR_HTTP_FIELD_REQUEST_ID],
                       head->n[PR_HTTP_FIELD_REQUEST_ID]);
}

enum MHD_Result pr_http_request_begin(pr_http_connection *c, const char *method, const char *url,
                                      const char *version)
{
    pr_http_request *r = calloc(1, sizeof *r);
    if (!r) return MHD_NO;
    r->connection = c;
    r->work.data = r;
    r->takes_interim = strcmp(version, "HTTP/1.1") == 0;
    c->request = r;
    server_of(r)->n_exchanges++;
    MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, on_header, &r->head);
    pr_http_head_end(&r->head);
    exchange_begin(r, method, url);
    request_judge(r);
    const pr_http_answer *a = &r->exchange.answer;
    if (a->status == 0) return MHD_YES;
    /* An answer now ends the connection behind it, for the body is then never read. Otherwise small
     * bodies are read over and the connection goes on. */
    r->stage = PR_HTTP_STAGE_DISCARD;
    bool is_now = a->closes || (r->head.has_body && r->head.expects_continue);
    c->is_cut = is_now && r->head.has_body;
    return is_now ? answer_send(r) : MHD_YES;
}

enum MHD_Result pr_http_request_data(pr_http_request *r, const char *data, size_t n)
{
    pr_http_server *server = server_of(r);
    uint64_t n_max = (uint64_t)server->config->max_body_bytes;
    r->n_data += n;
    /* Read over, for libmicrohttpd takes no answer in the middle of a body, up to
     * --read-timeout. */
    if (r->stage != PR_HTTP_STAGE_BODY) return MHD_YES;
    if (r->n_data > n_max) { /* chunked: else its length has told so */
        too_large(r);
    } else if (server->body_bytes + n > PR_HTTP_BODIES_MAX * n_max) {
        pr_metrics_rejected(server->metrics, PR_E_OVERLOADED);
        answer_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PR_E_OVERLOADED, NULL,
                     "too many large requests are being received", false);
    } else {
        if (r->body.n == 0 && r->head.n_body <= RESERVE_BYTES_MAX) {
            pr_buffer_reserve(&r->body, (size_t)r->head.n_body);
        }
        if (pr_buffer_append(&r->body, data, n)) {
            server->body_bytes += n;
            return MHD_YES;
        }
        answer_error(r, 0, PR_E_NOMEM, NULL, "no memory for the body", false);
    }
    r->stage = PR_HTTP_STAGE_DISCARD;
    body_free(r);
    return MHD_YES;
}

void pr_http_request_free(pr_http_request *r)
{
    enum { CLIENT_CLOSED_REQUEST = 499 }; /* what nginx calls it; nobody receives it */
    if (!r) return;
    assert(!r->is_suspended);
    pr_http_server *server = server_of(r);
    if (r->stage != PR_HTTP_STAGE_SENT) pr_http_report_answer(r, CLIENT_CLOSED_REQUEST);
    body_free(r);
    pr_http_exchange_deinit(&r->exchange);
    free(r);
    pr_http_server_exchange_end(server);
}
