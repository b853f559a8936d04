/* plan: what a model would need on so many ranks, from its config.json alone: memory of each rank,
 * traffic between them, and the time that data sheets allow.
 *
 * The edge only: runtime/plan has the arithmetic. Fields of the JSON: docs/scaling.md. */
#include "coordinator/model/model.h"
#include "program/command.h"
#include "program/plan_text.h"
#include "runtime/plan/memory_plan.h"
#include "runtime/plan/roofline.h"
#include "runtime/base/number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What is planned; the model is owned. */
typedef struct plan {
    pr_model *model;
    const pr_config *config;
    pr_dtype dtype;
    const char *dtype_source;
    pr_plan_place place;
    uint64_t memory_bytes; /* of each device */
    uint32_t n_tokens;     /* of one forward pass */
    uint32_t n_threads;    /* CPU: of a rank */
    int tp_size, n_stages;
} plan;

/* One rank, planned. */
typedef struct planned_rank {
    pr_parallel parallel;
    pr_shard shard;
    pr_memory_plan memory;
} planned_rank;

/* ---- what is asked ---- */

static pr_status size_parse(const char *text, uint64_t *out, pr_error *err)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1},         {"B", 1},       {"KB", 1e3},     {"MB", 1e6},
                 {"GB", 1e9},     {"TB", 1e12},   {"KiB", 1024.0}, {"MiB", 1048576.0},
                 {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    const char *end = NULL;
    double value = text[0] >= '0' && text[0] <= '9' ? pr_number_read(text, &end) : -1;
    while (end && *end == ' ') end++;
    for (size_t i = 0; end && i < sizeof units / sizeof *units; i++) {
        if (strcasecmp(end, units[i].unit) != 0) continue;
        double bytes = value * units[i].factor;
        if (!(bytes >= 1 && bytes < 0x1p62)) break;
        *out = (uint64_t)bytes;
        return PR_OK;
    }
    return pr_error_set(err, PR_E_ARGUMENT,
                        "--device-memory: found %.40s, expected a size such as 80GB (80e9 bytes), "
                        "80GiB (80 * 2^30), 512MB, 1TB",
                        text);
}

/* auto is what a backend would take: a GPU the checkpoint's, the CPU f32. */
static void dtype_choose(plan *p)
{
    p->dtype = pr_dtype_choose(p->config->dtype, p->place == PR_PLAN_PLACE_GPU,
                               p->model->spec.checkpoint_dtype, &p->dtype_source);
}

static pr_status plan_open(const pr_config *c, plan *out, pr_error *err)
{
    plan p = {.config = c,
              .place = c->device == PR_DEVICE_CHOICE_CPU ? PR_PLAN_PLACE_CPU : PR_PLAN_PLACE_GPU,
              .tp_size = c->tensor_parallel_size,
              .n_stages = c->pipeline_parallel_size};
    if (p.place == PR_PLAN_PLACE_CPU && c->dtype == PR_DTYPE_CHOICE_FLOAT16) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "dtype: float16 is for GPUs, expected float32 or bfloat16 with "
                            "--device cpu");
    }
    pr_status st = size_parse(c->device_memory, &p.memory_bytes, err);
    if (st == PR_OK) st = pr_model_open_config(c, &p.model, err);
    if (st != PR_OK) return st;
    dtype_choose(&p);
    uint32_t budget = (uint32_t)c->max_num_batched_tokens;
    p.n_tokens = budget > p.model->n_tokens_max ? budget : p.model->n_tokens_max;
    int n_ranks = p.tp_size * p.n_stages;
    p.n_threads = c->n_threads > n_ranks ? (uint32_t)(c->n_threads / n_ranks) : 1;
    *out = p;
    return PR_OK;
}

static pr_memory_limits limits_of(const plan *p)
{
    return (pr_memory_limits){
        .n_tokens = p->n_tokens, .n_threads = p->n_threads, .dtype = p->dtype, .place = p->place};
}

static pr_status rank_plan(const plan *p, int rank, planned_rank *out, pr_error *err)
{
    const pr_model_spec *spec = &p->model->spec;
    const pr_memory_limits limits = limits_of(p);
    out->parallel = (pr_parallel){.tp_rank = rank % p->tp_size,
                                  .tp_size = p->tp_size,
                                  .stage = rank / p->tp_size,
                                  .n_stages = p->n_stages};
    pr_status st = pr_shard_plan(spec, &out->parallel, &out->shard, err);
    if (st != PR_OK) return st;
    return pr_memory_plan_build(spec, &out->parallel, &out->shard, &limits, &out->memory, err);
}

static uint32_t tokens_max(const plan *p, const planned_rank *ranks, uint64_t memory_bytes)
{
    const pr_memory_limits limits = limits_of(p);
    uint32_t least = PR_PLAN_TOKENS_MAX;
    for (int i = 0; i < p->tp_size * p->n_stages; i++) {
        uint32_t n = pr_memory_plan_tokens_max(&p->model->spec, &ranks[i].shard, &limits,
                                               &ranks[i].memory, memory_bytes);
        if (n < least) least = n;
    }
    return least;
}

