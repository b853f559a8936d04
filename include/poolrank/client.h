/* poolrank/client.h: ask a running poolrank over its socket protocol (docs/socket-protocol.md).
 *
 *     pr_client *client = NULL;
 *     pr_client_answer *answer = NULL;
 *     pr_client_open("unix:///run/poolrank.sock", NULL, &client, &err);
 *     pr_client_input texts[] = {{.text = "a text", .n_text = 6}};
 *     pr_client_embed(client, texts, 1, NULL, &answer, &err);
 *     … answer->data, [n_rows, n_columns] float …
 *     pr_client_answer_free(answer);
 *     pr_client_close(client);
 *
 * One thread at a time may use a client; several clients may be open. Errors: a function that can
 * fail returns a pr_status and fills *err (may be NULL); on failure its outputs are untouched.
 * After PR_E_IO, PR_E_TIMEOUT or PR_E_UNAVAILABLE of the connection itself every further call fails
 * with the same reason: open another client. Link with `pkg-config --libs poolrank-client`. */
#ifndef POOLRANK_CLIENT_H
#define POOLRANK_CLIENT_H

#include "types.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pr_client pr_client;

typedef struct pr_client_options {
    size_t struct_bytes;  /* set by pr_client_options_init: of the caller's program */
    const char *key;      /* API key; NULL: none. tls: sent once the certificate is checked */
    const char *ca_file;  /* tls: PEM of who may have signed the server's certificate; NULL: the
                             system's */
    const char *name;     /* of this client, for the server's log; NULL: none */
    uint32_t timeout_ms;  /* without a byte from the server while one is waited for; also for
                             connecting; 0: no bound */
} pr_client_options;

/* struct_bytes, here and below: the struct's size where the caller was compiled. A library that is
 * newer takes the smaller struct of an older header, with defaults for the rest; an older one
 * refuses a struct that it does not know all of. */
void pr_client_options_init_size(pr_client_options *options, size_t struct_bytes);
static inline void pr_client_options_init(pr_client_options *options)
{
    pr_client_options_init_size(options, sizeof *options);
}

/* address: "tcp://HOST:PORT", "tls://HOST:PORT" (the certificate must be HOST's) or "unix:///PATH".
 * options: NULL: as initialised. Fails PR_E_ARGUMENT (address, key), PR_E_IO, PR_E_TIMEOUT,
 * PR_E_UNSUPPORTED (another version of the protocol), PR_E_UNAVAILABLE (draining), PR_E_NOMEM. */
pr_status pr_client_open(const char *address, const pr_client_options *options, pr_client **out,
                         pr_error *err);
/* What is not answered yet is cancelled by the server. NULL is fine. */
void pr_client_close(pr_client *client);

/* ---- what is asked ---- */

typedef enum pr_client_kind {
    PR_CLIENT_EMBED,
    PR_CLIENT_CLASSIFY,
    PR_CLIENT_SCORE,    /* inputs are pairs */
    PR_CLIENT_REWARD,
    PR_CLIENT_ENCODE,   /* rows as the model pools them */
    PR_CLIENT_TOKENIZE,
    PR_CLIENT_KIND_COUNT
} pr_client_kind;

/* One text, a pair, or token ids of the model's own vocabulary. Callers make arrays of it: it stays
 * as it is. */
typedef struct pr_client_input {
    const char *text;      /* UTF-8; NULL: token ids */
    size_t n_text;
    const char *text_pair; /* NULL: one text */
    size_t n_text_pair;
    const int32_t *tokens;
    size_t n_tokens;
} pr_client_input;

typedef enum pr_client_format {
    PR_CLIENT_F32,
    PR_CLIENT_F16, /* half the bytes on the wire */
    PR_CLIENT_INT8 /* a quarter; of embed, classify, encode. data is float all the same */
} pr_client_format;

typedef enum pr_client_reduce {
    PR_CLIENT_REDUCE_LAST,
    PR_CLIENT_REDUCE_MEAN,
    PR_CLIENT_REDUCE_MIN,
    PR_CLIENT_REDUCE_PRODUCT
} pr_client_reduce;

/* The values of pr_client_params_init mean: as the server was started. */
typedef struct pr_client_params {
    size_t struct_bytes; /* set by pr_client_params_init: of the caller's program */
    pr_task task;        /* encode: whose pooling; AUTO: the model's own */
    int32_t truncate_prompt_tokens; /* 0: unset; -1: the model's limit; else that many at most */
    int8_t truncation_side;    /* -1 unset, 0 right (cut the end), 1 left */
    int8_t add_special_tokens; /* -1 unset, 0, 1 */
    int8_t normalize;          /* -1 unset, 0, 1 */
    int8_t softmax;            /* -1 unset, 0, 1 */
    int8_t use_activation;     /* -1 unset, 0, 1 */
    int32_t dimensions;        /* embed, encode: 0 unset */
    int32_t step_tag_id;       /* reward, encode: -1 unset */
    const int32_t *returned_token_ids; /* reward, encode: NULL unset */
    size_t n_returned_token_ids;
    int32_t priority;          /* lower is earlier; 0 */
    uint32_t timeout_ms;       /* the server answers "timeout" after it; 0: the server's bound */
    uint32_t wait_ms;          /* how long a full queue is waited for; 0: it is an error at once */
    pr_client_reduce reduce;   /* reward: how steps become one number */
    bool return_tokens;        /* reward: the rows of every token too */
    pr_client_format format;
    bool per_item;             /* an input that fails is an error of its own; else it fails all */
    const char *model;         /* NULL: whichever is served; else it must be this one */
    const char *request_id;    /* for logs: 1 to 128 of [A-Za-z0-9._:-]; NULL: a fresh one */
} pr_client_params;

