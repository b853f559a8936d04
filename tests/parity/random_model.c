#include "random_model.h"

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_LAYERS = 2, PATH_MAX_BYTES = 600 };

typedef enum extent { NONE, HIDDEN, INTERMEDIATE, KV, VOCAB, N_POSITIONS, N_TYPES, EXTENTS } extent;

typedef struct sizes {
    int n_heads, n_kv_heads;
    int of[EXTENTS];
} sizes;

/* Heads of 64 and of 32. */
static const sizes five_heads = {
    5, 1, {[HIDDEN] = 320, [INTERMEDIATE] = 832, [KV] = 64, [VOCAB] = 1000, [N_POSITIONS] = 160,
           [N_TYPES] = 2}};
static const sizes twelve_heads = {
    12, 1, {[HIDDEN] = 384, [INTERMEDIATE] = 832, [KV] = 32, [VOCAB] = 1000, [N_POSITIONS] = 160,
            [N_TYPES] = 2}};

/* "%d" in a name is the layer. columns NONE: one dimension. */
typedef struct tensor_row {
    const char *name;
    extent rows, columns;
} tensor_row;

/* One tensor, with numbers. */
typedef struct tensor {
    const char *name;
    int n_rows, n_columns; /* 0 columns: one dimension */
} tensor;

static const tensor_row bert_tensors[] = {
    {"embeddings.word_embeddings.weight", VOCAB, HIDDEN},
    {"embeddings.position_embeddings.weight", N_POSITIONS, HIDDEN},
    {"embeddings.token_type_embeddings.weight", N_TYPES, HIDDEN},
    {"embeddings.LayerNorm.weight", HIDDEN, NONE},
    {"embeddings.LayerNorm.bias", HIDDEN, NONE},
    {"encoder.layer.%d.attention.self.query.weight", HIDDEN, HIDDEN},
    {"encoder.layer.%d.attention.self.query.bias", HIDDEN, NONE},
    {"encoder.layer.%d.attention.self.key.weight", HIDDEN, HIDDEN},
    {"encoder.layer.%d.attention.self.key.bias", HIDDEN, NONE},
    {"encoder.layer.%d.attention.self.value.weight", HIDDEN, HIDDEN},
    {"encoder.layer.%d.attention.self.value.bias", HIDDEN, NONE},
    {"encoder.layer.%d.attention.output.dense.weight", HIDDEN, HIDDEN},
    {"encoder.layer.%d.attention.output.dense.bias", HIDDEN, NONE},
    {"encoder.layer.%d.attention.output.LayerNorm.weight", HIDDEN, NONE},
    {"encoder.layer.%d.attention.output.LayerNorm.bias", HIDDEN, NONE},
    {"encoder.layer.%d.intermediate.dense.weight", INTERMEDIATE, HIDDEN},
    {"encoder.layer.%d.intermediate.dense.bias", INTERMEDIATE, NONE},
    {"encoder.layer.%d.output.dense.weight", HIDDEN, INTERMEDIATE},
    {"encoder.layer.%d.output.dense.bias", HIDDEN, NONE},
    {"encoder.layer.%d.output.LayerNorm.weight", HIDDEN, NONE},
    {"encoder.layer.%d.output.LayerNorm.bias", HIDDEN, NONE},
    {NULL, NONE, NONE},
};

static const tensor_row qwen2_tensors[] = {
    {"embed_tokens.weight", VOCAB, HIDDEN},
    {"layers.%d.input_layernorm.weight", HIDDEN, NONE},
    {"layers.%d.self_attn.q_proj.weight", HIDDEN, HIDDEN},
    {"layers.%d.self_attn.q_proj.bias", HIDDEN, NONE},
    {"layers.%d.self_attn.k_proj.weight", KV, HIDDEN},
    {"layers.%d.self_attn.k_proj.bias", KV, NONE},
    {"layers.%d.self_attn.v_proj.weight", KV, HIDDEN},
    {"layers.%d.self_attn.v_proj.bias", KV, NONE},
    {"layers.%d.self_attn.o_proj.weight", HIDDEN, HIDDEN},
    {"layers.%d.post_attention_layernorm.weight", HIDDEN, NONE},
    {"layers.%d.mlp.gate_proj.weight", INTERMEDIATE, HIDDEN},
    {"layers.%d.mlp.up_proj.weight", INTERMEDIATE, HIDDEN},
    {"layers.%d.mlp.down_proj.weight", HIDDEN, INTERMEDIATE},
    {"norm.weight", HIDDEN, NONE},
    {NULL, NONE, NONE},
};

static const char bert_config[] =
    "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\","
    "\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-12,\"type_vocab_size\":2,";
static const char qwen2_config[] =
    "{\"architectures\":[\"Qwen2Model\"],\"model_type\":\"qwen2\","
    "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,";

