/* 4 x 8 tiles in plain C, with the vectors of GNU C that gcc and clang turn into what the processor
 * has (SSE2, NEON) or into scalars. The product is rounded before the sum, on every processor:
 * -ffp-contract=off. */
typedef float vec __attribute__((vector_size(16)));
typedef float vec_unaligned __attribute__((vector_size(16), aligned(4)));
#define VEC_WIDTH           4
#define PANEL_VECS          2
#define vec_zero()          ((vec){0})
#define vec_load(p)         (*(const vec *)(p))
#define vec_store(p, v)     (*(vec *)(p) = (v))
#define vec_storeu(p, v)    (*(vec_unaligned *)(p) = (v))
#define vec_add(a, b)       ((a) + (b))
#define vec_spread(p)       ((vec){*(p), *(p), *(p), *(p)})
#define vec_muladd(a, b, c) ((a) * (b) + (c))
#define vec_load_bf16(p)                                                                           \
    ((vec){pr_bf16_to_f32((p)[0]), pr_bf16_to_f32((p)[1]), pr_bf16_to_f32((p)[2]),                 \
           pr_bf16_to_f32((p)[3])})
#include "runtime/base/dtype.h"

#include "kernels/cpu/gemm_tile_body.h"

PR_TILE(1)
PR_TILE(2)
PR_TILE(3)
PR_TILE(4)

static void tile(const void *x, const void *w, const void *next, int n_rows, int64_t n_k, float *c,
                 bool continues)
{
    (void)next; /* a tile fetches ahead within its panel */
    static float_tile *const tiles[] = {NULL, tile_1, tile_2, tile_3, tile_4};
    tiles[n_rows](x, w, n_k, c, continues);
}

static void tile_bf16(const void *x, const void *w, const void *next, int n_rows, int64_t n_k,
                      float *c, bool continues)
{
    (void)next;
    static float_tile *const tiles[] = {NULL, bf16_1, bf16_2, bf16_3, bf16_4};
    tiles[n_rows](x, w, n_k, c, continues);
}

static const pr_cpu_gemm_kernels f32 = {
    PR_FLOAT_KERNELS(4),
    .dtype = PR_DTYPE_F32,
    .weight_bytes = sizeof(float),
    .pack_w = pr_cpu_gemm_pack_f32,
    .tile = tile,
    .widen_bf16 = pr_cpu_gemm_widen_bf16,
    .widen_f16 = pr_cpu_gemm_widen_f16,
};
static const pr_cpu_gemm_kernels bf16 = {
    PR_FLOAT_KERNELS(4),
    .dtype = PR_DTYPE_BF16,
    .weight_bytes = sizeof(uint16_t),
    .pack_w = pr_cpu_gemm_pack_bf16,
    .tile = tile_bf16,
    .widen_bf16 = pr_cpu_gemm_widen_bf16,
    .widen_f16 = pr_cpu_gemm_widen_f16,
};

const pr_cpu_gemm_set pr_cpu_gemm_c = {
    .f32 = {NULL, &f32, &f32, &f32},
    .f16 = {NULL, &f32, &f32, &f32},
    .bf16 = {NULL, &bf16, &bf16, &bf16},
};
