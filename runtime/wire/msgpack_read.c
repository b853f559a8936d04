#include "runtime/wire/msgpack_read.h"

#include "runtime/base/number.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Source of the forms: github.com/msgpack/msgpack/blob/master/spec.md. */

/* The head of a value: what stands before the bytes of a string or the elements of an array. */
typedef struct head {
    pr_msgpack_type type;
    size_t n_head;    /* bytes of the head; a number is its head */
    bool is_negative; /* an integer: value is two's complement */
    uint64_t value;   /* of an integer, bool; bits of a float; count of bytes or elements */
    bool is_f32;
} head;

static uint64_t big_endian(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

/* Forms of one byte: small numbers, strings, arrays, maps. */
static bool head_short(unsigned char first, head *h)
{
    h->n_head = 1;
    if (first <= 0x7F) {
        h->type = PR_MSGPACK_INTEGER;
        h->value = first;
    } else if (first >= 0xE0) {
        h->type = PR_MSGPACK_INTEGER;
        h->is_negative = true;
        h->value = (uint64_t)(int64_t)(int8_t)first;
    } else if (first <= 0x8F) {
        h->type = PR_MSGPACK_MAP;
        h->value = first & 0x0F;
    } else if (first <= 0x9F) {
        h->type = PR_MSGPACK_ARRAY;
        h->value = first & 0x0F;
    } else if (first <= 0xBF) {
        h->type = PR_MSGPACK_STR;
        h->value = first & 0x1F;
    } else {
        return false;
    }
    return true;
}

/* Forms 0xC0 to 0xDF: bytes of the number that follows, and the type. */
typedef struct form {
    pr_msgpack_type type;
    uint8_t n_number;
} form;

static const form forms[32] = {
    [0x00] = {PR_MSGPACK_NIL, 0},     [0x01] = {PR_MSGPACK_NONE, 0},
    [0x02] = {PR_MSGPACK_BOOL, 0},    [0x03] = {PR_MSGPACK_BOOL, 0},
    [0x04] = {PR_MSGPACK_BIN, 1},     [0x05] = {PR_MSGPACK_BIN, 2},
    [0x06] = {PR_MSGPACK_BIN, 4},     [0x07] = {PR_MSGPACK_EXT, 1},
    [0x08] = {PR_MSGPACK_EXT, 2},     [0x09] = {PR_MSGPACK_EXT, 4},
    [0x0A] = {PR_MSGPACK_FLOAT, 4},   [0x0B] = {PR_MSGPACK_FLOAT, 8},
    [0x0C] = {PR_MSGPACK_INTEGER, 1}, [0x0D] = {PR_MSGPACK_INTEGER, 2},
    [0x0E] = {PR_MSGPACK_INTEGER, 4}, [0x0F] = {PR_MSGPACK_INTEGER, 8},
    [0x10] = {PR_MSGPACK_INTEGER, 1}, [0x11] = {PR_MSGPACK_INTEGER, 2},
    [0x12] = {PR_MSGPACK_INTEGER, 4}, [0x13] = {PR_MSGPACK_INTEGER, 8},
    [0x14] = {PR_MSGPACK_EXT, 0},     [0x15] = {PR_MSGPACK_EXT, 0},
    [0x16] = {PR_MSGPACK_EXT, 0},     [0x17] = {PR_MSGPACK_EXT, 0},
    [0x18] = {PR_MSGPACK_EXT, 0},     [0x19] = {PR_MSGPACK_STR, 1},
    [0x1A] = {PR_MSGPACK_STR, 2},     [0x1B] = {PR_MSGPACK_STR, 4},
    [0x1C] = {PR_MSGPACK_ARRAY, 2},   [0x1D] = {PR_MSGPACK_ARRAY, 4},
    [0x1E] = {PR_MSGPACK_MAP, 2},     [0x1F] = {PR_MSGPACK_MAP, 4},
};

/* Two's complement of n bytes, widened. */
static uint64_t sign_extend(uint64_t v, size_t n)
{
    unsigned shift = 64 - 8 * (unsigned)n;
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* False: not all of the head is there, or no value begins so. */
static bool head_read(const pr_msgpack_reader *r, head *h)
{
    *h = (head){.type = PR_MSGPACK_NONE};
    if (r->at >= r->n) return false;
    const unsigned char *p = r->bytes + r->at;
    if (head_short(*p, h)) return true;
    unsigned i = *p - 0xC0u;
    form f = forms[i];
    if (f.type == PR_MSGPACK_NONE || r->n - r->at - 1 < f.n_number) return false;
    *h = (head){.type = f.type, .n_head = 1 + (size_t)f.n_number,
                .value = big_endian(p + 1, f.n_number)};
    if (i >= 0x10 && i <= 0x13) {
        h->value = sign_extend(h->value, f.n_number);
        h->is_negative = h->value >> 63;
    } else if (f.type == PR_MSGPACK_EXT) { /* its payload: a type byte, then the bytes */
        h->value = 1 + (f.n_number ? h->value : 1u << (i - 0x14));
    } else if (f.type == PR_MSGPACK_BOOL) {
        h->value = i == 0x03;
    } else if (f.type == PR_MSGPACK_FLOAT) {
        h->is_f32 = f.n_number == 4;
    }
    return true;
}

void pr_msgpack_reader_init(pr_msgpack_reader *r, const char *message, const void *bytes, size_t n,
                            pr_error *err)
{
    *r = (pr_msgpack_reader){.bytes = bytes, .n = n, .message = message, .err = err};
}

pr_msgpack_type pr_msgpack_next(const pr_msgpack_reader *r)
{
    head h;
    if (r->status != PR_OK || !head_read(r, &h)) return PR_MSGPACK_NONE;
    return h.type;
}

pr_status pr_msgpack_fail(pr_msgpack_reader *r, const char *field, const char *fmt, ...)
{
    if (r->status != PR_OK) return r->status;
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    pr_text_format(why, sizeof why, fmt, ap);
    va_end(ap);
    r->status = pr_error_set(r->err, PR_E_INPUT, "%s: %s: %s", r->message, field, why);
    return r->status;
}

static const char *type_name(pr_msgpack_type type)
{
    static const char *const names[] = {
        [PR_MSGPACK_NIL] = "nil",       [PR_MSGPACK_BOOL] = "a bool",
        [PR_MSGPACK_INTEGER] = "an integer", [PR_MSGPACK_FLOAT] = "a float",
        [PR_MSGPACK_STR] = "a string",  [PR_MSGPACK_BIN] = "a bin",
        [PR_MSGPACK_ARRAY] = "an array", [PR_MSGPACK_MAP] = "a map",
        [PR_MSGPACK_EXT] = "an extension", [PR_MSGPACK_NONE] = "no value",
    };
    return names[type];
}

/* Takes the head of a value of this type. */
static bool take(pr_msgpack_reader *r, const char *field, pr_msgpack_type type, head *h)
{
    if (r->status != PR_OK) return false;
    if (!head_read(r, h)) {
        pr_msgpack_fail(r, field, "found %s at byte %zu of %zu, expected %s",
                        r->at >= r->n ? "the end" : "no whole value", r->at, r->n,
                        type_name(type));
        return false;
    }
    if (h->type != type) {
        pr_msgpack_fail(r, field, "found %s, expected %s", type_name(h->type), type_name(type));
        return false;
    }
    r->at += h->n_head;
    return true;
}

bool pr_msgpack_read_bool(pr_msgpack_reader *r, const char *field)
{
    head h;
    return take(r, field, PR_MSGPACK_BOOL, &h) && h.value;
}

uint64_t pr_msgpack_read_u64(pr_msgpack_reader *r, const char *field, uint64_t min, uint64_t max)
{
    head h;
    if (!take(r, field, PR_MSGPACK_INTEGER, &h)) return 0;
    if (h.is_negative) {
        pr_msgpack_fail(r, field, "found %lld, expected %llu to %llu", (long long)h.value,
                        (unsigned long long)min, (unsigned long long)max);
    } else if (h.value < min || h.value > max) {
        pr_msgpack_fail(r, field, "found %llu, expected %llu to %llu",
                        (unsigned long long)h.value, (unsigned long long)min,
                        (unsigned long long)max);
    }
    return r->status == PR_OK ? h.value : 0;
}

int64_t pr_msgpack_read_i64(pr_msgpack_reader *r, const char *field, int64_t min, int64_t max)
{
    head h;
    if (!take(r, field, PR_MSGPACK_INTEGER, &h)) return 0;
    bool is_over = !h.is_negative && h.value > INT64_MAX;
    int64_t v = is_over ? INT64_MAX : (int64_t)h.value;
    if (is_over || v < min || v > max) {
        pr_msgpack_fail(r, field, "found %s%lld, expected %lld to %lld", is_over ? "over " : "",
                        (long long)v, (long long)min, (long long)max);
        return 0;
    }
    return v;
}

double pr_msgpack_read_f64(pr_msgpack_reader *r, const char *field)
{
    head h;
    if (pr_msgpack_next(r) == PR_MSGPACK_INTEGER) {
        take(r, field, PR_MSGPACK_INTEGER, &h);
        return h.is_negative ? (double)(int64_t)h.value : (double)h.value;
    }
    if (!take(r, field, PR_MSGPACK_FLOAT, &h)) return 0;
    double v = 0;
    if (h.is_f32) {
        uint32_t bits = (uint32_t)h.value;
        float f = 0;
        memcpy(&f, &bits, sizeof f);
        v = f;
    } else {
        memcpy(&v, &h.value, sizeof v);
    }
    return v;
}

static const char *bytes_read(pr_msgpack_reader *r, const char *field, pr_msgpack_type type,
                              size_t n_min, size_t n_max, size_t *n)
{
    head h;
    *n = 0;
    if (!take(r, field, type, &h)) return NULL;
    if (h.value < n_min || h.value > n_max) {
        pr_msgpack_fail(r, field, "found %llu bytes, expected %zu to %zu",
                        (unsigned long long)h.value, n_min, n_max);
        return NULL;
    }
    if (h.value > r->n - r->at) {
        pr_msgpack_fail(r, field, "found %zu bytes, expected %llu", r->n - r->at,
                        (unsigned long long)h.value);
        return NULL;
    }
    const char *bytes = (const char *)r->bytes + r->at;
    *n = (size_t)h.value;
    r->at += *n;
    return bytes;
}

const char *pr_msgpack_read_str(pr_msgpack_reader *r, const char *field, size_t n_min,
                                size_t n_max, size_t *n)
{
    return bytes_read(r, field, PR_MSGPACK_STR, n_min, n_max, n);
}

const char *pr_msgpack_read_bin(pr_msgpack_reader *r, const char *field, size_t n_min,
                                size_t n_max, size_t *n)
{
    return bytes_read(r, field, PR_MSGPACK_BIN, n_min, n_max, n);
}

void pr_msgpack_read_text(pr_msgpack_reader *r, const char *field, char *out, size_t n_out)
{
    assert(n_out > 0);
    size_t n = 0;
    const char *s = pr_msgpack_read_str(r, field, 0, n_out - 1, &n);
    if (s && memchr(s, '\0', n)) {
        pr_msgpack_fail(r, field, "found a NUL byte, expected none");
        n = 0;
    }
    if (n > 0) memcpy(out, s, n);
    out[n] = '\0';
}

void pr_msgpack_read_fixed(pr_msgpack_reader *r, const char *field, void *out, size_t n)
{
    size_t n_found = 0;
    const char *bytes = pr_msgpack_read_bin(r, field, n, n, &n_found);
    if (bytes) {
        memcpy(out, bytes, n);
    } else {
        memset(out, 0, n);
    }
}

static uint32_t count_read(pr_msgpack_reader *r, const char *field, pr_msgpack_type type,
                           uint32_t n_min, uint32_t n_max)
{
    head h;
    if (!take(r, field, type, &h)) return 0;
    /* A value is a byte or more. */
    size_t n_here = (r->n - r->at) / (type == PR_MSGPACK_MAP ? 2 : 1);
    if (h.value < n_min || h.value > n_max) {
        pr_msgpack_fail(r, field, "found %llu elements, expected %u to %u",
                        (unsigned long long)h.value, n_min, n_max);
    } else if (h.value > n_here) {
        pr_msgpack_fail(r, field, "found bytes for at most %zu elements, expected %llu", n_here,
                        (unsigned long long)h.value);
    }
    return r->status == PR_OK ? (uint32_t)h.value : 0;
}

uint32_t pr_msgpack_read_array(pr_msgpack_reader *r, const char *field, uint32_t n_min,
                               uint32_t n_max)
{
    return count_read(r, field, PR_MSGPACK_ARRAY, n_min, n_max);
}

uint32_t pr_msgpack_read_map(pr_msgpack_reader *r, const char *field, uint32_t n_min,
                             uint32_t n_max)
{
    return count_read(r, field, PR_MSGPACK_MAP, n_min, n_max);
}

/* Takes one value without what is in it; *n_inside values come next. */
static void skip_one(pr_msgpack_reader *r, const char *field, uint64_t *n_inside)
{
    size_t n = 0;
    head h;
    *n_inside = 0;
    pr_msgpack_type type = pr_msgpack_next(r);
    switch (type) {
    case PR_MSGPACK_STR:
    case PR_MSGPACK_BIN:
    case PR_MSGPACK_EXT: bytes_read(r, field, type, 0, SIZE_MAX, &n); break;
    case PR_MSGPACK_ARRAY: *n_inside = pr_msgpack_read_array(r, field, 0, UINT32_MAX); break;
    case PR_MSGPACK_MAP:
        *n_inside = 2 * (uint64_t)pr_msgpack_read_map(r, field, 0, UINT32_MAX);
        break;
    case PR_MSGPACK_NONE: take(r, field, PR_MSGPACK_NIL, &h); break; /* says what is wrong */
    default: take(r, field, type, &h); break;
    }
}

void pr_msgpack_skip(pr_msgpack_reader *r, const char *field)
{
    uint64_t n_left[PR_MSGPACK_DEPTH_MAX + 1] = {1}; /* values to take at each depth */
    for (int depth = 0; r->status == PR_OK && depth >= 0;) {
        if (n_left[depth] == 0) {
            depth--;
            continue;
        }
        n_left[depth]--;
        uint64_t n_inside = 0;
        skip_one(r, field, &n_inside);
        if (n_inside == 0) continue;
        if (depth == PR_MSGPACK_DEPTH_MAX) {
            pr_msgpack_fail(r, field, "found values inside each other, expected at most %d deep",
                            (int)PR_MSGPACK_DEPTH_MAX);
            return;
        }
        n_left[++depth] = n_inside;
    }
}

pr_status pr_msgpack_read_end(pr_msgpack_reader *r)
{
    if (r->status == PR_OK && r->at < r->n) {
        pr_msgpack_fail(r, "end", "found %zu bytes more, expected none", r->n - r->at);
    }
    return r->status;
}
