#include "runtime/wire/msgpack_write.h"

#include <assert.h>
#include <msgpack.h>
#include <string.h>

static int append(void *buffer, const char *data, size_t n)
{
    return pr_buffer_append(buffer, data, n) ? 0 : -1;
}

/* Two pointers: made anew for each value, so that a caller carries only its buffer. */
static msgpack_packer packer_of(pr_buffer *out)
{
    return (msgpack_packer){.data = out, .callback = append};
}

void pr_msgpack_write_nil(pr_buffer *out)
{
    msgpack_packer p = packer_of(out);
    msgpack_pack_nil(&p);
}

void pr_msgpack_write_bool(pr_buffer *out, bool v)
{
    msgpack_packer p = packer_of(out);
    if (v) {
        msgpack_pack_true(&p);
    } else {
        msgpack_pack_false(&p);
    }
}

void pr_msgpack_write_u64(pr_buffer *out, uint64_t v)
{
    msgpack_packer p = packer_of(out);
    msgpack_pack_uint64(&p, v);
}

void pr_msgpack_write_i64(pr_buffer *out, int64_t v)
{
    msgpack_packer p = packer_of(out);
    msgpack_pack_int64(&p, v);
}

void pr_msgpack_write_f64(pr_buffer *out, double v)
{
    msgpack_packer p = packer_of(out);
    msgpack_pack_double(&p, v);
}

void pr_msgpack_write_str(pr_buffer *out, const char *s, size_t n)
{
    assert(n <= UINT32_MAX);
    msgpack_packer p = packer_of(out);
    msgpack_pack_str(&p, n);
    pr_buffer_append(out, s, n);
}

void pr_msgpack_write_text(pr_buffer *out, const char *s)
{
    pr_msgpack_write_str(out, s, strlen(s));
}

char *pr_msgpack_write_bin_space(pr_buffer *out, size_t n)
{
    enum { BIN_HEAD_BYTES_MAX = 5 };
    assert(n <= UINT32_MAX);
    if (!pr_buffer_reserve(out, BIN_HEAD_BYTES_MAX + n)) return NULL;
    msgpack_packer p = packer_of(out);
    msgpack_pack_bin(&p, n);
    char *space = out->data + out->n;
    out->n += n;
    return space;
}

void pr_msgpack_write_bin(pr_buffer *out, const void *bytes, size_t n)
{
    char *space = pr_msgpack_write_bin_space(out, n);
    if (space && n > 0) memcpy(space, bytes, n);
}

void pr_msgpack_write_array(pr_buffer *out, uint32_t n_elements)
{
    msgpack_packer p = packer_of(out);
    msgpack_pack_array(&p, n_elements);
}

void pr_msgpack_write_map(pr_buffer *out, uint32_t n_pairs)
{
    msgpack_packer p = packer_of(out);
    msgpack_pack_map(&p, n_pairs);
}
