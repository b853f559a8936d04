#include "metrics_text.h"

#include "runtime/base/number.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct reader {
    metrics_text *text;
    metrics_family *family; /* the one whose samples are read; NULL: none yet */
    bool has_type;          /* else only its HELP was read */
    /* the histogram that is being read */
    char series[256]; /* its labels without le */
    enum { BUCKETS, SUM, COUNT } expected;
    double bound, n_bucket; /* of the last bucket */
} reader;

static void broken(const char *line, const char *why)
{
    fail_msg("%s: %s", why, line);
}

/* Bytes of a metric's or label's name at the start of s. */
static size_t name_bytes(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_') return 0;
    size_t n = 1;
    while (isalnum((unsigned char)s[n]) || s[n] == '_') n++;
    return n;
}

static void name_copy(char *out, size_t n_out, const char *s, size_t n, const char *line)
{
    if (n == 0 || n >= n_out) broken(line, "a name is missing or too long");
    memcpy(out, s, n);
    out[n] = '\0';
}

static void family_end(const reader *r)
{
    if (!r->family) return;
    if (!r->has_type) broken(r->family->name, "HELP without TYPE");
    if (r->expected != BUCKETS || r->n_bucket >= 0) broken(r->family->name, "unfinished histogram");
}

static void help_read(reader *r, const char *line)
{
    const char *name = line + strlen("# HELP ");
    size_t n = name_bytes(name);
    family_end(r);
    if (name[n] != ' ' || !name[n + 1]) broken(line, "HELP without words");
    metrics_text *t = r->text;
    assert_true(t->n_families < METRICS_FAMILIES_MAX);
    metrics_family *f = &t->families[t->n_families];
    *f = (metrics_family){0};
    name_copy(f->name, sizeof f->name, name, n, line);
    if (metrics_text_family(t, f->name)) broken(line, "a family twice");
    t->n_families++;
    r->family = f;
    r->has_type = false;
}

static void type_read(reader *r, const char *line)
{
    const char *name = line + strlen("# TYPE ");
    size_t n = name_bytes(name);
    metrics_family *f = r->family;
    if (!f || r->has_type || strlen(f->name) != n || memcmp(f->name, name, n) != 0) {
        broken(line, "TYPE that does not follow its HELP");
    }
    const char *type = name + n + 1;
    if (strcmp(type, "counter") != 0 && strcmp(type, "gauge") != 0 &&
        strcmp(type, "histogram") != 0) {
        broken(line, "another type");
    }
    bool is_total = n > 6 && memcmp(name + n - 6, "_total", 6) == 0;
    if (is_total != (strcmp(type, "counter") == 0)) broken(line, "_total is for counters");
    snprintf(f->type, sizeof f->type, "%s", type);
    r->has_type = true;
    r->n_bucket = -1;
}

/* Labels up to the brace: their names into names, all but le into series, le's value into le. */
static const char *labels_read(const char *s, char names[128], char series[256], char le[64],
                               const char *line)
{
    while (*s != '}') {
        char label[64], value[256];
        size_t n = name_bytes(s), n_value = 0;
        name_copy(label, sizeof label, s, n, line);
        s += n;
        if (s[0] != '=' || s[1] != '"') broken(line, "label without a quoted value");
        for (s += 2; *s != '"'; s++) {
            if (!*s || n_value + 3 > sizeof value) broken(line, "label without an end");
            if (*s == '\\') {
                if (!strchr("\\\"n", s[1])) broken(line, "another escape");
                value[n_value++] = *s++;
            }
            value[n_value++] = *s;
        }
        value[n_value] = '\0';
        s++;
        if (strcmp(label, "le") == 0) {
            if (*s != '}') broken(line, "le is not the last label");
            snprintf(le, 64, "%s", value);
        } else {
            size_t at = strlen(names), at_series = strlen(series);
            snprintf(names + at, 128 - at, "%s%s", at ? "," : "", label);
            snprintf(series + at_series, 256 - at_series, "%s=\"%s\",", label, value);
        }
        if (*s == ',') {
            s++;
            if (*s == '}') broken(line, "comma at the end");
        } else if (*s != '}') {
            broken(line, "no comma between labels");
        }
    }
    return s + 1;
}

static void bucket_check(reader *r, const char *series, const char *le, double value,
                         const char *line)
{
    bool is_first = r->n_bucket < 0;
    if (r->expected != BUCKETS || !*le) broken(line, "a bucket out of place");
    double bound = strcmp(le, "+Inf") == 0 ? INFINITY : pr_number_read(le, NULL);
    if (!is_first && strcmp(series, r->series) != 0) broken(line, "another series' bucket");
    if (!is_first && bound <= r->bound) broken(line, "bounds do not ascend");
    if (!is_first && value < r->n_bucket) broken(line, "buckets do not add up");
    snprintf(r->series, sizeof r->series, "%s", series);
    r->bound = bound;
    r->n_bucket = value;
    if (isinf(bound)) r->expected = SUM;
}

