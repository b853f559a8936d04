#include "tests/large/checkpoint_72b.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HIDDEN = 8192,
    INTERMEDIATE = 29568,
    KV = 8 * 128,
    VOCAB = 152064,
    ELEMENT_BYTES = 2,
    PATH_BYTES = 600,
    PROBE_BYTES = 64 << 20,
    DRAWN_BYTES = 4 << 20 /* written at once */
};
static const uint64_t file_bytes_max = 4000000000u;
static const char index_name[] = "model.safetensors.index.json";

/* ---- layout ---- */

typedef struct row {
    const char *name;
    int64_t n_rows, n_columns;
} row;

static const row layer_rows[] = {
    {"input_layernorm.weight", HIDDEN, 0},
    {"mlp.down_proj.weight", HIDDEN, INTERMEDIATE},
    {"mlp.gate_proj.weight", INTERMEDIATE, HIDDEN},
    {"mlp.up_proj.weight", INTERMEDIATE, HIDDEN},
    {"post_attention_layernorm.weight", HIDDEN, 0},
    {"self_attn.k_proj.bias", KV, 0},
    {"self_attn.k_proj.weight", KV, HIDDEN},
    {"self_attn.o_proj.weight", HIDDEN, HIDDEN},
    {"self_attn.q_proj.bias", HIDDEN, 0},
    {"self_attn.q_proj.weight", HIDDEN, HIDDEN},
    {"self_attn.v_proj.bias", KV, 0},
    {"self_attn.v_proj.weight", KV, HIDDEN},
};

static const row head_rows[] = {
    {"model.norm.weight", HIDDEN, 0}, {"score.0.weight", HIDDEN, HIDDEN},
    {"score.0.bias", HIDDEN, 0},      {"score.2.weight", 1, HIDDEN},
    {"score.2.bias", 1, 0},
};

static void tensor_add(large_checkpoint *c, uint64_t *file_bytes, const char *prefix, const row *r)
{
    assert(c->n_tensors < LARGE_TENSORS_MAX);
    large_tensor *t = &c->tensors[c->n_tensors++];
    uint64_t n = (uint64_t)(r->n_rows * (r->n_columns ? r->n_columns : 1)) * ELEMENT_BYTES;
    if (c->n_files == 0 || *file_bytes + n > file_bytes_max) {
        c->n_files++;
        *file_bytes = 0;
    }
    *t = (large_tensor){.n_rows = r->n_rows, .n_columns = r->n_columns, .i_file = c->n_files - 1,
                        .begin = *file_bytes, .end = *file_bytes + n};
    snprintf(t->name, sizeof t->name, "%s%s", prefix, r->name);
    *file_bytes += n;
    c->n_bytes += n;
}

void large_checkpoint_lay_out(large_checkpoint *c, int n_layers, bool has_lm_head)
{
    assert(n_layers <= LARGE_LAYERS);
    uint64_t file_bytes = 0;
    *c = (large_checkpoint){0};
    if (has_lm_head) tensor_add(c, &file_bytes, "", &(row){"lm_head.weight", VOCAB, HIDDEN});
    tensor_add(c, &file_bytes, "", &(row){"model.embed_tokens.weight", VOCAB, HIDDEN});
    for (int i = 0; i < n_layers; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "model.layers.%d.", i);
        for (size_t k = 0; k < sizeof layer_rows / sizeof *layer_rows; k++) {
            tensor_add(c, &file_bytes, prefix, &layer_rows[k]);
        }
    }
    for (size_t k = 0; k < sizeof head_rows / sizeof *head_rows; k++) {
        tensor_add(c, &file_bytes, "", &head_rows[k]);
    }
}

/* ---- files ---- */

static void file_name(const large_checkpoint *c, int i_file, char name[48])
{
    snprintf(name, 48, "model-%05d-of-%05d.safetensors", i_file + 1, c->n_files);
}

/* Header and the length before it, padded to 8 bytes; owned. */
static char *header_make(const large_checkpoint *c, int i_file, size_t *n)
{
    json_t *header = json_object();
    for (size_t i = 0; i < c->n_tensors; i++) {
        const large_tensor *t = &c->tensors[i];
        if (t->i_file != i_file) continue;
        json_t *shape = t->n_columns
                            ? json_pack("[I, I]", (json_int_t)t->n_rows, (json_int_t)t->n_columns)
                            : json_pack("[I]", (json_int_t)t->n_rows);
        json_object_set_new(header, t->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", shape,
                                      "data_offsets", (json_int_t)t->begin, (json_int_t)t->end));
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!text) return NULL;
    size_t n_text = strlen(text), n_padded = (n_text + 7) / 8 * 8;
    char *out = malloc(8 + n_padded);
    if (out) {
        for (int i = 0; i < 8; i++) out[i] = (char)((uint64_t)n_padded >> (8 * i));
        memset(out + 8, ' ', n_padded);
        memcpy(out + 8, text, n_text);
        *n = 8 + n_padded;
    }
    free(text);
    return out;
}

static uint64_t data_bytes(const large_checkpoint *c, int i_file)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->n_tensors; i++) {
        if (c->tensors[i].i_file == i_file && c->tensors[i].end > n) n = c->tensors[i].end;
    }
    return n;
}

