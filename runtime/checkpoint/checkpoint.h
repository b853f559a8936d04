/* runtime/checkpoint/checkpoint.h: the tensors of a model folder, in one or several safetensors
 * files.
 *
 * Owns the open files and the directory of tensors. Nothing is mapped: tensors are read with pread
 * into the caller's memory, so no page of a file is ever part of the process. Opened by one thread;
 * reads may then come from several threads. */
#ifndef POOLRANK_RUNTIME_CHECKPOINT_CHECKPOINT_H
#define POOLRANK_RUNTIME_CHECKPOINT_CHECKPOINT_H

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

#include <stdint.h>

enum { PR_TENSOR_DIMS_MAX = 8 };

typedef struct pr_checkpoint pr_checkpoint;

/* Where one tensor lies. Borrowed from the checkpoint. */
typedef struct pr_tensor {
    const char *name;
    pr_dtype dtype;
    int n_dims; /* 0: a scalar */
    int64_t shape[PR_TENSOR_DIMS_MAX];
    uint64_t offset; /* of its first byte in the file */
    uint64_t n_bytes;
    int i_file;
} pr_tensor;

/* Opens model.safetensors, or every file that model.safetensors.index.json names, below `folder`
 * (links are followed only as pr_file_resolve allows). Only headers are read.
 * Fails PR_E_NOT_FOUND when there is neither (a folder with pytorch_model.bin gets the command
 * that converts it); PR_E_MODEL for a broken file, with file, tensor and byte; PR_E_IO; PR_E_NOMEM.
 */
pr_status pr_checkpoint_open(const char *folder, pr_checkpoint **out, pr_error *err);

/* Opens one safetensors file below `folder` (Dense modules of Sentence Transformers). */
pr_status pr_checkpoint_open_file(const char *folder, const char *relative, pr_checkpoint **out,
                                  pr_error *err);

void pr_checkpoint_close(pr_checkpoint *c);

size_t pr_checkpoint_n_tensors(const pr_checkpoint *c);
const pr_tensor *pr_checkpoint_tensor(const pr_checkpoint *c, size_t i); /* in file order */

/* NULL when there is none of that name. */
const pr_tensor *pr_checkpoint_find(const pr_checkpoint *c, const char *name);

/* The rectangle of a 1-D (one row of columns) or 2-D tensor, row-major, in the tensor's own dtype:
 * dst has (row_end - row_begin) * (column_end - column_begin) elements. The range must lie inside
 * the tensor (asserted). Counts the bytes asked for. Fails PR_E_IO with the tensor's name. */
pr_status pr_checkpoint_read(pr_checkpoint *c, const pr_tensor *t, int64_t row_begin,
                             int64_t row_end, int64_t column_begin, int64_t column_end, void *dst,
                             pr_error *err);

/* Bytes asked for by pr_checkpoint_read so far: of one tensor, and of all (t NULL). */
uint64_t pr_checkpoint_bytes_read(const pr_checkpoint *c, const pr_tensor *t);

#endif
