#include "runtime/checkpoint/safetensors.h"

#include "runtime/base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_BYTES = 8 };

/* What the messages of one file's check need. */
typedef struct check {
    const char *file;
    uint64_t data_begin; /* offset of the first data byte in the file */
    uint64_t n_data;     /* bytes of data in the file */
    pr_error *err;
} check;

static uint64_t read_le64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = PREFIX_BYTES - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

pr_status pr_safetensors_header_bytes(const void *first8, uint64_t n_file, const char *name,
                                      size_t *out, pr_error *err)
{
    if (n_file < PREFIX_BYTES) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: %" PRIu64 " bytes, expected at least the 8 of the header length",
                            name, n_file);
    }
    uint64_t announced = read_le64(first8);
    if (announced > PR_SAFETENSORS_HEADER_BYTES_MAX) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: header length at byte 0: found %" PRIu64 ", expected at most %d",
                            name, announced, PR_SAFETENSORS_HEADER_BYTES_MAX);
    }
    if (announced > n_file - PREFIX_BYTES) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: header length at byte 0: found %" PRIu64
                            ", expected at most %" PRIu64 " (the file has %" PRIu64 " bytes)",
                            name, announced, n_file - PREFIX_BYTES, n_file);
    }
    *out = PREFIX_BYTES + (size_t)announced;
    return PR_OK;
}

static pr_status parse_dtype(const check *c, const json_t *info, pr_tensor *t)
{
    const json_t *value = json_object_get(info, "dtype");
    if (!json_is_string(value)) {
        return pr_error_set(c->err, PR_E_MODEL, "%s: tensor %s: dtype: found %s, expected a string",
                            c->file, t->name, pr_json_type_name(value));
    }
    const char *name = json_string_value(value);
    if (!pr_dtype_parse(name, &t->dtype) || strcmp(pr_dtype_safetensors(t->dtype), name) != 0) {
        return pr_error_set(c->err, PR_E_UNSUPPORTED,
                            "%s: tensor %s: dtype: found %.40s, expected one of F32, F16, BF16, "
                            "F64, I64, I32, I16, I8, U8, BOOL, F8_E4M3, F8_E5M2",
                            c->file, t->name, name);
    }
    return PR_OK;
}

/* The shape, and how many bytes it takes. Zeros count as ones in the check for overflow, so that
 * whoever multiplies only some of the dimensions is safe too. */
static pr_status parse_shape(const check *c, const json_t *info, pr_tensor *t, uint64_t *n_bytes)
{
    const json_t *shape = json_object_get(info, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > PR_TENSOR_DIMS_MAX) {
        return pr_error_set(
            c->err, PR_E_MODEL,
            "%s: tensor %s: shape: found %s of %zu, expected an array of at most %d", c->file,
            t->name, pr_json_type_name(shape), json_array_size(shape), PR_TENSOR_DIMS_MAX);
    }
    t->n_dims = (int)json_array_size(shape);
    int64_t bytes = (int64_t)pr_dtype_bytes(t->dtype);
    bool is_empty = false;
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        json_int_t d = json_integer_value(dim);
        if (!json_is_integer(dim) || d < 0) {
            return pr_error_set(c->err, PR_E_MODEL,
                                "%s: tensor %s: shape[%d]: expected an integer from 0", c->file,
                                t->name, i);
        }
        if (__builtin_mul_overflow(bytes, d > 0 ? d : 1, &bytes)) {
            return pr_error_set(c->err, PR_E_MODEL,
                                "%s: tensor %s: shape: more bytes than 64 bits can count", c->file,
                                t->name);
        }
        is_empty |= d == 0;
        t->shape[i] = d;
    }
    *n_bytes = is_empty ? 0 : (uint64_t)bytes;
    return PR_OK;
}