/* *out: open for writing, behind its header, as long as it will be. */
static large_status file_begin(const large_checkpoint *c, const char *folder, int i_file, int *out)
{
    char path[PATH_BYTES], name[48];
    size_t n = 0;
    file_name(c, i_file, name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *header = header_make(c, i_file, &n);
    int fd = header ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    large_status st = fd < 0 || write(fd, header, n) != (ssize_t)n ? LARGE_FAILED : LARGE_OK;
    free(header);
    if (st == LARGE_OK && ftruncate(fd, (off_t)(n + data_bytes(c, i_file))) != 0) {
        st = errno == EFBIG ? LARGE_NO_HOLES : LARGE_FAILED;
    }
    *out = fd;
    return st;
}

static large_status index_write(const large_checkpoint *c, const char *folder)
{
    char path[PATH_BYTES], name[48];
    json_t *map = json_object();
    for (size_t i = 0; i < c->n_tensors; i++) {
        file_name(c, c->tensors[i].i_file, name);
        json_object_set_new(map, c->tensors[i].name, json_string(name));
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)c->n_bytes,
                             "weight_map", map);
    snprintf(path, sizeof path, "%s/%s", folder, index_name);
    int failed = root ? json_dump_file(root, path, JSON_INDENT(1)) : -1;
    json_decref(root);
    return failed ? LARGE_FAILED : LARGE_OK;
}

/* A small file first: one that is filled with zeros would fill the disk 37 times over. */
static large_status holes_probe(const char *folder)
{
    char path[PATH_BYTES];
    struct stat s;
    snprintf(path, sizeof path, "%s/probe", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return LARGE_FAILED;
    large_status st = LARGE_OK;
    if (ftruncate(fd, PROBE_BYTES) != 0 || fstat(fd, &s) != 0) st = LARGE_FAILED;
    if (st == LARGE_OK && s.st_blocks * 512 > PROBE_BYTES / 64) st = LARGE_NO_HOLES;
    close(fd);
    unlink(path);
    return st;
}

large_status large_checkpoint_write_holes(const large_checkpoint *c, const char *folder)
{
    large_status st = holes_probe(folder);
    for (int i = 0; st == LARGE_OK && i < c->n_files; i++) {
        int fd = -1;
        st = file_begin(c, folder, i, &fd);
        if (fd >= 0 && close(fd) != 0) st = LARGE_FAILED;
    }
    return st == LARGE_OK ? index_write(c, folder) : st;
}

void large_checkpoint_remove(const large_checkpoint *c, const char *folder)
{
    char path[PATH_BYTES], name[48];
    for (int i = 0; i < c->n_files; i++) {
        file_name(c, i, name);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/%s", folder, index_name);
    unlink(path);
}

/* ---- weights ---- */

enum { N_LEVELS = 511 }; /* -255 .. 255: whole numbers that bfloat16 has */

/* Values are `zero` + k * 2^-shift with whole k, so that nothing is ever rounded. */
typedef struct drawing {
    uint64_t state; /* of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number
                       generators") */
    uint16_t levels[N_LEVELS];
    uint64_t sum;
} drawing;

static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    assert((bits & 0xffff) == 0); /* it is one */
    return (uint16_t)(bits >> 16);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* Norms are 0.5 .. 1.5; embeddings have a deviation of about 1; matrices of 8,192 inputs make 1.6
 * of 1, so that attention prefers some keys and no activation is only linear. */
static void drawing_begin(drawing *d, const char *name)
{
    bool is_norm = ends_with(name, "norm.weight");
    int shift = ends_with(name, ".bias") ? 9 : strstr(name, "embed_tokens") ? 7 : 13;
    d->state = 0xcbf29ce484222325u; /* FNV-1a of the name */
    for (const char *p = name; *p; p++) d->state = (d->state ^ (unsigned char)*p) * 0x100000001b3u;
    for (int i = 0; i < N_LEVELS; i++) {
        d->levels[i] = bf16_of(is_norm ? (float)(128 + (i - 255) / 4) / 128
                                       : ldexpf((float)(i - 255), -shift));
    }
}

static uint64_t draw(drawing *d)
{
    uint64_t z = d->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Little-endian, as safetensors has it. */
static void values_draw(drawing *d, uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        uint64_t z = draw(d);
        for (size_t k = 0; k < 4 && i + k < n; k++, z >>= 16) {
            uint16_t v = d->levels[((z & 0xffff) * N_LEVELS) >> 16];
            dst[2 * (i + k)] = (uint8_t)v;
            dst[2 * (i + k) + 1] = (uint8_t)(v >> 8);
            d->sum += v;
        }
    }
}

static large_status tensor_write(drawing *d, const large_tensor *t, int fd, uint8_t *buffer)
{
    drawing_begin(d, t->name);
    for (uint64_t at = t->begin; at < t->end;) {
        size_t n = t->end - at < DRAWN_BYTES ? (size_t)(t->end - at) : DRAWN_BYTES;
        values_draw(d, buffer, n / ELEMENT_BYTES);
        for (size_t done = 0; done < n;) {
            ssize_t k = write(fd, buffer + done, n - done);
            if (k < 0 && errno == EINTR) continue;
            if (k < 0) return LARGE_FAILED;
            done += (size_t)k;
        }
        at += n;
    }
    return LARGE_OK;
}

large_status large_checkpoint_write_weights(const large_checkpoint *c, const char *folder,
                                            uint64_t *sum)
{
    drawing d = {.sum = 0};
    large_status st = LARGE_OK;
    uint8_t *buffer = malloc(DRAWN_BYTES);
    if (!buffer) return LARGE_FAILED;
    for (int i = 0; st == LARGE_OK && i < c->n_files; i++) {
        int fd = -1;
        st = file_begin(c, folder, i, &fd);
        for (size_t k = 0; st == LARGE_OK && k < c->n_tensors; k++) {
            if (c->tensors[k].i_file == i) st = tensor_write(&d, &c->tensors[k], fd, buffer);
        }
        if (fd >= 0 && close(fd) != 0) st = LARGE_FAILED;
    }
    free(buffer);
    if (st == LARGE_OK) st = index_write(c, folder);
    *sum = d.sum;
    return st;
}
