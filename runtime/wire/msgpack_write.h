/* runtime/wire/msgpack_write.h: appends msgpack values to a buffer, each in its shortest form.
 *
 * Over msgpack-c's packer. Nothing is returned: a failed append sets out->failed, which is checked
 * once, after the last value. An array or a map is its head followed by its elements, whose number
 * is the caller's to keep. One thread at a time. */
#ifndef POOLRANK_RUNTIME_WIRE_MSGPACK_WRITE_H
#define POOLRANK_RUNTIME_WIRE_MSGPACK_WRITE_H

#include "runtime/base/buffer.h"

#include <stdint.h>

void pr_msgpack_write_nil(pr_buffer *out);
void pr_msgpack_write_bool(pr_buffer *out, bool v);
void pr_msgpack_write_u64(pr_buffer *out, uint64_t v);
void pr_msgpack_write_i64(pr_buffer *out, int64_t v);
void pr_msgpack_write_f64(pr_buffer *out, double v);

/* Strings and bins: n at most UINT32_MAX. */
void pr_msgpack_write_str(pr_buffer *out, const char *s, size_t n);
void pr_msgpack_write_text(pr_buffer *out, const char *s); /* NUL-terminated, as a string */
void pr_msgpack_write_bin(pr_buffer *out, const void *bytes, size_t n);

/* The head of a bin and room for its n bytes, which the caller fills before the next append; NULL
 * when there is no memory. */
char *pr_msgpack_write_bin_space(pr_buffer *out, size_t n);

void pr_msgpack_write_array(pr_buffer *out, uint32_t n_elements);
void pr_msgpack_write_map(pr_buffer *out, uint32_t n_pairs);

#endif
