/* The table of routes, and what is the same for all of them: method, type of content, JSON, errors
 * of calls and of their items. */
#include "server/http/http_exchange.h"

#include "runtime/base/json.h"
#include "server/http/http_api.h"
#include "server/http/http_params.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

enum { GET = 1, POST = 2 };

struct pr_http_route {
    const char *path; /* its label too */
    unsigned methods;
    bool is_open; /* needs no key */
    bool (*parse)(pr_http_exchange *x);
    void (*format)(pr_http_exchange *x); /* NULL: no call, parse answers */
};

/* One row a route: its path, which is its label too, methods, whether it needs no key, parse and
 * format. */
#define ROUTES(ROW)                                                                                \
    ROW("/v1/embeddings", POST, false, pr_http_embeddings_parse, pr_http_embeddings_format)        \
    ROW("/pooling", POST, false, pr_http_pooling_parse, pr_http_pooling_format)                    \
    ROW("/classify", POST, false, pr_http_classify_parse, pr_http_classify_format)                 \
    ROW("/score", POST, false, pr_http_score_parse, pr_http_score_format)                          \
    ROW("/v1/score", POST, false, pr_http_score_parse, pr_http_score_format)                       \
    ROW("/rerank", POST, false, pr_http_rerank_parse, pr_http_rerank_format)                       \
    ROW("/v1/rerank", POST, false, pr_http_rerank_parse, pr_http_rerank_format)                    \
    ROW("/v2/rerank", POST, false, pr_http_rerank_parse, pr_http_rerank_format)                    \
    ROW("/get_reward", POST, false, pr_http_reward_parse, pr_http_reward_format)                   \
    ROW("/tokenize", POST, false, pr_http_tokenize_parse, pr_http_tokenize_format)                 \
    ROW("/detokenize", POST, false, pr_http_detokenize_parse, pr_http_detokenize_format)           \
    ROW("/embed", POST, false, pr_http_tei_embed_parse, pr_http_tei_embed_format)                  \
    ROW("/v2/embed", POST, false, pr_http_cohere_embed_parse, pr_http_cohere_embed_format)         \
    ROW("/", POST, false, pr_http_root_parse, pr_http_tei_embed_format)                            \
    ROW("/predict", POST, false, pr_http_predict_parse, pr_http_predict_format)                    \
    ROW("/similarity", POST, false, pr_http_similarity_parse, pr_http_similarity_format)           \
    ROW("/embed_sparse", POST, false, pr_http_sparse, NULL)                                        \
    ROW("/embeddings", POST, false, pr_http_embeddings_parse, pr_http_embeddings_format)           \
    ROW("/v1/pooling", POST, false, pr_http_pooling_parse, pr_http_pooling_format)                 \
    ROW("/v1/classify", POST, false, pr_http_classify_parse, pr_http_classify_format)              \
    ROW("/invocations", POST, false, pr_http_invocations_parse, pr_http_embeddings_format)         \
    ROW("/v1/embed", POST, false, pr_http_cohere_embed_parse, pr_http_cohere_embed_format)         \
    ROW("/models", GET, false, pr_http_models, NULL)                                               \
    ROW("/v1/models/*", GET, false, pr_http_model_of, NULL)                                        \
    ROW("/v1/models", GET, false, pr_http_models, NULL)                                            \
    ROW("/health", GET, true, pr_http_ready, NULL)                                                 \
    ROW("/ping", GET | POST, true, pr_http_ready, NULL)                                            \
    ROW("/readyz", GET, true, pr_http_ready, NULL)                                                 \
    ROW("/livez", GET, true, pr_http_live, NULL)                                                   \
    ROW("/version", GET, false, pr_http_version, NULL)                                             \
    ROW("/metrics", GET, false, pr_http_metrics, NULL)                                             \
    ROW("/load", GET, false, pr_http_load, NULL)                                                   \
    ROW("/info", GET, false, pr_http_info, NULL)

#define ROUTE(path, ...) {path, __VA_ARGS__},
#define LABEL(path, ...) path,
static const pr_http_route routes[] = {ROUTES(ROUTE)};
static const char *const labels[] = {ROUTES(LABEL) "other"};
enum { N_ROUTES = sizeof routes / sizeof *routes };

const char *const *pr_http_route_labels(size_t *n)
{
    *n = N_ROUTES + 1;
    return labels;
}

const char *pr_http_route_label(const pr_http_route *route)
{
    return route ? route->path : labels[N_ROUTES];
}

bool pr_http_route_needs_key(const pr_http_route *route)
{
    return !route->is_open;
}

bool pr_http_route_has_call(const pr_http_route *route)
{
    return route->format != NULL;
}

/* ---- finding ---- */

static bool not_found(pr_http_exchange *x)
{
    pr_error err;
    pr_error_set(&err, PR_E_NOT_FOUND, "there is no %.200s here", x->path);
    return pr_http_fail(x, NULL, &err);
}

