/* runtime/wire/request_params.h: the parameters that a request may have, one row each, whatever the
 * request comes by: bodies of HTTP, messages of the socket protocol, input lines.
 *
 * A new parameter is a field of pr_request and a row here; what takes requests then reads it. Plain
 * data and pure functions; any thread. */
#ifndef POOLRANK_RUNTIME_WIRE_REQUEST_PARAMS_H
#define POOLRANK_RUNTIME_WIRE_REQUEST_PARAMS_H

#include "include/poolrank/engine.h"
#include "runtime/base/status.h"

#include <jansson.h>

typedef enum pr_param_id {
    PR_PARAM_TRUNCATE_PROMPT_TOKENS,
    PR_PARAM_TRUNCATION_SIDE,
    PR_PARAM_ADD_SPECIAL_TOKENS,
    PR_PARAM_NORMALIZE,
    PR_PARAM_SOFTMAX,
    PR_PARAM_USE_ACTIVATION,
    PR_PARAM_DIMENSIONS,
    PR_PARAM_STEP_TAG_ID,
    PR_PARAM_RETURNED_TOKEN_IDS,
    PR_PARAM_PRIORITY,
    PR_PARAM_COUNT
} pr_param_id;

typedef enum pr_param_type {
    PR_PARAM_SWITCH, /* int8_t: -1 unset, 0, 1; true or false */
    PR_PARAM_SIDE,   /* int8_t: -1 unset, 0 "right", 1 "left" */
    PR_PARAM_INT,    /* int32_t of min or more */
    PR_PARAM_LIMIT,  /* int32_t: 0 unset, -1 the model's limit, or 1 and more */
    PR_PARAM_IDS     /* const int32_t *, and its length as a size_t: ids of 0 and more */
} pr_param_type;

/* What a parameter is taken with, as bits. */
typedef enum pr_param_use {
    PR_USE_EMBED = 1 << 0,
    PR_USE_CLASSIFY = 1 << 1,
    PR_USE_SCORE = 1 << 2,
    PR_USE_REWARD = 1 << 3,
    PR_USE_ENCODE = 1 << 4, /* rows as the pooler gives them: /pooling, "encode" */
    PR_USE_TOKENIZE = 1 << 5,
    PR_USE_LINE = 1 << 6 /* an input line of the offline commands */
} pr_param_use;

typedef struct pr_param_row {
    const char *key;
    pr_param_type type;
    unsigned uses;  /* pr_param_use bits */
    size_t field;   /* offset in pr_request */
    size_t n_field; /* IDS: offset of the length */
    int32_t min;    /* INT */
    int32_t unset;  /* the value that means "not given" */
} pr_param_row;

enum { PR_PARAM_IDS_MAX = 1024 };

const pr_param_row *pr_param_describe(pr_param_id id);
/* The row of a key that this use takes; NULL: none. */
const pr_param_row *pr_param_find(const char *key, size_t n_key, unsigned use);

/* No parameter is given; the request's other fields stay. */
void pr_params_unset(pr_request *request);
bool pr_param_is_set(const pr_param_row *row, const pr_request *request);
/* Copies what is given in from; ids stay where they are. */
void pr_params_apply(const pr_request *from, pr_request *to);

int64_t pr_param_value(const pr_param_row *row, const pr_request *request); /* not of IDS */
const int32_t *pr_param_ids(const pr_param_row *row, const pr_request *request, size_t *n);
/* Sets one that is not IDS, of a value in its range (asserted). */
void pr_param_set(const pr_param_row *row, int32_t value, pr_request *request);
void pr_param_ids_set(const pr_param_row *row, const int32_t *ids, size_t n, pr_request *request);
/* "KEY: found …, expected …" for a value that the row does not take. Fails PR_E_INPUT. */
pr_status pr_param_range_check(const pr_param_row *row, int64_t value, pr_error *err);

/* Reads a value that is not null. *ids: for IDS, owned by the caller, who has NULL there.
 * Fails PR_E_INPUT with "KEY: found …, expected …", PR_E_NOMEM. */
pr_status pr_param_json_read(const pr_param_row *row, const json_t *value, pr_request *request,
                             int32_t **ids, pr_error *err);

#endif
