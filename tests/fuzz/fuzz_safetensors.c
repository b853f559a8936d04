/* Any bytes as a safetensors file: refused, or a directory of tensors that lie inside it. */
#include "runtime/checkpoint/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int ok)
{
    if (!ok) abort();
}

/* What a reader relies on: sizes agree, and the tensors tile the data. */
static void check_tensors(const pr_safetensors *s, size_t n_header, uint64_t n_file)
{
    uint64_t expected = n_header;
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pr_tensor *t = &s->tensors[i];
        check(t->name != NULL && (unsigned)t->dtype < PR_DTYPE_COUNT);
        check(t->n_dims >= 0 && t->n_dims <= PR_TENSOR_DIMS_MAX);
        uint64_t n_bytes = pr_dtype_bytes(t->dtype);
        for (int d = 0; d < t->n_dims; d++) {
            check(t->shape[d] >= 0);
            n_bytes *= (uint64_t)t->shape[d];
        }
        check(n_bytes == t->n_bytes && t->offset == expected);
        expected += n_bytes;
    }
    check(expected == n_file);
}

/* The header is parsed from a copy of just the bytes that are asked for, as checkpoint.c does. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    unsigned char first8[8] = {0};
    if (n > 0) memcpy(first8, data, n < 8 ? n : 8);
    size_t n_header = 0;
    pr_error err = {0};
    if (pr_safetensors_header_bytes(first8, n, "fuzz", &n_header, &err) != PR_OK) return 0;
    check(n_header <= n);
    char *header = malloc(n_header);
    if (!header) return 0;
    memcpy(header, data, n_header);
    pr_safetensors s = {0};
    if (pr_safetensors_parse(header, n_header, n, "fuzz", &s, &err) == PR_OK) {
        check_tensors(&s, n_header, n);
        pr_safetensors_deinit(&s);
    } else {
        check(err.message[0] != '\0' && s.tensors == NULL);
    }
    free(header);
    return 0;
}