static bool wrong_method(pr_http_exchange *x, unsigned methods)
{
    const char *allowed = methods == POST  ? "POST"
                          : methods == GET ? "GET, HEAD"
                                           : "GET, HEAD, POST";
    pr_error err;
    pr_error_set(&err, PR_E_INPUT, "%s: found the method %.20s, expected %s", x->path, x->method,
                 allowed);
    pr_http_exchange_error(x, 405, "MethodNotAllowedError", &err, NULL, 0);
    pr_http_answer_header(&x->answer, "Allow", allowed);
    return false;
}

/* A slash at the end of the path changes nothing; a star at the end of the route stands for a
 * name. */
static bool path_fits(const char *route, const char *path)
{
    size_t n = strlen(route);
    if (route[n - 1] == '*') return strncmp(route, path, n - 1) == 0 && path[n - 1] != '\0';
    if (strncmp(route, path, n) != 0) return false;
    return path[n] == '\0' || (path[n] == '/' && path[n + 1] == '\0');
}

bool pr_http_exchange_route(pr_http_exchange *x)
{
    bool is_get = strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0;
    unsigned method = is_get ? GET : strcmp(x->method, "POST") == 0 ? POST : 0;
    x->i_route = N_ROUTES;
    x->model = pr_service_model_of(x->service)->model;
    for (size_t i = 0; i < N_ROUTES; i++) {
        const pr_http_route *route = &routes[i];
        if (!path_fits(route->path, x->path)) continue;
        if (x->is_metrics_port && route->parse != pr_http_metrics) break;
        x->route = route;
        x->i_route = i;
        return route->methods & method ? true : wrong_method(x, route->methods);
    }
    return not_found(x);
}

/* ---- the body ---- */

/* "application/json", with parameters behind it or not; a client that says nothing means it. */
static bool content_type_check(pr_http_exchange *x)
{
    static const char json[] = "application/json";
    const char *type = x->content_type;
    if (!type) return true;
    size_t n = sizeof json - 1;
    if (strncasecmp(type, json, n) == 0 && (type[n] == '\0' || strchr("; \t", type[n]))) {
        return true;
    }
    pr_error err;
    pr_error_set(&err, PR_E_INPUT, "found Content-Type %.100s, expected application/json", type);
    pr_http_exchange_error(x, 415, "UnsupportedMediaTypeError", &err, NULL, 0);
    return false;
}

/* What the reader says of bad JSON ends with a piece of it, which logs must not see. */
static void text_drop(pr_error *err)
{
    char *near = strstr(err->message, " near '");
    if (near) *near = '\0';
}

static bool body_read(pr_http_exchange *x)
{
    pr_error err;
    if (!content_type_check(x)) return false;
    if (x->n_body == 0) return pr_http_refuse(x, NULL, "the body is empty, expected a JSON object");
    pr_status st = pr_json_parse(x->body, x->n_body, "body", &x->json, &err);
    if (st != PR_OK) {
        if (st == PR_E_MODEL) err.status = PR_E_INPUT;
        text_drop(&err);
        return pr_http_fail(x, NULL, &err);
    }
    if (json_is_object(x->json)) return true;
    return pr_http_refuse(x, NULL, "body: found %s, expected an object",
                          pr_json_type_name(x->json));
}

bool pr_http_exchange_parse(pr_http_exchange *x)
{
    assert(x->route);
    if (x->route->format && !body_read(x)) return false;
    return x->route->parse(x);
}

/* ---- the answer ---- */

/* A parameter or task that this model does not take is every item's mistake. */
static bool is_whole_request(pr_status st)
{
    return st == PR_E_ARGUMENT || st == PR_E_UNSUPPORTED;
}

/* The first item that fails the request; n_items: none does. */
static size_t failed_find(const pr_http_exchange *x)
{
    size_t i = 0;
    for (; i < x->call.n_items; i++) {
        pr_status st = x->call.results[i]->status;
        if (st != PR_OK && (!x->params->is_per_item || is_whole_request(st))) break;
    }
    return i;
}

static void item_fail(pr_http_exchange *x, size_t i)
{
    const pr_result *result = x->call.results[i];
    pr_status st = result->status;
    uint32_t retry_after_s = st == PR_E_OVERLOADED || st == PR_E_UNAVAILABLE ? 1 : 0;
    pr_error err;
    pr_error_set(&err, st, "%s", result->message ? result->message : "");
    bool is_items = st == PR_E_INPUT || st == PR_E_TOO_LONG;
    if (is_items && !x->params->is_single) {
        pr_error_context(&err, st, "%s[%zu]", x->params->input_key, i);
    }
    pr_http_exchange_error(x, 0, NULL, &err, is_items ? x->params->input_key : NULL, retry_after_s);
}

void pr_http_exchange_format(pr_http_exchange *x)
{
    const pr_call *call = &x->call;
    assert(x->route && x->route->format);
    if (call->error.status != PR_OK) {
        pr_http_exchange_error(x, 0, NULL, &call->error, NULL, call->retry_after_s);
        return;
    }
    size_t i_failed = failed_find(x);
    if (i_failed < call->n_items) {
        item_fail(x, i_failed);
        return;
    }
    (x->format ? x->format : x->route->format)(x);
    if (!x->answer.body.failed) return;
    pr_error err;
    pr_error_nomem(&err, "answer", x->answer.body.n);
    pr_http_fail(x, NULL, &err);
}
