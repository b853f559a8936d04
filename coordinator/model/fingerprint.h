/* coordinator/model/fingerprint.h: one number that tells two models apart, so that a rank with
 * other files than the coordinator's is noticed before it computes.
 *
 * Of what the layers are made of (the model spec, overrides included) and of every tensor's name,
 * dtype and shape; not of the weights' values, which would take as long as loading them. The same
 * on every machine. Reads the headers of the checkpoint. Any thread. */
#ifndef POOLRANK_COORDINATOR_MODEL_FINGERPRINT_H
#define POOLRANK_COORDINATOR_MODEL_FINGERPRINT_H

#include "coordinator/model/model.h"

/* Fails as pr_checkpoint_open and pr_checkpoint_open_file. */
pr_status pr_model_fingerprint(const pr_model *model, uint64_t *out, pr_error *err);

/* The part that follows from the spec alone. Pure. */
uint64_t pr_model_spec_fingerprint(const pr_model_spec *spec);

#endif
