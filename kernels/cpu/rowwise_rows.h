/* kernels/cpu/rowwise_rows.h: how norm and rope go over their rows: the same in every version.
 *
 * Included by rowwise_c.c and rowwise_impl.h after what they do with one row: add_row,
 * layer_norm_row, rms_norm_row, rotate_head. Everything is static. */

static void norm(const pr_norm_args *a, int64_t row_begin, int64_t row_end)
{
    for (int64_t i = row_begin; i < row_end; i++) {
        const float *x = (const float *)a->x + i * a->ldx;
        float *y = a->y ? (float *)a->y + i * a->ldy : NULL;
        if (a->residual) {
            float *s = a->sum ? a->sum + i * a->ld_sum : y;
            add_row(x, a->residual + i * a->ld_residual, a->dim, s);
            x = s;
        }
        if (!y) continue;
        if (!a->weight)
            memmove(y, x, (size_t)a->dim * sizeof *y);
        else if (a->kind == PR_NORM_LAYER)
            layer_norm_row(a, x, y);
        else
            rms_norm_row(x, a->weight, a->eps, a->dim, y);
        if (a->wide) memcpy(a->wide + i * a->ld_wide, y, (size_t)a->dim * sizeof *y);
    }
}

static void heads_turn(const pr_rope *a, float *x, int32_t n_heads, const float *weight,
                       const float *cos_row, const float *sin_row)
{
    for (int32_t h = 0; h < n_heads; h++, x += a->head_dim) {
        if (weight) rms_norm_row(x, weight, a->norm_eps, a->head_dim, x);
        if (cos_row) rotate_head(x, cos_row, sin_row, a->head_dim / 2);
    }
}

static void rope(const pr_rope *a, int64_t row_begin, int64_t row_end)
{
    assert(!a->cos || a->head_dim % 2 == 0);
    for (int64_t i = row_begin; i < row_end; i++) {
        float *q = (float *)a->x + i * a->ldx;
        float *k = q + (int64_t)a->n_heads * a->head_dim;
        const int64_t at = a->cos ? (int64_t)a->positions[i] * (a->head_dim / 2) : 0;
        const float *cos_row = a->cos ? a->cos + at : NULL, *sin_row = a->cos ? a->sin + at : NULL;
        heads_turn(a, q, a->n_heads, a->q_norm, cos_row, sin_row);
        heads_turn(a, k, a->n_kv_heads, a->k_norm, cos_row, sin_row);
    }
}
