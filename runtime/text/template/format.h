/* runtime/text/template/format.h: "…" % x and "…".format(x), as Python formats.
 *
 * One struct says how a value is written in both languages (format_spec.c). Width and precision are
 * bounded by PR_FORMAT_WIDTH_MAX. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_FORMAT_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_FORMAT_H

#include "runtime/base/buffer.h"
#include "runtime/text/template/functions.h"

enum { PR_FORMAT_WIDTH_MAX = 100000, PR_FORMAT_PRECISION_MAX = 300 };

/* fmt % args: a tuple's items, or one value, or a mapping for %(name)s. */
bool pr_format_percent(pr_render *r, pr_value fmt, pr_value args, pr_value *out);
/* The methods format and format_map of a string. */
bool pr_format_method(pr_render *r, pr_value self, const pr_actual *args, pr_value *out);
bool pr_format_map_method(pr_render *r, pr_value self, const pr_actual *args, pr_value *out);

typedef struct pr_format_spec {
    char fill[4]; /* one character's bytes */
    size_t n_fill;
    char align; /* < > = ^, or 0 for the type's own */
    char sign;  /* + - or a space; 0: - */
    bool alternate;
    char group;        /* , _ or 0 */
    int64_t width;     /* 0: as wide as it is */
    int64_t precision; /* -1: none */
    char type;         /* 0: the value's own */
} pr_format_spec;

/* Reads "[[fill]align][sign][#][0][width][group][.precision][type]". type: of the value, for
 * messages. */
bool pr_format_spec_parse(pr_render *r, pr_value text, const char *type, pr_format_spec *out);

/* Each appends the value. */
bool pr_format_str(pr_render *r, const pr_format_spec *spec, pr_value s, pr_buffer *b);
bool pr_format_int(pr_render *r, const pr_format_spec *spec, int64_t i, pr_buffer *b);
bool pr_format_float(pr_render *r, const pr_format_spec *spec, double f, pr_buffer *b);

#endif
