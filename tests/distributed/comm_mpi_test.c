/* One rank of a job under mpirun: collectives of libpoolrank-mpi.so against loops in rank order,
 * bit for bit, and a tiny model's results against the same group as threads over shared memory.
 *
 *     mpirun -n N comm_mpi_test PLUGIN TP STAGES NAME        NAME: of the communicator to expect */
#include "program/mpi_plugin.h"
#include "tests/unit/worker/rank_threads.h"
#include "tests/unit/worker/tiny_model.h"
#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char config_json[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"vocab_size\": 101, \"hidden_size\": 48,"
    " \"intermediate_size\": 100, \"num_hidden_layers\": 4, \"num_attention_heads\": 12,"
    " \"num_key_value_heads\": 12, \"max_position_embeddings\": 256, \"rms_norm_eps\": 1e-6,"
    " \"hidden_act\": \"silu\", \"rope_theta\": 10000.0, \"tie_word_embeddings\": false}";

enum { N_TEXTS = 5, TOKENS_MAX = 256 };

static void check(bool is_right, const char *what, int64_t n)
{
    if (is_right) return;
    fprintf(stderr, "comm_mpi_test: %s, n = %lld\n", what, (long long)n);
    exit(1);
}

static void check_ok(pr_status st, const pr_error *err)
{
    if (st == PR_OK) return;
    fprintf(stderr, "comm_mpi_test: %s\n", err->message);
    exit(1);
}

/* ---- collectives ---- */

/* Numbers of very different sizes, so that another order of a sum shows. */
static float value_of(int rank, int64_t i)
{
    uint64_t x = ((uint64_t)rank << 40) + (uint64_t)i + 1;
    x *= 0x9E3779B97F4A7C15u;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 32;
    float unit = (float)(int32_t)x / 2147483648.0f;
    return unit * (float)(1 << (x >> 60));
}

static float sum_of(int tp_size, int64_t i)
{
    float sum = value_of(0, i);
    for (int r = 1; r < tp_size; r++) sum += value_of(r, i);
    return sum;
}

/* A rank's input, and behind it a guard that nobody may write. */
static float *input_make(int rank, int64_t n)
{
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    check(x != NULL, "no memory", n);
    for (int64_t i = 0; i < n; i++) x[i] = value_of(rank, i);
    x[n] = 12345;
    return x;
}

static void sums_check(pr_comm *c, int64_t n)
{
    pr_error err;
    float *x = input_make(c->tp_rank, n);
    check_ok(pr_comm_all_reduce(c, x, n, PR_DTYPE_F32, &err), &err);
    bool is_right = x[n] == 12345;
    for (int64_t i = 0; i < n; i++) {
        float sum = sum_of(c->tp_size, i);
        is_right = is_right && memcmp(&sum, &x[i], sizeof sum) == 0;
    }
    check(is_right, "all_reduce is not the sum in rank order", n);
    free(x);
    for (int root = 0; root < c->tp_size; root++) {
        x = input_make(c->tp_rank, n);
        check_ok(pr_comm_reduce_to(c, x, n, PR_DTYPE_F32, root, &err), &err);
        for (int64_t i = 0; i < n && c->tp_rank == root; i++) {
            float sum = sum_of(c->tp_size, i);
            is_right = is_right && memcmp(&sum, &x[i], sizeof sum) == 0;
        }
        check(is_right && x[n] == 12345, "reduce_to is not the sum in rank order", n);
        free(x);
    }
}

static void gather_check(pr_comm *c, int64_t n)
{
    pr_error err;
    float *x = input_make(c->tp_rank, n);
    float *all = input_make(0, n * c->tp_size);
    check_ok(pr_comm_all_gather(c, x, n, all, &err), &err);
    bool is_right = all[n * c->tp_size] == 12345;
    for (int r = 0; r < c->tp_size; r++) {
        for (int64_t i = 0; i < n; i++) is_right = is_right && all[r * n + i] == value_of(r, i);
    }
    check(is_right, "all_gather", n);
    free(x);
    free(all);
}

/* Down all stages, one more at each; words that are no numbers come through. */
static void links_check(pr_comm *c, int64_t n)
{
    pr_error err;
    uint32_t *x = malloc((size_t)n * sizeof *x);
    check(x != NULL, "no memory", n);
    for (int64_t i = 0; i < n; i++) x[i] = 0x7F800000u + (uint32_t)(i % 7) + (uint32_t)c->tp_rank;
    if (c->stage > 0) {
        memset(x, 0, (size_t)n * sizeof *x);
        check_ok(pr_comm_recv(c, (float *)(void *)x, n, PR_DTYPE_F32, c->stage - 1, &err), &err);
    }
    bool is_right = true;
    for (int64_t i = 0; i < n; i++) {
        uint32_t expected = 0x7F800000u + (uint32_t)(i % 7) + (uint32_t)c->tp_rank;
        is_right = is_right && x[i] == expected + (c->stage > 0 ? (uint32_t)c->stage : 0);
        x[i] = expected + (uint32_t)c->stage + 1;
    }
    check(is_right, "what the stage before sent", n);
    if (c->stage + 1 < c->n_stages) {
        check_ok(pr_comm_send(c, x, n, PR_DTYPE_F32, c->stage + 1, &err), &err);
    }
    free(x);
}

static void collectives_check(pr_comm *c)
{
    /* around the pieces of both ways, and less than one element for each rank */
    static const int64_t sizes[] = {1, 2, 3, 5, 64, 100, 1000, 4096, 32767, 32768, 32771,
                                    100000, (1 << 20) - 1, 1 << 20, (1 << 20) + 5, 2500000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        sums_check(c, sizes[i]);
        if (sizes[i] <= 1 << 20) gather_check(c, sizes[i]);
        links_check(c, sizes[i]);
    }
}

