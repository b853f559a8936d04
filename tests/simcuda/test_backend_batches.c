/* Batches on the CUDA backend: two at a time, what they may not do to each other, and what goes
 * wrong. On the simulated device, whose streams do nothing before somebody waits for them, or as
 * early as they may, by the order that is asked for: a wait too few is a wrong value. */
#include "tests/simcuda/backend_rig.h"

#include "kernels/cuda/cuda_backend.h"

enum { N_MAX = 96, DIM = 32, HEADS = 2, HEAD = 32, N_TOKENS = 50, N_BATCHES = 6 };

static const pr_sim_order orders[] = {PR_SIM_FORWARD, PR_SIM_REVERSE, PR_SIM_RANDOM};

/* A small model: embedding, one layer's attention and gated block, chosen rows. Buffers of rows are
 * shared by the batches, as in worker/forward.c; what is uploaded and downloaded is a slot's. */
typedef struct model {
    rig r;
    rig_matrix qkv, o, up, down;
    pr_table *tokens;
    float *qkv_bias, *norm_weight;
    float *x;
    void *h, *qkv_rows, *attended, *wide;
    struct {
        int32_t *tokens, *positions;
        uint32_t *keys, *rows;
        float *pooled;
        float *host;
    } slot[2];
} model;

/* What a batch says: sequences of these lengths. */
typedef struct batch {
    int n_rows, n_sequences;
    int32_t tokens[N_MAX], positions[N_MAX];
    uint32_t keys[N_MAX], rows[N_MAX];
    pr_span spans[N_MAX];
} batch;

static batch batch_make(rig *r, int n_sequences, const int *lengths)
{
    batch b = {.n_sequences = n_sequences};
    for (int s = 0; s < n_sequences; s++) {
        b.spans[s] = (pr_span){(uint32_t)b.n_rows, (uint32_t)lengths[s], (uint32_t)b.n_rows,
                               (uint32_t)lengths[s]};
        for (int i = 0; i < lengths[s]; i++, b.n_rows++) {
            b.tokens[b.n_rows] = (int32_t)(rig_random(r) % N_TOKENS);
            b.positions[b.n_rows] = i;
            b.keys[b.n_rows] = (uint32_t)b.n_rows;
        }
        b.rows[s] = (uint32_t)b.n_rows - 1;
    }
    assert_true(b.n_rows <= N_MAX);
    return b;
}

static batch batch_random(rig *r)
{
    int lengths[4], n = 1 + (int)(rig_random(r) % 4);
    for (int i = 0; i < n; i++) lengths[i] = 1 + (int)(rig_random(r) % (N_MAX / 4));
    return batch_make(r, n, lengths);
}

