/* poolrank/engine.h: run a pooling model inside your own process.
 *
 *     pr_options *options = pr_options_create();
 *     pr_options_set(options, "model", "/models/all-MiniLM-L6-v2", &err);
 *     pr_engine_open(options, &engine, &err);
 *     pr_request request;
 *     pr_request_init(&request);
 *     request.text = "a text"; request.n_text = 6;
 *     pr_engine_submit(engine, &request, &ticket, &err);
 *     pr_engine_wait(engine, ticket, &result, &err);
 *     … result->data, [n_rows, n_columns] float …
 *     pr_result_free(result);
 *     pr_engine_close(engine);
 *
 * A handle may be used by several threads at a time. Errors: a function that can fail returns a
 * pr_status and fills *err (which may be NULL); on failure its outputs are untouched. */
#ifndef POOLRANK_ENGINE_H
#define POOLRANK_ENGINE_H

#include "types.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOLRANK_VERSION "0.1.0"

/* "0.1.0": of the library that is loaded. */
const char *pr_version(void);

/* ---- options: the names and values of the command line, without the dashes ---- */

typedef struct pr_options pr_options;

pr_options *pr_options_create(void); /* NULL when there is no memory */
void pr_options_free(pr_options *options);

/* name: "max-model-len"; value: as on the command line; for a switch "true" or "false".
 * Fails PR_E_ARGUMENT (unknown name, bad value), PR_E_UNSUPPORTED (refused, with the reason). */
pr_status pr_options_set(pr_options *options, const char *name, const char *value, pr_error *err);

/* ---- engine ---- */

typedef struct pr_engine pr_engine;

/* Loads the model and starts the engine's threads. options: borrowed for the call; "model" is
 * required.
 *
 * Signals: with ranks that the library starts itself (worker-launch mpirun or srun) libuv takes the
 * process's SIGCHLD handler over until the engine is closed, and leaves SIG_DFL behind: a handler
 * of your own is not called meanwhile. It waits for its own children only. Do not set another
 * handler, SIG_IGN or SA_NOCLDWAIT while such an engine is open: the end of a launcher would go
 * unseen. Otherwise the library changes no signal's disposition. The environment is copied when the
 * engine is opened: setenv is safe afterwards, and changes nothing.
 *
 * Fails with the reason: PR_E_NOT_FOUND, PR_E_MODEL, PR_E_UNSUPPORTED, PR_E_NOMEM, … */
pr_status pr_engine_open(const pr_options *options, pr_engine **out, pr_error *err);

/* Finishes what was accepted, then releases everything, tickets that nobody waited for included.
 * NULL is fine. No other thread may be in a call on the engine, or enter one any more. */
void pr_engine_close(pr_engine *engine);

/* What was understood of the model, as JSON text: family, shapes, pooler and sources, limits.
 * Borrowed until close. */
const char *pr_engine_describe(const pr_engine *engine);

/* ---- requests ---- */

typedef struct pr_result pr_result;

/* Called exactly once for a request that was accepted, on a thread of the engine; must not block.
 * result: owned by the callback (pr_result_free). */
typedef void (*pr_done)(void *context, pr_result *result);

/* One text, pair, or list of token ids. Fill with pr_request_init first; inputs are copied by
 * submit. */
typedef struct pr_request {
    size_t struct_bytes; /* set by pr_request_init: of this struct in the caller's program */
    pr_task task;        /* AUTO: the engine's own */
    const char *text;    /* UTF-8 */
    size_t n_text;
    const char *text_pair; /* second text of a cross-encoder's pair; NULL: none */
    size_t n_text_pair;
    const int32_t *tokens; /* in place of text: taken as they are, nothing added */
    size_t n_tokens;
    /* parameters; the values of pr_request_init mean "as the engine was started" */
    int32_t truncate_prompt_tokens; /* 0: unset; -1: the model's limit; else that many at most */
    int8_t truncation_side;    /* -1 unset, 0 right (cut the end), 1 left */
    int8_t add_special_tokens; /* -1 unset, 0, 1 */
    int8_t normalize;          /* -1 unset, 0, 1 */
    int8_t softmax;            /* -1 unset, 0, 1 */
    int8_t use_activation;     /* -1 unset, 0, 1 */
    int32_t dimensions;        /* 0 unset */
    int32_t step_tag_id;       /* -1 unset */
    const int32_t *returned_token_ids; /* NULL unset */
    size_t n_returned_token_ids;
    int32_t priority;          /* lower is earlier; 0 */
    uint32_t timeout_ms;       /* a request that no batch has taken by then fails PR_E_TIMEOUT; 0:
                                  it waits as long as it takes */
    bool tokenize_only;        /* result: token ids, no model run */
    bool last_row_only;        /* of a token-wise result (ALL, STEP for its last step) keep the last
                                  row; what it says is the same to the bit, for less work */
    uint64_t cache_salt;       /* requests of different salts reuse nothing of each other, so that
                                  none can tell from its time what another asked; 0 */
    pr_done done;              /* NULL: the caller waits for the ticket */
    void *context;             /* for done */
    const char *messages; /* in place of text: a conversation as JSON, which the model's chat
                             template makes a text of: a list of messages, or an object
                             {"messages", "tools", "documents", "chat_template" (a template's name),
                             "chat_template_kwargs", "add_generation_prompt",
                             "continue_final_message"}. No special tokens are added to it unless
                             add_special_tokens is 1. NULL: none */
    size_t n_messages;
} pr_request;

/* struct_bytes: sizeof(pr_request) where the caller was compiled. A library that is newer takes the
 * smaller struct of an older header, with defaults for the rest; an older one refuses to be asked
 * with a struct that it does not know all of. */
void pr_request_init_size(pr_request *request, size_t struct_bytes);
static inline void pr_request_init(pr_request *request)
{
    pr_request_init_size(request, sizeof *request);
}

/* Read-only; owned by who received it. Made by the library alone: later versions append fields. */
struct pr_result {
    pr_status status;          /* PR_OK, or why this request failed; then data is NULL */
    char *message;             /* the error's text; NULL on PR_OK */
    uint32_t n_prompt_tokens;
    uint32_t n_rows;           /* 1 for LAST, CLS, MEAN; tokens for ALL; steps for STEP */
    uint32_t n_columns;
    float *data;               /* [n_rows, n_columns], row-major */
    bool is_token_wise; /* rows belong to tokens or steps (ALL, STEP), even if there is one */
    int32_t *tokens;           /* [n_prompt_tokens]; only for tokenize_only */
    /* How long it was tokenized, waited for a batch, and was in one; 0: it did not come so far. */
    uint64_t tokenize_ns, queue_ns, run_ns;
};

void pr_result_free(pr_result *result); /* NULL is fine */

typedef struct pr_ticket pr_ticket;

/* Hands a request to the engine. ticket: to wait with, when request->done is NULL; else NULL.
 * Blocks while the engine's queue is full if the option "block" is on (offline use), else fails
 * PR_E_OVERLOADED. Other failures: PR_E_ARGUMENT, PR_E_UNAVAILABLE (closing), PR_E_NOMEM. What is
 * wrong with the text itself is reported in the result, not here. */
pr_status pr_engine_submit(pr_engine *engine, const pr_request *request, pr_ticket **ticket,
                           pr_error *err);

/* Waits for the answer. ticket: consumed. *out: owned (pr_result_free); its status says how the
 * request fared. */
pr_status pr_engine_wait(pr_engine *engine, pr_ticket *ticket, pr_result **out, pr_error *err);

#ifdef __cplusplus
}
#endif

#endif
