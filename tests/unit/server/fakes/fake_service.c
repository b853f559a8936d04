#include "fake_service.h"

#include "server/http/http_exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

typedef struct fake_call fake_call;

struct fake_call {
    fake_service *service;
    pr_call *call;
    bool is_held, is_cancelled;
    fake_call *next;
};

struct fake_service {
    uv_loop_t *loop;
    uv_idle_t idle; /* active while a call is due */
    fake_call *calls;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int counts[FAKE_COUNT];
};

static fake_service *of_service(const pr_service *service)
{
    return (fake_service *)service;
}

static fake_service *of_metrics(const pr_metrics *metrics)
{
    return (fake_service *)metrics;
}

pr_service *fake_service_handle(fake_service *f)
{
    return (pr_service *)f;
}

pr_metrics *fake_service_metrics(fake_service *f)
{
    return (pr_metrics *)f;
}

/* It is loaded: bodies are parsed. */
const pr_service_model *pr_service_model_of(const pr_service *service)
{
    static const pr_model model;
    static const pr_service_model loaded = {.model = &model};
    (void)service;
    return &loaded;
}

/* ---- counts ---- */

static void count_add(fake_service *f, fake_count which, int n)
{
    pthread_mutex_lock(&f->lock);
    f->counts[which] += n;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

int fake_service_get(fake_service *f, fake_count which)
{
    pthread_mutex_lock(&f->lock);
    int n = f->counts[which];
    pthread_mutex_unlock(&f->lock);
    return n;
}

void fake_service_wait(fake_service *f, fake_count which, int n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&f->lock);
    int rc = 0;
    while (f->counts[which] != n && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    }
    int found = f->counts[which];
    pthread_mutex_unlock(&f->lock);
    if (found != n) fail_msg("count %d: found %d, expected %d", (int)which, found, n);
}

/* ---- service ---- */

static pr_result *result_make(uint32_t n_columns)
{
    pr_result *result = calloc(1, sizeof *result);
    result->n_prompt_tokens = 5;
    result->n_rows = 1;
    result->n_columns = n_columns;
    result->data = calloc(n_columns, sizeof *result->data);
    result->run_ns = 1000;
    return result;
}

static void call_finish(fake_service *f, fake_call *c)
{
    pr_call *call = c->call;
    if (c->is_cancelled) {
        pr_error_set(&call->error, PR_E_CANCELLED, "the client has left");
    } else if (call->priority == 1) {
        pr_error_set(&call->error, PR_E_OVERLOADED, "the queue is full");
        call->retry_after_s = 7;
    } else {
        call->results = calloc(call->n_items, sizeof *call->results);
        for (size_t i = 0; i < call->n_items; i++) {
            call->results[i] = result_make((uint32_t)call->items[i].dimensions);
        }
    }
    free(c);
    count_add(f, FAKE_DONE, 1);
    call->done(call);
}

static void on_idle(uv_idle_t *idle)
{
    fake_service *f = idle->data;
    fake_call *due = NULL, **at = &f->calls;
    while (*at) { /* taken out first: done may begin another */
        fake_call *c = *at;
        if (c->is_held && !c->is_cancelled) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        c->next = due;
        due = c;
    }
    uv_idle_stop(idle);
    while (due) {
        fake_call *c = due;
        due = c->next;
        call_finish(f, c);
    }
}

void pr_service_call_begin(pr_service *service, pr_call *call)
{
    fake_service *f = of_service(service);
    fake_call *c = calloc(1, sizeof *c);
    c->service = f;
    c->call = call;
    c->is_held = call->priority == 2;
    c->next = f->calls;
    f->calls = c;
    count_add(f, FAKE_BEGUN, 1);
    if (c->is_held) count_add(f, FAKE_HELD, 1);
    else uv_idle_start(&f->idle, on_idle);
}

void pr_service_call_cancel(pr_service *service, pr_call *call)
{
    fake_service *f = of_service(service);
    for (fake_call *c = f->calls; c; c = c->next) {
        if (c->call != call || c->is_cancelled) continue;
        c->is_cancelled = true;
        count_add(f, FAKE_CANCELLED, 1);
        if (c->is_held) count_add(f, FAKE_HELD, -1);
        uv_idle_start(&f->idle, on_idle);
    }
}

static void release(fake_service *f)
{
    for (fake_call *c = f->calls; c; c = c->next) {
        if (!c->is_held) continue;
        c->is_held = false;
        count_add(f, FAKE_HELD, -1);
    }
    uv_idle_start(&f->idle, on_idle);
}

fake_service *fake_service_open(uv_loop_t *loop)
{
    fake_service *f = calloc(1, sizeof *f);
    f->loop = loop;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    uv_idle_init(loop, &f->idle);
    f->idle.data = f;
    return f;
}

static void on_closed(uv_handle_t *handle)
{
    fake_service *f = handle->data;
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    free(f);
}

void fake_service_close(fake_service *f)
{
    assert_null(f->calls);
    uv_close((uv_handle_t *)&f->idle, on_closed);
}

/* ---- metrics ---- */

void pr_metrics_request(pr_metrics *m, size_t i_route, int code, double seconds)
{
    (void)i_route;
    (void)seconds;
    count_add(of_metrics(m), FAKE_REQUESTS, 1);
    if (code == 499) count_add(of_metrics(m), FAKE_LEFT, 1);
}

void pr_metrics_item(pr_metrics *m, size_t i_route, uint32_t n_prompt_tokens,
                     const double seconds[PR_STAGE_COUNT])
{
    (void)i_route;
    (void)n_prompt_tokens;
    (void)seconds;
    count_add(of_metrics(m), FAKE_ITEMS, 1);
}

