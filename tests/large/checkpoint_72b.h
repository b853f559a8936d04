/* tests/large/checkpoint_72b.h: files of a checkpoint with the tensors of Qwen2.5-Math-RM-72B at
 * their real shapes, in bfloat16: of holes, or with weights from a fixed seed.
 *
 * Names and shapes are written down here again, apart from runtime/model, so that a test can hold
 * one against the other. Plain data; the folder is the caller's. */
#ifndef POOLRANK_TESTS_LARGE_CHECKPOINT_72B_H
#define POOLRANK_TESTS_LARGE_CHECKPOINT_72B_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LARGE_LAYERS = 80,
    LARGE_TENSORS_MAX = LARGE_LAYERS * 12 + 7,
    LARGE_NAME_BYTES = 64
};

typedef struct large_tensor {
    char name[LARGE_NAME_BYTES];
    int64_t n_rows, n_columns; /* 0 columns: one dimension */
    int i_file;
    uint64_t begin, end; /* bytes in the data of its file */
} large_tensor;

typedef struct large_checkpoint {
    size_t n_tensors;
    large_tensor tensors[LARGE_TENSORS_MAX]; /* in file order */
    int n_files;
    uint64_t n_bytes; /* of all tensors */
} large_checkpoint;

typedef enum large_status {
    LARGE_OK,
    LARGE_NO_HOLES, /* the file system gives every byte a block, or has no files so long */
    LARGE_FAILED    /* errno says why */
} large_status;

/* n_layers: at most LARGE_LAYERS. lm_head is in the 72B's files, though nothing reads it. */
void large_checkpoint_lay_out(large_checkpoint *c, int n_layers, bool has_lm_head);

/* Writes model-0000i-of-0000n.safetensors and the index; data are holes. `folder` exists. */
large_status large_checkpoint_write_holes(const large_checkpoint *c, const char *folder);

/* The same with weights. *sum: of all bytes that were drawn, as 16-bit values. The same on any
 * machine: drawn and rounded with integers. */
large_status large_checkpoint_write_weights(const large_checkpoint *c, const char *folder,
                                            uint64_t *sum);

/* Removes what these wrote, whatever of it is there. */
void large_checkpoint_remove(const large_checkpoint *c, const char *folder);

#endif
