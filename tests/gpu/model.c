#define _GNU_SOURCE /* mkdtemp */
#include "tests/gpu/model.h"

#include "runtime/base/json.h"
#include "tests/unit/worker/weight_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A block is no multiple of any row, so that rows differ. */
enum { BLOCK_ELEMENTS = 1048573 };

#define ENCODER                                                                                    \
    "\"architectures\":[\"BertModel\"],\"model_type\":\"bert\",\"hidden_act\":\"gelu\","           \
    "\"layer_norm_eps\":1e-12,\"type_vocab_size\":2"
#define DECODER(architecture, type)                                                                \
    "\"architectures\":[\"" architecture "\"],\"model_type\":\"" type "\","                        \
    "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"rope_theta\":1000000.0"

/* Sizes as in config.json of all-MiniLM-L6-v2, Qwen3-Embedding-0.6B, gte-Qwen2-7B-instruct and
 * Qwen2.5-Math-RM-72B. Of the last, what one of 8 tensor ranks computes: an eighth of heads,
 * feed-forward block and vocabulary, as a model of its own; 8 of 80 layers. It is of the family
 * Llama, whose config.json names a head size. */
const model_shape model_shapes[MODEL_SHAPES] = {
    {"MiniLM", "MiniLM, tiny", ENCODER, 30522, 384, 1536, 6, 12, 12, 0, 512, 128, PR_POOL_MEAN},
    {"0.6B", "0.6B, tiny", DECODER("Qwen3Model", "qwen3"), 151669, 1024, 3072, 28, 16, 8, 128,
     32768, 512, PR_POOL_LAST},
    {"7B", "7B, tiny", DECODER("Qwen2Model", "qwen2"), 151646, 3584, 18944, 28, 28, 4, 0, 32768,
     512, PR_POOL_LAST},
    {"72B/8, 8 layers", "72B/8, tiny", DECODER("LlamaModel", "llama"), 19008, 8192, 3696, 8, 8, 1,
     128, 4096, 512, PR_POOL_LAST},
};

model_shape model_shape_cut(const model_shape *s, int n_layers_max, int vocab_max)
{
    model_shape cut = *s;
    if (cut.n_layers > n_layers_max) cut.n_layers = n_layers_max;
    if (cut.vocab > vocab_max) cut.vocab = vocab_max;
    return cut;
}

model_shape model_shape_tiny(const model_shape *s)
{
    model_shape tiny = *s;
    tiny.name = s->tiny_name;
    tiny.vocab = 101;
    tiny.hidden = 64;
    tiny.intermediate = 96;
    tiny.n_layers = 2;
    tiny.n_kv_heads = s->n_kv_heads == s->n_heads ? 2 : 1;
    tiny.n_heads = 2;
    tiny.head_dim = s->head_dim ? 32 : 0;
    tiny.n_positions = 128;
    tiny.n_text_tokens = 12;
    return tiny;
}

/* ---- the checkpoint ---- */

/* A matrix keeps the variance of what it multiplies; tables and biases have a spread of 0.5. */
static bool tensor_write(const pr_weight *w, uint64_t seed, float *values, uint16_t *block, FILE *f)
{
    bool is_matrix = w->n_dims > 1 && w->role != PR_ROLE_TOKEN_TABLE &&
                     w->role != PR_ROLE_POSITION_TABLE && w->role != PR_ROLE_TYPE_TABLE;
    float scale = is_matrix ? sqrtf(3.0f / (float)w->shape[1]) : 0.5f;
    size_t n = weight_file_elements(w), n_block = n < BLOCK_ELEMENTS ? n : BLOCK_ELEMENTS;
    gpu_random(values, n_block, scale, seed, PR_DTYPE_F32);
    for (size_t i = 0; i < n_block; i++) {
        block[i] = pr_f32_to_bf16(values[i] + (weight_file_is_norm(w) ? 1.0f : 0.0f));
    }
    for (size_t i = 0; i < n; i += n_block) {
        size_t n_now = n - i < n_block ? n - i : n_block;
        if (fwrite(block, sizeof *block, n_now, f) != n_now) return false;
    }
    return true;
}

