/* runtime/base/dtype.h: the number formats of tensors and exact conversions between them.
 *
 * Pure functions on caller-owned memory; called by everybody, on any thread.
 * Conversions to 16 bits round to nearest, ties to even; NaN stays NaN. */
#ifndef POOLRANK_RUNTIME_BASE_DTYPE_H
#define POOLRANK_RUNTIME_BASE_DTYPE_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

typedef enum pr_dtype {
    PR_DTYPE_F32,
    PR_DTYPE_F16,
    PR_DTYPE_BF16,
    PR_DTYPE_F64,
    PR_DTYPE_I64,
    PR_DTYPE_I32,
    PR_DTYPE_I16,
    PR_DTYPE_I8,
    PR_DTYPE_U8,
    PR_DTYPE_BOOL,
    PR_DTYPE_F8_E4M3,
    PR_DTYPE_F8_E5M2,
    PR_DTYPE_COUNT
} pr_dtype;

size_t pr_dtype_bytes(pr_dtype dtype);            /* of one element */
const char *pr_dtype_name(pr_dtype dtype);        /* "float32", as torch spells it */
const char *pr_dtype_safetensors(pr_dtype dtype); /* "F32", as safetensors spells it */

/* By either spelling, NUL-terminated; false when unknown. */
bool pr_dtype_parse(const char *name, pr_dtype *out);

/* n elements of f32, f16 or bf16 from src (any alignment) to f32; dst does not overlap src. */
void pr_dtype_to_f32(const void *src, pr_dtype dtype, size_t n, float *dst);

/* n f32 elements to f32, f16 or bf16 at dst; dst does not overlap src. */
void pr_dtype_from_f32(const float *src, pr_dtype dtype, size_t n, void *dst);

static inline float pr_bf16_to_f32(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint16_t pr_f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

float pr_f16_to_f32(uint16_t h);
uint16_t pr_f32_to_f16(float f);

/* Whether none of x [n] is infinite or not-a-number. */
bool pr_f32_is_finite(const float *x, size_t n);

#endif
