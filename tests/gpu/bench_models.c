/* tests/gpu/bench_models.c: tokens/s of whole models of real shapes in bfloat16, two batches in
 * flight where the backend takes two, beside what runtime/plan/roofline.h allows. Rows come back
 * pooled (LAST, or MEAN for MiniLM); the roofline counts the last layer in full. */
#include "tests/gpu/model.h"

#include "runtime/base/clock.h"
#include "runtime/plan/roofline.h"

enum { BATCHES = 12 };

static void finish(const gpu *g, pr_worker *w)
{
    pr_error err;
    pr_pooled pooled = {0};
    gpu_must(g, pr_worker_finish(w, &pooled, &err), &err, "finish a batch");
    pr_pooled_deinit(&pooled);
}

static double batch_s(const gpu *g, pr_worker *w, const model_batch *b, int n)
{
    pr_error err;
    int n_slots = pr_worker_describe(w).n_slots, n_begun = 0;
    uint64_t t = pr_clock_ns();
    for (int i = 0; i < n; i++) {
        while (n_begun < n && n_begun - i < n_slots) {
            gpu_must(g, pr_worker_begin(w, &b->plan, b->poolings, NULL, &err), &err,
                     "begin a batch");
            n_begun++;
        }
        finish(g, w);
    }
    return (double)(pr_clock_ns() - t) * 1e-9 / n;
}

static pr_roofline roofline_of(const gpu *g, const model *m, uint32_t n_tokens,
                               uint32_t n_text_tokens)
{
    pr_error err;
    pr_shard shard;
    pr_load load;
    const pr_parallel alone = {.tp_size = 1, .n_stages = 1};
    const pr_workload workload = {n_tokens, n_text_tokens, PR_DTYPE_BF16};
    gpu_must(g, pr_shard_plan(&m->spec, &alone, &shard, &err), &err, "shard plan");
    gpu_must(g, pr_load_build(&m->spec, &alone, &shard, &workload, &load, &err), &err, "roofline");
    return pr_roofline_of(&load, g->sheet, PR_DTYPE_BF16);
}

static void bench(gpu *g, const model *m, pr_worker *w, const model_shape *s, uint32_t n_tokens,
                  uint32_t n_text_tokens)
{
    model_batch b;
    model_batch_even(g, &b, m, s->pool, n_tokens, n_text_tokens, 1);
    n_tokens = b.plan.n_tokens;
    batch_s(g, w, &b, 2); /* code is loaded, clocks rise */
    double seconds = batch_s(g, w, &b, g->is_tiny ? 2 : BATCHES), speed = n_tokens / seconds;
    pr_roofline r = {0};
    if (g->sheet) r = roofline_of(g, m, n_tokens, n_text_tokens);
    double allowed = g->sheet ? n_tokens / r.total_s : 0;
    printf("%-16s %6u tokens a batch, texts of %4u: %9.3f ms, %10.0f tokens/s", s->name, n_tokens,
           n_text_tokens, seconds * 1e3, speed);
    if (g->sheet) {
        printf("  roofline %10.0f (%s), %.2f of it", allowed, pr_bound_name(r.bound),
               speed / allowed);
    }
    printf("\n");
    gpu_result(g, "bench-models",
               json_pack("{s:s, s:i, s:i, s:f, s:f, s:f, s:s?, s:o}", "shape", s->name, "tokens",
                         (int)n_tokens, "text_tokens", (int)n_text_tokens, "seconds", seconds,
                         "tokens_per_s", speed, "roofline_tokens_per_s", allowed, "bound",
                         g->sheet ? pr_bound_name(r.bound) : NULL, "measured_over_roofline",
                         gpu_ratio(speed, allowed)));
    model_batch_deinit(&b);
}

int main(int argc, char **argv)
{
    static const uint32_t budgets[] = {512, 2048, 8192, 32768};
    gpu g;
    gpu_open(&g, argc, argv);
    for (size_t i = 0; i < MODEL_SHAPES; i++) {
        model_shape s = g.is_tiny ? model_shape_tiny(&model_shapes[i]) : model_shapes[i];
        model m;
        if (!model_shape_fits(&g, &s, PR_DTYPE_BF16, g.is_tiny ? 64 : 32768)) continue;
        model_make(&g, &m, &s);
        pr_worker *w = model_worker(&g, &m, PR_DTYPE_BF16, false, g.is_tiny ? 64 : 32768);
        for (size_t k = 0; k < sizeof budgets / sizeof *budgets; k++) {
            if (g.is_tiny && k > 0) break;
            bench(&g, &m, w, &s, g.is_tiny ? 30 : budgets[k], (uint32_t)s.n_text_tokens);
        }
        if (!g.is_tiny && s.n_positions >= 4096) bench(&g, &m, w, &s, 32768, 4096);
        pr_worker_close(w);
        model_remove(&m);
    }
    return gpu_close(&g);
}