void pr_client_params_init_size(pr_client_params *params, size_t struct_bytes);
static inline void pr_client_params_init(pr_client_params *params)
{
    pr_client_params_init_size(params, sizeof *params);
}

/* ---- what is answered ---- */

/* Owned by who received it (pr_client_answer_free). Made by the library alone: later versions
 * append fields. Lists have an element for each input. */
typedef struct pr_client_answer {
    uint64_t id;             /* that pr_client_send gave */
    pr_status status;        /* PR_OK, or why the whole request failed; then there is no data */
    char *message;           /* of status; "" on PR_OK */
    int64_t i_input;         /* whose fault it is; -1: not one input's */
    uint32_t retry_after_s;  /* PR_E_OVERLOADED, PR_E_UNAVAILABLE: when to try again; 0: not said */
    char *request_id;        /* "" when the server did not say it */
    size_t n_inputs;
    uint32_t *n_prompt_tokens;
    pr_status *statuses;     /* PR_OK but for per_item */
    char **messages;         /* "" where the status is PR_OK */
    size_t n_rows;           /* of all inputs together */
    size_t n_columns;
    size_t *row_begin;       /* [n_inputs + 1]: input i's are row_begin[i] … row_begin[i + 1] - 1 */
    float *data;             /* [n_rows, n_columns]: all but tokenize; score, reward: one column */
    int32_t *tokens;         /* [n_rows], tokenize */
    bool is_token_wise;      /* encode: rows belong to tokens or steps, even if there is one */
    /* reward of a model that rewards steps */
    float *steps;            /* NULL: none */
    size_t *step_begin;      /* [n_inputs + 1] */
    /* reward with return_tokens */
    float *token_data;       /* [token_begin[n_inputs], n_token_columns]; NULL: none */
    size_t *token_begin;     /* [n_inputs + 1] */
    size_t n_token_columns;
} pr_client_answer;

void pr_client_answer_free(pr_client_answer *answer); /* NULL is fine */

/* ---- one at a time ---- */

/* Sends and waits. inputs [n_inputs]: borrowed for the call. params: NULL: as initialised. A
 * request that failed as a whole is this function's failure, with the server's status and
 * message. */
pr_status pr_client_ask(pr_client *client, pr_client_kind kind, const pr_client_input *inputs,
                        size_t n_inputs, const pr_client_params *params, pr_client_answer **out,
                        pr_error *err);
pr_status pr_client_embed(pr_client *client, const pr_client_input *inputs, size_t n_inputs,
                          const pr_client_params *params, pr_client_answer **out, pr_error *err);
pr_status pr_client_classify(pr_client *client, const pr_client_input *inputs, size_t n_inputs,
                             const pr_client_params *params, pr_client_answer **out, pr_error *err);
pr_status pr_client_score(pr_client *client, const pr_client_input *inputs, size_t n_inputs,
                          const pr_client_params *params, pr_client_answer **out, pr_error *err);
pr_status pr_client_reward(pr_client *client, const pr_client_input *inputs, size_t n_inputs,
                           const pr_client_params *params, pr_client_answer **out, pr_error *err);
pr_status pr_client_encode(pr_client *client, const pr_client_input *inputs, size_t n_inputs,
                           const pr_client_params *params, pr_client_answer **out, pr_error *err);
pr_status pr_client_tokenize(pr_client *client, const pr_client_input *inputs, size_t n_inputs,
                             const pr_client_params *params, pr_client_answer **out, pr_error *err);

/* ---- several at a time ---- */

/* Sends, and takes in answers that come meanwhile. *id: of the answer. */
pr_status pr_client_send(pr_client *client, pr_client_kind kind, const pr_client_input *inputs,
                         size_t n_inputs, const pr_client_params *params, uint64_t *id,
                         pr_error *err);
/* The next answer, to whichever request; in it is how the request fared. Fails PR_E_ARGUMENT when
 * none is due. */
pr_status pr_client_receive(pr_client *client, pr_client_answer **out, pr_error *err);
/* Requests that were sent and not received. */
size_t pr_client_n_open(const pr_client *client);
/* The answer of that request will say PR_E_CANCELLED, unless it is on its way already. */
pr_status pr_client_cancel(pr_client *client, uint64_t id, pr_error *err);

/* ---- the server ---- */

typedef struct pr_client_info {
    size_t struct_bytes;    /* of the caller's program */
    char server[64];        /* "poolrank 0.1.0" */
    char state[32];         /* "loading", "ready", "restarting", "draining" */
    char model[256];        /* as it is served */
    bool is_loaded;         /* what follows is known */
    pr_task task;
    uint32_t dimensions;    /* numbers of a pooled row */
    uint32_t max_model_len; /* tokens */
    char pooling[16];       /* "LAST" */
    /* limits */
    uint64_t frame_bytes;   /* of a request */
    uint32_t n_inputs;      /* of a request */
    uint32_t n_requests;    /* open at once */
} pr_client_info;

/* As the server is now. Answers that come meanwhile are kept for pr_client_receive. */
pr_status pr_client_info_get_size(pr_client *client, pr_client_info *out, size_t struct_bytes,
                                  pr_error *err);
static inline pr_status pr_client_info_get(pr_client *client, pr_client_info *out, pr_error *err)
{
    return pr_client_info_get_size(client, out, sizeof *out, err);
}
/* A message there and back. */
pr_status pr_client_ping(pr_client *client, pr_error *err);

const char *pr_client_status_name(pr_status status); /* "too_long" */

#ifdef __cplusplus
}
#endif

#endif
