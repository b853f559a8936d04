/* tests/unit/model/fixture.h: small configurations of each family, changed case by case.
 *
 * JSON is written here with ' in place of ". Called by the tests of this folder. */
#ifndef POOLRANK_TESTS_UNIT_MODEL_FIXTURE_H
#define POOLRANK_TESTS_UNIT_MODEL_FIXTURE_H

#include "runtime/model/model_spec.h"

extern const char bert_config[], roberta_config[], xlmr_config[];
extern const char qwen2_config[], qwen3_config[], llama_config[], mistral_config[];

/* The JSON value of a text with ' for "; owned (json_decref). */
json_t *json_of(const char *text);

/* base without the key `drop` (NULL: none), with `changes` (NULL: none) merged in. */
pr_status spec_parse(const char *base, const char *drop, const char *changes, pr_model_spec *out,
                     pr_error *err);

/* As spec_parse with nothing dropped, and must succeed. */
pr_model_spec spec_of(const char *base, const char *changes);

#endif
