/* tests/gpu/model.h: models of real shapes with random weights, written to a temporary folder in
 * bfloat16, a worker over one, and batches for it.
 *
 * Weights are drawn from a fixed seed, a block of them a tensor and repeated: what a result means
 * is nobody's concern here, only that it is the same everywhere. Owned by the caller
 * (model_remove). */
#ifndef POOLRANK_TESTS_GPU_MODEL_H
#define POOLRANK_TESTS_GPU_MODEL_H

#include "runtime/plan/memory_plan.h"
#include "tests/gpu/gpu.h"
#include "worker/worker.h"

typedef struct model_shape {
    const char *name, *tiny_name;
    const char *family; /* the part of config.json that sizes do not change */
    int vocab, hidden, intermediate, n_layers, n_heads, n_kv_heads, head_dim, n_positions;
    int n_text_tokens;  /* of the texts that it is timed with */
    pr_pool pool;
} model_shape;

enum { MODEL_SHAPES = 4 };
extern const model_shape model_shapes[MODEL_SHAPES]; /* MiniLM, 0.6B, 7B, a rank's share of 72B */

/* The same with at most so many layers and rows of the vocabulary; tiny: small in every way. */
model_shape model_shape_cut(const model_shape *s, int n_layers_max, int vocab_max);
model_shape model_shape_tiny(const model_shape *s);

/* What one rank needs on a GPU, for batches of n_tokens. */
pr_memory_plan model_shape_plan(const gpu *g, const model_shape *s, pr_dtype dtype,
                                uint32_t n_tokens);
/* Whether that is free on the device, or nobody knows; prints a line where it is not. */
bool model_shape_fits(const gpu *g, const model_shape *s, pr_dtype dtype, uint32_t n_tokens);

typedef struct model {
    char folder[256];
    pr_model_spec spec;
    uint64_t file_bytes;
} model;

/* Below TMPDIR, or /tmp. Ends the program where it cannot be written. */
void model_make(const gpu *g, model *m, const model_shape *shape);
void model_remove(model *m);

/* On the device, or with is_cpu on the CPU, in f32. */
pr_worker *model_worker(const gpu *g, const model *m, pr_dtype dtype, bool is_cpu,
                        uint32_t n_rows_max);

/* n texts; text i has lengths[i] tokens, which are those of text number seeds[i]. */
typedef struct model_batch {
    pr_batch_plan plan;
    pr_pooling pooling;
    const pr_pooling **poolings;
} model_batch;
void model_batch_make(const gpu *g, model_batch *b, const model *m, pr_pool pool, uint32_t n,
                      const uint32_t *lengths, const uint32_t *seeds);
/* As many texts of n_tokens as fit n_rows, numbered from seed. */
void model_batch_even(const gpu *g, model_batch *b, const model *m, pr_pool pool, uint32_t n_rows,
                      uint32_t n_tokens, uint32_t seed);
void model_batch_deinit(model_batch *b);

#endif