static const struct family {
    const char *config;
    const tensor_row *tensors;
    const sizes *sizes;
} families[] = {
    [RANDOM_BERT] = {bert_config, bert_tensors, &five_heads},
    [RANDOM_QWEN2] = {qwen2_config, qwen2_tensors, &five_heads},
    [RANDOM_BERT_12] = {bert_config, bert_tensors, &twelve_heads},
    [RANDOM_QWEN2_12] = {qwen2_config, qwen2_tensors, &twelve_heads},
};

/* Calls visit for every tensor of the model, layers unrolled. */
static void tensors_visit(const struct family *f, void (*visit)(const tensor *, void *),
                          void *context)
{
    for (const tensor_row *row = f->tensors; row->name; row++) {
        bool is_layered = strstr(row->name, "%d") != NULL;
        for (int i_layer = 0; i_layer < (is_layered ? N_LAYERS : 1); i_layer++) {
            char name[128];
            snprintf(name, sizeof name, row->name, i_layer);
            tensor one = {name, f->sizes->of[row->rows], f->sizes->of[row->columns]};
            visit(&one, context);
        }
    }
}

static size_t tensor_count(const tensor *t)
{
    return (size_t)t->n_rows * (size_t)(t->n_columns ? t->n_columns : 1);
}

typedef struct header {
    json_t *json;
    size_t n_bytes;
} header;

static void header_add(const tensor *t, void *context)
{
    header *h = context;
    size_t end = h->n_bytes + tensor_count(t) * sizeof(float);
    json_t *shape =
        t->n_columns ? json_pack("[i, i]", t->n_rows, t->n_columns) : json_pack("[i]", t->n_rows);
    json_object_set_new(h->json, t->name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape,
                                  "data_offsets", (json_int_t)h->n_bytes, (json_int_t)end));
    h->n_bytes = end;
}

typedef struct writer {
    FILE *file;
    uint64_t state;
} writer;

/* Even in [-1, 1). */
static float draw(writer *w)
{
    w->state = w->state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(w->state >> 32) / 2147483648.0f;
}

static void data_add(const tensor *t, void *context)
{
    writer *w = context;
    bool is_norm = t->n_columns == 0 && strstr(t->name, "orm.weight");
    /* A matrix keeps the variance of what it multiplies; tables and biases have a spread of 0.5. */
    float scale =
        t->n_columns == 0 || strstr(t->name, "embed") ? 0.5f : sqrtf(3.0f / (float)t->n_columns);
    for (size_t i = 0; i < tensor_count(t); i++) {
        float value = (is_norm ? 1.0f : 0.0f) + scale * draw(w);
        fwrite(&value, sizeof value, 1, w->file);
    }
}

static bool weights_write(const struct family *f, const char *path)
{
    header h = {.json = json_object()};
    tensors_visit(f, header_add, &h);
    char *text = json_dumps(h.json, JSON_COMPACT);
    json_decref(h.json);
    writer w = {.file = fopen(path, "wb"), .state = 12345};
    bool is_written = text && w.file;
    if (is_written) {
        uint64_t n = strlen(text); /* little-endian, as every machine that we build for */
        fwrite(&n, sizeof n, 1, w.file);
        fwrite(text, 1, n, w.file);
        tensors_visit(f, data_add, &w);
    }
    if (w.file) is_written = fclose(w.file) == 0 && is_written;
    free(text);
    return is_written;
}

static bool config_write(const struct family *f, const char *path)
{
    const int *n = f->sizes->of;
    FILE *file = fopen(path, "w");
    if (!file) return false;
    fprintf(file,
            "%s\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
            "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"vocab_size\":%d,"
            "\"max_position_embeddings\":%d,\"torch_dtype\":\"float32\"}\n",
            f->config, n[HIDDEN], n[INTERMEDIATE], N_LAYERS, f->sizes->n_heads,
            f->sizes->n_kv_heads, n[VOCAB], n[N_POSITIONS]);
    return fclose(file) == 0;
}

static bool file_copy(const char *from, const char *to)
{
    json_t *json = json_load_file(from, 0, NULL);
    bool is_copied = json && json_dump_file(json, to, JSON_COMPACT) == 0;
    json_decref(json);
    return is_copied;
}

bool random_model_write(random_family family, const char *tokenizer_folder, char *folder,
                        size_t folder_bytes)
{
    const char *base = getenv("TMPDIR");
    char path[PATH_MAX_BYTES], from[PATH_MAX_BYTES];
    snprintf(folder, folder_bytes, "%s/poolrank-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        printf("%s: cannot be made\n", folder);
        return false;
    }
    snprintf(from, sizeof from, "%s/tokenizer.json", tokenizer_folder);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    bool is_written = file_copy(from, path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    is_written = is_written && config_write(&families[family], path);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    is_written = is_written && weights_write(&families[family], path);
    if (is_written) return true;
    printf("%s: cannot be written\n", path);
    random_model_remove(folder);
    return false;
}

void random_model_remove(const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "config.json", "model.safetensors"};
    char path[PATH_MAX_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}
