/* runtime/wire/frame.h: frames on a byte stream: a length, then that many bytes.
 *
 *     0        4                4 + n
 *     | n, u32 | payload: one msgpack value |      n little-endian, 1 .. bytes_max
 *
 * A reader owns the bytes that have come in and not been taken yet. Knows nothing of sockets: the
 * caller reads and writes. One thread at a time. */
#ifndef POOLRANK_RUNTIME_WIRE_FRAME_H
#define POOLRANK_RUNTIME_WIRE_FRAME_H

#include "runtime/base/buffer.h"
#include "runtime/base/status.h"

#include <stdint.h>

enum { PR_FRAME_HEADER_BYTES = 4, PR_FRAME_BYTES_MAX = 256 << 20 };

typedef struct pr_frame_reader {
    pr_buffer bytes;
    size_t begin;      /* of the first frame that was not taken */
    size_t bytes_max;  /* of a payload; larger ones are refused before memory is taken for them */
} pr_frame_reader;

void pr_frame_reader_init(pr_frame_reader *r, size_t bytes_max);
void pr_frame_reader_deinit(pr_frame_reader *r);

/* Copies bytes that came in. Fails PR_E_NOMEM. */
pr_status pr_frame_reader_feed(pr_frame_reader *r, const void *data, size_t n, pr_error *err);

/* The next whole frame: *payload [*n] borrowed until the next call on the reader; *payload NULL
 * when none is complete. Fails PR_E_TOO_LARGE (a length over bytes_max, with both numbers) and
 * PR_E_INPUT (length 0); the stream is then of no more use. */
pr_status pr_frame_reader_next(pr_frame_reader *r, const char **payload, size_t *n, pr_error *err);

/* Begins a frame at the end of *out and returns its place for pr_frame_end, which writes the length
 * of what was appended since. Fails PR_E_NOMEM (out->failed), PR_E_TOO_LARGE. */
size_t pr_frame_begin(pr_buffer *out);
pr_status pr_frame_end(pr_buffer *out, size_t place, pr_error *err);

#endif
