/* tests/unit/server/metrics_text.h: a strict reader of the Prometheus text format, version 0.0.4.
 *
 * Stricter than scrapers are: HELP, then TYPE, then all samples of a family; each once; counters
 * end in _total; buckets ascend and add up, +Inf, sum and count stand behind them and agree. Fails
 * the test that called it, with the line. Source: "Exposition formats" of Prometheus'
 * documentation. */
#ifndef POOLRANK_TESTS_UNIT_SERVER_METRICS_TEXT_H
#define POOLRANK_TESTS_UNIT_SERVER_METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

enum { METRICS_FAMILIES_MAX = 64, METRICS_SAMPLES_MAX = 20000 };

typedef struct metrics_family {
    char name[80], type[16];
    char labels[128]; /* names of its samples' labels, without le: "route,code" */
    size_t n_samples;
} metrics_family;

typedef struct metrics_sample {
    char *key; /* name{labels} as it stood */
    double value;
} metrics_sample;

typedef struct metrics_text {
    metrics_family families[METRICS_FAMILIES_MAX];
    size_t n_families;
    metrics_sample *samples; /* [n_samples] */
    size_t n_samples;
} metrics_text;

metrics_text *metrics_text_read(const char *text);
void metrics_text_free(metrics_text *t);
/* The sample of `name{labels}`; fails the test when there is none. */
double metrics_text_value(const metrics_text *t, const char *key);
bool metrics_text_has(const metrics_text *t, const char *key);
const metrics_family *metrics_text_family(const metrics_text *t, const char *name); /* or NULL */

#endif
