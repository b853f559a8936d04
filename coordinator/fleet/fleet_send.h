/* coordinator/fleet/fleet_send.h: the messages that a fleet's actions ask for, made and sent.
 *
 * Part of the fleet's edge: loop thread only, no policy. The links of a group are pr_link. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_SEND_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_SEND_H

#include "coordinator/fleet/fleet_event.h"
#include "coordinator/fleet/fleet_link.h"

/* What every rank is told to load. Borrowed. */
typedef struct pr_fleet_load {
    uint32_t n_rows_max, n_positions_max;
    uint64_t model_fingerprint;
    const pr_control_option *options; /* [n_options], at most PR_RANK_OPTIONS_MAX */
    uint32_t n_options;
    uint32_t n_slices; /* groups that share the GPUs of a host; 1: all are each one's */
} pr_fleet_load;

/* Of ADMIT. Fails as pr_link_send. */
pr_status pr_fleet_send_load(const pr_fleet_load *load, const pr_group *g, pr_link *link,
                             pr_error *err);
/* Of SEND: to each rank that is here. Fails as pr_link_send_frame, *rank: whose link it was;
 * PR_FLEET_NO_RANK: there is no message, nobody got it. */
pr_status pr_fleet_send(const pr_fleet_action *a, uint32_t *rank, pr_error *err);
/* Of REFUSE and DISMISS. */
void pr_fleet_send_refusal(const pr_fleet_action *a);
void pr_fleet_send_away(const pr_fleet_action *a);

#endif