static bool checkpoint_write(const gpu *g, const pr_weight_list *list, const char *path)
{
    pr_buffer header;
    pr_buffer_init(&header);
    weight_file_header(list, PR_DTYPE_BF16, &header);
    pr_buffer_append_char(&header, '}');
    float *values = gpu_memory(g, BLOCK_ELEMENTS * sizeof *values);
    uint16_t *block = gpu_memory(g, BLOCK_ELEMENTS * sizeof *block);
    FILE *f = fopen(path, "wb");
    uint64_t n_header = header.n;
    bool ok = f && !header.failed && fwrite(&n_header, sizeof n_header, 1, f) == 1 &&
              fwrite(header.data, 1, header.n, f) == header.n;
    for (size_t i = 0; ok && i < pr_weight_list_count(list); i++) {
        ok = tensor_write(pr_weight_list_at(list, i), i + 1, values, block, f);
    }
    if (f) ok = fclose(f) == 0 && ok;
    free(block);
    free(values);
    pr_buffer_deinit(&header);
    return ok;
}

static void spec_parse(const gpu *g, pr_model_spec *out, const model_shape *s)
{
    pr_error err;
    char config[1024], head_dim[32] = "";
    if (s->head_dim) snprintf(head_dim, sizeof head_dim, ",\"head_dim\":%d", s->head_dim);
    snprintf(config, sizeof config,
             "{%s,\"vocab_size\":%d,\"hidden_size\":%d,\"intermediate_size\":%d,"
             "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,"
             "\"max_position_embeddings\":%d,\"torch_dtype\":\"bfloat16\"%s}",
             s->family, s->vocab, s->hidden, s->intermediate, s->n_layers, s->n_heads,
             s->n_kv_heads, s->n_positions, head_dim);
    json_t *json = NULL;
    gpu_must(g, pr_json_parse(config, strlen(config), "config.json", &json, &err), &err, s->name);
    gpu_must(g, pr_model_spec_parse(json, "config.json", out, &err), &err, s->name);
    json_decref(json);
}

pr_memory_plan model_shape_plan(const gpu *g, const model_shape *s, pr_dtype dtype,
                                uint32_t n_tokens)
{
    pr_error err;
    pr_model_spec spec;
    pr_shard shard;
    pr_memory_plan plan;
    const pr_parallel alone = {.tp_size = 1, .n_stages = 1};
    const pr_memory_limits limits = {.n_tokens = n_tokens, .n_threads = 1, .dtype = dtype,
                                     .place = PR_PLAN_PLACE_GPU};
    spec_parse(g, &spec, s);
    gpu_must(g, pr_shard_plan(&spec, &alone, &shard, &err), &err, "shard plan");
    gpu_must(g, pr_memory_plan_build(&spec, &alone, &shard, &limits, &plan, &err), &err,
             "memory plan");
    pr_model_spec_deinit(&spec);
    return plan;
}

bool model_shape_fits(const gpu *g, const model_shape *s, pr_dtype dtype, uint32_t n_tokens)
{
    uint64_t free_bytes = g->devices[g->index].free_bytes;
    const pr_memory_plan plan = model_shape_plan(g, s, dtype, n_tokens);
    if (free_bytes == 0 || plan.total_bytes <= free_bytes) return true;
    printf("%-16s left out: %.2f GB are planned, %.2f GB were free at the start\n", s->name,
           (double)plan.total_bytes * 1e-9, (double)free_bytes * 1e-9);
    return false;
}

