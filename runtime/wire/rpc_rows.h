/* runtime/wire/rpc_rows.h: rows of numbers as the socket protocol sends them: raw little-endian
 * bytes of float32, float16, or int8 with a scale for each row; and token ids as int32.
 *
 * Pure functions on the caller's memory; any thread. */
#ifndef POOLRANK_RUNTIME_WIRE_RPC_ROWS_H
#define POOLRANK_RUNTIME_WIRE_RPC_ROWS_H

#include "runtime/wire/rpc.h"

/* n_rows rows of n_columns float32 (I32: int32_t) at src → bytes at dst [n_rows * n_columns *
 * pr_rpc_format_bytes]; int8 also writes scales [4 * n_rows]. Neither needs to be aligned.
 *
 *   f16   rounded to nearest, ties to even; too large becomes infinity
 *   int8  scale = max|x| / 127 of the row, in float32; q = x / scale, rounded to nearest, ties to
 *         even, at most ±127; a row of zeros (or so small that the scale is 0) has scale 0 and
 *         zeros; a row that holds a value that is not finite has scale NaN and zeros */
void pr_rpc_rows_write(const void *src, size_t n_rows, size_t n_columns, pr_rpc_format format,
                       char *dst, char *scales);

/* The way back, to float32: int8 becomes q * scale. Not for I32. */
void pr_rpc_rows_read(const char *bytes, const char *scales, size_t n_rows, size_t n_columns,
                      pr_rpc_format format, float *dst);

/* Token ids: n of 4 bytes each. */
void pr_rpc_ids_read(const char *bytes, size_t n, int32_t *dst);

#endif
