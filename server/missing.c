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
#ifndef HAVE_metrics
pr_status pr_metrics_create(const char *const *routes, size_t n_routes, pr_metrics **out,
                            pr_error *err)
{
    (void)routes, (void)n_routes, (void)out, (void)err;
    return PR_OK;
}
void pr_metrics_free(pr_metrics *m)
{
    (void)m;
}
#endif
