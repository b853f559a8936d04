/* tests/unit/worker/tiny_model.h: a small random model written to a temporary folder, with the
 * struct that describes it, for tests that run a worker.
 *
 * Owned by the caller (tiny_model_remove). */
#ifndef POOLRANK_TESTS_UNIT_WORKER_TINY_MODEL_H
#define POOLRANK_TESTS_UNIT_WORKER_TINY_MODEL_H

#include "runtime/model/weight_names.h"

#include <stdbool.h>

enum { TINY_UNUSED = 7 }; /* rows and columns of lm_head.weight, which nothing should read */

typedef struct tiny_model {
    char folder[64];
    pr_model_spec spec;
} tiny_model;

/* config: JSON text of its config.json. The weights are uniform in [-scale, scale] around 0, norms
 * around 1, from a fixed seed. Aborts the test on any failure. */
void tiny_model_make(tiny_model *m, const char *config, float scale);
void tiny_model_remove(tiny_model *m);

#endif
