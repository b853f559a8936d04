/* load_run.h: connections that keep a server busy, on one thread and one epoll, and what came of
 * it.
 *
 * Closed loop (rate 0): each connection has n_in_flight requests open, and sends the next one when
 * one is answered. Open loop: requests are due at a fixed rate, whatever the server does; latency
 * counts from when a request was due, so that a server that stands still is seen. */
#ifndef POOLRANK_BENCH_LOAD_RUN_H
#define POOLRANK_BENCH_LOAD_RUN_H

#include "runtime/base/status.h"
#include "tests/bench/load_latency.h"
#include "tests/bench/load_protocol.h"

#include <sys/types.h>

enum { LOAD_STATUS_MAX = 600, LOAD_PIDS_MAX = 64, LOAD_IN_FLIGHT_MAX = 1024 };

typedef struct load_settings {
    const load_protocol *protocol;
    load_shape shape;
    const char *address; /* tcp://HOST:PORT or unix://PATH */
    load_body *bodies;   /* [n_bodies], prepared; sent in turn */
    size_t n_bodies;
    int n_connections;
    int n_in_flight;     /* of one connection */
    double seconds;      /* measured; 0: until n_requests are answered */
    uint64_t n_requests; /* 0: until seconds are over */
    double warm_up_s;    /* before, not counted; with seconds only */
    double rate;         /* requests a second; 0: closed loop */
    double leave_share;  /* of requests whose client goes away before the answer */
    bool is_compared;    /* answers to one body must be equal */
    unsigned seed;
    pid_t pids[LOAD_PIDS_MAX]; /* [n_pids]: the server's, for its processor time */
    int n_pids;
} load_settings;

typedef struct load_numbers {
    double seconds;
    uint64_t n_answered;             /* whole answers, of any status */
    uint64_t n_texts;                /* in those of status 200 */
    uint64_t by_status[LOAD_STATUS_MAX];
    uint64_t n_differing;            /* is_compared: of status 200, unlike the first */
    uint64_t n_left;                 /* given up by the client */
    uint64_t n_lost;                 /* open when the server closed the connection */
    uint64_t n_unanswered;           /* open until the end, which waits LOAD_DRAIN_S for them */
    uint64_t bytes_in;
    double own_cpu_s, server_cpu_s;
    load_latency latency;            /* ns, of status 200 */
} load_numbers;

enum { LOAD_DRAIN_S = 30 };

/* out: zeroed by the caller. Fails PR_E_ARGUMENT (address), PR_E_IO (it cannot connect, or what
 * comes is no answer), PR_E_NOMEM. */
pr_status load_run(const load_settings *settings, load_numbers *out, pr_error *err);

#endif
