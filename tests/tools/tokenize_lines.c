/* tests/tools/tokenize_lines.c: runs a tokenizer for another program, which compares the results.
 *
 *     tokenize_lines TOKENIZER.json [--pair] [--no-special] < texts > ids
 *     tokenize_lines TOKENIZER.json --decode [--skip-special] < ids > texts
 *     tokenize_lines TOKENIZER.json --time FILE        how fast it loads and encodes
 *
 * Numbers are 32-bit little-endian. A text is its length and its bytes; with --pair an item is two
 * texts. Ids are their count and the ids, then, when encoding, one type (a byte) per id. An item
 * that fails gives the count 0xFFFFFFFF and a text, the message. */
#include "runtime/base/file.h"
#include "runtime/text/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct options {
    bool pair;
    bool no_special;
    bool decode;
    bool skip_special;
    const char *time_file;
} options;

static bool read_block(char **data, uint32_t *n, size_t item_bytes)
{
    if (fread(n, sizeof *n, 1, stdin) != 1) return false;
    *data = malloc(*n * item_bytes + 1);
    return *data && fread(*data, item_bytes, *n, stdin) == *n;
}

static void write_block(const void *data, size_t n, size_t item_bytes)
{
    uint32_t count = (uint32_t)n;
    fwrite(&count, sizeof count, 1, stdout);
    if (n) fwrite(data, item_bytes, n, stdout);
}

static void write_failure(const pr_error *err)
{
    uint32_t mark = UINT32_MAX;
    fwrite(&mark, sizeof mark, 1, stdout);
    write_block(err->message, strlen(err->message), 1);
}

static bool encode_item(const pr_tokenizer *t, const options *o)
{
    char *texts[2] = {NULL, NULL};
    uint32_t n[2] = {0, 0};
    pr_ids ids[2] = {{0}, {0}};
    pr_encoding e = {0};
    pr_error err;
    static const int32_t none[1];
    bool ok = read_block(&texts[0], &n[0], 1) && (!o->pair || read_block(&texts[1], &n[1], 1));
    if (ok) {
        pr_status st = pr_tokenizer_encode(t, texts[0], n[0], &ids[0], &err);
        if (st == PR_OK && o->pair) st = pr_tokenizer_encode(t, texts[1], n[1], &ids[1], &err);
        if (st == PR_OK) {
            const int32_t *b = o->pair ? ids[1].ids ? ids[1].ids : none : NULL;
            st = pr_tokenizer_assemble(t, ids[0].ids, ids[0].n, b, ids[1].n, !o->no_special, &e,
                                       &err);
        }
        if (st == PR_OK) {
            write_block(e.ids, e.n, sizeof *e.ids);
            if (e.n) fwrite(e.type_ids, 1, e.n, stdout);
        } else {
            write_failure(&err);
        }
    }
    pr_encoding_deinit(&e);
    for (int i = 0; i < 2; i++) {
        pr_ids_deinit(&ids[i]);
        free(texts[i]);
    }
    return ok;
}

static bool decode_item(const pr_tokenizer *t, const options *o)
{
    char *ids = NULL;
    uint32_t n = 0;
    bool ok = read_block(&ids, &n, sizeof(int32_t));
    if (ok) {
        pr_error err;
        pr_buffer text = {0};
        pr_status st =
            pr_tokenizer_decode(t, (const int32_t *)(const void *)ids, n, o->skip_special, &text,
                                &err);
        if (st == PR_OK) {
            write_block(text.data, text.n, 1);
        } else {
            write_failure(&err);
        }
        pr_buffer_deinit(&text);
    }
    free(ids);
    return ok;
}

/* Of the processor, so that other programs do not count. */
static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The whole file as one text, and as one text per line. */
static int time_file(const pr_tokenizer *t, const char *path)
{
    char *data = NULL;
    size_t n = 0;
    pr_error err;
    pr_ids ids = {0};
    if (pr_file_read(path, (size_t)1 << 30, &data, &n, &err) != PR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    double start = now_s();
    pr_status st = pr_tokenizer_encode(t, data, n, &ids, &err);
    double whole = now_s() - start;
    printf("one text of %zu bytes, %zu tokens: %.2f MB/s\n", n, ids.n, (double)n / whole / 1e6);
    start = now_s();
    for (char *line = data; st == PR_OK && line < data + n;) {
        char *end = memchr(line, '\n', (size_t)(data + n - line));
        if (!end) end = data + n;
        ids.n = 0;
        st = pr_tokenizer_encode(t, line, (size_t)(end - line), &ids, &err);
        line = end + 1;
    }
    double lines = now_s() - start;
    printf("line by line: %.6f s, %.2f MB/s\n", lines, (double)n / lines / 1e6);
    if (st != PR_OK) fprintf(stderr, "%s\n", err.message);
    pr_ids_deinit(&ids);
    free(data);
    return st != PR_OK;
}

static bool parse_options(int argc, char **argv, options *o)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--pair") == 0) {
            o->pair = true;
        } else if (strcmp(argv[i], "--no-special") == 0) {
            o->no_special = true;
        } else if (strcmp(argv[i], "--decode") == 0) {
            o->decode = true;
        } else if (strcmp(argv[i], "--skip-special") == 0) {
            o->skip_special = true;
        } else if (strcmp(argv[i], "--time") == 0 && i + 1 < argc) {
            o->time_file = argv[++i];
        } else {
            return false;
        }
    }
    return argc >= 2;
}

int main(int argc, char **argv)
{
    options o = {0};
    pr_error err;
    pr_tokenizer *t = NULL;
    if (!parse_options(argc, argv, &o)) {
        fprintf(stderr, "usage: tokenize_lines TOKENIZER.json [--pair] [--no-special] | --decode "
                        "[--skip-special] | --time FILE\n");
        return 2;
    }
    double start = now_s();
    if (pr_tokenizer_load(argv[1], &t, &err) != PR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    int rc = 0;
    if (o.time_file) {
        printf("loaded: %.4f s\n", now_s() - start);
        rc = time_file(t, o.time_file);
    } else {
        while (o.decode ? decode_item(t, &o) : encode_item(t, &o)) continue;
    }
    pr_tokenizer_free(t);
    return rc;
}
