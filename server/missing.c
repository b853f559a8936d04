/* server/missing.c: what is not there yet fails with that reason. Goes when all parts are there. */
#include "server/http_exchange.h"
#include "server/http_server.h"
#include "server/socket_server.h"

#include <stdlib.h>

#ifndef HAVE_http_route
const char *const *pr_http_route_labels(size_t *n)
{
    static const char *const labels[] = {"other"};
    *n = 1;
    return labels;
}
__attribute__((weak)) void pr_http_exchange_init(pr_http_exchange *x, pr_service *service,
                                                 const pr_metrics *metrics)
{
    x->service = service;
    x->metrics = metrics;
}
__attribute__((weak)) void pr_http_exchange_deinit(pr_http_exchange *x)
{
    pr_buffer_deinit(&x->answer.body);
}
__attribute__((weak)) bool pr_http_exchange_route(pr_http_exchange *x)
{
    x->answer.status = 501;
    return false;
}
__attribute__((weak)) bool pr_http_route_needs_key(const pr_http_route *route)
{
    (void)route;
    return true;
}
__attribute__((weak)) bool pr_http_route_has_call(const pr_http_route *route)
{
    (void)route;
    return false;
}
__attribute__((weak)) const char *pr_http_route_label(const pr_http_route *route)
{
    (void)route;
    return "other";
}
__attribute__((weak)) bool pr_http_exchange_parse(pr_http_exchange *x)
{
    (void)x;
    return false;
}
__attribute__((weak)) void pr_http_exchange_format(pr_http_exchange *x)
{
    (void)x;
}
__attribute__((weak)) void pr_http_exchange_error(pr_http_exchange *x, int http_status,
                                                  const char *type, const pr_error *err,
                                                  const char *param, uint32_t retry_after_s)
{
    (void)type, (void)param, (void)retry_after_s;
    x->answer.status = http_status ? http_status : pr_status_describe(err->status)->http_status;
}
__attribute__((weak)) void pr_http_answer_header(pr_http_answer *answer, const char *name,
                                                 const char *value)
{
    (void)answer, (void)name, (void)value;
}
#endif
#ifndef HAVE_http_server
pr_status pr_http_server_open(const pr_http_server_config *config, pr_http_server **out,
                              pr_error *err)
{
    (void)config, (void)out;
    return pr_error_set(err, PR_E_UNSUPPORTED, "HTTP: not there yet");
}
pr_status pr_http_server_reload(pr_http_server *s, const pr_api_keys *keys, pr_error *err)
{
    (void)s, (void)keys, (void)err;
    return PR_OK;
}
void pr_http_server_refuse(pr_http_server *s)
{
    (void)s;
}
size_t pr_http_server_n_exchanges(const pr_http_server *s)
{
    (void)s;
    return 0;
}
void pr_http_server_close(pr_http_server *s)
{
    (void)s;
}
#endif
#ifndef HAVE_socket_server
const char *const *pr_socket_server_labels(size_t *n)
{
    *n = 0;
    return NULL;
}
pr_status pr_socket_server_open(const pr_socket_server_config *config, pr_socket_server **out,
                                pr_error *err)
{
    (void)config, (void)out;
    return pr_error_set(err, PR_E_UNSUPPORTED, "socket protocol: not there yet");
}
pr_status pr_socket_server_reload(pr_socket_server *s, const pr_api_keys *keys, pr_error *err)
{
    (void)s, (void)keys, (void)err;
    return PR_OK;
}
void pr_socket_server_refuse(pr_socket_server *s)
{
    (void)s;
}
size_t pr_socket_server_n_requests(const pr_socket_server *s)
{
    (void)s;
    return 0;
}
void pr_socket_server_close(pr_socket_server *s)
{
    (void)s;
}
#endif
