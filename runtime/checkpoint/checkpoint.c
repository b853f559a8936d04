#define _GNU_SOURCE
#include "runtime/checkpoint/checkpoint.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/strmap.h"
#include "runtime/checkpoint/safetensors.h"

#include <assert.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INDEX_BYTES_MAX = 100000000, /* as a header: an index holds the same names */
    FILES_MAX = 1000,            /* of one checkpoint, each an open descriptor */
    BLOCK_BYTES = 1 << 20,       /* staging for a rectangle that is not full-width */
    /* Rows whose skipped part is shorter than this are read whole and cut: the kernel reads whole
     * pages (4096) anyway, so that skipping less saves no I/O and costs a call for each row. */
    GAP_BYTES_MIN = 8192
};

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

typedef struct shard_file {
    char *path;
    int fd;
} shard_file;

struct pr_checkpoint {
    shard_file *files;
    size_t n_files;
    pr_tensor *tensors; /* names owned; by file, then by offset */
    size_t n_tensors;
    pr_strmap *by_name;           /* name → index in tensors */
    _Atomic uint64_t *bytes_read; /* [n_tensors] */
    _Atomic uint64_t bytes_read_total;
};

void pr_checkpoint_close(pr_checkpoint *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_files; i++) {
        free(c->files[i].path);
        if (c->files[i].fd >= 0) close(c->files[i].fd);
    }
    for (size_t i = 0; i < c->n_tensors; i++) free((char *)c->tensors[i].name);
    free(c->files);
    free(c->tensors);
    free((void *)c->bytes_read);
    pr_strmap_free(c->by_name);
    free(c);
}

/* A name in weight_map → which file it is in; NULL map: every tensor of the file is wanted. */
typedef struct wanted {
    const pr_strmap *file_of; /* tensor name → index of its file */
    uint32_t i_file;
} wanted;

static bool is_wanted(const wanted *w, const char *name)
{
    uint32_t i_file = 0;
    return !w->file_of ||
           (pr_strmap_get(w->file_of, name, strlen(name), &i_file) && i_file == w->i_file);
}

/* Moves the wanted tensors of one parsed file into the directory. */
static pr_status tensors_take(pr_checkpoint *c, pr_safetensors *s, const wanted *w, pr_error *err)
{
    size_t n = c->n_tensors + s->n_tensors;
    pr_tensor *grown = realloc(c->tensors, (n ? n : 1) * sizeof *grown);
    if (!grown) return pr_error_nomem(err, "directory of tensors", n * sizeof *grown);
    c->tensors = grown;
    for (size_t i = 0; i < s->n_tensors; i++) {
        pr_tensor *t = &s->tensors[i];
        if (!is_wanted(w, t->name)) continue;
        if (!pr_strmap_put(c->by_name, t->name, strlen(t->name), (uint32_t)c->n_tensors)) {
            return pr_error_nomem(err, t->name, strlen(t->name));
        }
        c->tensors[c->n_tensors] = *t;
        c->tensors[c->n_tensors++].i_file = (int)(c->n_files - 1);
        t->name = NULL; /* now the directory's */
    }
    return PR_OK;
}

static pr_status header_read(int fd, uint64_t n_file, const char *path, char **header, size_t *n,
                             pr_error *err)
{
    char first8[8] = {0};
    pr_status st = pr_file_pread(fd, first8, n_file < 8 ? (size_t)n_file : 8, 0, err);
    if (st != PR_OK) return pr_error_context(err, st, "%s", path);
    st = pr_safetensors_header_bytes(first8, n_file, path, n, err);
    if (st != PR_OK) return st;
    char *bytes = malloc(*n);
    if (!bytes) return pr_error_nomem(err, path, *n);
    st = pr_file_pread(fd, bytes, *n, 0, err);
    if (st != PR_OK) {
        free(bytes);
        return pr_error_context(err, st, "%s", path);
    }
    *header = bytes;
    return PR_OK;
}

