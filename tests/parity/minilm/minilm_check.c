/* tests/parity/minilm/minilm_check.c: cosines between the answers of `poolrank embed` and golden
 * embeddings.
 *
 *     minilm_check ANSWERS GOLDEN
 *
 * ANSWERS: JSON Lines with "index" and "embedding". GOLDEN: [n, 384] float32, little-endian. Every
 * golden row must be answered once, in order. Exit: 0 every cosine is at least 0.999999, else 1. */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

enum { WIDTH = 384 };

static const double cosine_least = 0.999999;

/* Cosine of an answer with a golden row; NaN when the answer is not a row of WIDTH numbers. */
static double cosine(const json_t *embedding, const float *golden)
{
    if (json_array_size(embedding) != WIDTH) return NAN;
    double dot = 0, ours = 0, theirs = 0;
    for (size_t i = 0; i < WIDTH; i++) {
        const json_t *value = json_array_get(embedding, i);
        double a = json_is_number(value) ? json_number_value(value) : NAN;
        double b = (double)golden[i];
        dot += a * b;
        ours += a * a;
        theirs += b * b;
    }
    return dot / sqrt(ours * theirs);
}

/* Compares line after line. n_rows counts golden rows; false when one is off or missing. */
static bool rows_check(FILE *answers, FILE *golden, size_t *n_rows, double *worst)
{
    float row[WIDTH];
    bool is_good = true;
    for (*n_rows = 0; fread(row, sizeof row, 1, golden) == 1; *n_rows += 1) {
        json_error_t error;
        json_t *line = json_loadf(answers, JSON_DISABLE_EOF_CHECK, &error);
        double c = cosine(json_object_get(line, "embedding"), row);
        json_int_t index = json_integer_value(json_object_get(line, "index"));
        if (!(c >= cosine_least) || index != (json_int_t)*n_rows) {
            const char *reason = json_string_value(json_object_get(line, "error"));
            printf("text %zu: cosine %.9f, answer has index %lld %s\n", *n_rows, c,
                   line ? (long long)index : -1LL, reason ? reason : "");
            is_good = false;
        }
        if (!(c >= *worst)) *worst = c;
        json_decref(line);
    }
    return is_good;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        printf("usage: minilm_check ANSWERS GOLDEN\n");
        return 2;
    }
    FILE *answers = fopen(argv[1], "r");
    FILE *golden = fopen(argv[2], "rb");
    if (!answers || !golden) {
        printf("%s: cannot be opened\n", answers ? argv[2] : argv[1]);
        return 2;
    }
    size_t n_rows = 0;
    double worst = 1;
    bool is_good = rows_check(answers, golden, &n_rows, &worst);
    fclose(answers);
    fclose(golden);
    printf("%s %zu texts, worst cosine 1 - %.2e\n", is_good && n_rows ? "ok  " : "FAIL", n_rows,
           1 - worst);
    return is_good && n_rows ? 0 : 1;
}
