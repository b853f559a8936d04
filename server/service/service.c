#include "server/service/service.h"

#include "coordinator/queue/job.h"
#include "runtime/base/clock.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MODEL_NAMES_MAX = 64,
    RETRY_LOADING_S = 5 /* what a client is told that comes before the model is loaded */
};

/* The part of a call that the engine's threads fill. It lives until all of its items are back, also
 * when the call was answered before that. */
typedef struct pr_call_work {
    pr_service *service;
    pr_call *call; /* loop thread; NULL: answered already */
    pr_flow *flow; /* loop thread */
    size_t n_items;
    pr_result **results; /* [n_items] */
    struct call_item {
        struct pr_call_work *work;
        size_t i;
    } *items; /* [n_items] */
    atomic_size_t n_left;
    atomic_size_t result_bytes;
    struct pr_call_work *next; /* among the finished */
} pr_call_work;

struct pr_service {
    pr_service_config c;
    pr_engine *engine;
    pr_service_model model;
    char *names_text; /* owned; names lead into it */
    const char *names[MODEL_NAMES_MAX];
    bool is_loaded, is_draining, is_refusing, is_closing;
    bool is_turning; /* what is due is called soon without being woken */
    int n_handles;
    pr_call *calls; /* open ones */
    size_t n_calls;
    pr_call *due, **due_last; /* their done is called when the loop turns */
    size_t n_works;           /* with the engine */
    uv_async_t news;
    uv_timer_t timer;

    pthread_t loader;
    bool has_loader;
    pthread_mutex_t lock;   /* guards all below */
    pr_call_work *finished;
    bool load_has_ended;
    pr_error load_error;
};

/* ---- the end of calls ---- */

static void work_free(pr_call_work *w)
{
    if (!w) return;
    for (size_t i = 0; w->results && i < w->n_items; i++) pr_result_free(w->results[i]);
    free(w->results);
    free(w->items);
    pr_flow_release(w->flow);
    free(w);
}

static void calls_remove(pr_service *s, pr_call *call)
{
    if (call->prev) {
        call->prev->next = call->next;
    } else {
        s->calls = call->next;
    }
    if (call->next) call->next->prev = call->prev;
    call->next = call->prev = NULL;
}

/* The call has its answer; done is called when the loop turns. */
static void call_finish(pr_service *s, pr_call *call)
{
    assert(!call->is_finished);
    call->is_finished = true;
    call->end_ns = pr_clock_ns();
    if (call->work) call->work->call = NULL;
    call->work = NULL;
    call->done_next = NULL;
    *s->due_last = call;
    s->due_last = &call->done_next;
    if (!s->is_turning) uv_async_send(&s->news);
}

static void call_fail(pr_service *s, pr_call *call, pr_status st, const char *message)
{
    pr_error_set(&call->error, st, "%s", message);
    call_finish(s, call);
}

/* All items are back. */
static void work_finish(pr_service *s, pr_call_work *w)
{
    pr_call *call = w->call;
    s->n_works--;
    if (call) {
        size_t bytes = atomic_load(&w->result_bytes);
        size_t bytes_max = (size_t)s->c.config->max_response_bytes;
        if (bytes > bytes_max) {
            char message[160];
            snprintf(message, sizeof message,
                     "the answer has %zu bytes of numbers, expected at most %zu "
                     "(--max-response-bytes)",
                     bytes, bytes_max);
            call_fail(s, call, PR_E_TOO_LARGE, message);
        } else {
            call->results = w->results;
            w->results = NULL;
            call_finish(s, call);
        }
    }
    work_free(w);
}

/* One item is back; on a thread of the engine. What is over the bound of an answer is not kept. */
static void on_item(void *context, pr_result *result)
{
    struct call_item *item = context;
    pr_call_work *w = item->work;
    pr_service *s = w->service;
    size_t bytes = (size_t)result->n_rows * result->n_columns * sizeof *result->data;
    size_t total = atomic_fetch_add(&w->result_bytes, bytes) + bytes;
    if (total > (size_t)s->c.config->max_response_bytes) {
        free(result->data);
        result->data = NULL;
    }
    w->results[item->i] = result;
    if (atomic_fetch_sub(&w->n_left, 1) != 1) return;
    pthread_mutex_lock(&s->lock);
    w->next = s->finished;
    s->finished = w;
    pthread_mutex_unlock(&s->lock);
    uv_async_send(&s->news);
}

/* ---- submission ---- */

