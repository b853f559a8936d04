#include "kernels/cuda/cuda_attention.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { N_SETS = 2 };

typedef struct tile_set {
    pr_span *spans; /* [n_rows_max], whose tiles they are */
    int64_t n_spans;
    int32_t group; /* query heads a KV head; 0: nothing is here yet */
    uint32_t n_tiles;
    pr_cuda_tile *tiles; /* [n_tiles_max], device memory */
} tile_set;

struct pr_cuda_tiles_cache {
    tile_set sets[N_SETS];
    int i_set;               /* that the next one overwrites */
    int64_t n_rows_max;      /* of all queries, so also spans: one without queries has no tile */
    size_t n_tiles_max;
    pr_cuda_tile *host;      /* [n_tiles_max], where tiles are made */
};

/* A span of n queries has ceil(n group / rows of a tile) tiles, at most one more than its share. */
static size_t tiles_max(const pr_backend_limits *limits)
{
    size_t n = (size_t)limits->n_rows_max;
    size_t group = (size_t)(limits->n_heads / limits->n_kv_heads);
    return n * group / PR_CUDA_TILE_ROWS + n;
}

pr_status pr_cuda_tiles_cache_create(const pr_backend_limits *limits, pr_cuda_tiles_cache **out,
                                     pr_error *err)
{
    pr_cuda_tiles_cache *c = calloc(1, sizeof *c);
    if (!c) return pr_error_nomem(err, "attention tiles", sizeof *c);
    c->n_rows_max = limits->n_rows_max;
    c->n_tiles_max = tiles_max(limits);
    *out = c; /* what is missing below is freed with the rest */
    size_t spans_bytes = (size_t)c->n_rows_max * sizeof(pr_span);
    size_t tiles_bytes = pr_cuda_tiles_cache_bytes(c);
    c->host = malloc(tiles_bytes);
    if (!c->host) return pr_error_nomem(err, "attention tiles", tiles_bytes);
    for (int i = 0; i < N_SETS; i++) {
        tile_set *s = &c->sets[i];
        s->spans = malloc(spans_bytes);
        if (!s->spans) return pr_error_nomem(err, "attention spans", spans_bytes);
        pr_status st = pr_cuda_memory_device_alloc(tiles_bytes, (void **)&s->tiles, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

void pr_cuda_tiles_cache_free(pr_cuda_memory *m, pr_cuda_tiles_cache *c)
{
    if (!c) return;
    for (int i = 0; i < N_SETS; i++) {
        free(c->sets[i].spans);
        pr_cuda_memory_device_free(m, c->sets[i].tiles);
    }
    free(c->host);
    free(c);
}

size_t pr_cuda_tiles_cache_bytes(const pr_cuda_tiles_cache *c)
{
    return c->n_tiles_max * sizeof(pr_cuda_tile);
}

static bool set_is_of(const tile_set *s, const pr_attention *a)
{
    return s->group == a->n_heads / a->n_kv_heads && s->n_spans == a->n_spans &&
           memcmp(s->spans, a->spans, (size_t)a->n_spans * sizeof *a->spans) == 0;
}

pr_status pr_cuda_tiles_cache_get(pr_cuda_tiles_cache *c, pr_cuda_memory *m, const pr_attention *a,
                                  const pr_cuda_tile **tiles, uint32_t *n_tiles, pr_error *err)
{
    assert(c && a->n_spans <= c->n_rows_max);
    *n_tiles = 0;
    if (a->n_spans == 0) return PR_OK;
    for (int i = 0; i < N_SETS; i++) {
        if (!set_is_of(&c->sets[i], a)) continue;
        *tiles = c->sets[i].tiles;
        *n_tiles = c->sets[i].n_tiles;
        return PR_OK;
    }
    tile_set *s = &c->sets[c->i_set];
    uint32_t n = pr_cuda_tiles(a->spans, a->n_spans, a->n_heads, a->n_kv_heads, NULL);
    assert(n <= c->n_tiles_max);
    s->group = 0; /* until its tiles are on their way */
    c->i_set = (c->i_set + 1) % N_SETS;
    (void)pr_cuda_tiles(a->spans, a->n_spans, a->n_heads, a->n_kv_heads, c->host);
    pr_status st = pr_cuda_memory_upload(m, s->tiles, c->host, n * sizeof *c->host, err);
    cudaStream_t stream = NULL;
    /* outside a batch the upload is on a stream of its own */
    if (st == PR_OK) st = pr_cuda_memory_layer_begin(m, &stream, err);
    if (st != PR_OK) return st;
    memcpy(s->spans, a->spans, (size_t)a->n_spans * sizeof *a->spans);
    s->n_spans = a->n_spans;
    s->group = a->n_heads / a->n_kv_heads;
    s->n_tiles = n;
    *tiles = s->tiles;
    *n_tiles = n;
    return PR_OK;
}
