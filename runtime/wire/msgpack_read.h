/* runtime/wire/msgpack_read.h: reads msgpack values one after the other from bytes that a peer
 * sent.
 *
 * Allocates nothing and trusts nothing: a value is taken only when all of it is there, and the
 * count of an array or map is at most the bytes that follow. (msgpack-c 4.0.0 sets memory aside for
 * all elements that an array's head announces: 16 GiB for a frame of 6 bytes. So it only writes.)
 *
 * The caller knows which value comes next and names it. The first that is not as expected is
 * written to *err ("HELLO: rank: found a string, expected an integer of 0 to 4095"); every read
 * after it gives zero, so that a caller reads all fields and checks the status once. One thread at
 * a time. */
#ifndef POOLRANK_RUNTIME_WIRE_MSGPACK_READ_H
#define POOLRANK_RUNTIME_WIRE_MSGPACK_READ_H

#include "runtime/base/status.h"

#include <stdint.h>

enum { PR_MSGPACK_DEPTH_MAX = 8 }; /* of a value that is skipped */

typedef enum pr_msgpack_type {
    PR_MSGPACK_NIL,
    PR_MSGPACK_BOOL,
    PR_MSGPACK_INTEGER,
    PR_MSGPACK_FLOAT,
    PR_MSGPACK_STR,
    PR_MSGPACK_BIN,
    PR_MSGPACK_ARRAY,
    PR_MSGPACK_MAP,
    PR_MSGPACK_EXT, /* no message has one: only skipped */
    PR_MSGPACK_NONE /* the bytes are at their end, or no value begins so */
} pr_msgpack_type;

typedef struct pr_msgpack_reader {
    const unsigned char *bytes; /* borrowed while the reader is used */
    size_t n, at;
    const char *message; /* what is read, for errors; borrowed, may be set anew */
    pr_status status;    /* the first failure */
    pr_error *err;       /* borrowed, may be NULL */
} pr_msgpack_reader;

void pr_msgpack_reader_init(pr_msgpack_reader *r, const char *message, const void *bytes, size_t n,
                            pr_error *err);

/* The type of the value that comes next; takes nothing. */
pr_msgpack_type pr_msgpack_next(const pr_msgpack_reader *r);

/* What follows fails PR_E_INPUT: another type, outside the bounds (both included), or cut off. */
bool pr_msgpack_read_bool(pr_msgpack_reader *r, const char *field);
uint64_t pr_msgpack_read_u64(pr_msgpack_reader *r, const char *field, uint64_t min, uint64_t max);
int64_t pr_msgpack_read_i64(pr_msgpack_reader *r, const char *field, int64_t min, int64_t max);
double pr_msgpack_read_f64(pr_msgpack_reader *r, const char *field); /* an integer is fine too */

/* Borrowed from the reader's bytes, not NUL-terminated; on failure NULL and *n 0. Any bytes: UTF-8
 * is the caller's to check. */
const char *pr_msgpack_read_str(pr_msgpack_reader *r, const char *field, size_t n_min,
                                size_t n_max, size_t *n);
const char *pr_msgpack_read_bin(pr_msgpack_reader *r, const char *field, size_t n_min,
                                size_t n_max, size_t *n);

/* A string without a NUL byte, copied with one behind it: out [n_out], "" on failure. */
void pr_msgpack_read_text(pr_msgpack_reader *r, const char *field, char *out, size_t n_out);

/* Exactly n bytes of bin, copied. On failure zeros. */
void pr_msgpack_read_fixed(pr_msgpack_reader *r, const char *field, void *out, size_t n);

/* The count of elements, pairs of a map; they come next. */
uint32_t pr_msgpack_read_array(pr_msgpack_reader *r, const char *field, uint32_t n_min,
                               uint32_t n_max);
uint32_t pr_msgpack_read_map(pr_msgpack_reader *r, const char *field, uint32_t n_min,
                             uint32_t n_max);

/* Takes the next value whatever it is, with all in it, at most PR_MSGPACK_DEPTH_MAX deep. */
void pr_msgpack_skip(pr_msgpack_reader *r, const char *field);

/* Fails when bytes are left; returns the first failure of all. */
pr_status pr_msgpack_read_end(pr_msgpack_reader *r);

/* For a field that is read well and yet wrong: PR_E_INPUT with "message: field: " in front, unless
 * an earlier failure stands. Returns the reader's status. */
pr_status pr_msgpack_fail(pr_msgpack_reader *r, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
