/* tests/simcuda/whole/families_test.c: every model of tests/parity/models through a pr_worker over
 * the CUDA plug-in, and the same batches on the CPU.
 *
 *     families_test [--dtype float32|float16|bfloat16] [--ranks TPxPP] [--bound X]
 *                   [--cosine-bound X] [--bits same|any] FOLDER…
 *
 * POOLRANK_CUDA_PLUGIN names the plug-in; each rank is a process with a device of its own, forked
 * once for all models. On the CPU matrices are kept in bfloat16 where the device keeps them so, and
 * in float32 else. With one tensor-parallel rank, a sequence's bits must not depend on its batch,
 * unless --bits any says that only the values count.
 * Exit: 0 all within the bound, 1 not, 2 a wrong command line. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "results.h"
#include "worker/device.h"
#include "worker/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS_MAX = 16, MODELS_MAX = 64, RANK_SECONDS = 280 };

typedef struct setting {
    pr_dtype dtype;
    int tp_size, n_stages;
    double bound, cosine_bound; /* of tally */
    bool takes_any_bits;
} setting;

/* Memory that the ranks share. */
typedef struct shared {
    pthread_barrier_t barrier;
    uint8_t id[PR_CUDA_COMM_ID_BYTES];
} shared;

typedef struct rank {
    const setting *set;
    const pr_cuda_plugin *plugin;
    shared *shared;
    int i; /* stage * tp_size + tensor-parallel rank */
} rank;

static bool is_pooling(const rank *r)
{
    return r->i == (r->set->n_stages - 1) * r->set->tp_size;
}

/* ---- one rank ---- */

static pr_status comm_open(const rank *r, pr_backend *backend, pr_comm **out, pr_error *err)
{
    const setting *set = r->set;
    pr_status st = PR_OK;
    *out = NULL;
    if (set->tp_size * set->n_stages == 1) return PR_OK;
    if (r->i == 0) st = r->plugin->comm_id(r->shared->id, err);
    pthread_barrier_wait(&r->shared->barrier);
    const pr_cuda_group group = {
        .id = r->shared->id, .tp_rank = r->i % set->tp_size, .tp_size = set->tp_size,
        .stage = r->i / set->tp_size, .n_stages = set->n_stages, .timeout_ms = 30000,
    };
    if (st == PR_OK) st = r->plugin->comm_create(backend, &group, out, err);
    pthread_barrier_wait(&r->shared->barrier); /* the id is not needed any more */
    return st;
}

static pr_status worker_open(const rank *r, const subject *s, pr_worker **out, pr_error *err)
{
    const pr_cuda_options options = {.device = r->i, .dtype = r->set->dtype};
    pr_worker_config config = {
        .folder = s->model->folder, .weights_folder = s->model->weights_folder,
        .spec = &s->model->spec, .st = &s->model->st, .dtype = r->set->dtype,
        .n_rows_max = s->n_rows_max, .n_positions_max = s->model->n_tokens_max,
    };
    pr_status st = r->plugin->backend_create(&options, &config.backend, err);
    if (st != PR_OK) return st;
    st = comm_open(r, config.backend, &config.comm, err);
    if (st == PR_OK) return pr_worker_open(&config, out, err);
    config.backend->ops->close(config.backend);
    return st;
}

static pr_status batch_begin(pr_worker *w, const subject *s, uint32_t i, pr_error *err)
{
    const subject_batch *b = &s->batches[i];
    const pr_batch_id id = {i + 1, 0xABCD0000u + i};
    return pr_worker_begin(w, &b->plan, b->poolings, &id, err);
}

/* As many batches in flight as the worker says. */
static pr_status batches_run(const rank *r, pr_worker *w, const subject *s, tally *t,
                             pr_error *err)
{
    uint32_t n = s->n_batches, n_begun = 0;
    uint32_t n_slots = (uint32_t)pr_worker_describe(w).n_slots;
    pr_status st = PR_OK;
    for (uint32_t n_finished = 0; st == PR_OK && n_finished < n; n_finished++) {
        while (st == PR_OK && n_begun < n && n_begun - n_finished < n_slots)
            st = batch_begin(w, s, n_begun++, err);
        pr_pooled pooled = {0};
        if (st == PR_OK) st = pr_worker_finish(w, &pooled, err);
        if (st == PR_OK && is_pooling(r))
            tally_batch(t, &s->batches[n_finished], &pooled,
                        r->set->tp_size == 1 && !r->set->takes_any_bits);
        pr_pooled_deinit(&pooled);
    }
    return st;
}

