/* fakes/fake_service.h: a service without an engine, which does what a request's body says, and
 * counts.
 *
 * Takes the place of server/service/service.c, server/service/metrics.c and the routes
 * (server/http/http_exchange.h) for tests of the transport. Routes, with their bodies:
 *
 *     GET  /health    no key
 *     GET  /metrics   a key, none on the metrics port
 *     POST /work      "items=N floats=N": results, answered as "items=N" and padding; also
 *                     "hold": not before /release; "refuse": PR_E_OVERLOADED; "bad": parse
 *                     refuses it
 *     POST /release   what is held is answered
 *     POST /echo      no call: the body comes back */
#ifndef POOLRANK_TESTS_FAKE_SERVICE_H
#define POOLRANK_TESTS_FAKE_SERVICE_H

#include "server/service/service.h"

typedef enum fake_count {
    FAKE_BEGUN,
    FAKE_CANCELLED,
    FAKE_DONE,
    FAKE_HELD, /* at this moment */
    FAKE_PARSED,
    FAKE_ITEMS,       /* of metrics */
    FAKE_REQUESTS,
    FAKE_REJECTED,
    FAKE_CONNECTIONS, /* open */
    FAKE_LEFT,        /* requests of status 499 */
    FAKE_COUNT
} fake_count;

typedef struct fake_service fake_service;

/* Loop thread, or before the loop turns. */
fake_service *fake_service_open(uv_loop_t *loop);
void fake_service_close(fake_service *f); /* frees once the loop has turned */

pr_service *fake_service_handle(fake_service *f);
pr_metrics *fake_service_metrics(fake_service *f);

/* Any thread. */
int fake_service_get(fake_service *f, fake_count which);
/* Waits until it is n; fails the test after 10 s. */
void fake_service_wait(fake_service *f, fake_count which, int n);

#endif
