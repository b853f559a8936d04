#include "kernels/cpu/bf16_terms.h"

#include <string.h>

static float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint32_t bits_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* To nearest even; a finite value stays finite, a denormal becomes 0. */
static uint16_t round_to_term(float v)
{
    uint32_t bits = bits_of(v);
    uint32_t magnitude = bits & 0x7FFFFFFF;
    if (magnitude < 0x00800000) return (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7F800000) return (uint16_t)(bits >> 16 | 0x0040); /* NaN, quiet */
    if (magnitude >= 0x7F7F8000) return (uint16_t)(bits >> 16); /* infinity; or would become it */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void pr_bf16_terms_of(float v, int n_terms, uint16_t *terms)
{
    for (int i = 0; i < n_terms; i++) {
        terms[i] = round_to_term(v);
        bool is_finite = (terms[i] & 0x7F80) != 0x7F80;
        v = is_finite ? v - float_of((uint32_t)terms[i] << 16) : 0;
    }
}

void pr_bf16_terms_pack_w(const pr_cpu_gemm_kernels *self, const float *const *rows, int64_t n_rows,
                          int64_t k0, int64_t n_k, int64_t column, void *panel)
{
    int n_terms = self->n_w_terms;
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t j = column + r;
        uint16_t *to_column = (uint16_t *)panel + j / 16 * PR_BF16_TILE + j % 16 * 2;
        for (int64_t i = 0; i < n_k; i++) {
            uint16_t terms[PR_BF16_TERMS_MAX];
            pr_bf16_terms_of(rows[r][i], n_terms, terms);
            int64_t k = k0 + i;
            uint16_t *to = to_column + k / PR_BF16_STEP * n_terms * 2 * PR_BF16_TILE +
                           k % PR_BF16_STEP / 2 * 32 + k % 2;
            for (int t = 0; t < n_terms; t++) to[t * 2 * PR_BF16_TILE] = terms[t];
        }
    }
}

void pr_bf16_terms_pack_x(const pr_cpu_gemm_kernels *self, const float *x, int64_t ldx, int n_rows,
                          int64_t n_k, void *dst)
{
    int n_terms = self->n_x_terms;
    int64_t term_elements = (int64_t)n_rows * PR_BF16_STEP;
    int64_t n_padded = (n_k + PR_BF16_STEP - 1) / PR_BF16_STEP * PR_BF16_STEP;
    for (int64_t r = 0; r < n_rows; r++) {
        for (int64_t k = 0; k < n_padded; k++) {
            uint16_t terms[PR_BF16_TERMS_MAX];
            pr_bf16_terms_of(k < n_k ? x[r * ldx + k] : 0, n_terms, terms);
            uint16_t *to = (uint16_t *)dst + k / PR_BF16_STEP * n_terms * term_elements +
                           r * PR_BF16_STEP + k % PR_BF16_STEP;
            for (int t = 0; t < n_terms; t++) to[t * term_elements] = terms[t];
        }
    }
}
