/* tests/gpu/memory.c: what the memory plan says a rank needs, against what the device has less of
 * when the model is open and has run a full batch. */
#include "tests/gpu/model.h"

static uint64_t free_bytes(const gpu *g)
{
    pr_error err;
    int n = 0;
    static pr_cuda_device devices[PR_CUDA_DEVICES_MAX];
    gpu_must(g, g->plugin->devices(devices, &n, &err), &err, "devices");
    return devices[g->index].free_bytes;
}

/* ALL pooling: every row goes through the final norm, as the plan assumes. */
static void check(gpu *g, const model_shape *shape, pr_dtype dtype, uint32_t n_tokens)
{
    pr_error err;
    model m;
    model_batch b;
    pr_pooled pooled = {0};
    if (!model_shape_fits(g, shape, dtype, n_tokens)) return;
    const pr_memory_plan plan = model_shape_plan(g, shape, dtype, n_tokens);
    model_make(g, &m, shape);
    uint64_t before = free_bytes(g);
    pr_worker *w = model_worker(g, &m, dtype, false, n_tokens);
    uint64_t opened = free_bytes(g);
    model_batch_even(g, &b, &m, PR_POOL_ALL, n_tokens, (uint32_t)shape->n_text_tokens, 0);
    gpu_must(g, pr_worker_run(w, &b.plan, b.poolings, NULL, &pooled, &err), &err, "run a batch");
    uint64_t after = free_bytes(g);
    pr_pooled_deinit(&pooled);
    model_batch_deinit(&b);
    pr_worker_close(w);
    uint64_t closed = free_bytes(g);
    model_remove(&m);
    int64_t used = (int64_t)(before - after), run_used = (int64_t)(opened - after);
    int64_t kept = (int64_t)(before - closed);
    gpu_check(g, "memory", used <= (int64_t)plan.total_bytes && used > 0,
              json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "shape", shape->name,
                        "dtype", pr_dtype_name(dtype), "tokens", (int)n_tokens, "planned_bytes",
                        (json_int_t)plan.total_bytes, "reserved_bytes",
                        (json_int_t)plan.reserved_bytes, "used_bytes", (json_int_t)used,
                        "used_by_the_batch_bytes", (json_int_t)run_used, "kept_when_closed_bytes",
                        (json_int_t)kept, "used_over_planned",
                        gpu_ratio((double)used, (double)plan.total_bytes)),
              "%-16s %-8s %6u tokens: planned %.4f GB (%.4f of it reserved), used %.4f GB, "
              "%.4f of it by the first batch, %.4f still there when closed",
              shape->name, pr_dtype_name(dtype), n_tokens, (double)plan.total_bytes * 1e-9,
              (double)plan.reserved_bytes * 1e-9, (double)used * 1e-9, (double)run_used * 1e-9,
              (double)kept * 1e-9);
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open(&g, argc, argv);
    if (g.devices[g.index].free_bytes == 0) {
        printf("skipped: the device's free memory is not known (NVML)\n");
        return 77;
    }
    for (size_t i = 0; i < MODEL_SHAPES; i++) {
        model_shape s = g.is_tiny ? model_shape_tiny(&model_shapes[i])
                                  : model_shape_cut(&model_shapes[i], 12, 1 << 30);
        check(&g, &s, PR_DTYPE_BF16, g.is_tiny ? 60 : 8192);
        if (i == 0) check(&g, &s, PR_DTYPE_F32, g.is_tiny ? 40 : 32768);
    }
    return gpu_close(&g);
}
