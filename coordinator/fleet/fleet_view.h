/* coordinator/fleet/fleet_view.h: the groups and ranks of a fleet as other threads may see them.
 *
 * Plain copies, made from the state on the loop thread. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_VIEW_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_VIEW_H

#include "worker/control.h"

/* One rank of a ready group, for inspect, logs and the description. */
typedef struct pr_fleet_rank {
    uint32_t group, rank, tp_rank, stage;
    char host[PR_CONTROL_NAME_BYTES];
    char device[PR_CONTROL_NAME_BYTES];
    char backend[PR_CONTROL_NAME_BYTES];
    int64_t pid;
    uint64_t weights_bytes;
} pr_fleet_rank;

/* The groups as they are; what is beyond the first PR_FLEET_GROUPS_SHOWN_MAX is only counted. */
enum { PR_FLEET_GROUPS_SHOWN_MAX = 64 };

typedef struct pr_fleet_groups_now {
    uint32_t n, n_ready;
    uint64_t n_starts, n_restarts; /* in all; but for the first of each group */
    struct {
        uint32_t index;
        const char *state; /* pr_group_state_name, constant */
        uint32_t n_starts;
    } groups[PR_FLEET_GROUPS_SHOWN_MAX];
} pr_fleet_groups_now;

struct pr_fleet_state;

void pr_fleet_view_groups(const struct pr_fleet_state *s, pr_fleet_groups_now *out);

/* The ranks of all groups that are ready: *out [returned], owned (free); 0 and NULL: none, or no
 * memory. */
size_t pr_fleet_view_ranks(const struct pr_fleet_state *s, pr_fleet_rank **out);

#endif