void pr_metrics_rejected(pr_metrics *m, pr_status reason)
{
    (void)reason;
    count_add(of_metrics(m), FAKE_REJECTED, 1);
}

void pr_metrics_connections(pr_metrics *m, int32_t n_change)
{
    count_add(of_metrics(m), FAKE_CONNECTIONS, n_change);
}

/* ---- routes ---- */

struct pr_http_route {
    const char *method, *path;
    bool needs_key, has_call;
};

static const pr_http_route routes[] = {
    {"GET", "/health", false, false}, {"GET", "/metrics", true, false},
    {"POST", "/work", true, true},    {"POST", "/release", true, false},
    {"POST", "/echo", true, false},
};
enum { N_ROUTES = sizeof routes / sizeof *routes };

static const char *const labels[N_ROUTES + 1] = {"health",  "metrics", "work",
                                                 "release", "echo",    "other"};

const char *const *pr_http_route_labels(size_t *n)
{
    *n = N_ROUTES + 1;
    return labels;
}

const char *pr_http_route_label(const pr_http_route *route)
{
    return labels[route - routes];
}

bool pr_http_route_needs_key(const pr_http_route *route)
{
    return route->needs_key;
}

bool pr_http_route_has_call(const pr_http_route *route)
{
    return route->has_call;
}

void pr_http_exchange_init(pr_http_exchange *x, pr_service *service, const pr_metrics *metrics)
{
    *x = (pr_http_exchange){.service = service, .metrics = metrics};
    pr_call_init(&x->call);
}

void pr_http_exchange_deinit(pr_http_exchange *x)
{
    pr_call_deinit(&x->call);
    free(x->call.items);
    free(x->params);
    json_decref(x->json);
    pr_buffer_deinit(&x->answer.body);
}

void pr_http_answer_header(pr_http_answer *a, const char *name, const char *value)
{
    assert_true(a->n_headers < PR_HTTP_HEADERS_MAX);
    pr_http_header *h = &a->headers[a->n_headers++];
    h->name = name;
    snprintf(h->value, sizeof h->value, "%s", value);
}

static void answer_text(pr_http_exchange *x, int status, const char *text)
{
    x->answer.status = status;
    x->answer.content_type = "text/plain";
    pr_buffer_append_str(&x->answer.body, text);
}

void pr_http_exchange_error(pr_http_exchange *x, int http_status, const char *type,
                            const pr_error *err, const char *param, uint32_t retry_after_s)
{
    char seconds[16];
    (void)type;
    (void)param;
    pr_buffer_clear(&x->answer.body);
    answer_text(x, http_status ? http_status : pr_status_describe(err->status)->http_status,
                err->message);
    snprintf(seconds, sizeof seconds, "%u", retry_after_s);
    if (retry_after_s > 0) pr_http_answer_header(&x->answer, "Retry-After", seconds);
    if (x->answer.status == 401) pr_http_answer_header(&x->answer, "WWW-Authenticate", "Bearer");
}

bool pr_http_exchange_route(pr_http_exchange *x)
{
    const pr_http_route *found = NULL;
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (strcmp(routes[i].path, x->path) == 0) found = &routes[i];
    }
    if (found && x->is_metrics_port && strcmp(x->path, "/metrics") != 0) found = NULL;
    if (!found) {
        answer_text(x, 404, "no such path");
        return false;
    }
    if (strcmp(found->method, x->method) != 0) {
        answer_text(x, 405, "another method");
        pr_http_answer_header(&x->answer, "Allow", found->method);
        return false;
    }
    x->route = found;
    x->i_route = (size_t)(found - routes);
    return true;
}

static unsigned long body_number(const char *body, const char *name, unsigned long otherwise)
{
    const char *at = strstr(body, name);
    return at ? strtoul(at + strlen(name), NULL, 10) : otherwise;
}

static bool work_parse(pr_http_exchange *x, const char *body)
{
    pr_call *call = &x->call;
    if (strstr(body, "bad")) {
        answer_text(x, 400, "bad");
        return false;
    }
    call->n_items = body_number(body, "items=", 1);
    call->items = calloc(call->n_items ? call->n_items : 1, sizeof *call->items);
    for (size_t i = 0; i < call->n_items; i++) {
        pr_request_init(&call->items[i]);
        call->items[i].dimensions = (int32_t)body_number(body, "floats=", 4);
    }
    call->priority = strstr(body, "refuse") ? 1 : strstr(body, "hold") ? 2 : 0;
    return true;
}

bool pr_http_exchange_parse(pr_http_exchange *x)
{
    fake_service *f = of_service(x->service);
    count_add(f, FAKE_PARSED, 1);
    if (x->route->has_call) {
        char *body = strndup(x->body, x->n_body);
        bool ok = work_parse(x, body);
        free(body);
        return ok;
    }
    if (strcmp(x->path, "/release") == 0) release(f);
    answer_text(x, 200, strcmp(x->path, "/echo") == 0 ? "" : x->path);
    if (strcmp(x->path, "/echo") == 0) pr_buffer_append(&x->answer.body, x->body, x->n_body);
    return true;
}

/* "items=N" and a byte for each number. */
void pr_http_exchange_format(pr_http_exchange *x)
{
    const pr_call *call = &x->call;
    if (call->error.status != PR_OK) {
        pr_http_exchange_error(x, 0, NULL, &call->error, NULL, call->retry_after_s);
        return;
    }
    x->answer.status = 200;
    x->answer.content_type = "text/plain";
    pr_buffer_printf(&x->answer.body, "items=%zu", call->n_items);
    for (size_t i = 0; i < call->n_items; i++) {
        size_t n = call->results[i]->n_columns;
        if (!pr_buffer_reserve(&x->answer.body, n)) return;
        memset(x->answer.body.data + x->answer.body.n, '.', n);
        x->answer.body.n += n;
    }
}
