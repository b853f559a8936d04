#include "coordinator/engine/check_finite.h"

#include "runtime/base/dtype.h"
#include "runtime/checkpoint/checkpoint.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1 << 20 };

typedef struct finding {
    const pr_tensor *tensor; /* NULL: none */
    int64_t element;
    int64_t n;
} finding;

/* "layers.10" after "layers.9": digits as numbers. */
static int natural_compare(const char *a, const char *b)
{
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            char *end_a, *end_b;
            unsigned long x = strtoul(a, &end_a, 10), y = strtoul(b, &end_b, 10);
            if (x != y) return x < y ? -1 : 1;
            a = end_a;
            b = end_b;
        } else if (*a != *b) {
            break;
        } else {
            a++;
            b++;
        }
    }
    return (unsigned char)*a - (unsigned char)*b;
}

/* Bits of a float whose exponent is all ones stand for infinity or not-a-number. */
static bool is_finite_at(const char *data, pr_dtype dtype, int64_t i)
{
    uint32_t bits32;
    uint16_t bits16;
    if (dtype == PR_DTYPE_F32) {
        memcpy(&bits32, data + 4 * i, sizeof bits32);
        return (bits32 & 0x7F800000u) != 0x7F800000u;
    }
    memcpy(&bits16, data + 2 * i, sizeof bits16);
    uint16_t exponent = dtype == PR_DTYPE_BF16 ? 0x7F80 : 0x7C00;
    return (bits16 & exponent) != exponent;
}

static void rectangle_of(const pr_tensor *t, int64_t *n_rows, int64_t *n_columns)
{
    *n_columns = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 1;
    *n_rows = t->n_dims > 1 ? t->shape[0] : 1;
}

static pr_status tensor_scan(pr_checkpoint *c, const pr_tensor *t, char *piece, finding *f,
                             pr_error *err)
{
    int64_t n_rows, n_columns, element = (int64_t)pr_dtype_bytes(t->dtype);
    rectangle_of(t, &n_rows, &n_columns);
    int64_t wide = n_columns * element > PIECE_BYTES ? PIECE_BYTES / element : n_columns;
    int64_t high = wide > 0 && wide == n_columns ? PIECE_BYTES / (wide * element) : 1;
    for (int64_t row = 0; row < n_rows; row += high) {
        int64_t row_end = row + high < n_rows ? row + high : n_rows;
        for (int64_t column = 0; column < n_columns; column += wide) {
            int64_t column_end = column + wide < n_columns ? column + wide : n_columns;
            pr_status st = pr_checkpoint_read(c, t, row, row_end, column, column_end, piece, err);
            if (st != PR_OK) return st;
            int64_t n = (row_end - row) * (column_end - column);
            for (int64_t i = 0; i < n; i++) {
                if (is_finite_at(piece, t->dtype, i)) continue;
                if (f->n++ == 0) f->element = row * n_columns + column + i;
            }
        }
    }
    if (f->n > 0) f->tensor = t;
    return PR_OK;
}

static bool is_scanned(const pr_tensor *t)
{
    bool is_float = t->dtype == PR_DTYPE_F32 || t->dtype == PR_DTYPE_F16 ||
                    t->dtype == PR_DTYPE_BF16;
    return is_float && t->n_dims <= 2 && t->n_bytes > 0;
}

pr_status pr_check_finite(const char *folder, json_t **out, pr_error *err)
{
    pr_checkpoint *c = NULL;
    finding first = {0};
    size_t n_scanned = 0, n_bad = 0;
    char *piece = malloc(PIECE_BYTES);
    pr_status st = piece ? PR_OK : pr_error_nomem(err, "piece of a tensor", PIECE_BYTES);
    if (st == PR_OK) st = pr_checkpoint_open(folder, &c, err);
    for (size_t i = 0; st == PR_OK && i < pr_checkpoint_n_tensors(c); i++) {
        const pr_tensor *t = pr_checkpoint_tensor(c, i);
        finding here = {0};
        if (!is_scanned(t)) continue;
        st = tensor_scan(c, t, piece, &here, err);
        n_scanned++;
        n_bad += here.n > 0;
        bool is_earlier = here.tensor && (!first.tensor || natural_compare(here.tensor->name,
                                                                           first.tensor->name) < 0);
        if (is_earlier) first = here;
    }
    if (st == PR_OK) {
        json_t *found = first.tensor ? json_pack("{s:s, s:I, s:I}", "name", first.tensor->name,
                                                 "element", (json_int_t)first.element, "count",
                                                 (json_int_t)first.n)
                                     : json_null();
        *out = found ? json_pack("{s:I, s:I, s:o}", "tensors", (json_int_t)n_scanned, "not_finite",
                                 (json_int_t)n_bad, "first", found)
                     : NULL;
        if (!*out) st = pr_error_nomem(err, "description", 0);
    }
    pr_checkpoint_close(c);
    free(piece);
    return st;
}