static void model_begin(model *m, pr_dtype dtype, pr_sim_order order, uint64_t seed)
{
    rig *r = &m->r;
    rig_begin(r, dtype, order, seed);
    r->random = 99; /* the same weights and batches whatever the order */
    m->qkv = rig_matrix_make(r, PR_MATRIX_PLAIN, 3 * HEADS * HEAD, DIM, dtype);
    m->o = rig_matrix_make(r, PR_MATRIX_PLAIN, DIM, HEADS * HEAD, dtype);
    m->up = rig_matrix_make(r, PR_MATRIX_GATED, 2 * 40, DIM, dtype);
    m->down = rig_matrix_make(r, PR_MATRIX_PLAIN, DIM, 40, dtype);
    rig_ok(r->cuda->ops->table_create(r->cuda, N_TOKENS, DIM, dtype, &m->tokens, err));
    rig_ok(r->cuda->ops->table_write(r->cuda, m->tokens, 0, N_TOKENS,
                                     rig_numbers(r, N_TOKENS * DIM, dtype, 1.0f), PR_DTYPE_F32,
                                     err));
    const float *bias = rig_numbers(r, 3 * HEADS * HEAD, PR_DTYPE_F32, 1.0f);
    m->qkv_bias = rig_device(r, bias, 3 * HEADS * HEAD, PR_DTYPE_F32);
    m->norm_weight = rig_device(r, rig_numbers(r, DIM, PR_DTYPE_F32, 1.0f), DIM, PR_DTYPE_F32);
    int64_t n = pr_backend_rows(r->cuda, N_MAX);
    m->x = rig_device(r, NULL, n * DIM, PR_DTYPE_F32);
    m->h = rig_device(r, NULL, n * DIM, dtype);
    m->qkv_rows = rig_device(r, NULL, n * 3 * HEADS * HEAD, dtype);
    m->attended = rig_device(r, NULL, n * HEADS * HEAD, dtype);
    m->wide = rig_device(r, NULL, n * 40, dtype);
    for (int i = 0; i < 2; i++) {
        m->slot[i].tokens = rig_device_bytes(r, NULL, N_MAX * sizeof(int32_t));
        m->slot[i].positions = rig_device_bytes(r, NULL, N_MAX * sizeof(int32_t));
        m->slot[i].keys = rig_device_bytes(r, NULL, N_MAX * sizeof(uint32_t));
        m->slot[i].rows = rig_device_bytes(r, NULL, N_MAX * sizeof(uint32_t));
        m->slot[i].pooled = rig_device(r, NULL, N_MAX * DIM, PR_DTYPE_F32);
        m->slot[i].host = rig_pinned(r, N_MAX * DIM * sizeof(float));
    }
    rig_reserve(r, N_MAX, HEADS, HEADS, HEAD);
}

static void model_end(model *m)
{
    rig_matrix *all[] = {&m->qkv, &m->o, &m->up, &m->down};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) rig_matrix_free(&m->r, all[i]);
    m->r.cuda->ops->table_free(m->r.cuda, m->tokens);
    rig_end(&m->r);
}

static pr_status uploads(model *m, int slot, const batch *b, pr_error *err)
{
    pr_backend *c = m->r.cuda;
    size_t n = (size_t)b->n_rows;
    pr_status st = c->ops->upload(c, m->slot[slot].tokens, b->tokens, n * 4, err);
    if (st == PR_OK) st = c->ops->upload(c, m->slot[slot].positions, b->positions, n * 4, err);
    if (st == PR_OK) st = c->ops->upload(c, m->slot[slot].keys, b->keys, n * 4, err);
    return st;
}

static pr_status attention(model *m, int slot, const batch *b, pr_error *err)
{
    pr_backend *c = m->r.cuda;
    size_t element = pr_dtype_bytes(c->activation_dtype);
    const char *q = m->qkv_rows;
    const int64_t width = HEADS * HEAD, n = b->n_rows;
    const pr_gemm qkv = {.w = m->qkv.cuda, .x = m->h, .ldx = DIM, .n_rows = n, .bias = m->qkv_bias,
                         .y = m->qkv_rows, .ldy = 3 * width};
    const pr_attention a = {.q = q, .ldq = 3 * width, .k = q + (size_t)width * element,
                            .ldk = 3 * width, .v = q + (size_t)(2 * width) * element,
                            .ldv = 3 * width, .query_positions = m->slot[slot].positions,
                            .key_rows = m->slot[slot].keys, .spans = b->spans,
                            .n_spans = b->n_sequences, .n_heads = HEADS, .n_kv_heads = HEADS,
                            .head_dim = HEAD, .scale = 0.2f, .causal = true, .out = m->attended,
                            .ldout = width};
    const pr_gemm o = {.w = m->o.cuda, .x = m->attended, .ldx = width, .n_rows = n, .y = m->h,
                       .ldy = DIM};
    pr_status st = c->ops->gemm(c, &qkv, err);
    if (st == PR_OK) st = c->ops->attention(c, &a, err);
    return st == PR_OK ? c->ops->gemm(c, &o, err) : st;
}

