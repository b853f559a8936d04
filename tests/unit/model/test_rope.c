/* RoPE's inverse frequencies against those of transformers (rope_golden.h). */
#include "runtime/model/model_spec.h"
#include "tests/unit/model/fixture.h"
#include "tests/unit/model/rope_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LLAMA3                                                                                     \
    "'rope_type': 'llama3', 'rope_theta': 500000.0, 'low_freq_factor': 1.0, "                      \
    "'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192"

static const struct {
    const char *changes;
    int32_t n;
    const uint32_t *expected;
    int32_t ulps_max; /* 1: torch's pow is off by that much in one of the numbers */
} cases[] = {
    {"{'head_dim': 64, 'rope_theta': 10000}", 32, rope_plain, 0},
    {"{'head_dim': 128, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 1000000.0}}", 64,
     rope_far, 1},
    {"{'head_dim': 16, 'rope_scaling': {'type': 'linear', 'factor': 2.5}}", 8, rope_linear, 0},
    {"{'head_dim': 128, 'rope_parameters': {" LLAMA3 ", 'factor': 8.0}}", 64, rope_llama3_8,
     0},
    {"{'head_dim': 64, 'rope_parameters': {" LLAMA3 ", 'factor': 32.0}}", 32, rope_llama3_32,
     0},
    /* A division in place of torch's product with a reciprocal is off in three of these. */
    {"{'head_dim': 128, 'rope_parameters': {" LLAMA3
     ", 'factor': 8.0, 'low_freq_factor': 0.5, 'high_freq_factor': 2.0}}",
     64, rope_llama3_blended, 0},
};

static int32_t ulps_apart(float a, float b)
{
    int32_t i, j;
    memcpy(&i, &a, sizeof i);
    memcpy(&j, &b, sizeof j);
    return abs(i - j);
}

static void rope_frequencies_are_those_of_transformers(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        pr_model_spec spec = spec_of(llama_config, cases[c].changes);
        assert_int_equal(spec.head_dim / 2, cases[c].n);
        float found[64];
        pr_model_spec_rope_frequencies(&spec, found);
        for (int32_t i = 0; i < cases[c].n; i++) {
            float expected;
            memcpy(&expected, &cases[c].expected[i], sizeof expected);
            int32_t apart = ulps_apart(found[i], expected);
            if (apart > cases[c].ulps_max) {
                fail_msg("case %zu, frequency %d: %d ulps apart", c, i, apart);
            }
        }
        pr_model_spec_deinit(&spec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rope_frequencies_are_those_of_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
