/* server/service/call.h: one client's request in either protocol: some texts that are admitted
 * together, and their results.
 *
 * Owned by whoever made it (an HTTP exchange, a connection of the socket protocol), which keeps
 * what `items` borrow (texts, token ids) until done. Filled on any one thread, then loop thread
 * only. */
#ifndef POOLRANK_SERVER_SERVICE_CALL_H
#define POOLRANK_SERVER_SERVICE_CALL_H

#include "include/poolrank/engine.h"
#include "runtime/base/status.h"

#include <stdbool.h>

enum { PR_REQUEST_ID_BYTES_MAX = 128 };

typedef struct pr_call pr_call;
typedef struct pr_service pr_service;

struct pr_call {
    /* set by the maker */
    char id[PR_REQUEST_ID_BYTES_MAX + 1]; /* of logs and answers; pr_request_id_take */
    pr_request *items; /* [n_items], owned by the maker; `done` and `context` are the service's */
    size_t n_items;
    int32_t priority;   /* lower is earlier; 0 unless the client says otherwise */
    uint32_t timeout_ms; /* from begin to done; 0: --request-timeout */
    uint32_t wait_ms;   /* how long room in a full queue is waited for; 0: not at all */
    void (*done)(pr_call *call); /* once, loop thread, not from inside begin or cancel */
    void *context;      /* the maker's */

    /* read in done */
    pr_error error; /* status PR_OK: every item has a result, which has its own status. Else the
                       call was refused, cancelled or late as a whole; results is NULL */
    uint32_t retry_after_s;   /* PR_E_OVERLOADED, PR_E_UNAVAILABLE: when to try again; 0: unknown */
    pr_result **results;      /* [n_items], the call's: freed by pr_call_deinit */
    uint64_t begin_ns, end_ns; /* pr_clock_ns */

    /* the service's */
    pr_call *next, *prev;       /* among open calls */
    pr_call *done_next;         /* among those whose done is due */
    struct pr_call_work *work;  /* what the engine's threads fill; NULL: not submitted */
    uint64_t deadline_ms, wait_until_ms; /* of the loop; 0: none */
    bool is_open, is_finished;
};

/* Zeroes the call. */
void pr_call_init(pr_call *call);
/* Frees results. The call must not be open. */
void pr_call_deinit(pr_call *call);

/* Takes the client's id when it is 1 to 128 of [A-Za-z0-9._:-], else makes a fresh one
 * (hexadecimal, 32 digits). client_id: NULL, or [n]. */
void pr_request_id_take(char id[PR_REQUEST_ID_BYTES_MAX + 1], const char *client_id, size_t n);

#endif