static void histogram_check(reader *r, const char *suffix, const char *series, const char *le,
                            double value, const char *line)
{
    if (strcmp(suffix, "_bucket") == 0) {
        bucket_check(r, series, le, value, line);
        return;
    }
    if (strcmp(series, r->series) != 0 || *le) broken(line, "another series");
    if (strcmp(suffix, "_sum") == 0) {
        if (r->expected != SUM || value < 0) broken(line, "a sum out of place");
        r->expected = COUNT;
        return;
    }
    if (strcmp(suffix, "_count") != 0 || r->expected != COUNT) broken(line, "not expected here");
    if (value != r->n_bucket) broken(line, "count is not that of +Inf");
    r->expected = BUCKETS;
    r->n_bucket = -1;
}

static void sample_add(reader *r, const char *line, size_t n_key, double value)
{
    metrics_text *t = r->text;
    char *key = strndup(line, n_key);
    assert_non_null(key);
    if (metrics_text_has(t, key)) broken(line, "a sample twice");
    assert_true(t->n_samples < METRICS_SAMPLES_MAX);
    t->samples[t->n_samples++] = (metrics_sample){key, value};
}

static void sample_read(reader *r, const char *line)
{
    metrics_family *f = r->family;
    char names[128] = "", series[256] = "", le[64] = "";
    size_t n = name_bytes(line);
    if (!f || !r->has_type) broken(line, "a sample without HELP and TYPE");
    size_t n_family = strlen(f->name);
    if (n < n_family || memcmp(line, f->name, n_family) != 0) broken(line, "another family's");
    char suffix[32];
    snprintf(suffix, sizeof suffix, "%.*s", (int)(n - n_family), line + n_family);
    const char *s = line + n;
    if (*s == '{') s = labels_read(s + 1, names, series, le, line);
    size_t n_key = (size_t)(s - line);
    const char *end;
    if (*s != ' ') broken(line, "no space before the value");
    double value = pr_number_read(s + 1, &end);
    if (*end || end == s + 1 || !isfinite(value)) broken(line, "no finite number");
    if (strcmp(f->type, "histogram") == 0) {
        histogram_check(r, suffix, series, le, value, line);
    } else if (*suffix || *le) {
        broken(line, "another family's");
    }
    if (strcmp(f->type, "counter") == 0 && value < 0) broken(line, "a negative counter");
    if (f->n_samples > 0 && strcmp(f->labels, names) != 0) broken(line, "other labels");
    snprintf(f->labels, sizeof f->labels, "%s", names);
    f->n_samples++;
    sample_add(r, line, n_key, value);
}

metrics_text *metrics_text_read(const char *text)
{
    metrics_text *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->samples = calloc(METRICS_SAMPLES_MAX, sizeof *t->samples);
    assert_non_null(t->samples);
    reader r = {.text = t, .n_bucket = -1};
    char *copy = strdup(text);
    assert_non_null(copy);
    for (char *line = copy; *line;) {
        char *feed = strchr(line, '\n');
        if (!feed) broken(line, "the last line has no line feed");
        *feed = '\0';
        if (strncmp(line, "# HELP ", 7) == 0) {
            help_read(&r, line);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            type_read(&r, line);
        } else {
            sample_read(&r, line);
        }
        line = feed + 1;
    }
    family_end(&r);
    free(copy);
    return t;
}

void metrics_text_free(metrics_text *t)
{
    for (size_t i = 0; i < t->n_samples; i++) free(t->samples[i].key);
    free(t->samples);
    free(t);
}

static const metrics_sample *sample_find(const metrics_text *t, const char *key)
{
    for (size_t i = 0; i < t->n_samples; i++) {
        if (strcmp(t->samples[i].key, key) == 0) return &t->samples[i];
    }
    return NULL;
}

bool metrics_text_has(const metrics_text *t, const char *key)
{
    return sample_find(t, key) != NULL;
}

double metrics_text_value(const metrics_text *t, const char *key)
{
    const metrics_sample *sample = sample_find(t, key);
    if (!sample) fail_msg("no sample %s", key);
    return sample ? sample->value : 0;
}

const metrics_family *metrics_text_family(const metrics_text *t, const char *name)
{
    for (size_t i = 0; i < t->n_families; i++) {
        if (strcmp(t->families[i].name, name) == 0) return &t->families[i];
    }
    return NULL;
}
