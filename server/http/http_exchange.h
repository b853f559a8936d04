/* server/http/http_exchange.h: one HTTP request and its answer, without HTTP's transport: what the
 * routes are written against, and what their tests and the fuzz target feed.
 *
 *     pr_http_exchange_route     loop     path and method → route, or an error answer
 *     (transport: key checked, body collected)
 *     pr_http_exchange_parse     any      body → call's items and parameters, or an error answer
 *     (transport: pr_service_call_begin … done)
 *     pr_http_exchange_format    any      results → body
 *     (transport: answer is sent)
 *
 * An exchange owns its parsed body, its call and its answer. One thread at a time. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_EXCHANGE_H
#define POOLRANK_SERVER_HTTP_HTTP_EXCHANGE_H

#include "runtime/base/buffer.h"
#include "server/service/call.h"
#include "server/service/service.h"

#include <jansson.h>

typedef struct pr_http_params pr_http_params; /* server/http/http_params.h */
typedef struct pr_http_route pr_http_route;
typedef struct pr_http_exchange pr_http_exchange;

enum { PR_HTTP_HEADERS_MAX = 8, PR_HTTP_HEADER_VALUE_BYTES = 256 };

typedef struct pr_http_header {
    const char *name; /* constant */
    char value[PR_HTTP_HEADER_VALUE_BYTES];
} pr_http_header;

typedef struct pr_http_answer {
    int status;               /* 0: none yet */
    const char *content_type; /* constant; NULL: no body */
    pr_buffer body;
    pr_http_header headers[PR_HTTP_HEADERS_MAX];
    size_t n_headers;
    bool closes; /* the connection is closed behind it */
} pr_http_answer;

struct pr_http_exchange {
    pr_service *service;         /* borrowed */
    const pr_metrics *metrics;   /* borrowed; for /metrics */
    const pr_http_route *route;  /* NULL: none fits */
    size_t i_route;              /* of metrics; the last one when none fits */
    bool is_metrics_port;        /* came by the listener for scrapers: only GET /metrics */
    /* of the request; borrowed from the transport until the answer is taken */
    const char *method, *path;   /* path without "?query" */
    const char *content_type;    /* NULL: no such header */
    const char *body;            /* [n_body] */
    size_t n_body;
    const char *key_name;        /* of the client's key; "" without keys */
    /* the routes' own */
    const pr_model *model;       /* as the loop's thread knew it when the route was found; NULL: it
                                    was still being loaded */
    void (*format)(pr_http_exchange *x); /* in place of the route's, by the body's shape; NULL */
    const char *model_name;      /* of /v1/models/NAME; NULL */
    json_t *json;                /* parsed body, owned; call's items borrow its strings */
    json_t *whole;               /* what json was a member of; owned, NULL: json is the body */
    pr_http_params *params;      /* owned; NULL: a route without a body */
    void (*params_free)(pr_http_params *params); /* of whoever made them */
    pr_call call;                /* id is set by the transport before parse; items are owned here */
    pr_http_answer answer;
};

void pr_http_exchange_init(pr_http_exchange *x, pr_service *service, const pr_metrics *metrics);
void pr_http_exchange_deinit(pr_http_exchange *x);

/* Finds the route of method and path. False: the answer says why not (404, 405 with Allow). */
bool pr_http_exchange_route(pr_http_exchange *x);

bool pr_http_route_needs_key(const pr_http_route *route);
/* Whether items go to the engine; else parse has filled the answer. Health routes: no body. */
bool pr_http_route_has_call(const pr_http_route *route);
const char *pr_http_route_label(const pr_http_route *route);
/* Labels of all routes for pr_metrics_create, the last "other"; constant. */
const char *const *pr_http_route_labels(size_t *n);

/* Body → call (has_call), or body → answer. False: the answer is an error. Routes without a call
 * (health, models, metrics, version) are parsed on the loop thread. */
bool pr_http_exchange_parse(pr_http_exchange *x);

/* call.error and call.results → answer. */
void pr_http_exchange_format(pr_http_exchange *x);

/* The answer becomes an OpenAI error object: {"error":{"message","type","param","code"}}, with
 * Retry-After where retry_after_s > 0 and WWW-Authenticate with 401. param: the JSON key at fault,
 * NULL: none. http_status 0: the one of err->status. */
void pr_http_exchange_error(pr_http_exchange *x, int http_status, const char *type,
                            const pr_error *err, const char *param, uint32_t retry_after_s);

/* The same object, appended: {"error":{…}}. */
void pr_http_error_write(pr_buffer *b, int http_status, const char *type, const char *message,
                         const char *param);

void pr_http_answer_header(pr_http_answer *answer, const char *name, const char *value);

#endif
