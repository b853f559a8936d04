#include "coordinator/engine/describe.h"

#include "coordinator/engine/check_finite.h"
#include "coordinator/engine/describe_ranks.h"
#include "coordinator/engine/engine_inspect.h"
#include "coordinator/fleet/placement.h"
#include "coordinator/fleet/worker_launch.h"
#include "include/poolrank/engine.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/families.h"
#include "worker/weights.h"

#include <assert.h>

static const char *const head_names[] = {
    [PR_HEAD_NONE] = "none",
    [PR_HEAD_SCORE] = "score",
    [PR_HEAD_BERT_CLASSIFIER] = "pooler, tanh, classifier",
    [PR_HEAD_ROBERTA_CLASSIFIER] = "dense, tanh, out_proj",
    [PR_HEAD_REWARD] = "score.0, ReLU, score.2",
    [PR_HEAD_PROCESS_REWARD] = "score.0, ReLU, score.2 (steps)",
};
static_assert(sizeof head_names / sizeof *head_names == PR_HEAD_COUNT, "one name per head");

static const char *const activation_names[] = {
    [PR_ACTIVATION_NONE] = "none",           [PR_ACTIVATION_GELU] = "gelu",
    [PR_ACTIVATION_GELU_TANH] = "gelu_tanh", [PR_ACTIVATION_RELU] = "relu",
    [PR_ACTIVATION_SILU] = "silu",           [PR_ACTIVATION_TANH] = "tanh",
    [PR_ACTIVATION_SIGMOID] = "sigmoid",
};

static json_t *sourced(json_t *value, pr_source source)
{
    return json_pack("{s:o, s:s}", "value", value, "source", pr_source_name(source));
}

/* {"value": …, "source": …} for every field of a pooler. */
static json_t *pooling_describe(const pr_pooling *p)
{
    const char *activation = p->softmax ? "softmax" : activation_names[p->activation];
    json_t *o = json_pack(
        "{s:o, s:o, s:o, s:o}", "pooling_type",
        sourced(json_string(pr_pool_name(p->type)), p->source.type), "normalize",
        sourced(json_boolean(p->normalize), p->source.normalize), "activation",
        sourced(json_string(activation), p->source.activation), "dimensions",
        sourced(p->dimensions ? json_integer(p->dimensions) : json_null(), p->source.dimensions));
    if (o && p->type == PR_POOL_STEP) {
        json_object_set_new(o, "step_tag_id",
                            sourced(json_integer(p->step_tag_id), p->source.step_tag_id));
        json_t *ids = p->n_returned_tokens ? json_array() : json_null();
        for (int32_t i = 0; i < p->n_returned_tokens; i++) {
            json_array_append_new(ids, json_integer(p->returned_tokens[i]));
        }
        json_object_set_new(o, "returned_token_ids", sourced(ids, p->source.returned_tokens));
    }
    return o;
}

static json_t *shapes_describe(const pr_model_spec *s)
{
    json_t *o = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "vocab_size", s->vocab_size,
                          "hidden_size", s->hidden_size, "intermediate_size", s->intermediate_size,
                          "layers", s->n_layers, "heads", s->n_heads, "kv_heads", s->n_kv_heads,
                          "head_dim", s->head_dim, "positions", s->n_positions);
    if (o && s->head != PR_HEAD_NONE) json_object_set_new(o, "labels", json_integer(s->n_labels));
    return o;
}

static json_t *positions_describe(const pr_model_spec *s)
{
    static const char *const scalings[] = {"none", "linear", "llama3"};
    if (s->position == PR_POSITION_TABLE) {
        return json_pack("{s:s, s:i}", "kind", "table", "first_row", s->position_offset);
    }
    json_t *o = json_pack("{s:s, s:f, s:s}", "kind", "rope", "theta", s->rope_theta, "scaling",
                          scalings[s->rope_scaling]);
    int n_windowed = 0, window = 0;
    for (int32_t i = 0; i < s->n_layers; i++) {
        if (s->window[i] <= 0) continue;
        n_windowed++;
        window = s->window[i];
    }
    if (o && n_windowed) {
        json_object_set_new(o, "sliding_window", json_integer(window));
        json_object_set_new(o, "layers_with_sliding_window", json_integer(n_windowed));
    }
    return o;
}

