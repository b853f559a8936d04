/* coordinator/queue/order.h: which of the waiting requests comes next: by priority, then fairly
 * between the requests of clients, then in the order of arrival.
 *
 * Start-time fair queueing (Goyal, Vin and Cheng 1996, SIGCOMM), with tokens as the work and the
 * virtual time of generalized processor sharing: every client request, a **flow** of one or many
 * texts, has the same share of the model. A text's start tag is the virtual time at which its flow,
 * if it got just its share, would begin with it:
 *
 *     start = max(now, end of the flow's last text);   end = start + tokens of the text
 *     now += tokens / number of flows that wait, with each text that leaves
 *
 * So single texts go in the order in which they came, and a single text that comes behind 2,048
 * texts of one request is started before all but the first of them.
 *
 * Plain data and pure functions; locking is the holder's. */
#ifndef POOLRANK_COORDINATOR_QUEUE_ORDER_H
#define POOLRANK_COORDINATOR_QUEUE_ORDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the texts of one client request have in common. Shared by counting: the engine makes it,
 * its texts and the caller each let go of it (pr_flow_release). */
typedef struct pr_flow {
    atomic_uint n_owners;
    atomic_bool is_cancelled;
    int32_t priority;     /* lower is earlier */
    uint64_t deadline_ns; /* pr_clock_ns; 0: none */
    double end;           /* of its last text */
    size_t n_waiting;     /* texts that no batch has taken */
} pr_flow;

typedef struct pr_clock_virtual {
    double now;
    size_t n_flows; /* with texts that wait */
    uint64_t n_arrivals;
} pr_clock_virtual;

typedef struct pr_place {
    int32_t priority;
    double start;
    uint64_t arrival;
} pr_place;

/* A text of `flow` comes, of so many tokens (at least 1). */
pr_place pr_order_arrive(pr_clock_virtual *clock, pr_flow *flow, uint64_t n_tokens);
/* It leaves: a batch took it (or it was dropped: n_tokens 0, time does not pass for it). */
void pr_order_leave(pr_clock_virtual *clock, pr_flow *flow, const pr_place *place,
                    uint64_t n_tokens);
/* Whether a comes before b. */
bool pr_place_is_before(const pr_place *a, const pr_place *b);

/* ---- a heap of them ---- */

typedef struct pr_order_entry {
    pr_place place;
    void *item;
    int i_part; /* of an item that stands in it several times: parts in their order */
} pr_order_entry;

typedef struct pr_order {
    pr_order_entry *entries; /* owned: [n_max], a binary heap, the next one first */
    size_t n, n_max;
} pr_order;

void pr_order_deinit(pr_order *o);
/* Room for n_more further entries, so that push cannot fail. */
bool pr_order_reserve(pr_order *o, size_t n_more);
void pr_order_push(pr_order *o, const pr_order_entry *entry);
pr_order_entry pr_order_pop(pr_order *o); /* n > 0 */
/* Takes out the entries that `matches` chooses, in no order: out [n] has room for all. */
size_t pr_order_extract(pr_order *o, bool (*matches)(const pr_order_entry *entry, const void *what),
                        const void *what, pr_order_entry *out);

#endif
