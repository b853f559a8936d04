/* Matrix tiles of AMX: c [n_rows][32] += x W over bf16 terms, f32 sums. What one instruction
 * computes, and in which order steps and terms follow each other, is in gemm_tile_amx_c.c, which
 * gives the same bits.
 *
 *              W: 16 columns   16 columns          registers: 0 to 3 sums, 4 and 5 x, 6 and 7 W
 *           +---------------+---------------+
 *   x, half |    tile 0     |    tile 1     |      Per step of 32 k and per product of terms 4
 *   of rows +---------------+---------------+      multiplications stand against 2 loads of x;
 *   x, rest |    tile 2     |    tile 3     |      W is loaded once for all terms of x.
 *           +---------------+---------------+
 *
 * 16 rows or fewer use tiles 0 and 1 alone. A multiplication takes 16 cycles of the tile unit for
 * 16 rows and its result is there after 52: four sums in turn hide that, two do not. */
#include "kernels/cpu/bf16_terms.h"

#include <immintrin.h>
#include <string.h>

typedef __m512 vec;
#define VEC_WIDTH        16
#define PANEL_VECS       2
#define vec_load(p)      _mm512_load_ps(p)
#define vec_store(p, v)  _mm512_store_ps(p, v)
#define vec_storeu(p, v) _mm512_storeu_ps(p, v)
#define vec_add(a, b)    _mm512_add_ps(a, b)
#include "kernels/cpu/gemm_tail_body.h"
#include "kernels/cpu/gemm_widen_avx512.h"

enum {
    ROW_BYTES = 64, /* of a tile */
    TILE_BYTES = PR_BF16_TILE * 2,
    C_ROW_BYTES = PR_BF16_COLUMNS * 4,
    N_TILES = 8
};

/* Rows of tiles 0 and 1; the rest is in 2 and 3. */
static int rows_above(int n_rows)
{
    return n_rows > 16 ? (n_rows + 1) / 2 : n_rows;
}

/* The operand of LDTILECFG. */
typedef struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t n_rows[16];
} tile_config;

