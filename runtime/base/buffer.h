/* runtime/base/buffer.h: a byte buffer that grows.
 *
 * Owns its bytes. Plain struct in the caller's storage; one thread at a time. A failed append sets
 * the buffer's `failed` flag and leaves the contents as they were, so that a writer may append many
 * times and check once. */
#ifndef POOLRANK_RUNTIME_BASE_BUFFER_H
#define POOLRANK_RUNTIME_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct pr_buffer {
    char *data;   /* NULL while empty; not NUL-terminated unless asked for */
    size_t n;     /* bytes in use */
    size_t n_max; /* bytes allocated */
    bool failed;  /* an append found no memory */
} pr_buffer;

void pr_buffer_init(pr_buffer *b);
void pr_buffer_deinit(pr_buffer *b);
void pr_buffer_clear(pr_buffer *b); /* keeps the memory, clears `failed` */
/* Room for n_more bytes at data + n, which is then never NULL, also for n_more 0. */
bool pr_buffer_reserve(pr_buffer *b, size_t n_more);
bool pr_buffer_append(pr_buffer *b, const void *data, size_t n);
bool pr_buffer_append_str(pr_buffer *b, const char *s);
bool pr_buffer_append_char(pr_buffer *b, char c);
bool pr_buffer_printf(pr_buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Adds a NUL after the contents without counting it; NULL when there is no memory. */
const char *pr_buffer_str(pr_buffer *b);

#endif