static json_t *tasks_describe(const pr_model *m)
{
    json_t *tasks = json_array();
    for (int t = PR_TASK_AUTO + 1; tasks && t < PR_TASK_COUNT; t++) {
        if (m->is_served[t]) json_array_append_new(tasks, json_string(pr_task_name((pr_task)t)));
    }
    return tasks;
}

static json_t *tokenizer_describe(const pr_tokenizer *t)
{
    const pr_tokenizer_origin *o = pr_tokenizer_origin_of(t);
    if (!o->class_name) return json_pack("{s:s}", "pieces", "tokenizer.json");
    return json_pack("{s:s, s:s, s:s, s:b}", "class", o->class_name, "pieces",
                     o->is_rebuilt ? "the class's own, with the vocabulary of tokenizer.json"
                                   : "tokenizer.json",
                     "applied", o->applied && *o->applied ? o->applied : "nothing", "token_types",
                     (int)!o->has_no_types);
}

static json_t *limits_describe(const pr_model *m, const pr_config *c)
{
    return json_pack("{s:o, s:i, s:i, s:s}", "max_model_len",
                     json_pack("{s:i, s:s}", "value", (int)m->n_tokens_max, "source",
                               m->n_tokens_max_source),
                     "max_num_batched_tokens", (int)c->max_num_batched_tokens, "max_num_seqs",
                     (int)c->max_num_seqs, "truncation_side", m->truncate_left ? "left" : "right");
}

/* Bytes; for a model that is loaded here the weights are what was measured, not what was planned.
 * Of several ranks those of the one that needs most. */
static json_t *memory_describe(const pr_memory_plan *plan, const pr_worker_info *worker)
{
    uint64_t weights = worker ? worker->weights_bytes : plan->weights_bytes;
    return json_pack("{s:I, s:I, s:I, s:I}", "weights_bytes", (json_int_t)weights,
                     "activations_bytes", (json_int_t)plan->activations_bytes, "workspace_bytes",
                     (json_int_t)plan->workspace_bytes, "total_bytes",
                     (json_int_t)(weights + plan->activations_bytes + plan->workspace_bytes));
}

static json_t *labels_describe(const pr_model_spec *s)
{
    json_t *labels = json_array();
    for (int32_t i = 0; labels && s->labels && i < s->n_labels; i++) {
        json_array_append_new(labels, s->labels[i] ? json_string(s->labels[i]) : json_null());
    }
    return labels;
}

/* How products are computed: on a GPU by its own rules. */
static json_t *matmul_describe(const pr_model *m, const pr_config *c, pr_dtype dtype)
{
    bool is_auto = c->matmul_precision == PR_MATMUL_AUTO;
    const char *precision =
        pr_matmul_precision_name(pr_matmul_precision_resolve(c->matmul_precision));
    if (c->device == PR_DEVICE_CHOICE_CUDA) return json_null();
    if (dtype == PR_DTYPE_F32 && m->spec.checkpoint_dtype == PR_DTYPE_BF16) dtype = PR_DTYPE_BF16;
    if (dtype == PR_DTYPE_F32 && m->spec.checkpoint_dtype == PR_DTYPE_F16) dtype = PR_DTYPE_F16;
    return json_pack("{s:s, s:s, s:s, s:s}", "precision", precision, "chosen_by",
                     is_auto ? "the fastest within 1e-5 of Hugging Face" : "--matmul-precision",
                     "cpu_isa", pr_cpu_isa_name(c->cpu_isa ? c->cpu_isa : pr_cpu_isa_best()),
                     "products", pr_cpu_product_label(c->cpu_isa, c->matmul_precision, dtype));
}