static pr_status parse_offsets(const check *c, const json_t *info, uint64_t n_bytes, pr_tensor *t)
{
    const json_t *pair = json_object_get(info, "data_offsets");
    const json_t *first = json_array_get(pair, 0), *last = json_array_get(pair, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (json_array_size(pair) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        begin < 0 || end < begin) {
        return pr_error_set(c->err, PR_E_MODEL,
                            "%s: tensor %s: data_offsets: expected [begin, end] with 0 <= begin <= "
                            "end",
                            c->file, t->name);
    }
    if ((uint64_t)end > c->n_data) {
        return pr_error_set(c->err, PR_E_MODEL,
                            "%s: tensor %s: data_offsets: end %" PRId64
                            " leaves the file, whose data has %" PRIu64 " bytes",
                            c->file, t->name, (int64_t)end, c->n_data);
    }
    if ((uint64_t)(end - begin) != n_bytes) {
        return pr_error_set(c->err, PR_E_MODEL,
                            "%s: tensor %s: data_offsets: found %" PRId64
                            " bytes, expected %" PRIu64 " (dtype and shape)",
                            c->file, t->name, (int64_t)(end - begin), n_bytes);
    }
    t->offset = c->data_begin + (uint64_t)begin;
    t->n_bytes = n_bytes;
    return PR_OK;
}

static pr_status parse_tensor(const check *c, const json_t *info, pr_tensor *t)
{
    if (!json_is_object(info)) {
        return pr_error_set(c->err, PR_E_MODEL, "%s: tensor %s: found %s, expected an object",
                            c->file, t->name, pr_json_type_name(info));
    }
    uint64_t n_bytes = 0;
    pr_status st = parse_dtype(c, info, t);
    if (st == PR_OK) st = parse_shape(c, info, t, &n_bytes);
    if (st == PR_OK) st = parse_offsets(c, info, n_bytes, t);
    return st;
}

static pr_status check_metadata(const check *c, const json_t *metadata)
{
    const char *key;
    json_t *value;
    bool ok = json_is_object(metadata);
    json_object_foreach((json_t *)metadata, key, value)
    {
        ok = ok && json_is_string(value);
    }
    if (ok) return PR_OK;
    return pr_error_set(c->err, PR_E_MODEL,
                        "%s: __metadata__: expected an object whose values are strings", c->file);
}

/* By place; an empty tensor comes before the one that begins where it lies. */
static int compare_place(const void *a, const void *b)
{
    const pr_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->n_bytes != y->n_bytes) return x->n_bytes < y->n_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorted tensors must tile the data: no hole, no overlap, none left at the end. */
static pr_status check_tiling(const check *c, const pr_safetensors *s)
{
    uint64_t expected = c->data_begin;
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pr_tensor *t = &s->tensors[i];
        if (t->offset != expected) {
            return pr_error_set(
                c->err, PR_E_MODEL,
                "%s: tensor %s: data_offsets: begins at %" PRIu64 ", expected %" PRIu64 " (%s)",
                c->file, t->name, t->offset - c->data_begin, expected - c->data_begin,
                t->offset < expected ? "overlaps the tensor before it" : "a hole before it");
        }
        expected += t->n_bytes;
    }
    if (expected - c->data_begin != c->n_data) {
        return pr_error_set(c->err, PR_E_MODEL,
                            "%s: tensors end at data byte %" PRIu64 ", expected %" PRIu64
                            " (the file's end)",
                            c->file, expected - c->data_begin, c->n_data);
    }
    return PR_OK;
}

static pr_status parse_all(const check *c, const json_t *root, pr_safetensors *s)
{
    size_t n_max = json_object_size(root);
    s->tensors = calloc(n_max ? n_max : 1, sizeof *s->tensors);
    if (!s->tensors) return pr_error_nomem(c->err, c->file, n_max * sizeof *s->tensors);
    const char *name;
    json_t *info;
    json_object_foreach((json_t *)root, name, info)
    {
        pr_status st;
        if (strcmp(name, "__metadata__") == 0) {
            st = check_metadata(c, info);
        } else {
            pr_tensor *t = &s->tensors[s->n_tensors];
            t->name = strdup(name);
            if (!t->name) return pr_error_nomem(c->err, c->file, strlen(name) + 1);
            s->n_tensors++;
            st = parse_tensor(c, info, t);
        }
        if (st != PR_OK) return st;
    }
    qsort(s->tensors, s->n_tensors, sizeof *s->tensors, compare_place);
    return check_tiling(c, s);
}

pr_status pr_safetensors_parse(const void *header, size_t n_header, uint64_t n_file,
                               const char *name, pr_safetensors *out, pr_error *err)
{
    assert(header);
    assert(out);
    json_t *root = NULL;
    pr_safetensors s = {0};
    size_t n = 0;
    pr_status st = pr_safetensors_header_bytes(header, n_file, name, &n, err);
    if (st != PR_OK) return st;
    assert(n_header >= n);
    const char *text = (const char *)header + PREFIX_BYTES;
    check c = {.file = name, .data_begin = n, .n_data = n_file - n, .err = err};
    /* The format's own rule; it also keeps padding and byte order marks out. */
    if (n == PREFIX_BYTES || text[0] != '{') {
        st = pr_error_set(err, PR_E_MODEL, "%s: header: expected { at byte 8", name);
        goto cleanup;
    }
    st = pr_json_parse_unique(text, n - PREFIX_BYTES, name, &root, err);
    if (st == PR_OK) st = parse_all(&c, root, &s);
    if (st != PR_OK) goto cleanup;
    *out = s;
    s = (pr_safetensors){0};
cleanup:
    pr_safetensors_deinit(&s);
    json_decref(root);
    return st;
}

void pr_safetensors_deinit(pr_safetensors *s)
{
    for (size_t i = 0; i < s->n_tensors; i++) free((char *)s->tensors[i].name);
    free(s->tensors);
    *s = (pr_safetensors){0};
}
