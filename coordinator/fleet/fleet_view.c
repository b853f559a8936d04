#include "coordinator/fleet/fleet_view.h"

#include "coordinator/fleet/fleet_state.h"

#include <stdlib.h>
#include <string.h>

void pr_fleet_view_groups(const struct pr_fleet_state *s, pr_fleet_groups_now *out)
{
    pr_fleet_groups_now now = {0};
    for (const pr_replica *r = s->replicas; r; r = r->next) {
        const pr_group *g = r->group;
        if (g->state == PR_GROUP_READY) now.n_ready++;
        now.n_starts += r->n_starts;
        if (r->n_starts > 1) now.n_restarts += r->n_starts - 1;
        if (now.n < PR_FLEET_GROUPS_SHOWN_MAX) {
            now.groups[now.n].index = g->index;
            now.groups[now.n].state = pr_group_state_name(g->state);
            now.groups[now.n].n_starts = r->n_starts;
        }
        now.n++;
    }
    *out = now;
}

static void rank_view(const pr_group *g, uint32_t i, pr_fleet_rank *out)
{
    const pr_group_rank *from = &g->ranks[i];
    *out = (pr_fleet_rank){.group = g->index, .rank = i, .tp_rank = i % g->tp_size,
                           .stage = i / g->tp_size, .pid = from->pid,
                           .weights_bytes = from->ready.weights_bytes};
    memcpy(out->host, from->host, sizeof out->host);
    memcpy(out->device, from->ready.device, sizeof out->device);
    memcpy(out->backend, from->ready.backend, sizeof out->backend);
}

size_t pr_fleet_view_ranks(const struct pr_fleet_state *s, pr_fleet_rank **out)
{
    size_t n = 0, i = 0;
    for (const pr_replica *r = s->replicas; r; r = r->next) {
        if (r->group->state == PR_GROUP_READY) n += r->group->n_ranks;
    }
    *out = n ? calloc(n, sizeof **out) : NULL;
    for (const pr_replica *r = *out ? s->replicas : NULL; r; r = r->next) {
        const pr_group *g = r->group;
        if (g->state != PR_GROUP_READY) continue;
        for (uint32_t k = 0; k < g->n_ranks; k++) rank_view(g, k, &(*out)[i++]);
    }
    return i;
}
