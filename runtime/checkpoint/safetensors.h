/* runtime/checkpoint/safetensors.h: the header of one safetensors file, parsed and checked.
 *
 * Pure: bytes in, table out; called by checkpoint.c and by the fuzz target. Format: 8 bytes of
 * little-endian header length, JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}},
 * then the data. Source: huggingface/safetensors, README, "Format". */
#ifndef POOLRANK_RUNTIME_CHECKPOINT_SAFETENSORS_H
#define POOLRANK_RUNTIME_CHECKPOINT_SAFETENSORS_H

#include "runtime/checkpoint/checkpoint.h"

/* The reference refuses longer headers too. */
enum { PR_SAFETENSORS_HEADER_BYTES_MAX = 100000000 };

typedef struct pr_safetensors {
    pr_tensor *tensors; /* [n_tensors], ordered by offset; names owned by this struct */
    size_t n_tensors;
} pr_safetensors;

/* header: the first n_header bytes of the file, at least 8 + the length that they announce;
 * n_file: the size of the whole file. Checks: the length fits, offsets are ordered, inside the
 * file, do not overlap, leave no hole and reach the end exactly, and agree with dtype and shape
 * without overflow. name: for messages. Fails PR_E_MODEL, PR_E_UNSUPPORTED (dtype), PR_E_NOMEM. */
pr_status pr_safetensors_parse(const void *header, size_t n_header, uint64_t n_file,
                               const char *name, pr_safetensors *out, pr_error *err);

void pr_safetensors_deinit(pr_safetensors *s);

/* The number of bytes (8 + header) that pr_safetensors_parse needs, from the first 8.
 * Fails PR_E_MODEL when the announced length is over the bound or leaves the file. */
pr_status pr_safetensors_header_bytes(const void *first8, uint64_t n_file, const char *name,
                                      size_t *out, pr_error *err);

#endif
