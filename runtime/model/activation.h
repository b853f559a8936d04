/* runtime/model/activation.h: activation functions by the names that configurations use.
 *
 * Pure; any thread. */
#ifndef POOLRANK_RUNTIME_MODEL_ACTIVATION_H
#define POOLRANK_RUNTIME_MODEL_ACTIVATION_H

#include "runtime/model/model_spec.h"

/* `hidden_act` of config.json: "gelu", "silu", …; false when it is not built. */
bool pr_activation_parse(const char *name, pr_activation *out);

/* A class of torch.nn: "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity".
 * Softmax sets *softmax and leaves *out NONE. False when it is not built. */
bool pr_activation_parse_torch(const char *name, pr_activation *out, bool *softmax);

#endif