static pr_call_work *work_create(pr_service *s, pr_call *call)
{
    pr_call_work *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->service = s;
    w->call = call;
    w->n_items = call->n_items;
    w->results = calloc(call->n_items, sizeof *w->results);
    w->items = calloc(call->n_items, sizeof *w->items);
    atomic_init(&w->n_left, call->n_items);
    atomic_init(&w->result_bytes, 0);
    if (w->results && w->items) return w;
    work_free(w);
    return NULL;
}

/* An answer whose size is known before anything is computed. */
static pr_status size_check(const pr_service *s, const pr_call *call, pr_error *err)
{
    const pr_pooling *pooling = NULL;
    const pr_request *r = &call->items[0];
    if (r->tokenize_only || pr_model_pooling(s->model.model, r->task, &pooling, NULL) != PR_OK) {
        return PR_OK; /* the engine says what is wrong */
    }
    if (pooling->type == PR_POOL_ALL || pooling->type == PR_POOL_STEP) return PR_OK;
    uint64_t n_columns = r->dimensions > 0 ? (uint64_t)r->dimensions
                                           : (uint64_t)s->model.model->n_width;
    if (r->task == PR_TASK_SCORE) n_columns = 1;
    uint64_t bytes = call->n_items * n_columns * sizeof(float);
    uint64_t bytes_max = (uint64_t)s->c.config->max_response_bytes;
    if (bytes <= bytes_max) return PR_OK;
    return pr_error_set(err, PR_E_TOO_LARGE,
                        "the answer has %llu bytes of numbers, expected at most %llu "
                        "(--max-response-bytes)",
                        (unsigned long long)bytes, (unsigned long long)bytes_max);
}

static pr_status call_submit(pr_service *s, pr_call *call, pr_error *err)
{
    pr_call_work *w = work_create(s, call);
    if (!w) return pr_error_nomem(err, "request", call->n_items * sizeof(pr_result *));
    for (size_t i = 0; i < call->n_items; i++) {
        pr_request *r = &call->items[i];
        w->items[i] = (struct call_item){w, i};
        r->done = on_item;
        r->context = &w->items[i];
        r->priority = call->priority;
        r->timeout_ms = call->timeout_ms;
    }
    pr_status st = pr_engine_submit_all(s->engine, call->items, call->n_items,
                                        call->wait_until_ms != 0, &w->flow, err);
    if (st != PR_OK) {
        work_free(w);
        return st;
    }
    call->work = w; /* its end is taken in on this thread only, so that it is still there */
    s->n_works++;
    return PR_OK;
}

/* Submits, or refuses. */
static void call_try(pr_service *s, pr_call *call)
{
    pr_error err;
    pr_status st = size_check(s, call, &err);
    if (st == PR_OK) st = call_submit(s, call, &err);
    if (st == PR_OK) return;
    if (st == PR_E_OVERLOADED) call->retry_after_s = pr_engine_wait_s(s->engine);
    call_fail(s, call, st, err.message);
}

/* It has stood in line for as long as it may. */
static void call_wait_end(pr_service *s, pr_call *call)
{
    pr_call_work *w = call->work;
    call->wait_until_ms = 0;
    if (!w || !pr_engine_withdraw(s->engine, w->flow)) return; /* it came in */
    call->retry_after_s = pr_engine_wait_s(s->engine);
    call_fail(s, call, PR_E_OVERLOADED,
              "the queue was full for as long as the request may wait (--max-queued-requests, "
              "--max-queued-tokens)");
    s->n_works--;
    work_free(w); /* none of its items will be back */
}

/* ---- time ---- */

static void on_timer(uv_timer_t *timer);

static void timer_within(pr_service *s, uint64_t at_ms)
{
    uint64_t now_ms = uv_now(s->c.loop);
    uint64_t in_ms = at_ms > now_ms ? at_ms - now_ms : 0;
    if (s->is_closing) return;
    if (uv_is_active((uv_handle_t *)&s->timer) && uv_timer_get_due_in(&s->timer) <= in_ms) return;
    uv_timer_start(&s->timer, on_timer, in_ms, 0);
}

static void call_expire(pr_service *s, pr_call *call)
{
    if (call->work) pr_engine_cancel(s->engine, call->work->flow);
    call->retry_after_s = pr_engine_wait_s(s->engine);
    if (call->deadline_ms) {
        call_fail(s, call, PR_E_TIMEOUT, "the request's time has passed (timeout, or "
                                         "--request-timeout)");
    }
}