/* ---- a model ---- */

typedef struct run {
    const tiny_model *model;
    pr_pooled pooled; /* of the pooling rank */
} run;

static void batch_run(pr_worker *w, pr_pooled *out)
{
    static const uint32_t lengths[N_TEXTS] = {9, 1, 64, 33, 2};
    static const pr_pooling poolings[N_TEXTS] = {
        {.type = PR_POOL_LAST, .normalize = true}, {.type = PR_POOL_CLS}, {.type = PR_POOL_MEAN},
        {.type = PR_POOL_ALL}, {.type = PR_POOL_MEAN, .normalize = true}};
    int32_t tokens[TOKENS_MAX];
    pr_segment segments[N_TEXTS];
    pr_sequence sequences[N_TEXTS];
    const pr_pooling *of[N_TEXTS];
    uint32_t n = 0;
    for (uint32_t t = 0; t < N_TEXTS; t++) {
        segments[t] = (pr_segment){n, lengths[t], 0, -1};
        sequences[t] = (pr_sequence){t, lengths[t], t};
        of[t] = &poolings[t];
        for (uint32_t i = 0; i < lengths[t]; i++) tokens[n++] = (int32_t)((i * 37 + t * 11) % 101);
    }
    const pr_batch_plan plan = {.tokens = tokens, .n_tokens = n, .segments = segments,
                                .n_segments = N_TEXTS, .sequences = sequences,
                                .n_sequences = N_TEXTS};
    const pr_batch_id id = {.seq = 1, .hash = 77};
    pr_error err;
    check_ok(pr_worker_run(w, &plan, of, &id, out, &err), &err);
}

/* comm: consumed. */
static void model_run(const tiny_model *m, pr_comm *comm, pr_pooled *out)
{
    static const pr_st_files no_st = {0};
    const pr_worker_config config = {
        .folder = m->folder, .weights_folder = m->folder, .spec = &m->spec, .st = &no_st,
        .cpu = {.n_threads = 1}, .dtype = PR_DTYPE_F32, .n_rows_max = TOKENS_MAX,
        .n_positions_max = TOKENS_MAX, .comm = comm};
    pr_worker *w = NULL;
    pr_error err;
    check_ok(pr_worker_open(&config, &w, &err), &err);
    batch_run(w, out);
    pr_worker_close(w);
}

static void thread_run(void *context, int rank, pr_comm *comm)
{
    run *r = context;
    bool is_pooling = comm->tp_rank == 0 && comm->stage + 1 == comm->n_stages;
    pr_pooled pooled = {0};
    (void)rank;
    model_run(r->model, comm, &pooled);
    if (is_pooling) {
        r->pooled = pooled;
    } else {
        pr_pooled_deinit(&pooled);
    }
}

/* comm: consumed. */
static void model_check(const tiny_model *m, pr_comm *comm)
{
    int tp_size = comm->tp_size, n_stages = comm->n_stages;
    bool is_pooling = comm->tp_rank == 0 && comm->stage + 1 == n_stages;
    pr_pooled pooled = {0};
    model_run(m, comm, &pooled);
    if (is_pooling) {
        run threads = {.model = m};
        rank_threads_run(tp_size, n_stages, thread_run, &threads);
        check(pooled.n_sequences == N_TEXTS, "sequences", pooled.n_sequences);
        size_t n = 0;
        for (uint32_t i = 0; i < N_TEXTS; i++) {
            n += (size_t)pooled.rows[i].n_rows * pooled.rows[i].n_columns;
        }
        check(n == (33 + 4) * 48, "values", (int64_t)n);
        check(memcmp(pooled.data, threads.pooled.data, n * sizeof(float)) == 0,
              "results differ from those of threads", (int64_t)n);
        pr_pooled_deinit(&threads.pooled);
    }
    pr_pooled_deinit(&pooled);
}

static void broadcast_check(const pr_mpi_plugin *mpi, int rank, int size)
{
    uint64_t words[1000];
    pr_error err;
    for (int root = 0; root < size; root++) {
        for (uint64_t i = 0; i < 1000; i++) words[i] = rank == root ? i * (uint64_t)(root + 3) : 0;
        check_ok(mpi->broadcast(words, sizeof words, root, &err), &err);
        bool is_right = true;
        for (uint64_t i = 0; i < 1000; i++) {
            is_right = is_right && words[i] == i * (uint64_t)(root + 3);
        }
        check(is_right, "broadcast", root);
    }
}

int main(int argc, char **argv)
{
    const pr_mpi_plugin *mpi = NULL;
    pr_comm *comm = NULL;
    pr_error err;
    int rank = 0, size = 0;
    if (argc != 5) return 2;
    int tp_size = atoi(argv[2]), n_stages = atoi(argv[3]);
    check_ok(pr_mpi_plugin_load(argv[1], &mpi, &err), &err);
    check_ok(mpi->init(&rank, &size, &err), &err);
    check_ok(mpi->comm_create(0, tp_size, n_stages, &comm, &err), &err);
    check(strcmp(comm->name, argv[4]) == 0, comm->name, size);
    check(comm->tp_rank == rank % tp_size && comm->stage == rank / tp_size, "place", rank);
    collectives_check(comm);

    broadcast_check(mpi, rank, size);
    tiny_model model; /* every rank has a copy: the hosts share no folder */
    tiny_model_make(&model, config_json, 0.5f);
    model_check(&model, comm);
    tiny_model_remove(&model);
    mpi->finalize();
    return 0;
}
