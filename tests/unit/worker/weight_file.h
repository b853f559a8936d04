/* tests/unit/worker/weight_file.h: what tests that write a model's checkpoint need to know of it.
 * Pure inline functions. */
#ifndef POOLRANK_TESTS_UNIT_WORKER_WEIGHT_FILE_H
#define POOLRANK_TESTS_UNIT_WORKER_WEIGHT_FILE_H

#include "runtime/base/buffer.h"
#include "runtime/base/dtype.h"
#include "runtime/model/weight_names.h"

static inline size_t weight_file_elements(const pr_weight *w)
{
    return (size_t)w->shape[0] * (size_t)(w->n_dims > 1 ? w->shape[1] : 1);
}

/* Whether its values are around 1 in a random model, not around 0. */
static inline bool weight_file_is_norm(const pr_weight *w)
{
    return w->role == PR_ROLE_EMBED_NORM || w->role == PR_ROLE_ATTENTION_NORM ||
           w->role == PR_ROLE_MLP_NORM || w->role == PR_ROLE_FINAL_NORM ||
           w->role == PR_ROLE_Q_NORM || w->role == PR_ROLE_K_NORM;
}

/* Appends the JSON object of a safetensors file that holds the list's weights one after the other,
 * but for its closing brace. Returns the bytes of all weights. */
static inline size_t weight_file_header(const pr_weight_list *list, pr_dtype dtype, pr_buffer *out)
{
    size_t at = 0;
    pr_buffer_append_char(out, '{');
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        size_t n_bytes = weight_file_elements(w) * pr_dtype_bytes(dtype);
        pr_buffer_printf(out, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", i ? "," : "", w->name,
                         pr_dtype_safetensors(dtype), (long long)w->shape[0]);
        if (w->n_dims > 1) pr_buffer_printf(out, ",%lld", (long long)w->shape[1]);
        pr_buffer_printf(out, "],\"data_offsets\":[%zu,%zu]}", at, at + n_bytes);
        at += n_bytes;
    }
    return at;
}

#endif
