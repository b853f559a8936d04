/* runtime/wire/rpc_answer.h: what the server of the socket protocol answers to requests.
 *
 * What is packed borrows everything for the call. What is unpacked owns its lists and borrows bytes
 * and texts from the payload. Pure but for memory; any thread. */
#ifndef POOLRANK_RUNTIME_WIRE_RPC_ANSWER_H
#define POOLRANK_RUNTIME_WIRE_RPC_ANSWER_H

#include "runtime/base/buffer.h"
#include "runtime/wire/rpc.h"

/* An item that failed in an answer to the others. */
typedef struct pr_rpc_item_error {
    size_t i_item;
    pr_status status;
    const char *message; /* [n_message] */
    size_t n_message;
} pr_rpc_item_error;

/* ---- packing ---- */

/* The rows of one item: [n_rows, n_columns] float32, or token ids. */
typedef struct pr_rpc_span {
    const void *data;
    uint32_t n_rows;
} pr_rpc_span;

typedef struct pr_rpc_rows_out {
    pr_rpc_format format;
    uint32_t n_columns;
    const pr_rpc_span *spans; /* [n_items]; NULL: the answer has no such rows */
} pr_rpc_rows_out;

typedef struct pr_rpc_answer_out {
    uint64_t id;
    const char *request_id;
    size_t n_items;
    const uint32_t *n_prompt_tokens; /* [n_items]; NULL: left out */
    bool is_token_wise;
    pr_rpc_rows_out data, steps, token_data;
    const pr_rpc_item_error *errors; /* [n_errors], of the items without rows */
    size_t n_errors;
    const char *const *texts; /* [n_items], of detokenize; NULL: left out */
    const size_t *n_texts;    /* [n_items] bytes of each */
} pr_rpc_answer_out;

/* Appends one frame; *out is empty. Fails PR_E_TOO_LARGE (longer than a frame may be, before
 * anything is written), PR_E_NOMEM. */
pr_status pr_rpc_answer_pack(const pr_rpc_answer_out *answer, pr_buffer *out, pr_error *err);

/* ---- unpacking ---- */

typedef struct pr_rpc_rows {
    bool is_there;
    pr_rpc_format format;
    size_t n_rows;
    uint32_t n_columns;
    uint32_t *rows;     /* [n_items] rows of each item; owned */
    const char *bytes;  /* [n_rows * n_columns * pr_rpc_format_bytes] */
    const char *scales; /* int8: [4 * n_rows] */
} pr_rpc_rows;

typedef struct pr_rpc_answer {
    uint64_t id;
    const char *request_id; /* [n_request_id]; NULL: none */
    size_t n_request_id;
    size_t n_items;
    uint32_t *n_prompt_tokens; /* [n_items]; NULL: none */
    bool is_token_wise;
    pr_rpc_rows data, steps, token_data;
    pr_rpc_item_error *errors; /* [n_errors] */
    size_t n_errors;
    const char **texts; /* [n_items] owned list; NULL: none */
    size_t *n_texts;
} pr_rpc_answer;

/* Keys that are not known are skipped: a newer server may have more. *out: filled on PR_OK, then
 * pr_rpc_answer_deinit. Fails PR_E_INPUT, PR_E_NOMEM. */
pr_status pr_rpc_answer_unpack(const char *payload, size_t n, pr_rpc_answer *out, pr_error *err);
void pr_rpc_answer_deinit(pr_rpc_answer *answer);

/* ---- errors ---- */

typedef struct pr_rpc_error {
    bool has_id; /* else it is about the connection */
    uint64_t id;
    pr_status status;
    const char *message; /* [n_message] */
    size_t n_message;
    uint32_t retry_after_s; /* 0: not said */
    int64_t i_item;         /* whose fault it is; -1: not one item's */
    const char *request_id; /* [n_request_id]; NULL: none */
    size_t n_request_id;
} pr_rpc_error;

pr_status pr_rpc_error_pack(const pr_rpc_error *error, pr_buffer *out, pr_error *err);
pr_status pr_rpc_error_unpack(const char *payload, size_t n, pr_rpc_error *out, pr_error *err);

/* "pong" and "alive": nothing but a kind, and an id of a pong. */
pr_status pr_rpc_plain_pack(pr_rpc_kind kind, uint64_t id, pr_buffer *out, pr_error *err);

#endif