/* ---- what is answered ---- */

static json_t *rank_describe(const plan *p, int i, const planned_rank *r)
{
    const pr_memory_plan *m = &r->memory;
    char layers[32];
    snprintf(layers, sizeof layers, "%d-%d", (int)r->shard.layer_begin,
             (int)r->shard.layer_end - 1);
    return json_pack(
        "{s:i, s:i, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "rank", i, "stage",
        r->parallel.stage, "tensor_rank", r->parallel.tp_rank, "layers", layers, "parameters",
        (json_int_t)m->n_parameters_rank, "weights_bytes", (json_int_t)m->weights_bytes,
        "activation_bytes", (json_int_t)m->activations_bytes, "workspace_bytes",
        (json_int_t)m->workspace_bytes, "reserved_bytes", (json_int_t)m->reserved_bytes,
        "total_bytes", (json_int_t)m->total_bytes, "fits", m->total_bytes <= p->memory_bytes);
}

/* On a CPU sums are of f32 values whatever weights are kept as. */
static json_t *traffic_describe(const plan *p)
{
    pr_dtype dtype = p->place == PR_PLAN_PLACE_CPU ? PR_DTYPE_F32 : p->dtype;
    const pr_traffic t = pr_traffic_of(&p->model->spec, p->tp_size, p->n_stages, dtype);
    return json_pack("{s:I, s:I, s:I, s:I, s:{s:f, s:f, s:i}, s:{s:f, s:f, s:i}}", "vector_bytes",
                     (json_int_t)t.vector_bytes, "all_reduced_bytes_per_token_and_layer",
                     (json_int_t)t.layer_bytes, "all_reduced_bytes_per_token",
                     (json_int_t)t.token_bytes, "stage_bytes_per_token", (json_int_t)t.stage_bytes,
                     "ring", "sent_bytes_per_token_and_layer", t.ring_layer_bytes,
                     "sent_bytes_per_token", t.ring_token_bytes, "steps_per_sum", t.ring_steps,
                     "rank_ordered", "sent_bytes_per_token_and_layer", t.ordered_layer_bytes,
                     "sent_bytes_per_token", t.ordered_token_bytes, "steps_per_sum",
                     t.ordered_steps);
}

/* The rank that takes longest: the others wait for it, within a stage and between stages. */
static pr_roofline slowest_of(const plan *p, const pr_load *loads, const pr_device *device)
{
    pr_roofline slowest = {0};
    for (int i = 0; i < p->tp_size * p->n_stages; i++) {
        pr_roofline r = pr_roofline_of(&loads[i], device, p->dtype);
        if (r.total_s > slowest.total_s) slowest = r;
    }
    return slowest;
}

static json_t *device_describe(const plan *p, const planned_rank *ranks, const pr_load *loads,
                               const pr_device *d)
{
    uint32_t n_max = tokens_max(p, ranks, d->memory_bytes);
    bool fits = n_max >= p->n_tokens;
    const pr_roofline r = slowest_of(p, loads, d);
    double speed = p->n_tokens / r.total_s;
    return json_pack(
        "{s:s, s:I, s:f, s:f, s:f, s:f, s:s, s:b, s:i, s:o, s:o, s:o, s:f, s:f, s:f, s:f}", "name",
        d->name, "memory_bytes", (json_int_t)d->memory_bytes, "memory_bytes_per_s",
        d->memory_bytes_per_s, "flops_16_bit", d->dense_flops_16_bit, "flops_f32", d->flops_f32,
        "link_bytes_per_s", d->link_bytes_per_s, "source", d->source, "fits", fits,
        "max_num_batched_tokens_that_fits", (int)n_max, "tokens_per_s",
        fits ? json_real(floor(speed)) : json_null(), "tokens_per_s_per_device",
        fits ? json_real(floor(speed / (p->tp_size * p->n_stages))) : json_null(), "bound",
        fits ? json_string(pr_bound_name(r.bound)) : json_null(), "compute_s", r.compute_s,
        "memory_s", r.memory_s, "link_s", r.link_s, "head_s", r.head_s);
}

