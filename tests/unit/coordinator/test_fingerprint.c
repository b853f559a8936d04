#include "coordinator/model/fingerprint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODELS PR_TESTS_DIR "/parity/models/"

static uint64_t fingerprint_of(const char *name)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s%s", MODELS, name);
    pr_config config = {.model = folder};
    pr_model *m = NULL;
    pr_error err;
    uint64_t fingerprint = 0;
    pr_status st = pr_model_open_files(&config, &m, &err);
    if (st == PR_OK) st = pr_model_fingerprint(m, &fingerprint, &err);
    if (st != PR_OK) fail_msg("%s: %s", name, err.message);
    pr_model_close(m);
    return fingerprint;
}

/* The figure is a second implementation's (Python), so that a machine or a version that computes
 * another one is noticed: ranks of both would refuse each other. */
static void a_model_has_the_same_fingerprint_everywhere(void **state)
{
    (void)state;
    const pr_model_spec spec = {.family = PR_FAMILY_QWEN2, .architecture = "A", .hidden_size = 64,
                                .n_layers = 2, .norm_eps = 1e-6f, .rope_theta = 1e6,
                                .causal = true, .window = {0, 128}};
    assert_int_equal(pr_model_spec_fingerprint(&spec), UINT64_C(0x62038FF40F54612B));
    assert_int_equal(fingerprint_of("qwen2-plain"), fingerprint_of("qwen2-plain"));
}

static void other_tensors_are_another_model(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen2-plain", "qwen2-reward", "qwen2-process-reward",
                                        "bert-st-mean", "bert-st-dense", "llama-plain"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(fingerprint_of(names[i]), fingerprint_of(names[j]));
        }
    }
}

static void another_spec_is_another_model(void **state)
{
    (void)state;
    const pr_model_spec base = {.n_layers = 2, .rope_theta = 1e6, .norm_eps = 1e-6f};
    uint64_t own = pr_model_spec_fingerprint(&base);
    pr_model_spec spec = base;
    spec.causal = true;
    assert_int_not_equal(pr_model_spec_fingerprint(&spec), own);
    spec = base;
    spec.rope_theta = 1e4;
    assert_int_not_equal(pr_model_spec_fingerprint(&spec), own);
    spec = base;
    spec.norm_eps = 1e-5f;
    assert_int_not_equal(pr_model_spec_fingerprint(&spec), own);
    spec = base;
    spec.window[1] = 64;
    assert_int_not_equal(pr_model_spec_fingerprint(&spec), own);
    spec = base;
    spec.window[2] = 64; /* of a layer that the model does not have */
    assert_int_equal(pr_model_spec_fingerprint(&spec), own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_has_the_same_fingerprint_everywhere),
        cmocka_unit_test(other_tensors_are_another_model),
        cmocka_unit_test(another_spec_is_another_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
