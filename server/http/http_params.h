/* server/http/http_params.h: the parameters of a request's body: each key is honoured, known to
 * mean nothing here, or refused by name.
 *
 * Which keys a body may have is one table. A pr_http_params belongs to its exchange and borrows
 * strings of the parsed body. Called by the routes, on the thread that parses. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_PARAMS_H
#define POOLRANK_SERVER_HTTP_HTTP_PARAMS_H

#include "server/http/http_exchange.h"

/* Kinds of body, as bits. */
typedef enum pr_http_body {
    PR_HTTP_BODY_EMBEDDINGS = 1 << 0,
    PR_HTTP_BODY_POOLING = 1 << 1,
    PR_HTTP_BODY_CLASSIFY = 1 << 2,
    PR_HTTP_BODY_SCORE = 1 << 3,
    PR_HTTP_BODY_RERANK = 1 << 4,
    PR_HTTP_BODY_REWARD = 1 << 5,
    PR_HTTP_BODY_TOKENIZE = 1 << 6,
    PR_HTTP_BODY_DETOKENIZE = 1 << 7,
    PR_HTTP_BODY_TEI_RERANK = 1 << 8, /* the shapes of text-embeddings-inference */
    PR_HTTP_BODY_TEI_EMBED = 1 << 9,
    PR_HTTP_BODY_COHERE_EMBED = 1 << 10,
    PR_HTTP_BODY_TEI_PREDICT = 1 << 11,
    PR_HTTP_BODY_TEI_SIMILARITY = 1 << 12
} pr_http_body;

/* What a vector can be written as. */
typedef enum pr_http_embedding_type {
    PR_HTTP_EMBEDDING_FLOAT,
    PR_HTTP_EMBEDDING_INT8,
    PR_HTTP_EMBEDDING_UINT8,
    PR_HTTP_EMBEDDING_BINARY,
    PR_HTTP_EMBEDDING_UBINARY,
    PR_HTTP_EMBEDDING_BASE64,
    PR_HTTP_EMBEDDING_COUNT
} pr_http_embedding_type;

struct pr_http_params {
    pr_request item;        /* what all items have in common */
    const char *model_name; /* as the client called it; NULL: it did not */
    bool is_per_item;       /* an item that fails has its error in its place */
    bool is_base64;
    bool return_documents; /* rerank; true unless said otherwise */
    bool return_text;      /* TEI's rerank */
    bool return_token_strs;
    bool skip_special_tokens;
    bool truncate;                  /* TEI: true unless said otherwise */
    bool raw_scores;                /* TEI */
    unsigned embedding_types;       /* Cohere's: bits of pr_http_embedding_type; 0: none given */
    bool is_voyage;                 /* rerank: the answer has "data" too */
    int32_t top_n;                  /* 0: all */
    pr_reduce reduce;
    /* filled while the input is read */
    pr_http_body body;
    const char *input_key;   /* for messages; constant */
    bool is_single;          /* one text that was not in an array: messages need no index */
    int32_t *ids;            /* owned: token ids that items borrow */
    char *messages;          /* owned: the conversation that the item borrows, as JSON */
    int32_t *returned_ids;   /* owned: of returned_token_ids */
    const json_t *documents; /* rerank: as sent; borrowed */
};

/* Reads every key of x->json, which is an object, but for the input. False: the answer is an
 * error. */
bool pr_http_params_read(pr_http_exchange *x, pr_http_body body);

/* The answer becomes an error 400 of PR_E_INPUT with its message: "key: …". Returns false, so that
 * `return pr_http_refuse(…)` reads well. key: the JSON key at fault, NULL: none. */
bool pr_http_refuse(pr_http_exchange *x, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with any error. */
bool pr_http_fail(pr_http_exchange *x, const char *key, const pr_error *err);

/* The value, or NULL for a missing key and for null. */
json_t *pr_http_value(const pr_http_exchange *x, const char *key);

#endif