static pr_status devices_describe(const plan *p, const planned_rank *ranks, json_t **out,
                                  pr_error *err)
{
    int n_ranks = p->tp_size * p->n_stages;
    const pr_workload workload = {
        .n_tokens = p->n_tokens, .n_text_tokens = p->model->n_tokens_max, .dtype = p->dtype};
    pr_status st = PR_OK;
    json_t *devices = json_array();
    pr_load *loads = calloc((size_t)n_ranks, sizeof *loads);
    if (!devices || !loads) st = pr_error_nomem(err, "plan", (size_t)n_ranks * sizeof *loads);
    for (int i = 0; st == PR_OK && i < n_ranks; i++) {
        st = pr_load_build(&p->model->spec, &ranks[i].parallel, &ranks[i].shard, &workload,
                           &loads[i], err);
    }
    const pr_device *d;
    bool is_gpu = p->place == PR_PLAN_PLACE_GPU;
    for (size_t i = 0; st == PR_OK && is_gpu && (d = pr_device_at(i)) != NULL; i++) {
        if (json_array_append_new(devices, device_describe(p, ranks, loads, d)) != 0) {
            st = pr_error_nomem(err, "plan", 0);
        }
    }
    free(loads);
    if (st == PR_OK) {
        *out = devices;
        return PR_OK;
    }
    json_decref(devices);
    return st;
}

/* The whole answer but for ranks and devices, which are consumed. */
static json_t *plan_describe(const plan *p, const planned_rank *ranks, json_t *rank_list,
                             json_t *devices)
{
    const pr_model *m = p->model;
    uint32_t n_max = tokens_max(p, ranks, p->memory_bytes);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:i, s:i, s:i, s:b, s:i, s:o, s:o, s:i, "
        "s:o}",
        "model", m->folder, "architecture", m->spec.architecture, "device",
        p->place == PR_PLAN_PLACE_GPU ? "gpu" : "cpu", "dtype", pr_dtype_name(p->dtype),
        "dtype_source", p->dtype_source, "tensor_parallel_size", p->tp_size,
        "pipeline_parallel_size", p->n_stages, "total_parameters",
        (json_int_t)ranks[0].memory.n_parameters, "device_memory_bytes",
        (json_int_t)p->memory_bytes, "max_model_len", (int)m->n_tokens_max,
        "max_num_batched_tokens", (int)p->config->max_num_batched_tokens, "tokens_planned",
        (int)p->n_tokens, "fits", n_max >= p->n_tokens, "max_num_batched_tokens_that_fits",
        (int)n_max, "ranks", rank_list, "traffic", traffic_describe(p), "roofline_text_tokens",
        (int)m->n_tokens_max, "devices", devices);
}

static pr_status plan_make(const plan *p, json_t **out, pr_error *err)
{
    int n_ranks = p->tp_size * p->n_stages;
    json_t *list = json_array(), *devices = NULL;
    planned_rank *ranks = calloc((size_t)n_ranks, sizeof *ranks);
    pr_status st = PR_OK;
    if (!list || !ranks) st = pr_error_nomem(err, "plan", (size_t)n_ranks * sizeof *ranks);
    for (int i = 0; st == PR_OK && i < n_ranks; i++) {
        st = rank_plan(p, i, &ranks[i], err);
        if (st == PR_OK && json_array_append_new(list, rank_describe(p, i, &ranks[i])) != 0) {
            st = pr_error_nomem(err, "plan", 0);
        }
    }
    if (st == PR_OK) st = devices_describe(p, ranks, &devices, err);
    if (st == PR_OK) {
        *out = plan_describe(p, ranks, list, devices);
        list = NULL;
        if (!*out) st = pr_error_nomem(err, "plan", 0);
    }
    json_decref(list);
    free(ranks);
    return st;
}

/* ---- the command ---- */

static pr_status answer_print(const json_t *answer, bool is_json, pr_error *err)
{
    pr_status st = PR_OK;
    pr_buffer text;
    pr_buffer_init(&text);
    if (is_json) {
        char *line = json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(9));
        if (!line) text.failed = true;
        pr_buffer_append_str(&text, line ? line : "");
        pr_buffer_append_char(&text, '\n');
        free(line);
    } else {
        pr_plan_text_write(answer, &text);
    }
    if (text.failed) {
        st = pr_error_nomem(err, "plan", text.n);
    } else if (fwrite(text.data, 1, text.n, stdout) != text.n || fflush(stdout) != 0) {
        st = pr_error_errno(err, errno, "write standard output");
    }
    pr_buffer_deinit(&text);
    return st;
}

int pr_command_plan_run(const pr_command_context *context, pr_error *err)
{
    if (context->n_texts > 0) {
        pr_error_set(err, PR_E_ARGUMENT, "found the text \"%.40s\", expected only a model",
                     context->texts[0]);
        return PR_EXIT_MISTAKE;
    }
    plan p = {0};
    json_t *answer = NULL;
    pr_status st = plan_open(context->config, &p, err);
    if (st == PR_OK) st = plan_make(&p, &answer, err);
    int exit_status = st == PR_OK ? PR_EXIT_DONE : pr_command_exit(st);
    if (st == PR_OK && answer_print(answer, context->config->json, err) != PR_OK) {
        exit_status = PR_EXIT_FAILED;
    }
    json_decref(answer);
    pr_model_close(p.model);
    return exit_status;
}
