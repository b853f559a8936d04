#include "runtime/wire/rpc_rows.h"

#include "runtime/base/dtype.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "numbers are copied as they lie in memory: a big-endian machine needs them turned here"
#endif

static float row_scale(const float *row, size_t n)
{
    float max = 0;
    for (size_t i = 0; i < n; i++) {
        float x = fabsf(row[i]);
        if (!isfinite(x)) return NAN;
        if (x > max) max = x;
    }
    return max / 127.0f;
}

/* The rounding mode is the default one, to nearest with ties to even. */
static void row_write_int8(const float *row, size_t n, char *dst, char *scale_out)
{
    float scale = row_scale(row, n);
    memcpy(scale_out, &scale, sizeof scale);
    if (!(scale > 0)) {
        memset(dst, 0, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float q = rintf(row[i] / scale);
        if (q > 127) q = 127; /* a scale so small that it is itself rounded */
        if (q < -127) q = -127;
        dst[i] = (char)(int8_t)q;
    }
}

void pr_rpc_rows_write(const void *src, size_t n_rows, size_t n_columns, pr_rpc_format format,
                       char *dst, char *scales)
{
    size_t n = n_rows * n_columns;
    switch (format) {
    case PR_RPC_F32:
    case PR_RPC_I32:
        if (n > 0) memcpy(dst, src, n * 4);
        return;
    case PR_RPC_F16: pr_dtype_from_f32(src, PR_DTYPE_F16, n, dst); return;
    case PR_RPC_INT8:
        for (size_t i = 0; i < n_rows; i++) {
            row_write_int8((const float *)src + i * n_columns, n_columns, dst + i * n_columns,
                           scales + i * sizeof(float));
        }
        return;
    case PR_RPC_FORMAT_COUNT: break;
    }
    assert(!"a format");
}

void pr_rpc_rows_read(const char *bytes, const char *scales, size_t n_rows, size_t n_columns,
                      pr_rpc_format format, float *dst)
{
    size_t n = n_rows * n_columns;
    assert(format < PR_RPC_I32);
    if (n == 0) return;
    if (format == PR_RPC_F32) {
        memcpy(dst, bytes, n * sizeof *dst);
    } else if (format == PR_RPC_F16) {
        pr_dtype_to_f32(bytes, PR_DTYPE_F16, n, dst);
    } else {
        for (size_t i = 0; i < n_rows; i++) {
            float scale;
            memcpy(&scale, scales + i * sizeof scale, sizeof scale);
            for (size_t j = 0; j < n_columns; j++) {
                dst[i * n_columns + j] = (float)(int8_t)bytes[i * n_columns + j] * scale;
            }
        }
    }
}

void pr_rpc_ids_read(const char *bytes, size_t n, int32_t *dst)
{
    if (n > 0) memcpy(dst, bytes, n * sizeof *dst);
}