pr_status pr_describe(const pr_model *m, const pr_config *c, const pr_worker_info *worker,
                      json_t **out, pr_error *err)
{
    pr_memory_plan plan = {0};
    pr_status st = pr_describe_memory(m, c, &plan, err);
    if (st != PR_OK) return st;
    const char *source;
    pr_dtype dtype = pr_dtype_choose(c->dtype, c->device == PR_DEVICE_CHOICE_CUDA,
                                     m->spec.checkpoint_dtype, &source);
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:o, s:o, s:o, s:o, s:{s:s, s:s, "
        "s:s}, s:I, s:o}",
        "version",
        POOLRANK_VERSION, "model", m->folder, "architecture", m->spec.architecture, "family",
        pr_family_describe(m->spec.family)->name, "head", head_names[m->spec.head], "task",
        pr_task_name(m->task), "tasks", tasks_describe(m), "width", (int)m->n_width, "shapes",
        shapes_describe(&m->spec), "positions", positions_describe(&m->spec), "pooler",
        pooling_describe(&m->poolings[m->task]), "limits", limits_describe(m, c), "dtype",
        "checkpoint", pr_dtype_name(m->spec.checkpoint_dtype), "weights",
        pr_dtype_name(dtype), "source", source, "parameters",
        (json_int_t)plan.n_parameters, "memory", memory_describe(&plan, worker));
    if (!o) return pr_error_nomem(err, "description", 0);
    json_object_set_new(o, "causal", json_boolean(m->spec.causal));
    if (m->tokenizer) json_object_set_new(o, "tokenizer", tokenizer_describe(m->tokenizer));
    json_object_set_new(o, "device", json_string(pr_device_choice_name(c->device)));
    json_object_set_new(o, "threads", json_integer(c->n_threads));
    json_object_set_new(o, "matmul", matmul_describe(m, c, dtype));
    if (m->spec.head != PR_HEAD_NONE) {
        json_object_set_new(o, "id2label", labels_describe(&m->spec));
    }
    if (worker) json_object_set_new(o, "backend", json_string(worker->backend));
    *out = o;
    return PR_OK;
}

/* How ranks would start, and what each would hold. */
static pr_status ranks_inspect(const pr_model *model, const pr_config *config,
                               pr_worker_launch launch, json_t *description, pr_error *err)
{
    json_t *ranks = NULL;
    pr_status st = pr_describe_ranks(model, config, launch, NULL, 0, &ranks, err);
    if (st != PR_OK) return st;
    json_object_set_new(description, "worker_launch",
                        json_string(pr_worker_launch_name(launch)));
    json_object_set_new(description, "ranks", ranks);
    return PR_OK;
}

pr_status pr_engine_inspect(const pr_config *config, json_t **out, pr_error *err)
{
    pr_model *model = NULL;
    pr_checkpoint *checkpoint = NULL;
    json_t *description = NULL;
    pr_worker_launch launch;
    pr_placement placement;
    pr_config settled = *config; /* strings and JSON are borrowed */
    pr_status st = pr_model_open(config, &model, err);
    if (st != PR_OK) return st;
    st = pr_checkpoint_open(model->weights_folder, &checkpoint, err);
    if (st == PR_OK) {
        st = pr_weights_check(model->folder, checkpoint, &model->spec, &model->st, err);
    }
    if (st == PR_OK) st = pr_worker_launch_resolve(config, &model->spec, &launch, err);
    if (st == PR_OK) st = pr_placement_resolve(config, launch, &placement, err);
    if (st == PR_OK) settled.device = placement.device;
    if (st == PR_OK) st = pr_describe(model, &settled, NULL, &description, err);
    if (st == PR_OK) st = ranks_inspect(model, &settled, launch, description, err);
    json_t *finite = NULL;
    if (st == PR_OK && config->check_finite) {
        st = pr_check_finite(model->weights_folder, &finite, err);
    }
    if (finite && json_object_set_new(description, "weights_finite", finite) != 0) {
        st = pr_error_nomem(err, "description", 0);
    }
    if (st == PR_OK) {
        *out = description;
        description = NULL;
    }
    json_decref(description);
    if (st != PR_OK) pr_model_error(model, st, err);
    pr_checkpoint_close(checkpoint);
    pr_model_close(model);
    return st;
}
