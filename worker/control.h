/* worker/control.h: the messages between the coordinator and a rank, and their msgpack form.
 *
 * A rank connects, both prove the cluster key (runtime/wire/auth.h; the rank initiates), then:
 *
 *     rank                                       coordinator
 *       HELLO   who I am, my nonce         ─────►   versions and identity are checked
 *                                          ◄─────  CHALLENGE nonce, proof   (or REFUSE)
 *       PROOF                              ─────►
 *                                          ◄─────  LOAD   epoch, sizes, options   (or REFUSE)
 *       COMM_ID from rank 0, on GPUs only  ─────►   kept until all ranks are here
 *                                          ◄─────  COMM_ID the same, to each of them
 *       READY   what was loaded            ─────►   (or FAILED: reason)
 *                                          ◄─────  BATCH  epoch, batch_seq, plan …, again and again
 *       RESULT chunks, then DONE           ─────►   from the pooling rank only
 *       FAILED  the rank ends its group    ─────►
 *                                          ◄─────  PING
 *       PONG    progress                   ─────►
 *                                          ◄─────  SHUTDOWN: finish, leave with 0; ABORT: leave now
 *
 * Each message is one frame: a msgpack array whose first element is the kind, the rest the fields
 * in the order of the structs below; arrays of numbers as one little-endian bin; a pr_status by its
 * name. HELLO begins with protocol and version in every protocol to come, so that each side can be
 * told what the other is. Control frames never come from a network that is not authenticated, yet
 * nothing in them is trusted: unpacking checks every length, count and index. Used by both sides,
 * any thread. */
#ifndef POOLRANK_WORKER_CONTROL_H
#define POOLRANK_WORKER_CONTROL_H

#include "runtime/base/buffer.h"
#include "runtime/model/pooling_spec.h"
#include "runtime/plan/batch_plan.h"
#include "runtime/wire/auth.h"

enum {
    PR_CONTROL_PROTOCOL = 2, /* another number is refused */
    PR_CONTROL_NAME_BYTES = 128,
    PR_CONTROL_RANKS_MAX = 4096,
    PR_CONTROL_OPTIONS_MAX = 256,
    PR_CONTROL_VALUE_BYTES = 64 << 10, /* of an option */
    PR_CONTROL_POOLINGS_MAX = 65536,   /* different ones in a batch */
    PR_CONTROL_COMM_ID_BYTES = 256,    /* at most */
    PR_CONTROL_CHUNK_BYTES = 1 << 20 /* of a RESULT */
};

typedef enum pr_control_kind {
    PR_CONTROL_HELLO,
    PR_CONTROL_CHALLENGE,
    PR_CONTROL_PROOF,
    PR_CONTROL_REFUSE,
    PR_CONTROL_LOAD,
    PR_CONTROL_READY,
    PR_CONTROL_FAILED,
    PR_CONTROL_BATCH,
    PR_CONTROL_RESULT,
    PR_CONTROL_DONE,
    PR_CONTROL_PING,
    PR_CONTROL_PONG,
    PR_CONTROL_ABORT,
    PR_CONTROL_SHUTDOWN,
    PR_CONTROL_COMM_ID,
    PR_CONTROL_KIND_COUNT
} pr_control_kind;

const char *pr_control_kind_name(pr_control_kind kind); /* "HELLO" */

/* Of another protocol only protocol and version are read, the rest is zero. */
typedef struct pr_control_hello {
    uint32_t protocol;
    char version[PR_CONTROL_NAME_BYTES]; /* POOLRANK_VERSION */
    char group[PR_CONTROL_NAME_BYTES];   /* the same on all ranks of one group's MPI job */
    uint32_t rank, n_ranks;              /* within the group; tp_rank = rank % tp_size, stage =
                                            rank / tp_size */
    char host[PR_CONTROL_NAME_BYTES];
    int64_t pid;
    uint8_t nonce[PR_NONCE_BYTES];
} pr_control_hello;

typedef struct pr_control_challenge {
    uint8_t nonce[PR_NONCE_BYTES];
    uint8_t proof[PR_PROOF_BYTES];
} pr_control_challenge;

/* REFUSE, FAILED, ABORT: status is not PR_OK. A FAILED rank has left or is about to; epoch and
 * batch_seq 0: while loading. */
typedef struct pr_control_reason {
    uint64_t epoch, batch_seq;
    pr_status status;
    char message[PR_ERROR_BYTES];
} pr_control_reason;

/* One setting of the rank's run, as on the command line without the dashes. */
typedef struct pr_control_option {
    char *name, *value; /* owned by the message */
} pr_control_option;

typedef struct pr_control_load {
    uint64_t epoch;
    uint32_t tp_size, n_stages;
    uint32_t n_rows_max, n_positions_max; /* of pr_worker_config */
    uint64_t model_fingerprint;           /* pr_model_fingerprint of the coordinator's files */
    pr_control_option *options;           /* [n_options], owned by the message */
    uint32_t n_options;
} pr_control_load;

