/* runtime/wire/rpc_request.h: what a client of the socket protocol sends: its HELLO and its
 * requests.
 *
 * A pr_rpc_request owns its lists and borrows texts: from the payload that it was read from, or
 * from whoever fills it. Pure but for memory; any thread. */
#ifndef POOLRANK_RUNTIME_WIRE_RPC_REQUEST_H
#define POOLRANK_RUNTIME_WIRE_RPC_REQUEST_H

#include "runtime/base/buffer.h"
#include "runtime/wire/request_params.h"
#include "runtime/wire/rpc.h"

/* One text, a pair of texts, or token ids. */
typedef struct pr_rpc_item {
    const char *text; /* NULL: token ids */
    size_t n_text;
    const char *pair; /* NULL: one text */
    size_t n_pair;
    const int32_t *tokens;
    size_t n_tokens;
} pr_rpc_item;

/* The initial values mean: as the server was started. */
typedef struct pr_rpc_params {
    pr_task task;                   /* encode */
    pr_request request;             /* what runtime/wire/request_params.h has rows for */
    uint32_t timeout_ms, wait_ms;   /* 0: not given */
    pr_rpc_reduce reduce;           /* reward */
    bool return_tokens;             /* reward */
    bool skip_special_tokens;       /* detokenize */
    pr_rpc_format format;
    bool per_item;                  /* an item that fails is an error of its own */
} pr_rpc_params;

typedef struct pr_rpc_request {
    pr_rpc_kind kind;
    uint64_t id; /* of a cancel: of the request that is meant */
    const char *request_id; /* for logs; NULL: none */
    size_t n_request_id;
    const char *model;      /* NULL: not given */
    size_t n_model;
    const char *query;      /* as packed: the first text of every item; as unpacked: NULL, the items
                               are pairs then */
    size_t n_query;
    pr_rpc_item *items;     /* [n_items] */
    size_t n_items;
    pr_rpc_params params;
    /* what unpack has made */
    int32_t *ids;           /* owned: all tokens of items, then returned_token_ids */
    size_t n_ids, n_ids_max;
} pr_rpc_request;

void pr_rpc_params_init(pr_rpc_params *params);

/* Appends one frame. items may be NULL where the kind has none. Fails PR_E_NOMEM, PR_E_TOO_LARGE.
 */
pr_status pr_rpc_request_pack(const pr_rpc_request *request, pr_buffer *out, pr_error *err);

/* Reads a request of a kind that pr_rpc_head_read has found to be a client's, not HELLO.
 * payload: borrowed while *out is used. *out: filled on PR_OK, then pr_rpc_request_deinit. Every
 * field has its place: a key that is unknown, there twice or not of this kind is refused by name.
 * Fails PR_E_INPUT, PR_E_ARGUMENT, PR_E_TOO_LARGE (more than n_items_max),
 * PR_E_NOMEM. */
pr_status pr_rpc_request_unpack(const char *payload, size_t n, pr_rpc_kind kind, size_t n_items_max,
                                pr_rpc_request *out, pr_error *err);
void pr_rpc_request_deinit(pr_rpc_request *request); /* of one that unpack has filled */

/* ---- the first message ---- */

typedef struct pr_rpc_hello {
    const char *key; /* borrowed; NULL: none */
    size_t n_key;
    const char *client; /* borrowed; NULL: none */
    size_t n_client;
} pr_rpc_hello;

pr_status pr_rpc_hello_pack(const pr_rpc_hello *hello, pr_buffer *out, pr_error *err);
/* Fails PR_E_INPUT, PR_E_ARGUMENT, PR_E_UNSUPPORTED (another version of the protocol). */
pr_status pr_rpc_hello_unpack(const char *payload, size_t n, pr_rpc_hello *out, pr_error *err);

#endif