/* path: consumed. */
static pr_status file_add(pr_checkpoint *c, char *path, const wanted *w, pr_error *err)
{
    pr_status st = PR_OK;
    char *header = NULL;
    size_t n_header = 0;
    uint64_t n_file = 0;
    pr_safetensors s = {0};
    shard_file *grown = realloc(c->files, (c->n_files + 1) * sizeof *grown);
    if (!grown) {
        free(path);
        return pr_error_nomem(err, "list of files", (c->n_files + 1) * sizeof *grown);
    }
    c->files = grown;
    shard_file *f = &c->files[c->n_files++];
    *f = (shard_file){.path = path, .fd = -1};
    if ((st = pr_file_open(path, &f->fd, &n_file, err)) != PR_OK) goto cleanup;
    if ((st = header_read(f->fd, n_file, path, &header, &n_header, err)) != PR_OK) goto cleanup;
    if ((st = pr_safetensors_parse(header, n_header, n_file, path, &s, err)) != PR_OK) goto cleanup;
    st = tensors_take(c, &s, w, err);
cleanup:
    free(header);
    pr_safetensors_deinit(&s);
    return st;
}

static pr_checkpoint *checkpoint_create(void)
{
    pr_checkpoint *c = calloc(1, sizeof *c);
    if (c) c->by_name = pr_strmap_create(0);
    if (c && !c->by_name) {
        free(c);
        c = NULL;
    }
    return c;
}

static pr_status counters_create(pr_checkpoint *c, pr_error *err)
{
    size_t n = c->n_tensors ? c->n_tensors : 1;
    c->bytes_read = calloc(n, sizeof *c->bytes_read);
    return c->bytes_read ? PR_OK : pr_error_nomem(err, "counters", n * sizeof *c->bytes_read);
}

pr_status pr_checkpoint_open_file(const char *folder, const char *relative, pr_checkpoint **out,
                                  pr_error *err)
{
    assert(out);
    char *path = NULL;
    pr_checkpoint *c = checkpoint_create();
    if (!c) return pr_error_nomem(err, "checkpoint", sizeof *c);
    pr_status st = pr_file_resolve(folder, relative, &path, err);
    if (st != PR_OK) goto cleanup;
    if ((st = file_add(c, path, &(wanted){0}, err)) != PR_OK) goto cleanup;
    if ((st = counters_create(c, err)) != PR_OK) goto cleanup;
    *out = c;
    c = NULL;
cleanup:
    pr_checkpoint_close(c);
    return st;
}

/* ---- several files ---- */

/* The distinct files of a weight_map, and which tensor is in which. */
typedef struct index_map {
    const char **files; /* [n_files], borrowed from the JSON value */
    size_t n_files;
    pr_strmap *i_file;  /* file name → index in files */
    pr_strmap *file_of; /* tensor name → index in files */
} index_map;

static void index_map_deinit(index_map *m)
{
    free(m->files);
    pr_strmap_free(m->i_file);
    pr_strmap_free(m->file_of);
}

static pr_status index_map_add(index_map *m, const char *tensor, const char *file, pr_error *err)
{
    uint32_t i = 0;
    if (!pr_strmap_get(m->i_file, file, strlen(file), &i)) {
        if (m->n_files == FILES_MAX) {
            return pr_error_set(err, PR_E_MODEL, "weight_map: more than %d files", FILES_MAX);
        }
        i = (uint32_t)m->n_files;
        m->files[m->n_files++] = file;
        if (!pr_strmap_put(m->i_file, file, strlen(file), i)) goto nomem;
    }
    if (pr_strmap_put(m->file_of, tensor, strlen(tensor), i)) return PR_OK;
nomem:
    return pr_error_nomem(err, tensor, strlen(tensor));
}