/* h = norm(x (+ h)); x keeps the sum. */
static pr_status norm(model *m, int64_t n, bool has_branch, pr_error *err)
{
    pr_backend *c = m->r.cuda;
    const pr_norm_args a = {.kind = PR_NORM_RMS, .x = has_branch ? m->h : (const void *)m->x,
                            .x_dtype = has_branch ? c->activation_dtype : PR_DTYPE_F32, .ldx = DIM,
                            .residual = has_branch ? m->x : NULL, .ld_residual = DIM,
                            .sum = has_branch ? m->x : NULL, .ld_sum = DIM,
                            .weight = m->norm_weight, .eps = 1e-5f, .n_rows = n, .dim = DIM,
                            .y = m->h, .y_dtype = c->activation_dtype, .ldy = DIM};
    return c->ops->norm(c, &a, err);
}

static pr_status layers(model *m, int slot, const batch *b, pr_error *err)
{
    pr_backend *c = m->r.cuda;
    const int64_t n = b->n_rows;
    const pr_embed embed = {.token = m->tokens, .tokens = m->slot[slot].tokens, .n_rows = n,
                            .y = m->x, .ldy = DIM};
    const pr_gemm up = {.w = m->up.cuda, .x = m->h, .ldx = DIM, .n_rows = n,
                        .activation = PR_ACTIVATION_SILU, .y = m->wide, .ldy = 40};
    const pr_gemm down = {.w = m->down.cuda, .x = m->wide, .ldx = 40, .n_rows = n, .y = m->h,
                          .ldy = DIM};
    pr_status st = c->ops->embed(c, &embed, err);
    if (st == PR_OK) st = norm(m, n, false, err);
    if (st == PR_OK) st = attention(m, slot, b, err);
    if (st == PR_OK) st = norm(m, n, true, err);
    if (st == PR_OK) st = c->ops->gemm(c, &up, err);
    if (st == PR_OK) st = c->ops->gemm(c, &down, err);
    return st == PR_OK ? norm(m, n, true, err) : st;
}

/* Rows that end a sequence, and the mean of each, one behind the other. The rows are uploaded among
 * the kernels, as a pooler does. */
static pr_status pooled(model *m, int slot, const batch *b, pr_error *err)
{
    pr_backend *c = m->r.cuda;
    const int64_t n = b->n_sequences;
    uint32_t offsets[N_MAX + 1];
    const pr_gather last = {.x = m->x, .ldx = DIM, .rows = m->slot[slot].rows, .n_rows = n,
                            .dim = DIM, .dtype = PR_DTYPE_F32, .y = m->slot[slot].pooled,
                            .ldy = DIM};
    for (int i = 0; i <= b->n_sequences; i++)
        offsets[i] = i < b->n_sequences ? b->spans[i].query_begin : (uint32_t)b->n_rows;
    float *mean = m->slot[slot].pooled + n * DIM;
    pr_status st = c->ops->upload(c, m->slot[slot].rows, b->rows, (size_t)n * 4, err);
    if (st == PR_OK) st = c->ops->gather(c, &last, err);
    if (st == PR_OK) {
        st = c->ops->mean_rows(c, m->x, DIM, m->slot[slot].keys, offsets, n, DIM, mean, DIM, err);
    }
    if (st != PR_OK) return st;
    return c->ops->download(c, m->slot[slot].host, m->slot[slot].pooled,
                            (size_t)(2 * n * DIM) * sizeof(float), err);
}

static pr_status batch_queue(model *m, int slot, const batch *b, pr_error *err)
{
    pr_backend *c = m->r.cuda;
    pr_status st = c->ops->batch_begin(c, slot, err);
    if (st == PR_OK) st = uploads(m, slot, b, err);
    if (st == PR_OK) st = layers(m, slot, b, err);
    if (st == PR_OK) st = pooled(m, slot, b, err);
    return st == PR_OK ? c->ops->batch_end(c, slot, err) : st;
}

static size_t pooled_bytes(const batch *b)
{
    return (size_t)(2 * b->n_sequences * DIM) * sizeof(float);
}

/* One batch, alone. out [2 n_sequences, DIM]. */
static void batch_run(model *m, int slot, const batch *b, float *out)
{
    rig_ok(batch_queue(m, slot, b, err));
    rig_wait(&m->r, slot);
    memcpy(out, m->slot[slot].host, pooled_bytes(b));
    for (int i = 0; i < 2 * b->n_sequences * DIM; i++) assert_true(out[i] == out[i]); /* no NaN */
}