/* In assembly: gcc 12 drops the stores to the configuration before its own intrinsic. */
static void begin(int n_rows)
{
    _Alignas(64) tile_config config = {.palette = 1};
    int above = rows_above(n_rows);
    const int rows[N_TILES] = {above, above, n_rows - above, n_rows - above, above, n_rows - above,
                               16,    16};
    for (int i = 0; i < N_TILES; i++) {
        config.n_rows[i] = (uint8_t)rows[i];
        config.row_bytes[i] = rows[i] > 0 ? ROW_BYTES : 0;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

static void end(void)
{
    _tile_release();
}

#ifdef __clang__
#define PR_UNROLL_TERMS /* it unrolls by itself, and warns of a pragma where it did already */
#else
#define PR_UNROLL_TERMS _Pragma("GCC unroll 3")
#endif
#define INLINE static inline __attribute__((always_inline))

/* The two tiles of one term of W times n terms of x, the smallest first. */
INLINE void multiply(const char *x, const char *w, int n, bool is_tall, int64_t term_bytes,
                     int64_t below)
{
    _tile_loadd(6, w, ROW_BYTES);
    _tile_loadd(7, w + TILE_BYTES, ROW_BYTES);
    for (int i = n - 1; i >= 0; i--) {
        const char *term = x + i * term_bytes;
        _tile_loadd(4, term, ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (!is_tall) continue;
        _tile_loadd(5, term + below, ROW_BYTES);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* Two tiles of W that will be read next, to L2. */
INLINE void fetch(const char *w)
{
    if (!w) return;
    for (int i = 0; i < 2 * TILE_BYTES; i += 64) _mm_prefetch(w + i, _MM_HINT_T1);
}

INLINE void load_sums(const float *c, int above, bool is_tall, bool continues)
{
    if (!continues) {
        _tile_zero(0);
        _tile_zero(1);
        if (!is_tall) return;
        _tile_zero(2);
        _tile_zero(3);
        return;
    }
    _tile_loadd(0, c, C_ROW_BYTES);
    _tile_loadd(1, c + 16, C_ROW_BYTES);
    if (!is_tall) return;
    _tile_loadd(2, c + above * PR_BF16_COLUMNS, C_ROW_BYTES);
    _tile_loadd(3, c + above * PR_BF16_COLUMNS + 16, C_ROW_BYTES);
}

INLINE void store_sums(float *c, int above, bool is_tall)
{
    _tile_stored(0, c, C_ROW_BYTES);
    _tile_stored(1, c + 16, C_ROW_BYTES);
    if (!is_tall) return;
    _tile_stored(2, c + above * PR_BF16_COLUMNS, C_ROW_BYTES);
    _tile_stored(3, c + above * PR_BF16_COLUMNS + 16, C_ROW_BYTES);
}

INLINE void add(float *c, const float *more, int n_rows)
{
    for (int r = 0; r < n_rows; r++) {
        vec_store(c, vec_add(vec_load(c), vec_load(more)));
        vec_store(c + 16, vec_add(vec_load(c + 16), vec_load(more + 16)));
        c += PR_BF16_COLUMNS;
        more += PR_BF16_COLUMNS;
    }
}

INLINE void tile_rows(const int n_x, const int n_w, const bool is_tall, const char *x,
                      const char *w, const char *next, int n_rows, int64_t n_k, float *c,
                      bool continues)
{
    const int n_terms = n_x > n_w ? n_x : n_w;
    int above = rows_above(n_rows);
    int64_t term_bytes = (int64_t)n_rows * ROW_BYTES;
    bool is_added = n_x == PR_BF16_TERMS_MAX && continues;
    _Alignas(64) float own[PR_CPU_GEMM_MR_MAX * PR_BF16_COLUMNS];
    float *sums = is_added ? own : c;
    load_sums(sums, above, is_tall, continues && !is_added);
    for (int64_t k = 0; k < n_k; k += PR_BF16_STEP) {
        PR_UNROLL_TERMS
        for (int j = n_w - 1; j >= 0; j--) {
            const int n = n_terms - j < n_x ? n_terms - j : n_x;
            fetch(next ? next + j * 2 * TILE_BYTES : NULL);
            multiply(x, w + j * 2 * TILE_BYTES, n, is_tall, term_bytes, above * ROW_BYTES);
        }
        x += n_x * term_bytes;
        w += n_w * 2 * TILE_BYTES;
        if (next) next += n_w * 2 * TILE_BYTES;
    }
    store_sums(sums, above, is_tall);
    if (is_added) add(c, own, n_rows);
}

#define TILE(n_x, n_w)                                                                             \
    static void tile_##n_x##n_w(const void *x, const void *w, const void *next, int n_rows,        \
                                int64_t n_k, float *c, bool continues)                             \
    {                                                                                              \
        if (n_rows > 16) {                                                                         \
            tile_rows(n_x, n_w, true, x, w, next, n_rows, n_k, c, continues);                      \
        } else {                                                                                   \
            tile_rows(n_x, n_w, false, x, w, next, n_rows, n_k, c, continues);                     \
        }                                                                                          \
    }
TILE(1, 1)
TILE(2, 1)
TILE(2, 2)
TILE(3, 1)
TILE(3, 2)
TILE(3, 3)

/* 16 f32 whose bf16 is 16 bits of `half`. */
INLINE __m512 widen(__m256i half)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Values that do not simply round: infinity, NaN, and what would round to infinity. */
INLINE bool has_special(__m512 v)
{
    __m512i size = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7FFFFFFF));
    return _mm512_cmpge_epi32_mask(size, _mm512_set1_epi32(0x7F7F8000)) != 0;
}

static void pack_specials(__m512 low, __m512 high, int n_terms, uint16_t *to, int64_t term_elements)
{
    _Alignas(64) float v[PR_BF16_STEP];
    _mm512_store_ps(v, low);
    _mm512_store_ps(v + 16, high);
    for (int k = 0; k < PR_BF16_STEP; k++) {
        uint16_t terms[PR_BF16_TERMS_MAX];
        pr_bf16_terms_of(v[k], n_terms, terms);
        for (int i = 0; i < n_terms; i++) to[i * term_elements + k] = terms[i];
    }
}

/* One row's step of 32 k; the conversion rounds to nearest even and takes denormals as 0. */
INLINE void pack_step(__m512 low, __m512 high, const int n_terms, uint16_t *to,
                      int64_t term_elements)
{
    if (__builtin_expect(has_special(low) || has_special(high), 0)) {
        pack_specials(low, high, n_terms, to, term_elements);
        return;
    }
    PR_UNROLL_TERMS
    for (int i = 0; i < n_terms; i++) {
        __m512i term = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_store_si512(to + i * term_elements, term);
        low = _mm512_sub_ps(low, widen(_mm512_castsi512_si256(term)));
        high = _mm512_sub_ps(high, widen(_mm512_extracti64x4_epi64(term, 1)));
    }
}

INLINE void pack_rows(const int n_terms, const float *x, int64_t ldx, int n_rows, int64_t n_k,
                      uint16_t *dst)
{
    int64_t term_elements = (int64_t)n_rows * PR_BF16_STEP;
    for (int64_t r = 0; r < n_rows; r++, x += ldx, dst += PR_BF16_STEP) {
        uint16_t *to = dst;
        int64_t k = 0;
        for (; k + PR_BF16_STEP <= n_k; k += PR_BF16_STEP, to += n_terms * term_elements) {
            pack_step(_mm512_loadu_ps(x + k), _mm512_loadu_ps(x + k + 16), n_terms, to,
                      term_elements);
        }
        if (k == n_k) continue;
        uint32_t mask = (1U << (n_k - k)) - 1;
        __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x + k);
        __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + k + 16);
        pack_step(low, high, n_terms, to, term_elements);
    }
}

