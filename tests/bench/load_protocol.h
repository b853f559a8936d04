/* load_protocol.h: how a load's requests are written and their answers taken, in each protocol.
 *
 * A vtable of pure functions over bytes; load_run.h moves the bytes. */
#ifndef POOLRANK_BENCH_LOAD_PROTOCOL_H
#define POOLRANK_BENCH_LOAD_PROTOCOL_H

#include "runtime/base/buffer.h"

#include <stdint.h>

enum { LOAD_NOT_AN_ANSWER = -1 };

/* One of the requests that are sent over and over. */
typedef struct load_body {
    char **texts; /* [n_texts], owned: of a request for embeddings */
    size_t n_texts;
    char *raw;    /* in place of texts: [n_raw] of a file, owned */
    size_t n_raw;
    pr_buffer request;  /* made once, by prepare: what append needs */
    const char *format; /* as the shape's */
    pr_buffer first;   /* what was answered first, to compare with */
} load_body;

typedef struct load_shape {
    const char *host;   /* of the header */
    const char *path;   /* HTTP's */
    const char *key;    /* NULL: none */
    const char *format; /* encoding_format; NULL: unset */
} load_shape;

typedef struct load_answer {
    int status;         /* HTTP's, or its like: 200, 429, … */
    uint64_t id;        /* of protocols with ids */
    const char *body;   /* [n], borrowed: what must be the same for the same request */
    size_t n;
    bool is_nothing;    /* no answer, only a sign of life */
    bool closes;        /* the server closes the connection behind it */
} load_answer;

typedef struct load_protocol {
    bool has_ids; /* answers name their requests; else they come in the requests' order */
    /* Fills body->request. False: no memory. */
    bool (*prepare)(const load_shape *shape, load_body *body);
    /* Appends body's request under an id. False: no memory. */
    bool (*append)(const load_body *body, uint64_t id, pr_buffer *out);
    /* What a connection begins with; its answer (one) is expected first, with status 200. NULL:
     * nothing. */
    bool (*hello)(const load_shape *shape, pr_buffer *out);
    /* The first answer in bytes [n]: how many bytes it takes, 0: it is not whole yet,
     * LOAD_NOT_AN_ANSWER. */
    int64_t (*take)(const char *bytes, size_t n, load_answer *out);
} load_protocol;

extern const load_protocol load_http;
extern const load_protocol load_socket;

#endif