/* What the ranks of a group need to find each other (NCCL's unique id), opaque to the coordinator.
 * Rank 0 makes it, once a start; it comes back to all ranks, rank 0 included, when all are here, so
 * that nobody waits in NCCL for a rank that may never come. */
typedef struct pr_control_comm_id {
    uint64_t epoch;
    uint32_t n_bytes; /* 1 to PR_CONTROL_COMM_ID_BYTES */
    uint8_t bytes[PR_CONTROL_COMM_ID_BYTES];
} pr_control_comm_id;

typedef struct pr_control_ready {
    uint64_t epoch;
    uint64_t model_fingerprint;          /* of the files that the rank loaded */
    char device[PR_CONTROL_NAME_BYTES];  /* "cpu 0-1" */
    char backend[PR_CONTROL_NAME_BYTES]; /* the backend's description */
    uint64_t weights_bytes;
    int32_t width;                       /* of a pooled row; pooling rank only, else 0 */
    uint32_t n_slots;                    /* batches that the rank has in hand at a time: 1, 2 */
} pr_control_ready;

typedef struct pr_control_batch {
    uint64_t epoch;
    uint64_t batch_seq; /* 1, 2, 3, …, within the epoch */
    uint64_t plan_hash; /* pr_control_plan_hash of what follows */
    const pr_batch_plan *plan;          /* pack: borrowed; unpack: owned by the message */
    const pr_pooling *const *poolings;  /* [plan->n_sequences] likewise; equal ones go once;
                                           source, head_activation and head_softmax do not go */
} pr_control_batch;

/* Bytes offset .. offset + n_bytes - 1 of the data of a pr_pooled (f32, little-endian). */
typedef struct pr_control_result {
    uint64_t epoch, batch_seq;
    uint64_t offset;
    const char *bytes; /* borrowed: of the sender, or of the frame */
    uint32_t n_bytes;  /* at most PR_CONTROL_CHUNK_BYTES */
} pr_control_result;

/* After the last chunk: the sequences' shapes. Offsets follow: rows stand one after the other. */
typedef struct pr_control_done {
    uint64_t epoch, batch_seq;
    uint32_t n_sequences;
    const uint32_t *shapes; /* [n_sequences][2]: n_rows, n_columns; pack: borrowed; unpack: owned */
} pr_control_done;

/* PING sends only `id`; PONG repeats it and adds the rest. */
typedef struct pr_control_ping {
    uint64_t id;
    uint64_t epoch;
    uint64_t batch_seq; /* the last batch that was begun */
    bool is_computing;
    uint64_t n_steps; /* grows while the rank works: layers begun, tensors read */
} pr_control_ping;

typedef struct pr_control_message {
    pr_control_kind kind;
    union {
        pr_control_hello hello;
        pr_control_challenge challenge;
        uint8_t proof[PR_PROOF_BYTES];
        pr_control_reason reason; /* REFUSE, FAILED, ABORT */
        pr_control_load load;
        pr_control_comm_id comm_id;
        pr_control_ready ready;
        pr_control_batch batch;
        pr_control_result result;
        pr_control_done done;
        pr_control_ping ping; /* PING, PONG */
    };
} pr_control_message;

/* Appends one frame; on failure *out ends where it did. Fails PR_E_NOMEM, PR_E_TOO_LARGE. */
pr_status pr_control_pack(const pr_control_message *message, pr_buffer *out, pr_error *err);

/* payload [n]: of one frame; must stay until the message is released. *out owned
 * (pr_control_message_deinit). Fails PR_E_INPUT with the kind and the field, what was found and
 * what was expected; PR_E_NOMEM. A BATCH's plan has passed pr_batch_plan_check and its token ids
 * are not negative; i_request is the sequence's index. Left to whoever knows the model: token ids,
 * type ids and returned tokens below their bounds; plan_hash is not compared here. */
pr_status pr_control_unpack(const char *payload, size_t n, pr_control_message *out, pr_error *err);
void pr_control_message_deinit(pr_control_message *message);

/* The same on every machine for the same plan and poolings, as far as they are sent. */
uint64_t pr_control_plan_hash(const pr_batch_plan *plan, const pr_pooling *const *poolings);

/* The bytes of a hello that both proofs cover. identity [PR_CONTROL_IDENTITY_BYTES]; returns n. */
enum { PR_CONTROL_IDENTITY_BYTES = 1024 };
size_t pr_control_identity(const pr_control_hello *hello, char *identity);

/* Whether `version` can serve the hello. Fails PR_E_UNSUPPORTED (another protocol or version),
 * PR_E_ARGUMENT (no group, more ranks than PR_CONTROL_RANKS_MAX, rank not below n_ranks). Pure. */
pr_status pr_control_hello_check(const pr_control_hello *hello, const char *version, pr_error *err);

#endif