static void pack_x(const pr_cpu_gemm_kernels *self, const float *x, int64_t ldx, int n_rows,
                   int64_t n_k, void *dst)
{
    switch (self->n_x_terms) {
    case 1:
        pack_rows(1, x, ldx, n_rows, n_k, dst);
        return;
    case 2:
        pack_rows(2, x, ldx, n_rows, n_k, dst);
        return;
    default:
        pack_rows(3, x, ldx, n_rows, n_k, dst);
        return;
    }
}

/* Pairs of k of 4 columns that stand side by side, a step of one term: rows[r] has 16 pairs of
 * column r, to[p * 16 + r] gets pair p. */
INLINE void store_pairs(const __m512i rows[PR_CPU_GEMM_QUAD], uint32_t *to)
{
    __m512i ab_low = _mm512_unpacklo_epi32(rows[0], rows[1]);
    __m512i ab_high = _mm512_unpackhi_epi32(rows[0], rows[1]);
    __m512i cd_low = _mm512_unpacklo_epi32(rows[2], rows[3]);
    __m512i cd_high = _mm512_unpackhi_epi32(rows[2], rows[3]);
    const __m512i pairs[4] = {_mm512_unpacklo_epi64(ab_low, cd_low), /* 0, 4, 8, 12 */
                              _mm512_unpackhi_epi64(ab_low, cd_low),
                              _mm512_unpacklo_epi64(ab_high, cd_high),
                              _mm512_unpackhi_epi64(ab_high, cd_high)};
    for (int i = 0; i < 4; i++) {
        _mm_store_si128((__m128i *)(to + i * 16), _mm512_castsi512_si128(pairs[i]));
        _mm_store_si128((__m128i *)(to + (4 + i) * 16), _mm512_extracti32x4_epi32(pairs[i], 1));
        _mm_store_si128((__m128i *)(to + (8 + i) * 16), _mm512_extracti32x4_epi32(pairs[i], 2));
        _mm_store_si128((__m128i *)(to + (12 + i) * 16), _mm512_extracti32x4_epi32(pairs[i], 3));
    }
}

static void pack_w(const pr_cpu_gemm_kernels *self, const float *const *rows, int64_t n_rows,
                   int64_t k0, int64_t n_k, int64_t column, void *panel)
{
    if (n_rows < PR_CPU_GEMM_QUAD || column % PR_CPU_GEMM_QUAD != 0 || n_k % PR_BF16_STEP != 0) {
        pr_bf16_terms_pack_w(self, rows, n_rows, k0, n_k, column, panel);
        return;
    }
    int n_terms = self->n_w_terms;
    uint16_t *to = (uint16_t *)panel + column / 16 * PR_BF16_TILE + column % 16 * 2 +
                   k0 / PR_BF16_STEP * n_terms * 2 * PR_BF16_TILE;
    for (int64_t k = 0; k < n_k; k += PR_BF16_STEP) {
        _Alignas(64) uint16_t terms[PR_CPU_GEMM_QUAD][PR_BF16_TERMS_MAX * PR_BF16_STEP];
        for (int r = 0; r < PR_CPU_GEMM_QUAD; r++) {
            pack_step(_mm512_loadu_ps(rows[r] + k), _mm512_loadu_ps(rows[r] + k + 16), n_terms,
                      terms[r], PR_BF16_STEP);
        }
        for (int t = 0; t < n_terms; t++, to += 2 * PR_BF16_TILE) {
            __m512i row[PR_CPU_GEMM_QUAD];
            for (int r = 0; r < PR_CPU_GEMM_QUAD; r++) {
                row[r] = _mm512_load_si512(terms[r] + t * PR_BF16_STEP);
            }
            store_pairs(row, (uint32_t *)(void *)to);
        }
    }
}

#define REST(n_x, n_w)                                                                             \
    .pack_w = pack_w, .pack_x = pack_x, .begin = begin, .end = end, .tile = tile_##n_x##n_w,       \
    .widen_bf16 = widen_bf16, .widen_f16 = widen_f16
PR_BF16_ROWS(REST);
const pr_cpu_gemm_set pr_cpu_gemm_amx = {
    .f32 = {NULL, &products_6, &products_2x2, &products_1},
    .f16 = {NULL, &products_5, &products_2x2, &products_1},
    .bf16 = {NULL, &products_3, &products_2, &products_1},
};