static void on_timer(uv_timer_t *timer)
{
    pr_service *s = timer->data;
    uint64_t now_ms = uv_now(s->c.loop), next_ms = UINT64_MAX;
    for (pr_call *call = s->calls, *next; call; call = next) {
        next = call->next;
        if (call->is_finished) continue;
        if (call->deadline_ms && call->deadline_ms <= now_ms) {
            call_expire(s, call);
        } else if (call->wait_until_ms && call->wait_until_ms <= now_ms) {
            call_wait_end(s, call);
        }
        if (call->is_finished) continue;
        if (call->deadline_ms && call->deadline_ms < next_ms) next_ms = call->deadline_ms;
        if (call->wait_until_ms && call->wait_until_ms < next_ms) next_ms = call->wait_until_ms;
    }
    if (next_ms != UINT64_MAX) timer_within(s, next_ms);
}

/* ---- the loop turns ---- */

static void due_call(pr_service *s)
{
    while (s->due) {
        pr_call *call = s->due;
        s->due = call->done_next;
        if (!s->due) s->due_last = &s->due;
        calls_remove(s, call);
        s->n_calls--;
        call->is_open = false;
        call->done(call);
    }
}

static void load_end_take(pr_service *s)
{
    pr_error err;
    pthread_mutex_lock(&s->lock);
    bool has_ended = s->load_has_ended;
    s->load_has_ended = false;
    err = s->load_error;
    pthread_mutex_unlock(&s->lock);
    if (!has_ended) return;
    pthread_join(s->loader, NULL);
    s->has_loader = false;
    s->is_loaded = err.status == PR_OK;
    if (s->is_loaded) s->model.model = pr_engine_model(s->engine);
    s->c.loaded(s->c.context, &err);
}

static void finished_take(pr_service *s)
{
    pthread_mutex_lock(&s->lock);
    pr_call_work *w = s->finished;
    s->finished = NULL;
    pthread_mutex_unlock(&s->lock);
    while (w) {
        pr_call_work *next = w->next;
        work_finish(s, w);
        w = next;
    }
}

static void on_news(uv_async_t *news)
{
    pr_service *s = news->data;
    if (s->is_closing) return;
    s->is_turning = true;
    load_end_take(s);
    finished_take(s);
    due_call(s);
    s->is_turning = false;
    if (s->is_draining && s->n_calls == 0) s->c.idle(s->c.context);
}

/* ---- open and close ---- */

static void *loader_main(void *context)
{
    pr_service *s = context;
    pr_error err = {0};
    pr_status st = pr_engine_load(s->engine, &err);
    pthread_mutex_lock(&s->lock);
    s->load_error = err;
    s->load_error.status = st;
    s->load_has_ended = true;
    pthread_mutex_unlock(&s->lock);
    uv_async_send(&s->news);
    return NULL;
}

static pr_status names_fill(pr_service *s, pr_error *err)
{
    const pr_config *c = s->c.config;
    const char *text = c->served_model_name ? c->served_model_name : c->model;
    s->names_text = strdup(text);
    if (!s->names_text) return pr_error_nomem(err, "names", strlen(text));
    s->model.names = s->names;
    if (!c->served_model_name) {
        s->names[s->model.n_names++] = s->names_text;
        return PR_OK;
    }
    char *rest = NULL;
    char *name = strtok_r(s->names_text, ",", &rest);
    for (; name; name = strtok_r(NULL, ",", &rest)) {
        if (s->model.n_names == MODEL_NAMES_MAX) {
            return pr_error_set(err, PR_E_ARGUMENT, "--served-model-name: more than %d names",
                                MODEL_NAMES_MAX);
        }
        s->names[s->model.n_names++] = name;
    }
    if (s->model.n_names > 0) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT, "--served-model-name: found no name");
}

pr_status pr_service_open(const pr_service_config *config, pr_service **out, pr_error *err)
{
    pr_service *s = calloc(1, sizeof *s);
    if (!s) return pr_error_nomem(err, "service", sizeof *s);
    s->c = *config;
    s->due_last = &s->due;
    s->model.created_s = (int64_t)time(NULL);
    pthread_mutex_init(&s->lock, NULL);
    pr_status st = names_fill(s, err);
    if (st == PR_OK) st = pr_engine_create(config->config, &s->engine, err);
    if (st != PR_OK) {
        free(s->names_text);
        free(s);
        return st;
    }
    int rc = uv_async_init(config->loop, &s->news, on_news);
    assert(rc == 0);
    uv_timer_init(config->loop, &s->timer);
    s->news.data = s->timer.data = s;
    s->has_loader = pthread_create(&s->loader, NULL, loader_main, s) == 0;
    if (!s->has_loader) {
        pr_service_close(s);
        return pr_error_set(err, PR_E_INTERNAL, "cannot start a thread");
    }
    *out = s;
    return PR_OK;
}

