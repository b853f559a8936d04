/* tests/gpu/overlap.c: two batches in flight against one after the other: the same results, and
 * sooner. */
#include "tests/gpu/model.h"

#include "runtime/base/clock.h"

#include <string.h>

enum { BATCHES = 16, RUNS = 3 };

/* A sum of what came back: the same results have the same one. */
static double digest(const pr_pooled *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < p->n_sequences; i++) {
        for (uint32_t k = 0; k < p->rows[i].n_columns; k++) {
            sum += (double)p->data[p->rows[i].offset + k] * (double)(k % 7 + 1);
        }
    }
    return sum;
}

static void begin(const gpu *g, pr_worker *w, const model_batch *b)
{
    pr_error err;
    gpu_must(g, pr_worker_begin(w, &b->plan, b->poolings, NULL, &err), &err, "begin a batch");
}

static double finish(const gpu *g, pr_worker *w)
{
    pr_error err;
    pr_pooled pooled = {0};
    gpu_must(g, pr_worker_finish(w, &pooled, &err), &err, "finish a batch");
    double sum = digest(&pooled);
    pr_pooled_deinit(&pooled);
    return sum;
}

/* Seconds for all batches; n_flight: begun before the oldest is finished. */
static double batches_run(const gpu *g, pr_worker *w, const model_batch *batches, int n,
                          int n_flight, double *sums)
{
    uint64_t t = pr_clock_ns();
    int n_finished = 0;
    for (int i = 0; i < n; i++) {
        begin(g, w, &batches[i]);
        if (i + 1 - n_finished < n_flight) continue;
        sums[n_finished] = finish(g, w);
        n_finished++;
    }
    for (; n_finished < n; n_finished++) sums[n_finished] = finish(g, w);
    return (double)(pr_clock_ns() - t) * 1e-9;
}

static void check(gpu *g, const model_shape *shape, uint32_t n_tokens)
{
    int n = g->is_tiny ? 3 : BATCHES;
    model m;
    model_batch batches[BATCHES];
    double one[BATCHES] = {0}, two[BATCHES] = {0}, one_s = 1e9, two_s = 1e9;
    model_make(g, &m, shape);
    pr_worker *w = model_worker(g, &m, PR_DTYPE_BF16, false, n_tokens);
    int n_slots = pr_worker_describe(w).n_slots;
    for (int i = 0; i < n; i++) {
        model_batch_even(g, &batches[i], &m, shape->pool, n_tokens,
                         (uint32_t)shape->n_text_tokens, (uint32_t)i * 1000);
    }
    for (int run = 0; run < (g->is_tiny ? 1 : RUNS); run++) {
        double s = batches_run(g, w, batches, n, 1, one);
        if (s < one_s) one_s = s;
        s = batches_run(g, w, batches, n, n_slots, two);
        if (s < two_s) two_s = s;
    }
    bool same = memcmp(one, two, (size_t)n * sizeof *one) == 0;
    bool is_slower = two_s > 1.03 * one_s && !g->plugin->is_simulated;
    gpu_check(g, "overlap", same && !is_slower,
              json_pack("{s:s, s:i, s:i, s:b, s:f, s:f, s:o}", "shape", shape->name, "tokens",
                        (int)n_tokens, "slots", n_slots, "same_results", same, "one_s", one_s / n,
                        "overlapped_s", two_s / n, "overlapped_over_one", gpu_ratio(two_s, one_s)),
              "%-16s %6u tokens: %.3f ms a batch one after the other, %.3f ms with %d in flight "
              "(%.2f); results %s",
              shape->name, n_tokens, one_s / n * 1e3, two_s / n * 1e3, n_slots, two_s / one_s,
              same ? "the same" : "DIFFER");
    for (int i = 0; i < n; i++) model_batch_deinit(&batches[i]);
    pr_worker_close(w);
    model_remove(&m);
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open(&g, argc, argv);
    for (size_t i = 0; i < 2; i++) {
        model_shape s = g.is_tiny ? model_shape_tiny(&model_shapes[i]) : model_shapes[i];
        check(&g, &s, g.is_tiny ? 24 : 1024);
        if (!g.is_tiny) check(&g, &s, 8192);
    }
    return gpu_close(&g);
}
