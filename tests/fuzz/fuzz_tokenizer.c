/* tests/fuzz/fuzz_tokenizer.c: any bytes as a tokenizer.json and a text.
 *
 * The input up to the first 0xFF byte (which no UTF-8 has) is the file, the rest the text. A text
 * that encodes must assemble to as many ids as promised, all of them in use, and decode. */
#include "runtime/text/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool condition)
{
    if (!condition) abort();
}

static void check_ids(const pr_tokenizer *t, const pr_ids *a, const pr_ids *b)
{
    static const int32_t nothing[1];
    pr_error err;
    for (int is_pair = 0; is_pair < 2; is_pair++) {
        pr_encoding e = {0};
        const int32_t *second = b->ids ? b->ids : nothing;
        pr_status st = pr_tokenizer_assemble(t, a->ids, a->n, is_pair ? second : NULL,
                                             is_pair ? b->n : 0, true, &e, &err);
        require(st == PR_OK || st == PR_E_NOMEM);
        pr_buffer text = {0};
        if (st == PR_OK) {
            for (size_t i = 0; i < e.n; i++) {
                require(e.ids[i] >= 0 && e.ids[i] < pr_tokenizer_n_ids(t));
                require(e.type_ids[i] <= 1);
            }
            pr_tokenizer_decode(t, e.ids, e.n, is_pair == 1, &text, &err);
        }
        pr_buffer_deinit(&text);
        pr_encoding_deinit(&e);
    }
}

static void check_text(const pr_tokenizer *t, const char *text, size_t n)
{
    pr_error err;
    pr_ids a = {0};
    pr_ids b = {0};
    if (pr_tokenizer_encode(t, text, n, &a, &err) == PR_OK &&
        pr_tokenizer_encode(t, "a b", 3, &b, &err) == PR_OK) {
        check_ids(t, &a, &b);
    }
    pr_ids_deinit(&a);
    pr_ids_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pr_error err;
    pr_tokenizer *t = NULL;
    const uint8_t *cut = n ? memchr(data, 0xff, n) : NULL;
    size_t n_json = cut ? (size_t)(cut - data) : n;
    if (pr_tokenizer_parse((const char *)data, n_json, "fuzz", &t, &err) != PR_OK) return 0;
    if (cut) check_text(t, (const char *)cut + 1, n - n_json - 1);
    check_text(t, "Hello  w\xc3\xb6rld\n\xe4\xbd\xa0 <s>12'll", 26);
    pr_tokenizer_free(t);
    return 0;
}
