/* runtime/base/sized.h: structs that a caller fills and a library reads, or the other way round,
 * where the two may have been built from different versions of the header.
 *
 * Such a struct begins with its size (size_t), as its caller was compiled with it, and later
 * versions only append fields. A smaller one comes from an older caller: what it has not is as by
 * default. A larger one comes from a newer caller, who may rely on fields that this library does
 * not know.
 *
 * Pure; called on any thread. */
#ifndef POOLRANK_RUNTIME_BASE_SIZED_H
#define POOLRANK_RUNTIME_BASE_SIZED_H

#include "runtime/base/status.h"

/* Fills the caller's struct `to`, of to_bytes, with the first bytes of `full` [full_bytes], zeros
 * where the caller's is larger, and to_bytes as its size. */
void pr_sized_give(void *to, size_t to_bytes, const void *full, size_t full_bytes);

/* Takes the caller's struct over into full [full_bytes], which holds the defaults, all but the
 * size. what: its name in messages. min_bytes: what every version had. Fails PR_E_ARGUMENT, full
 * unchanged: it was not initialised, or is larger than this library knows. */
pr_status pr_sized_take(const char *what, const void *given, size_t min_bytes, void *full,
                        size_t full_bytes, pr_error *err);

#endif
