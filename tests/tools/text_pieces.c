/* tests/tools/text_pieces.c: applies one normalizer or pre-tokenizer to many texts, for the live
 * comparison with Python's tokenizers (tests/parity/compare_text.py) and for timing.
 *
 *     text_pieces normalizer|pre_tokenizer COMPONENT.json < texts > results
 *     text_pieces time-normalizer|time-pre_tokenizer COMPONENT.json < one-text
 *
 * texts:   frames, each u32 n (little endian) and n bytes of UTF-8.
 * results: per text u32 count, then count frames; a failure is the count 0xffffffff and one frame
 *          with the message. */
#include "runtime/base/buffer.h"
#include "runtime/base/json.h"
#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer/normalizer.h"
#include "runtime/text/tokenizer/pretokenizer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct part {
    pr_normalizer *normalizer; /* one of the two is there */
    pr_pretokenizer *pretokenizer;
    pr_buffer text;
    pr_pieces pieces;
} part;

static bool read_all(FILE *in, pr_buffer *out)
{
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, in)) > 0) pr_buffer_append(out, chunk, n);
    return !out->failed && !ferror(in);
}

static void put_u32(uint32_t v)
{
    unsigned char bytes[4] = {(unsigned char)v, (unsigned char)(v >> 8), (unsigned char)(v >> 16),
                              (unsigned char)(v >> 24)};
    fwrite(bytes, 1, sizeof bytes, stdout);
}

static void put_frame(const char *data, size_t n)
{
    put_u32((uint32_t)n);
    fwrite(data, 1, n, stdout);
}

static pr_status run(part *p, const char *text, size_t n, pr_error *err)
{
    if (p->pretokenizer)
        return pr_pretokenizer_split(p->pretokenizer, text, n, true, &p->pieces, err);
    pr_buffer_clear(&p->text);
    return pr_normalizer_apply(p->normalizer, text, n, &p->text, err);
}

static void answer(part *p, const char *text, size_t n)
{
    pr_error err = {0};
    if (pr_utf8_prefix(text, n) < n || run(p, text, n, &err) != PR_OK) {
        put_u32(UINT32_MAX);
        put_frame(err.message, strlen(err.message));
        return;
    }
    put_u32(p->pretokenizer ? (uint32_t)p->pieces.n : 1);
    if (!p->pretokenizer) put_frame(p->text.data, p->text.n);
    for (size_t i = 0; i < p->pieces.n; i++) {
        put_frame(p->pieces.text.data + p->pieces.pieces[i].begin, p->pieces.pieces[i].n);
    }
}

static void answer_all(part *p, const pr_buffer *in)
{
    for (size_t at = 0; in->n - at >= 4;) {
        const unsigned char *u = (const unsigned char *)in->data + at;
        size_t n = u[0] | (size_t)u[1] << 8 | (size_t)u[2] << 16 | (size_t)u[3] << 24;
        at += 4;
        if (n > in->n - at) break;
        answer(p, in->data + at, n);
        at += n;
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int measure(part *p, const pr_buffer *in)
{
    pr_error err = {0};
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double begin = now();
        if (run(p, in->data, in->n, &err) != PR_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        double took = now() - begin;
        if (took < best) best = took;
    }
    printf("%.1f MB/s, %zu pieces\n", (double)in->n / best / 1e6, p->pieces.n);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    bool timing = strncmp(argv[1], "time-", 5) == 0;
    const char *kind = argv[1] + (timing ? 5 : 0);
    pr_error err = {0};
    json_t *node = NULL;
    part p = {0};
    pr_buffer in = {0};
    pr_status st = pr_json_load(argv[2], 64 << 20, &node, &err);
    if (st == PR_OK) {
        st = strcmp(kind, "normalizer") == 0
                 ? pr_normalizer_parse(node, argv[2], &p.normalizer, &err)
                 : pr_pretokenizer_parse(node, argv[2], &p.pretokenizer, &err);
    }
    int rc = 0;
    if (st != PR_OK) {
        fprintf(stderr, "%s\n", err.message);
        rc = 1;
    } else if (!read_all(stdin, &in)) {
        rc = 1;
    } else if (timing) {
        rc = measure(&p, &in);
    } else {
        answer_all(&p, &in);
    }
    pr_buffer_deinit(&in);
    pr_buffer_deinit(&p.text);
    pr_pieces_deinit(&p.pieces);
    pr_normalizer_free(p.normalizer);
    pr_pretokenizer_free(p.pretokenizer);
    json_decref(node);
    return rc;
}
