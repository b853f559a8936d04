/* runtime/wire/rpc.h: the words of the socket protocol (docs/socket-protocol.md): its kinds of
 * messages, the forms of numbers, and what every message begins with.
 *
 * A message is a msgpack map with string keys, one a frame (runtime/wire/frame.h). Used by the
 * server and by the C client. Pure; any thread. */
#ifndef POOLRANK_RUNTIME_WIRE_RPC_H
#define POOLRANK_RUNTIME_WIRE_RPC_H

#include "runtime/base/status.h"
#include "runtime/wire/msgpack_read.h"

#include <stdint.h>

enum {
    PR_RPC_VERSION = 1,
    PR_RPC_KEY_BYTES_MAX = 4096,    /* of an API key */
    PR_RPC_NAME_BYTES_MAX = 255,    /* of a client, a model */
    PR_RPC_REQUESTS_MAX = 1024,     /* open at once on one connection */
    PR_RPC_TIME_MS_MAX = 86400000,  /* of timeout_ms, wait_ms: a day */
    PR_RPC_HELLO_BYTES_MAX = 16384, /* the first frame of a client */
};

typedef enum pr_rpc_kind {
    /* both ways */
    PR_RPC_HELLO,
    PR_RPC_INFO,
    PR_RPC_STATS,
    /* from a client */
    PR_RPC_EMBED,
    PR_RPC_CLASSIFY,
    PR_RPC_SCORE,
    PR_RPC_REWARD,
    PR_RPC_ENCODE,
    PR_RPC_TOKENIZE,
    PR_RPC_DETOKENIZE,
    PR_RPC_PING,
    PR_RPC_CANCEL,
    /* from the server */
    PR_RPC_ANSWER,
    PR_RPC_ERROR,
    PR_RPC_PONG,
    PR_RPC_ALIVE, /* says nothing: sent to learn whether a client that sends no more still reads */
    PR_RPC_KIND_COUNT /* of a message: none of these */
} pr_rpc_kind;

typedef enum pr_rpc_format {
    PR_RPC_F32,
    PR_RPC_F16,
    PR_RPC_INT8, /* with a scale for each row */
    PR_RPC_I32,  /* token ids; no client asks for it */
    PR_RPC_FORMAT_COUNT
} pr_rpc_format;

/* In the order of pr_reduce. */
typedef enum pr_rpc_reduce {
    PR_RPC_REDUCE_LAST,
    PR_RPC_REDUCE_MEAN,
    PR_RPC_REDUCE_MIN,
    PR_RPC_REDUCE_PRODUCT,
    PR_RPC_REDUCE_COUNT
} pr_rpc_reduce;

const char *pr_rpc_kind_name(pr_rpc_kind kind); /* "embed" */
bool pr_rpc_kind_parse(const char *name, size_t n, pr_rpc_kind *out);
const char *pr_rpc_format_name(pr_rpc_format format); /* "f32" */
bool pr_rpc_format_parse(const char *name, size_t n, pr_rpc_format *out);
size_t pr_rpc_format_bytes(pr_rpc_format format); /* of one number */
const char *pr_rpc_reduce_name(pr_rpc_reduce reduce); /* "last" */
bool pr_rpc_reduce_parse(const char *name, size_t n, pr_rpc_reduce *out);
const char *pr_rpc_task_name(pr_task task); /* "embed"; "auto" */
bool pr_rpc_task_parse(const char *name, size_t n, pr_task *out);
/* By its name on the wire; INTERNAL when this side does not know it. */
pr_status pr_rpc_status_parse(const char *name, size_t n);

/* Bit of a kind in a set of them. */
static inline uint32_t pr_rpc_kind_bit(pr_rpc_kind kind)
{
    return UINT32_C(1) << kind;
}

/* Whether a request of this kind has items. */
bool pr_rpc_kind_has_items(pr_rpc_kind kind);

/* What stands in every message, wherever in the map. */
typedef struct pr_rpc_head {
    pr_rpc_kind kind; /* PR_RPC_KIND_COUNT: unknown, kind_name says which */
    char kind_name[32]; /* as sent, cut */
    bool has_id;
    uint64_t id;
} pr_rpc_head;

/* Looks through a whole message: one map, whose keys are strings, with "kind" once and "id" at most
 * once (nil: none). Fails PR_E_INPUT. */
pr_status pr_rpc_head_read(const char *payload, size_t n, pr_rpc_head *out, pr_error *err);

/* ---- for the files of this module ---- */

/* The next key of a map, borrowed; NULL: the reader has failed. */
const char *pr_rpc_key_read(pr_msgpack_reader *r, size_t *n);
bool pr_rpc_text_is(const char *s, size_t n, const char *text);
/* "found KEY, expected …" with PR_E_ARGUMENT; the key is cut and its bytes made printable. */
pr_status pr_rpc_key_refuse(pr_msgpack_reader *r, const char *key, size_t n, const char *why);

#endif