static void two_batches_in_flight_are_what_each_is_alone(void **state)
{
    (void)state;
    const pr_dtype dtypes[] = {PR_DTYPE_BF16, PR_DTYPE_F32, PR_DTYPE_F16};
    for (size_t k = 0; k < sizeof orders / sizeof *orders; k++) {
        model m;
        model_begin(&m, dtypes[k], orders[k], 1 + k);
        static batch batches[N_BATCHES];
        static float alone[N_BATCHES][2 * N_MAX * DIM];
        for (int i = 0; i < N_BATCHES; i++) {
            batches[i] = batch_random(&m.r);
            batch_run(&m, i % 2, &batches[i], alone[i]);
        }
        for (int i = 0; i <= N_BATCHES; i++) { /* the one before is finished when this is queued */
            if (i < N_BATCHES) rig_ok(batch_queue(&m, i % 2, &batches[i], err));
            if (i == 0) continue;
            const int before = i - 1;
            rig_wait(&m.r, before % 2);
            assert_memory_equal(m.slot[before % 2].host, alone[before],
                                pooled_bytes(&batches[before]));
        }
        model_end(&m);
    }
}

/* By design, and on this device; no hardware has shown it (docs/gpu.md). */
static void a_sequence_alone_is_what_it_is_among_others(void **state)
{
    (void)state;
    model m;
    model_begin(&m, PR_DTYPE_BF16, PR_SIM_RANDOM, 5);
    const int lengths[] = {3, 40, 17, 1};
    static float among[8 * DIM], alone[2 * DIM];
    const batch all = batch_make(&m.r, 4, lengths);
    batch_run(&m, 0, &all, among);
    for (int s = 0; s < 4; s++) {
        batch one = batch_make(&m.r, 1, &lengths[s]);
        memcpy(one.tokens, all.tokens + all.spans[s].query_begin, (size_t)lengths[s] * 4);
        batch_run(&m, s % 2, &one, alone);
        assert_memory_equal(alone, among + s * DIM, DIM * sizeof(float));
        assert_memory_equal(alone + DIM, among + (4 + s) * DIM, DIM * sizeof(float));
    }
    model_end(&m);
}

static void a_batch_allocates_nothing(void **state)
{
    (void)state;
    model m;
    model_begin(&m, PR_DTYPE_BF16, PR_SIM_FORWARD, 1);
    static float out[2 * N_MAX * DIM];
    pr_sim_fail_alloc(1); /* the next allocation, of device or pinned memory, would fail */
    for (int i = 0; i < 4; i++) {
        const batch b = batch_random(&m.r);
        batch_run(&m, i % 2, &b, out);
    }
    pr_sim_fail_alloc(0);
    model_end(&m);
}

/* The ring has room for the arrays that a batch has; more goes another way, and arrives. */
static void an_upload_that_the_ring_has_no_room_for_arrives(void **state)
{
    (void)state;
    enum { N = 100000 };
    model m;
    model_begin(&m, PR_DTYPE_BF16, PR_SIM_REVERSE, 1);
    pr_backend *c = m.r.cuda;
    float *numbers = rig_numbers(&m.r, N, PR_DTYPE_F32, 1.0f);
    float *device = rig_device(&m.r, NULL, N, PR_DTYPE_F32);
    float *host = rig_pinned(&m.r, N * sizeof *host);
    const batch b = batch_random(&m.r);
    for (int part = 0; part < 2; part++) { /* before the first layer, and behind the last */
        numbers[0] = (float)part;
        rig_ok(c->ops->batch_begin(c, part, err));
        if (part == 0) rig_ok(c->ops->upload(c, device, numbers, N * sizeof *numbers, err));
        rig_ok(uploads(&m, part, &b, err));
        rig_ok(layers(&m, part, &b, err));
        if (part == 1) rig_ok(c->ops->upload(c, device, numbers, N * sizeof *numbers, err));
        rig_ok(c->ops->download(c, host, device, N * sizeof *host, err));
        rig_ok(c->ops->batch_end(c, part, err));
        rig_wait(&m.r, part);
        assert_memory_equal(host, numbers, N * sizeof *host);
    }
    model_end(&m);
}