/* False: not like on the CPU, or failed; printed. */
static bool model_run(const rank *r, const subject *s, double *worst, double *worst_cosine)
{
    tally t = {.name = s->name, .bound = r->set->bound,
               .cosine_bound = r->set->cosine_bound};
    pr_worker *w = NULL;
    pr_error err = {0};
    pr_status st = worker_open(r, s, &w, &err);
    if (st == PR_OK) st = batches_run(r, w, s, &t, &err);
    pr_worker_close(w);
    bool is_good = st == PR_OK && t.n_failed == 0;
    if (st != PR_OK) printf("  %s: rank %d: %s\n", s->name, r->i, err.message);
    if (is_pooling(r)) {
        printf("%s %-22s worst error %.2e, 1 - cosine %.1e, %u results, %u failures\n",
               is_good ? "ok  " : "FAIL", s->name, t.worst, t.worst_cosine, t.n_checked,
               t.n_failed);
        if (!(t.worst <= *worst)) *worst = t.worst;
        if (!(t.worst_cosine <= *worst_cosine)) *worst_cosine = t.worst_cosine;
    }
    fflush(stdout);
    tally_deinit(&t);
    if (st != PR_OK) exit(1); /* its peers wait for it: the parent ends them */
    return is_good;
}

static int rank_main(rank *r, const subject *subjects, size_t n)
{
    pr_error err = {0};
    double worst = 0, worst_cosine = 0;
    bool is_good = true;
    alarm(RANK_SECONDS);
    if (pr_cuda_plugin_load(&r->plugin, &err) != PR_OK) {
        printf("%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        if (!subject_fits(&subjects[i], r->set->tp_size, r->set->n_stages)) continue;
        if (!model_run(r, &subjects[i], &worst, &worst_cosine)) is_good = false;
    }
    if (is_pooling(r))
        printf("all models: worst error %.2e, 1 - cosine %.1e\n", worst, worst_cosine);
    fflush(stdout);
    return is_good ? 0 : 1;
}

/* ---- the group ---- */

static shared *shared_make(unsigned n_ranks)
{
    shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t attributes;
    if (s == MAP_FAILED) abort();
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&s->barrier, &attributes, n_ranks);
    pthread_barrierattr_destroy(&attributes);
    return s;
}

/* Waits for all; the first that fails takes the others with it, which would wait for it. */
static bool ranks_await(const pid_t *pids, int n)
{
    bool is_good = true;
    for (int n_left = n; n_left > 0; n_left--) {
        int status = 0;
        pid_t done = wait(&status);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        if (is_good)
            printf("rank process %ld: %s %d\n", (long)done,
                   WIFSIGNALED(status) ? "signal" : "exit status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        for (int i = 0; is_good && i < n; i++)
            if (pids[i] != done) kill(pids[i], SIGTERM);
        is_good = false;
    }
    return is_good;
}

static bool group_run(const setting *set, const subject *subjects, size_t n)
{
    int n_ranks = set->tp_size * set->n_stages;
    pid_t pids[RANKS_MAX];
    rank r = {.set = set, .shared = shared_make((unsigned)n_ranks)};
    fflush(stdout);
    for (r.i = 0; r.i < n_ranks; r.i++) {
        pids[r.i] = fork();
        if (pids[r.i] < 0) abort();
        if (pids[r.i] == 0) exit(rank_main(&r, subjects, n));
    }
    return ranks_await(pids, n_ranks);
}

/* ---- command line ---- */

static bool option_set(setting *set, const char *name, const char *value)
{
    if (strcmp(name, "--dtype") == 0) return pr_dtype_parse(value, &set->dtype);
    if (strcmp(name, "--bound") == 0) return (set->bound = strtod(value, NULL)) > 0;
    if (strcmp(name, "--bits") == 0) {
        set->takes_any_bits = strcmp(value, "any") == 0;
        return set->takes_any_bits || strcmp(value, "same") == 0;
    }
    if (strcmp(name, "--cosine-bound") == 0)
        return (set->cosine_bound = strtod(value, NULL)) > 0;
    return strcmp(name, "--ranks") == 0 &&
           sscanf(value, "%dx%d", &set->tp_size, &set->n_stages) == 2 && set->tp_size >= 1 &&
           set->n_stages >= 1 && set->tp_size * set->n_stages <= RANKS_MAX;
}

int main(int argc, char **argv)
{
    setting set = {.dtype = PR_DTYPE_F32, .tp_size = 1, .n_stages = 1, .bound = 1e-5,
                   .cosine_bound = 1e-9};
    static subject subjects[MODELS_MAX];
    int i = 1;
    while (i + 1 < argc && strncmp(argv[i], "--", 2) == 0 && option_set(&set, argv[i], argv[i + 1]))
        i += 2;
    size_t n = argc > i ? (size_t)(argc - i) : 0;
    if (n == 0 || n > MODELS_MAX || strncmp(argv[i], "--", 2) == 0) {
        printf("usage: families_test [--dtype float32|float16|bfloat16] [--ranks TPxPP] "
               "[--bound X] [--cosine-bound X] [--bits same|any] FOLDER…\n");
        return 2;
    }
    bool is_good = true;
    pr_dtype cpu_dtype = set.dtype == PR_DTYPE_BF16 ? PR_DTYPE_BF16 : PR_DTYPE_F32;
    for (size_t k = 0; is_good && k < n; k++)
        is_good = subject_load(argv[i + (int)k], &subjects[k]) &&
                  subject_compute(&subjects[k], cpu_dtype);
    if (is_good) is_good = group_run(&set, subjects, n);
    for (size_t k = 0; k < n; k++) subject_unload(&subjects[k]);
    return is_good ? 0 : 1;
}
