#include "runtime/wire/frame.h"

#include <assert.h>
#include <string.h>

static uint32_t u32_read(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void u32_write(char *p, uint32_t v)
{
    for (int i = 0; i < PR_FRAME_HEADER_BYTES; i++) p[i] = (char)(v >> (8 * i) & 0xFF);
}

void pr_frame_reader_init(pr_frame_reader *r, size_t bytes_max)
{
    assert(bytes_max > 0 && bytes_max <= UINT32_MAX);
    *r = (pr_frame_reader){.bytes_max = bytes_max};
    pr_buffer_init(&r->bytes);
}

void pr_frame_reader_deinit(pr_frame_reader *r)
{
    pr_buffer_deinit(&r->bytes);
    r->begin = 0;
}

pr_status pr_frame_reader_feed(pr_frame_reader *r, const void *data, size_t n, pr_error *err)
{
    if (r->begin > 0) { /* what was taken makes room */
        r->bytes.n -= r->begin;
        memmove(r->bytes.data, r->bytes.data + r->begin, r->bytes.n);
        r->begin = 0;
    }
    if (pr_buffer_append(&r->bytes, data, n)) return PR_OK;
    return pr_error_nomem(err, "frame", r->bytes.n + n);
}

pr_status pr_frame_reader_next(pr_frame_reader *r, const char **payload, size_t *n, pr_error *err)
{
    size_t n_here = r->bytes.n - r->begin;
    *payload = NULL;
    *n = 0;
    if (n_here < PR_FRAME_HEADER_BYTES) return PR_OK;
    const char *frame = r->bytes.data + r->begin;
    uint32_t n_payload = u32_read(frame);
    if (n_payload == 0) return pr_error_set(err, PR_E_INPUT, "frame of 0 bytes");
    if (n_payload > r->bytes_max) {
        return pr_error_set(err, PR_E_TOO_LARGE, "frame: found %u bytes, expected at most %zu",
                            n_payload, r->bytes_max);
    }
    if (n_here - PR_FRAME_HEADER_BYTES < n_payload) return PR_OK;
    *payload = frame + PR_FRAME_HEADER_BYTES;
    *n = n_payload;
    r->begin += PR_FRAME_HEADER_BYTES + (size_t)n_payload;
    return PR_OK;
}

size_t pr_frame_begin(pr_buffer *out)
{
    static const char header[PR_FRAME_HEADER_BYTES];
    size_t place = out->n;
    pr_buffer_append(out, header, sizeof header);
    return place;
}

pr_status pr_frame_end(pr_buffer *out, size_t place, pr_error *err)
{
    if (out->failed) return pr_error_nomem(err, "frame", out->n);
    size_t n = out->n - place - PR_FRAME_HEADER_BYTES;
    assert(n > 0);
    if (n > PR_FRAME_BYTES_MAX) {
        out->n = place;
        return pr_error_set(err, PR_E_TOO_LARGE, "frame: found %zu bytes, expected at most %d", n,
                            (int)PR_FRAME_BYTES_MAX);
    }
    u32_write(out->data + place, (uint32_t)n);
    return PR_OK;
}
