#include "runtime/base/dtype.h"

#include <assert.h>
#include <math.h>

typedef struct dtype_row {
    size_t bytes;
    const char *torch;
    const char *safetensors;
} dtype_row;

static const dtype_row rows[] = {
    [PR_DTYPE_F32] = {4, "float32", "F32"},
    [PR_DTYPE_F16] = {2, "float16", "F16"},
    [PR_DTYPE_BF16] = {2, "bfloat16", "BF16"},
    [PR_DTYPE_F64] = {8, "float64", "F64"},
    [PR_DTYPE_I64] = {8, "int64", "I64"},
    [PR_DTYPE_I32] = {4, "int32", "I32"},
    [PR_DTYPE_I16] = {2, "int16", "I16"},
    [PR_DTYPE_I8] = {1, "int8", "I8"},
    [PR_DTYPE_U8] = {1, "uint8", "U8"},
    [PR_DTYPE_BOOL] = {1, "bool", "BOOL"},
    [PR_DTYPE_F8_E4M3] = {1, "float8_e4m3fn", "F8_E4M3"},
    [PR_DTYPE_F8_E5M2] = {1, "float8_e5m2", "F8_E5M2"},
};
static_assert(sizeof rows / sizeof *rows == PR_DTYPE_COUNT, "one row per dtype");

size_t pr_dtype_bytes(pr_dtype dtype)
{
    assert((unsigned)dtype < PR_DTYPE_COUNT);
    return rows[dtype].bytes;
}

const char *pr_dtype_name(pr_dtype dtype)
{
    assert((unsigned)dtype < PR_DTYPE_COUNT);
    return rows[dtype].torch;
}

const char *pr_dtype_safetensors(pr_dtype dtype)
{
    assert((unsigned)dtype < PR_DTYPE_COUNT);
    return rows[dtype].safetensors;
}

bool pr_dtype_parse(const char *name, pr_dtype *out)
{
    assert(name);
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    for (int i = 0; i < PR_DTYPE_COUNT; i++) {
        if (strcmp(name, rows[i].torch) == 0 || strcmp(name, rows[i].safetensors) == 0) {
            *out = (pr_dtype)i;
            return true;
        }
    }
    return false;
}

float pr_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1Fu;
    uint32_t mantissa = h & 0x3FFu;
    uint32_t bits;
    if (exponent == 0x1F) {
        bits = sign | 0x7F800000u | (mantissa << 13);
    } else if (exponent != 0) {
        bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else if (mantissa == 0) {
        bits = sign;
    } else { /* subnormal: shift the leading one up to the implicit place */
        uint32_t shift = 0;
        while (!(mantissa & 0x400u)) {
            mantissa <<= 1;
            shift++;
        }
        bits = sign | ((113 - shift) << 23) | ((mantissa & 0x3FFu) << 13);
    }
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t pr_f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u);
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* rounds past 65504 */
    if (magnitude >= 0x38800000u) {
        uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
        return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
    }
    if (magnitude < 0x33000000u) return sign; /* below half of the least subnormal */
    uint32_t shift = 126 - (magnitude >> 23);
    uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    uint32_t kept = mantissa >> shift;
    uint32_t rest = mantissa & ((1u << shift) - 1);
    uint32_t half = 1u << (shift - 1);
    if (rest > half || (rest == half && (kept & 1u))) kept++;
    return (uint16_t)(sign | kept);
}

void pr_dtype_to_f32(const void *src, pr_dtype dtype, size_t n, float *dst)
{
    assert(dtype == PR_DTYPE_F32 || dtype == PR_DTYPE_F16 || dtype == PR_DTYPE_BF16);
    if (dtype == PR_DTYPE_F32) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    const unsigned char *p = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        dst[i] = dtype == PR_DTYPE_BF16 ? pr_bf16_to_f32(h) : pr_f16_to_f32(h);
    }
}

void pr_dtype_from_f32(const float *src, pr_dtype dtype, size_t n, void *dst)
{
    assert(dtype == PR_DTYPE_F32 || dtype == PR_DTYPE_F16 || dtype == PR_DTYPE_BF16);
    if (dtype == PR_DTYPE_F32) {
        memcpy(dst, src, n * sizeof *src);
        return;
    }
    unsigned char *p = dst;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = dtype == PR_DTYPE_BF16 ? pr_f32_to_bf16(src[i]) : pr_f32_to_f16(src[i]);
        memcpy(p + 2 * i, &h, sizeof h);
    }
}

bool pr_f32_is_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
    }
    return true;
}