void model_make(const gpu *g, model *m, const model_shape *shape)
{
    pr_error err;
    pr_weight_list *list = NULL;
    const char *base = getenv("TMPDIR");
    char path[300];
    *m = (model){0};
    spec_parse(g, &m->spec, shape);
    snprintf(m->folder, sizeof m->folder, "%s/poolrank-gpu-XXXXXX", base && *base ? base : "/tmp");
    gpu_must(g, pr_weight_list_build(&m->spec, &list, &err), &err, shape->name);
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        m->file_bytes += weight_file_elements(pr_weight_list_at(list, i)) * sizeof(uint16_t);
    }
    bool ok = mkdtemp(m->folder) != NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    ok = ok && checkpoint_write(g, list, path);
    pr_weight_list_free(list);
    if (ok) return;
    fprintf(stderr, "%s: %s: %s: cannot write %.1f GB; TMPDIR names another place\n", g->name,
            shape->name, path, (double)m->file_bytes * 1e-9);
    model_remove(m);
    exit(1);
}

void model_remove(model *m)
{
    char path[300];
    snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    unlink(path);
    rmdir(m->folder);
    pr_model_spec_deinit(&m->spec);
}

/* ---- the worker ---- */

pr_worker *model_worker(const gpu *g, const model *m, pr_dtype dtype, bool is_cpu,
                        uint32_t n_rows_max)
{
    static const pr_st_files no_st = {0};
    pr_error err;
    pr_worker *w = NULL;
    const pr_worker_config config = {
        .folder = m->folder, .weights_folder = m->folder, .spec = &m->spec, .st = &no_st,
        .backend = is_cpu ? NULL : gpu_backend(g, dtype),
        .cpu = {.n_threads = g->is_tiny ? 1 : 8, .isa = PR_CPU_ISA_AUTO},
        .dtype = is_cpu ? PR_DTYPE_F32 : dtype, .n_rows_max = n_rows_max,
        .n_positions_max = (uint32_t)m->spec.n_positions,
    };
    gpu_must(g, pr_worker_open(&config, &w, &err), &err, "open the model");
    return w;
}

/* ---- batches ---- */

void model_batch_make(const gpu *g, model_batch *b, const model *m, pr_pool pool, uint32_t n,
                      const uint32_t *lengths, const uint32_t *seeds)
{
    uint32_t n_tokens = 0, at = 0, vocab = (uint32_t)m->spec.vocab_size;
    *b = (model_batch){.pooling = {.type = pool}};
    for (uint32_t i = 0; i < n; i++) n_tokens += lengths[i];
    int32_t *tokens = gpu_memory(g, n_tokens * sizeof *tokens);
    pr_segment *segments = gpu_memory(g, n * sizeof *segments);
    pr_sequence *sequences = gpu_memory(g, n * sizeof *sequences);
    b->poolings = gpu_memory(g, n * sizeof *b->poolings);
    for (uint32_t i = 0; i < n; i++) {
        segments[i] = (pr_segment){at, lengths[i], 0, -1};
        sequences[i] = (pr_sequence){i, lengths[i], i};
        b->poolings[i] = &b->pooling;
        for (uint32_t k = 0; k < lengths[i]; k++) {
            tokens[at++] = (int32_t)((seeds[i] + 1) * 7919u * (k + 1) % vocab);
        }
    }
    b->plan = (pr_batch_plan){.tokens = tokens, .n_tokens = n_tokens, .segments = segments,
                              .n_segments = n, .sequences = sequences, .n_sequences = n};
}

void model_batch_even(const gpu *g, model_batch *b, const model *m, pr_pool pool, uint32_t n_rows,
                      uint32_t n_tokens, uint32_t seed)
{
    uint32_t n = n_rows > n_tokens ? n_rows / n_tokens : 1;
    uint32_t *lengths = gpu_memory(g, n * sizeof *lengths);
    uint32_t *seeds = gpu_memory(g, n * sizeof *seeds);
    for (uint32_t i = 0; i < n; i++) {
        lengths[i] = n_tokens < n_rows ? n_tokens : n_rows;
        seeds[i] = seed + i;
    }
    model_batch_make(g, b, m, pool, n, lengths, seeds);
    free(lengths);
    free(seeds);
}

void model_batch_deinit(model_batch *b)
{
    free(b->plan.tokens);
    free(b->plan.segments);
    free(b->plan.sequences);
    free(b->poolings);
}