static void a_slot_is_begun_again_without_a_poll_and_after_a_batch_was_given_up(void **state)
{
    (void)state;
    model m;
    model_begin(&m, PR_DTYPE_BF16, PR_SIM_REVERSE, 1);
    static float expected[2 * N_MAX * DIM];
    const batch first = batch_random(&m.r), second = batch_random(&m.r);
    batch_run(&m, 0, &second, expected);
    rig_ok(batch_queue(&m, 0, &first, err));
    rig_ok(batch_queue(&m, 0, &second, err));
    rig_wait(&m.r, 0);
    assert_memory_equal(m.slot[0].host, expected, pooled_bytes(&second));
    rig_ok(m.r.cuda->ops->batch_begin(m.r.cuda, 1, err));
    rig_ok(uploads(&m, 1, &first, err)); /* and no more */
    rig_ok(batch_queue(&m, 0, &second, err));
    rig_wait(&m.r, 0);
    assert_memory_equal(m.slot[0].host, expected, pooled_bytes(&second));
    model_end(&m);
}

static void poll_says_that_a_batch_is_not_done_and_does_not_wait(void **state)
{
    (void)state;
    model m;
    model_begin(&m, PR_DTYPE_BF16, PR_SIM_FORWARD, 1); /* nothing is done before it is asked for */
    bool is_done = false;
    rig_ok(m.r.cuda->ops->batch_poll(m.r.cuda, 0, &is_done, err));
    assert_true(is_done); /* no batch */
    const batch b = batch_random(&m.r);
    rig_ok(batch_queue(&m, 0, &b, err));
    rig_ok(m.r.cuda->ops->batch_poll(m.r.cuda, 0, &is_done, err));
    assert_false(is_done);
    rig_wait(&m.r, 0);
    model_end(&m);
}

/* As on a rank whose results go to another one. Device memory is the host's here: what stands in it
 * when the batch is said to be done must be what stands there when all has been waited for. */
static void a_batch_without_downloads_is_done_when_its_kernels_are(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof orders / sizeof *orders; k++) {
        model m;
        model_begin(&m, PR_DTYPE_BF16, orders[k], 1 + k);
        static float then[N_MAX * DIM];
        const batch b = batch_random(&m.r);
        rig_ok(m.r.cuda->ops->batch_begin(m.r.cuda, 0, err));
        rig_ok(uploads(&m, 0, &b, err));
        rig_ok(layers(&m, 0, &b, err));
        rig_ok(m.r.cuda->ops->batch_end(m.r.cuda, 0, err));
        rig_wait(&m.r, 0);
        memcpy(then, m.x, (size_t)b.n_rows * DIM * sizeof *then);
        rig_ok(m.r.cuda->ops->sync(m.r.cuda, err));
        assert_memory_equal(then, m.x, (size_t)b.n_rows * DIM * sizeof *then);
        model_end(&m);
    }
}

/* ---- faults ---- */

/* All that is allocated at the beginning, in one go. */
static pr_status everything_create(pr_backend **backend, pr_matrix **w, pr_table **t, void **p,
                                   void **host, pr_error *err)
{
    const pr_cuda_backend_options options = {.device = 0, .dtype = PR_DTYPE_BF16};
    const pr_backend_limits limits = {.n_rows_max = 100, .n_keys_max = 100, .n_heads = 2,
                                      .n_kv_heads = 2, .head_dim = 32};
    pr_status st = pr_cuda_backend_create(&options, backend, err);
    if (st != PR_OK) return st;
    pr_backend *b = *backend;
    st = b->ops->matrix_create(b, PR_MATRIX_GATED, 32, 16, PR_DTYPE_BF16, &w[0], err);
    if (st == PR_OK) {
        st = b->ops->matrix_create(b, PR_MATRIX_PLAIN, 32, 16, PR_DTYPE_BF16, &w[1], err);
    }
    if (st == PR_OK) st = b->ops->table_create(b, 10, 16, PR_DTYPE_F16, t, err);
    if (st == PR_OK) st = b->ops->alloc(b, 1000, p, err);
    if (st == PR_OK) st = b->ops->host_alloc(b, 1000, host, err);
    return st == PR_OK ? b->ops->reserve(b, &limits, err) : st;
}