static pr_status index_map_init(index_map *m, const json_t *weight_map, pr_error *err)
{
    *m = (index_map){.files = calloc(FILES_MAX, sizeof *m->files),
                     .i_file = pr_strmap_create(0),
                     .file_of = pr_strmap_create(json_object_size(weight_map))};
    if (!m->files || !m->i_file || !m->file_of) {
        return pr_error_nomem(err, "weight_map", json_object_size(weight_map));
    }
    const char *tensor;
    json_t *unused;
    json_object_foreach((json_t *)weight_map, tensor, unused)
    {
        const char *file = NULL;
        pr_status st = pr_json_get_str(weight_map, "weight_map", tensor, &file, err);
        if (st == PR_OK) st = index_map_add(m, tensor, file, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* Every tensor that the index names was found in its file. */
static pr_status index_check(const pr_checkpoint *c, const index_map *m, const json_t *weight_map,
                             pr_error *err)
{
    if (c->n_tensors == pr_strmap_count(m->file_of)) return PR_OK;
    const char *tensor;
    json_t *file;
    json_object_foreach((json_t *)weight_map, tensor, file)
    {
        if (pr_checkpoint_find(c, tensor)) continue;
        return pr_error_set(err, PR_E_MODEL,
                            "weight_map: tensor %s: not in %s, where the index says it is", tensor,
                            json_string_value(file));
    }
    return PR_OK;
}

static pr_status open_indexed(pr_checkpoint *c, const char *folder, const char *index_path,
                              pr_error *err)
{
    json_t *root = NULL, *weight_map = NULL;
    index_map m = {0};
    pr_status st = pr_json_load(index_path, INDEX_BYTES_MAX, &root, err);
    if (st != PR_OK) goto cleanup;
    st = pr_json_get_node(root, index_path, "weight_map", JSON_OBJECT, &weight_map, err);
    if (st != PR_OK) goto cleanup;
    if ((st = index_map_init(&m, weight_map, err)) != PR_OK) goto context;
    for (uint32_t i = 0; i < m.n_files; i++) {
        char *path = NULL;
        if ((st = pr_file_resolve(folder, m.files[i], &path, err)) != PR_OK) goto context;
        st = file_add(c, path, &(wanted){.file_of = m.file_of, .i_file = i}, err);
        if (st != PR_OK) goto cleanup;
    }
    st = index_check(c, &m, weight_map, err);
context:
    pr_error_context(err, st, "%s", index_path);
cleanup:
    index_map_deinit(&m);
    json_decref(root);
    return st;
}

/* ---- a model folder ---- */

static bool folder_has(const char *folder, const char *name)
{
    char *path = pr_path_join(folder, name);
    struct stat sb;
    /* lstat: a link whose target is missing is there, and the message should say so. */
    bool has = path && lstat(path, &sb) == 0;
    free(path);
    return has;
}

static pr_status nothing_found(const char *folder, pr_error *err)
{
    if (!pr_file_is_folder(folder)) {
        return pr_error_set(err, PR_E_NOT_FOUND, "%s: no such folder", folder);
    }
    if (folder_has(folder, "pytorch_model.bin") ||
        folder_has(folder, "pytorch_model.bin.index.json")) {
        return pr_error_set(
            err, PR_E_NOT_FOUND,
            "%s: found pytorch_model.bin, expected %s (pickles are never read). To convert, run in "
            "that folder, where torch and safetensors are installed: python -c \"import glob, "
            "torch, "
            "safetensors.torch as s; s.save_file({k: v.clone().contiguous() for f in "
            "sorted(glob.glob('pytorch_model*.bin')) for k, v in torch.load(f, map_location='cpu', "
            "weights_only=True).items()}, 'model.safetensors', metadata={'format': 'pt'})\"; or "
            "load it with transformers and call save_pretrained(folder, safe_serialization=True)",
            folder, single_name);
    }
    return pr_error_set(err, PR_E_NOT_FOUND, "%s: found neither %s nor %s", folder, single_name,
                        index_name);
}

pr_status pr_checkpoint_open(const char *folder, pr_checkpoint **out, pr_error *err)
{
    assert(folder);
    assert(out);
    if (folder_has(folder, single_name)) {
        return pr_checkpoint_open_file(folder, single_name, out, err);
    }
    if (!folder_has(folder, index_name)) return nothing_found(folder, err);
    char *index_path = NULL;
    pr_checkpoint *c = checkpoint_create();
    if (!c) return pr_error_nomem(err, "checkpoint", sizeof *c);
    pr_status st = pr_file_resolve(folder, index_name, &index_path, err);
    if (st != PR_OK) goto cleanup;
    if ((st = open_indexed(c, folder, index_path, err)) != PR_OK) goto cleanup;
    if ((st = counters_create(c, err)) != PR_OK) goto cleanup;
    *out = c;
    c = NULL;
cleanup:
    free(index_path);
    pr_checkpoint_close(c);
    return st;
}

/* ---- tensors ---- */

size_t pr_checkpoint_n_tensors(const pr_checkpoint *c)
{
    return c->n_tensors;
}

const pr_tensor *pr_checkpoint_tensor(const pr_checkpoint *c, size_t i)
{
    assert(i < c->n_tensors);
    return &c->tensors[i];
}

const pr_tensor *pr_checkpoint_find(const pr_checkpoint *c, const char *name)
{
    uint32_t i = 0;
    return pr_strmap_get(c->by_name, name, strlen(name), &i) ? &c->tensors[i] : NULL;
}

/* Any tensor as rows of columns: the first dimension against the product of the others. */
static void matrix_of(const pr_tensor *t, int64_t *n_rows, int64_t *n_columns)
{
    *n_rows = t->n_dims >= 2 ? t->shape[0] : 1;
    *n_columns = 1;
    for (int i = t->n_dims >= 2 ? 1 : 0; i < t->n_dims; i++) *n_columns *= t->shape[i];
}

/* A rectangle in bytes of the file. */
typedef struct rectangle {
    uint64_t offset; /* of its first byte */
    size_t n_rows;
    size_t row_bytes;  /* wanted of each row */
    size_t step_bytes; /* from row to row */
} rectangle;

static pr_status read_rows(int fd, const rectangle *r, char *dst, pr_error *err)
{
    for (size_t i = 0; i < r->n_rows; i++) {
        pr_status st = pr_file_pread(fd, dst + i * r->row_bytes, r->row_bytes,
                                     r->offset + (uint64_t)i * r->step_bytes, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static pr_status read_blocks(int fd, const rectangle *r, char *dst, pr_error *err)
{
    char *block = malloc(BLOCK_BYTES);
    if (!block) return pr_error_nomem(err, "staging block", BLOCK_BYTES);
    size_t n_rows_block = (BLOCK_BYTES - r->row_bytes) / r->step_bytes + 1;
    pr_status st = PR_OK;
    for (size_t i = 0; i < r->n_rows && st == PR_OK;) {
        size_t n = r->n_rows - i < n_rows_block ? r->n_rows - i : n_rows_block;
        st = pr_file_pread(fd, block, (n - 1) * r->step_bytes + r->row_bytes,
                           r->offset + (uint64_t)i * r->step_bytes, err);
        for (size_t j = 0; j < n && st == PR_OK; j++) {
            memcpy(dst + (i + j) * r->row_bytes, block + j * r->step_bytes, r->row_bytes);
        }
        i += n;
    }
    free(block);
    return st;
}

pr_status pr_checkpoint_read(pr_checkpoint *c, const pr_tensor *t, int64_t row_begin,
                             int64_t row_end, int64_t column_begin, int64_t column_end, void *dst,
                             pr_error *err)
{
    assert(t >= c->tensors && t < c->tensors + c->n_tensors);
    int64_t n_rows = 0, n_columns = 0;
    matrix_of(t, &n_rows, &n_columns);
    assert(0 <= row_begin && row_begin <= row_end && row_end <= n_rows);
    assert(0 <= column_begin && column_begin <= column_end && column_end <= n_columns);
    size_t element = pr_dtype_bytes(t->dtype);
    rectangle r = {
        .offset = t->offset + (uint64_t)(row_begin * n_columns + column_begin) * element,
        .n_rows = (size_t)(row_end - row_begin),
        .row_bytes = (size_t)(column_end - column_begin) * element,
        .step_bytes = (size_t)n_columns * element,
    };
    if (r.n_rows == 0 || r.row_bytes == 0) return PR_OK;
    uint64_t n_bytes = (uint64_t)r.n_rows * r.row_bytes;
    atomic_fetch_add_explicit(&c->bytes_read[t - c->tensors], n_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->bytes_read_total, n_bytes, memory_order_relaxed);

    const shard_file *f = &c->files[t->i_file];
    pr_status st;
    if (r.row_bytes == r.step_bytes) {
        st = pr_file_pread(f->fd, dst, (size_t)n_bytes, r.offset, err);
    } else if (r.step_bytes - r.row_bytes >= GAP_BYTES_MIN || r.step_bytes > BLOCK_BYTES) {
        st = read_rows(f->fd, &r, dst, err);
    } else {
        st = read_blocks(f->fd, &r, dst, err);
    }
    return pr_error_context(err, st, "%s: tensor %s", f->path, t->name);
}

uint64_t pr_checkpoint_bytes_read(const pr_checkpoint *c, const pr_tensor *t)
{
    if (!t) return atomic_load_explicit(&c->bytes_read_total, memory_order_relaxed);
    assert(t >= c->tensors && t < c->tensors + c->n_tensors);
    return atomic_load_explicit(&c->bytes_read[t - c->tensors], memory_order_relaxed);
}
