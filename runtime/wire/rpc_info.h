/* runtime/wire/rpc_info.h: what the server of the socket protocol says of itself: in its HELLO, and
 * to the requests "info" and "stats".
 *
 * Plain data that borrows its texts. Pure; any thread. */
#ifndef POOLRANK_RUNTIME_WIRE_RPC_INFO_H
#define POOLRANK_RUNTIME_WIRE_RPC_INFO_H

#include "runtime/base/buffer.h"
#include "runtime/wire/rpc.h"

/* A text of a message; NULL: not said. */
typedef struct pr_rpc_text {
    const char *s;
    size_t n;
} pr_rpc_text;

enum { PR_RPC_LABELS_MAX = 1024 };

typedef struct pr_rpc_info {
    uint64_t id;         /* of the request "info" */
    pr_rpc_text server;  /* "poolrank 0.1.0" */
    pr_rpc_text state;   /* "loading", "ready", "restarting", "draining" */
    pr_rpc_text model;   /* its first served name */
    /* of the model, once it is loaded (is_loaded) */
    bool is_loaded;
    pr_task task;        /* what it is for */
    uint32_t tasks;      /* bits 1 << pr_task of those that it serves */
    uint32_t dimensions; /* numbers of a pooled row */
    uint32_t max_model_len;
    pr_rpc_text pooling; /* of its task: "LAST" */
    const char *const *labels; /* packed only: [n_labels]; NULL: none */
    size_t n_labels;
    /* limits */
    uint64_t frame_bytes_max;  /* of a client's frame */
    uint64_t answer_bytes_max; /* of a server's */
    uint32_t items_max;        /* of a request */
    uint32_t requests_max;     /* open at once on a connection */
} pr_rpc_info;

/* kind: HELLO (without an id) or INFO. */
pr_status pr_rpc_info_pack(pr_rpc_kind kind, const pr_rpc_info *info, pr_buffer *out,
                           pr_error *err);
/* Keys that are not known are skipped. Fails PR_E_INPUT. */
pr_status pr_rpc_info_unpack(const char *payload, size_t n, pr_rpc_info *out, pr_error *err);

typedef struct pr_rpc_group {
    uint32_t index;
    const char *state;
    uint32_t n_starts;
} pr_rpc_group;

typedef struct pr_rpc_stats {
    uint64_t id;
    const char *state;
    uint64_t n_calls;    /* requests of clients that are open, of both protocols */
    uint64_t n_requests; /* their items that are not answered */
    uint64_t n_queued;   /* of them, in no batch yet */
    uint64_t n_tokens;   /* of them */
    double tokens_per_s;
    uint64_t n_batches, n_batch_tokens, n_batch_requests; /* ever */
    uint64_t n_restarts; /* of groups */
    const pr_rpc_group *groups; /* [n_groups] */
    size_t n_groups;
} pr_rpc_stats;

pr_status pr_rpc_stats_pack(const pr_rpc_stats *stats, pr_buffer *out, pr_error *err);

#endif