static void no_memory_at_any_allocation_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    const pr_sim_config config = {.arch = 90};
    pr_status st = PR_E_NOMEM;
    int n = 0;
    while (st != PR_OK) {
        pr_backend *b = NULL;
        pr_matrix *w[2] = {NULL, NULL};
        pr_table *t = NULL;
        void *p = NULL, *host = NULL;
        pr_error err = {0};
        pr_sim_reset(&config);
        pr_sim_fail_alloc((uint64_t)++n);
        st = everything_create(&b, w, &t, &p, &host, &err);
        pr_sim_fail_alloc(0);
        if (st != PR_OK) {
            assert_int_equal(st, PR_E_NOMEM);
            assert_non_null(strstr(err.message, "bytes"));
        }
        if (b) {
            for (int i = 0; i < 2; i++) b->ops->matrix_free(b, w[i]);
            b->ops->table_free(b, t);
            b->ops->free(b, p);
            b->ops->host_free(b, host);
            b->ops->close(b);
        }
        assert_int_equal(pr_sim_bytes_in_use(), 0);
        assert_int_equal(pr_sim_pinned_in_use(), 0);
        assert_null(pr_sim_fault());
    }
    assert_true(n > 12); /* two staging buffers, workspace, weights, rings, tiles, ... */
}

/* Whichever copy of a batch fails, sooner or later a call says so, and nothing after it is taken
 * for done. */
static void a_device_that_fails_is_noticed(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 6; n++) {
        model m;
        model_begin(&m, PR_DTYPE_BF16, PR_SIM_FORWARD, 1);
        rig_ok(m.r.cuda->ops->sync(m.r.cuda, err));
        pr_sim_fail_copy(n);
        const batch b = batch_random(&m.r);
        pr_error err = {0};
        bool is_done = false;
        pr_status st = batch_queue(&m, 0, &b, &err);
        while (st == PR_OK && !is_done)
            st = m.r.cuda->ops->batch_poll(m.r.cuda, 0, &is_done, &err);
        assert_int_equal(st, PR_E_INTERNAL);
        assert_true(strlen(err.message) > 0);
        const pr_sim_config config = {.arch = 90};
        pr_sim_reset(&config); /* as if in a new process: what is there can be freed */
        model_end(&m);
    }
}

static void a_device_that_is_not_there_is_said(void **state)
{
    (void)state;
    const pr_sim_config config = {.arch = 90};
    const pr_cuda_backend_options options = {.device = 3, .dtype = PR_DTYPE_BF16};
    pr_backend *b = NULL;
    pr_error err = {0};
    pr_sim_reset(&config);
    assert_int_equal(pr_cuda_backend_create(&options, &b, &err), PR_E_UNAVAILABLE);
    assert_non_null(strstr(err.message, "cuda 3"));
    assert_null(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_batches_in_flight_are_what_each_is_alone),
        cmocka_unit_test(a_sequence_alone_is_what_it_is_among_others),
        cmocka_unit_test(a_batch_allocates_nothing),
        cmocka_unit_test(an_upload_that_the_ring_has_no_room_for_arrives),
        cmocka_unit_test(a_slot_is_begun_again_without_a_poll_and_after_a_batch_was_given_up),
        cmocka_unit_test(poll_says_that_a_batch_is_not_done_and_does_not_wait),
        cmocka_unit_test(a_batch_without_downloads_is_done_when_its_kernels_are),
        cmocka_unit_test(no_memory_at_any_allocation_is_said_and_leaves_nothing),
        cmocka_unit_test(a_device_that_fails_is_noticed),
        cmocka_unit_test(a_device_that_is_not_there_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
