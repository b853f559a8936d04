/* server/http/http_origins.h: --allowed-origins: which pages' scripts a browser lets call the
 * server.
 *
 * Owns its copy of the list; immutable. Pure but for open. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_ORIGINS_H
#define POOLRANK_SERVER_HTTP_HTTP_ORIGINS_H

#include "runtime/base/status.h"

typedef struct pr_http_origins pr_http_origins;

/* list: with commas; "*": all. Fails PR_E_NOMEM. */
pr_status pr_http_origins_open(const char *list, pr_http_origins **out, pr_error *err);
void pr_http_origins_free(pr_http_origins *origins); /* NULL is fine */

/* What Access-Control-Allow-Origin says to an Origin header: the origin itself, or "*"; NULL: that
 * page may not. */
const char *pr_http_origins_allow(const pr_http_origins *origins, const char *origin);

#endif
