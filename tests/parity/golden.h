/* tests/parity/golden.h: a tiny model's golden.json and golden.f32, and how its requests are put to
 * an engine. Used by parity_test and invariance_test, on their one thread, and by the same programs
 * with ranks (parity_ranks_test, invariance_ranks_test); stands on the public header only.
 *
 * A golden owns its JSON and its values; requests borrow from it. */
#ifndef POOLRANK_TESTS_PARITY_GOLDEN_H
#define POOLRANK_TESTS_PARITY_GOLDEN_H

#include <poolrank/engine.h>

#include <jansson.h>
#include <stdbool.h>

enum { GOLDEN_PATH_BYTES = 4096, GOLDEN_SKIPPED = 77 };

/* Tells run_ranks.c how many ranks: TPxPP, as golden_setting.ranks. */
#define GOLDEN_RANKS_VARIABLE "POOLRANK_TEST_RANKS"

typedef struct golden {
    char folder[GOLDEN_PATH_BYTES];
    json_t *json;
    float *values; /* [n_values] */
    size_t n_values;
} golden;

/* folder: a model folder with golden.json and golden.f32. Prints what is wrong; false then. */
bool golden_load(const char *folder, golden *out);
void golden_unload(golden *g);

const char *golden_string(const json_t *object, const char *key);

/* Engine options that the command line of a test adds to those of a group. NULL: not given. */
typedef struct golden_setting {
    const char *cpu_isa;
    const char *dtype;
    const char *precision; /* of --matmul-precision */
    const char *threads;
    const char *ranks; /* "2x1": tensor-parallel ranks x pipeline stages, each a thread; only in a
                          program that is linked with run_ranks.c, which GOLDEN_HAS_RANKS says */
} golden_setting;

/* Whether the folder's model can be cut for setting->ranks (NULL: always): query heads divide, KV
 * heads divide or are replicated evenly, a layer for each stage. Prints why not. */
bool golden_ranks_fit(const char *folder, const golden_setting *setting);

/* Opens the model with a group's options. Prints why not; NULL then. Owned: pr_engine_close. */
pr_engine *golden_engine_open(const char *folder, const json_t *options,
                              const golden_setting *setting);

/* A request of golden.json with the parameters of its group. Owned: golden_request_deinit. */
typedef struct golden_request {
    pr_request request;
    int32_t *tokens;  /* of request.tokens, owned */
    int32_t *columns; /* of request.returned_token_ids, owned */
} golden_request;

/* params may be NULL. Prints an unknown parameter; false then. */
bool golden_request_init(const json_t *request, const json_t *params, golden_request *out);
void golden_request_deinit(golden_request *r);

/* A JSON list of integers. *out owned (free); NULL for an empty list. */
bool golden_integers(const json_t *list, int32_t **out, size_t *n);

/* Hands over and waits. NULL when the engine refused; printed then. Owned: pr_result_free. */
pr_result *golden_ask(pr_engine *engine, const pr_request *request);

/* Whether this processor can run what "c", "avx2", "avx512", "amx" names; unknown names: true, so
 * that the engine is asked and refuses. */
bool golden_isa_runs_here(const char *isa);

#endif