void pr_service_cancel_load(pr_service *s)
{
    if (s->has_loader) pr_engine_cancel_load(s->engine);
}

static void service_free(pr_service *s)
{
    pthread_mutex_destroy(&s->lock);
    free(s->names_text);
    free(s);
}

static void on_closed(uv_handle_t *handle)
{
    pr_service *s = handle->data;
    if (--s->n_handles == 0) service_free(s);
}

void pr_service_close(pr_service *s)
{
    if (!s) return;
    assert(s->n_calls == 0);
    s->is_closing = true;
    if (s->has_loader) {
        pr_engine_cancel_load(s->engine);
        pthread_join(s->loader, NULL);
    }
    pr_engine_close(s->engine); /* whatever it still has comes back */
    finished_take(s);
    assert(s->n_works == 0);
    s->n_handles = 2;
    uv_close((uv_handle_t *)&s->timer, on_closed);
    uv_close((uv_handle_t *)&s->news, on_closed);
}

/* ---- state ---- */

const char *pr_service_state_name(pr_service_state state)
{
    static const char *const names[] = {"loading", "ready", "restarting", "draining"};
    static_assert(sizeof names / sizeof *names == PR_SERVICE_STATE_COUNT, "one name per state");
    return names[state];
}

pr_service_state pr_service_state_now(const pr_service *s)
{
    if (s->is_draining) return PR_SERVICE_DRAINING;
    if (!s->is_loaded) return PR_SERVICE_LOADING;
    pr_engine_stats stats;
    pr_engine_stats_get(s->engine, &stats);
    return stats.n_groups_ready > 0 ? PR_SERVICE_READY : PR_SERVICE_RESTARTING;
}

const pr_service_model *pr_service_model_of(const pr_service *s)
{
    return &s->model;
}

const pr_config *pr_service_settings(const pr_service *s)
{
    return pr_engine_settings(s->engine);
}

bool pr_service_model_is_known(const pr_service *s, const char *name)
{
    for (size_t i = 0; i < s->model.n_names; i++) {
        if (strcmp(s->model.names[i], name) == 0) return true;
    }
    return false;
}

void pr_service_stats(const pr_service *s, pr_engine_stats *out)
{
    pr_engine_stats_get(s->engine, out);
}

void pr_service_drain(pr_service *s)
{
    s->is_draining = true;
    uv_async_send(&s->news);
}

void pr_service_refuse(pr_service *s)
{
    s->is_refusing = true;
}

size_t pr_service_n_calls(const pr_service *s)
{
    return s->n_calls;
}

/* ---- calls ---- */

static uint64_t deadline_of(const pr_service *s, const pr_call *call)
{
    uint64_t limit_ms = (uint64_t)s->c.config->request_timeout * 1000;
    uint64_t asked_ms = call->timeout_ms;
    uint64_t ms = asked_ms && (!limit_ms || asked_ms < limit_ms) ? asked_ms : limit_ms;
    return ms ? uv_now(s->c.loop) + ms : 0;
}

void pr_service_call_begin(pr_service *s, pr_call *call)
{
    assert(!call->is_open);
    call->is_open = true;
    call->is_finished = false;
    call->begin_ns = pr_clock_ns();
    call->deadline_ms = deadline_of(s, call);
    call->wait_until_ms = call->wait_ms ? uv_now(s->c.loop) + call->wait_ms : 0;
    call->prev = NULL;
    call->next = s->calls;
    if (s->calls) s->calls->prev = call;
    s->calls = call;
    s->n_calls++;
    if (s->is_refusing) {
        call->retry_after_s = 1;
        call_fail(s, call, PR_E_UNAVAILABLE, "the server is draining: it takes no more requests");
    } else if (!s->is_loaded) {
        call->retry_after_s = RETRY_LOADING_S;
        call_fail(s, call, PR_E_UNAVAILABLE, "the model is being loaded");
    } else if (call->n_items == 0) {
        call_finish(s, call);
    } else {
        call_try(s, call);
    }
    if (call->is_finished) return;
    if (call->deadline_ms) timer_within(s, call->deadline_ms);
    if (call->wait_until_ms) timer_within(s, call->wait_until_ms);
}

void pr_service_call_cancel(pr_service *s, pr_call *call)
{
    if (!call->is_open || call->is_finished) return;
    if (call->work) pr_engine_cancel(s->engine, call->work->flow);
    call_fail(s, call, PR_E_CANCELLED, "the client has left");
}
