/* model_72b.h: the shape that tests of plans work numbers out for by hand. */
#ifndef POOLRANK_TESTS_MODEL_72B_H
#define POOLRANK_TESTS_MODEL_72B_H

#include "runtime/model/model_spec.h"

/* Qwen2.5-Math-RM-72B. */
static const pr_model_spec rm_72b = {.family = PR_FAMILY_QWEN2,
                                     .head = PR_HEAD_REWARD,
                                     .vocab_size = 152064,
                                     .hidden_size = 8192,
                                     .intermediate_size = 29568,
                                     .n_layers = 80,
                                     .n_heads = 64,
                                     .n_kv_heads = 8,
                                     .head_dim = 128,
                                     .n_positions = 4096,
                                     .qkv_bias = true,
                                     .gated = true,
                                     .causal = true,
                                     .position = PR_POSITION_ROPE,
                                     .n_labels = 1};

#endif
