/* coordinator/fleet/fleet_step.h: all decisions about the replica groups of a run, as one step:
 * an event and the time go in, actions come out (coordinator/fleet/fleet_event.h).
 *
 *     feed(event):
 *         do {
 *             more = pr_fleet_step(state, event, now, &actions)
 *             carry out the actions in their order; feed what comes back at once (UNSENT, …)
 *             event = NEXT
 *         } while (more)
 *
 * so that the list of one step is bounded however many groups and batches there are. Pure but for
 * memory: the same events at the same times give the same actions. The fleet's loop calls it
 * (coordinator/fleet/fleet.c), and a simulator with a seed in the tests. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_STEP_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_STEP_H

#include "coordinator/fleet/fleet_event.h"

typedef struct pr_fleet_state pr_fleet_state;

/* The first TICK is due at once. Fails PR_E_NOMEM. */
pr_status pr_fleet_state_create(const pr_fleet_rules *rules, uint64_t now_ms, pr_fleet_state **out,
                                pr_error *err);
/* Nothing may be in its hands: after CLOSE, or before the first event. NULL is fine. */
void pr_fleet_state_free(pr_fleet_state *s);

/* now_ms: of one clock that does not go back. True: NEXT is to follow, before any other event but
 * those that come back from this step's actions. */
bool pr_fleet_step(pr_fleet_state *s, const pr_fleet_event *event, uint64_t now_ms,
                   pr_fleet_actions *out);

/* Whether a batch may be taken from the queue for it: each is handed over with a BATCH event,
 * followed by NEXTs, before the next is asked for. */
bool pr_fleet_wants_batch(const pr_fleet_state *s, uint64_t now_ms);

uint64_t pr_fleet_due_ms(const pr_fleet_state *s); /* when the next TICK is due */

#endif
