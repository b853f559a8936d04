/* tests/fuzz/fuzz_auto_tokenizer.c: any bytes as a tokenizer.json and the files beside it.
 *
 * The input up to the first 0xFF byte (which no UTF-8 has) is the tokenizer.json, the rest an
 * object of the files: config, special_map, added, arguments, model_type, model_class. */
#include "runtime/text/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const json_t *object(const json_t *beside, const char *key)
{
    const json_t *value = json_object_get(beside, key);
    return json_is_object(value) ? value : NULL;
}

static void encode(const pr_tokenizer *t)
{
    static const char text[] = "Hello  w\xc3\xb6rld <s> [MASK] <new1>";
    pr_error err;
    pr_ids ids = {0};
    pr_encoding e = {0};
    if (pr_tokenizer_encode(t, text, sizeof text - 1, &ids, &err) == PR_OK &&
        pr_tokenizer_assemble(t, ids.ids, ids.n, ids.ids, ids.n, true, &e, &err) == PR_OK) {
        for (size_t i = 0; i < e.n; i++) {
            if (e.ids[i] < 0 || e.ids[i] >= pr_tokenizer_n_ids(t)) abort();
        }
    }
    pr_encoding_deinit(&e);
    pr_ids_deinit(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pr_error err;
    pr_tokenizer *t = NULL;
    json_t *beside = NULL;
    const uint8_t *cut = n ? memchr(data, 0xff, n) : NULL;
    if (!cut) return 0;
    size_t n_json = (size_t)(cut - data);
    const char *rest = (const char *)cut + 1;
    if (pr_json_parse(rest, n - n_json - 1, "fuzz", &beside, &err) != PR_OK) return 0;
    const pr_tokenizer_files files = {
        .config = object(beside, "config"),
        .special_map = object(beside, "special_map"),
        .added = object(beside, "added"),
        .arguments = object(beside, "arguments"),
        .model_type = json_string_value(json_object_get(beside, "model_type")),
        .model_class = json_string_value(json_object_get(beside, "model_class")),
        .lowercase = json_is_true(json_object_get(beside, "lowercase")),
    };
    if (pr_tokenizer_parse_auto((const char *)data, n_json, "fuzz", &files, &t, &err) == PR_OK) {
        encode(t);
    }
    pr_tokenizer_free(t);
    json_decref(beside);
    return 0;
}
