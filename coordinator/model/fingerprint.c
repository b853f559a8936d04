#include "coordinator/model/fingerprint.h"

#include "runtime/checkpoint/checkpoint.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* FNV-1a of 64 bits (Fowler, Noll, Vo; RFC 9923), over bytes in little-endian order. */
static const uint64_t fnv_offset = 0xCBF29CE484222325u;

static uint64_t bytes_add(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

static uint64_t number_add(uint64_t h, uint64_t value)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> (8 * i));
    return bytes_add(h, bytes, sizeof bytes);
}

/* With its length, so that the ends of two texts do not run into each other. */
static uint64_t text_add(uint64_t h, const char *text)
{
    size_t n = strlen(text);
    return bytes_add(number_add(h, n), text, n);
}

/* ---- the spec ---- */

typedef enum field_kind { FIELD_INT, FIELD_BOOL, FIELD_FLOAT, FIELD_DOUBLE } field_kind;

typedef struct field_row {
    size_t offset;
    field_kind kind;
} field_row;

#define FIELD(member, kind) {offsetof(pr_model_spec, member), kind}

static_assert(sizeof(pr_family) == sizeof(int32_t), "enums are read as 32 bits");

/* What the weights and the layers follow from. Labels and limits of requests are not among it. */
static const field_row fields[] = {
    FIELD(family, FIELD_INT),
    FIELD(head, FIELD_INT),
    FIELD(vocab_size, FIELD_INT),
    FIELD(hidden_size, FIELD_INT),
    FIELD(intermediate_size, FIELD_INT),
    FIELD(n_layers, FIELD_INT),
    FIELD(n_heads, FIELD_INT),
    FIELD(n_kv_heads, FIELD_INT),
    FIELD(head_dim, FIELD_INT),
    FIELD(n_positions, FIELD_INT),
    FIELD(position_offset, FIELD_INT),
    FIELD(type_vocab_size, FIELD_INT),
    FIELD(pad_token_id, FIELD_INT),
    FIELD(norm, FIELD_INT),
    FIELD(norm_eps, FIELD_FLOAT),
    FIELD(post_norm, FIELD_BOOL),
    FIELD(activation, FIELD_INT),
    FIELD(gated, FIELD_BOOL),
    FIELD(qkv_bias, FIELD_BOOL),
    FIELD(o_bias, FIELD_BOOL),
    FIELD(mlp_bias, FIELD_BOOL),
    FIELD(qk_norm, FIELD_BOOL),
    FIELD(causal, FIELD_BOOL),
    FIELD(tie_word_embeddings, FIELD_BOOL),
    FIELD(position, FIELD_INT),
    FIELD(rope_theta, FIELD_DOUBLE),
    FIELD(rope_scaling, FIELD_INT),
    FIELD(rope_factor, FIELD_DOUBLE),
    FIELD(rope_low_freq_factor, FIELD_DOUBLE),
    FIELD(rope_high_freq_factor, FIELD_DOUBLE),
    FIELD(rope_original_positions, FIELD_INT),
    FIELD(n_labels, FIELD_INT),
};

static uint64_t field_read(const pr_model_spec *spec, const field_row *row)
{
    const char *p = (const char *)spec + row->offset;
    uint32_t word = 0;
    uint64_t value = 0;
    switch (row->kind) {
    case FIELD_INT:
    case FIELD_FLOAT:
        memcpy(&word, p, sizeof word);
        return word;
    case FIELD_BOOL:
        return *(const bool *)p;
    case FIELD_DOUBLE:
        memcpy(&value, p, sizeof value);
        return value;
    }
    assert(!"a kind of field without a case");
    return 0;
}

uint64_t pr_model_spec_fingerprint(const pr_model_spec *spec)
{
    uint64_t h = text_add(fnv_offset, spec->architecture);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        h = number_add(h, field_read(spec, &fields[i]));
    }
    for (int32_t i = 0; i < spec->n_layers && i < PR_LAYERS_MAX; i++) {
        h = number_add(h, (uint32_t)spec->window[i]);
    }
    return h;
}

/* ---- the tensors ---- */

static uint64_t tensor_fingerprint(const pr_tensor *t)
{
    uint64_t h = text_add(fnv_offset, t->name);
    h = text_add(h, pr_dtype_safetensors(t->dtype));
    h = number_add(h, (uint64_t)t->n_dims);
    for (int i = 0; i < t->n_dims; i++) h = number_add(h, (uint64_t)t->shape[i]);
    return h;
}

/* A sum, so that it does not matter how the tensors are spread over files. */
static uint64_t checkpoint_add(uint64_t h, const pr_checkpoint *c)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < pr_checkpoint_n_tensors(c); i++) {
        sum += tensor_fingerprint(pr_checkpoint_tensor(c, i));
    }
    return number_add(h, sum);
}

static pr_status dense_add(const pr_model *m, uint64_t *h, pr_error *err)
{
    for (int32_t i = 0; i < m->st.n_dense; i++) {
        const pr_dense *d = &m->st.dense[i];
        char relative[sizeof d->path + sizeof "/model.safetensors"];
        pr_checkpoint *c = NULL;
        snprintf(relative, sizeof relative, "%s/model.safetensors", d->path);
        pr_status st = pr_checkpoint_open_file(m->folder, relative, &c, err);
        if (st != PR_OK) return st;
        *h = checkpoint_add(number_add(*h, (uint64_t)d->activation), c);
        pr_checkpoint_close(c);
    }
    return PR_OK;
}

pr_status pr_model_fingerprint(const pr_model *m, uint64_t *out, pr_error *err)
{
    pr_checkpoint *c = NULL;
    pr_status st = pr_checkpoint_open(m->weights_folder, &c, err);
    if (st != PR_OK) return st;
    uint64_t h = checkpoint_add(pr_model_spec_fingerprint(&m->spec), c);
    pr_checkpoint_close(c);
    if ((st = dense_add(m, &h, err)) != PR_OK) return st;
    *out = h;
    return PR_OK;
}
