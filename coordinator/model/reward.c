#include "coordinator/model/reward.h"

#include <assert.h>

float pr_reward_row(const pr_result *result, uint32_t i_row)
{
    assert(i_row < result->n_rows);
    return result->data[(size_t)(i_row + 1) * result->n_columns - 1];
}

/* steps: n of them, each stride behind the one before. */
static float reduce_strided(pr_reduce reduce, const float *steps, size_t n, size_t stride)
{
    double sum = 0;
    double product = 1;
    float least = steps[0];
    for (size_t i = 0; i < n; i++) {
        float step = steps[i * stride];
        sum += (double)step;
        product *= (double)step;
        if (step < least) least = step;
    }
    switch (reduce) {
    case PR_REDUCE_MEAN:
        return (float)(sum / (double)n);
    case PR_REDUCE_MIN:
        return least;
    case PR_REDUCE_PRODUCT:
        return (float)product;
    case PR_REDUCE_LAST:
    case PR_REDUCE_COUNT:
        break;
    }
    return steps[(n - 1) * stride];
}

float pr_reward_reduce(pr_reduce reduce, const float *steps, size_t n)
{
    assert(n > 0);
    return reduce_strided(reduce, steps, n, 1);
}

pr_status pr_reward_of(const pr_result *result, pr_pool pool, int32_t step_tag_id, pr_reduce reduce,
                       float *steps, float *out, pr_error *err)
{
    assert(result->status == PR_OK);
    if (pool != PR_POOL_STEP) {
        assert(result->n_rows > 0);
        *out = pr_reward_row(result, result->n_rows - 1);
        return PR_OK;
    }
    if (result->n_rows == 0) {
        return pr_error_set(err, PR_E_INPUT, "the text has no step: token %d does not occur in it",
                            (int)step_tag_id);
    }
    for (uint32_t i = 0; steps && i < result->n_rows; i++) steps[i] = pr_reward_row(result, i);
    *out = reduce_strided(reduce, result->data + result->n_columns - 1, result->n_rows,
                          result->n_columns);
    return PR_OK;
}
