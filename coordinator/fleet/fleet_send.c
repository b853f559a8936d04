#include "coordinator/fleet/fleet_send.h"

#include "coordinator/fleet/rank_options.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Which of a host's GPUs are this group's. "": all. */
static void slice_print(const pr_group *g, uint32_t n_slices, char *out, size_t out_bytes)
{
    out[0] = '\0';
    if (n_slices <= 1) return;
    snprintf(out, out_bytes, "%" PRIu32 "/%" PRIu32, g->index % n_slices, n_slices);
}

pr_status pr_fleet_send_load(const pr_fleet_load *load, const pr_group *g, pr_link *link,
                             pr_error *err)
{
    char slice[32], slice_name[] = PR_RANK_OPTION_SLICE;
    pr_control_option options[PR_RANK_OPTIONS_MAX + 1]; /* only read */
    uint32_t n_options = load->n_options;
    assert(n_options <= PR_RANK_OPTIONS_MAX);
    if (n_options > 0) memcpy(options, load->options, n_options * sizeof *options);
    slice_print(g, load->n_slices, slice, sizeof slice);
    if (slice[0]) options[n_options++] = (pr_control_option){slice_name, slice};
    const pr_control_message m = {
        .kind = PR_CONTROL_LOAD,
        .load = {.epoch = g->epoch,
                 .tp_size = g->tp_size,
                 .n_stages = g->n_stages,
                 .n_rows_max = load->n_rows_max,
                 .n_positions_max = load->n_positions_max,
                 .model_fingerprint = load->model_fingerprint,
                 .options = options,
                 .n_options = n_options},
    };
    return pr_link_send(link, &m, err);
}

static void message_make(const pr_fleet_action *a, pr_control_message *m)
{
    const pr_group *g = a->group;
    const pr_batch *b = a->batch;
    *m = (pr_control_message){.kind = a->message};
    switch (a->message) {
    case PR_CONTROL_BATCH:
        m->batch = (pr_control_batch){.epoch = g->epoch,
                                      .batch_seq = g->batch_seq,
                                      .plan_hash = pr_control_plan_hash(b->plan, b->poolings),
                                      .plan = b->plan,
                                      .poolings = b->poolings};
        break;
    case PR_CONTROL_COMM_ID:
        m->comm_id = g->comm_id;
        break;
    case PR_CONTROL_PING:
        m->ping.id = g->ping_id;
        break;
    default:
        assert(a->message == PR_CONTROL_SHUTDOWN);
    }
}

pr_status pr_fleet_send(const pr_fleet_action *a, uint32_t *rank, pr_error *err)
{
    const pr_group *g = a->group;
    pr_control_message m;
    pr_link_frame *frame = NULL;
    message_make(a, &m);
    *rank = PR_FLEET_NO_RANK;
    pr_status st = pr_link_frame_create(&m, &frame, err);
    for (uint32_t i = 0; st == PR_OK && i < g->n_ranks; i++) {
        if (!g->ranks[i].link) continue;
        *rank = i;
        st = pr_link_send_frame(g->ranks[i].link, frame, err);
    }
    pr_link_frame_release(frame);
    return st;
}

void pr_fleet_send_refusal(const pr_fleet_action *a)
{
    pr_control_message m = {.kind = PR_CONTROL_REFUSE, .reason = {.status = a->status}};
    snprintf(m.reason.message, sizeof m.reason.message, "%s", a->text);
    pr_link_finish(a->link, &m);
}

void pr_fleet_send_away(const pr_fleet_action *a)
{
    pr_control_message m = {.kind = PR_CONTROL_ABORT,
                            .reason = {.epoch = a->epoch, .status = PR_E_UNAVAILABLE}};
    snprintf(m.reason.message, sizeof m.reason.message, "%s", a->text);
    for (size_t i = 0; i < a->n_links; i++) {
        if (a->is_forced) pr_link_kill(a->links[i]);
        pr_link_finish(a->links[i], a->text[0] ? &m : NULL);
    }
}
