#include "runtime/base/log.h"

#include "runtime/base/number.h"
#include "runtime/base/utf8.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warning", "info", "debug"};

/* Bytes of a line that fields may take: each is ` name="value"` or `,"name":"value"`. */
enum { FIELDS_BYTES = PR_LOG_FIELDS_MAX * (PR_LOG_NAME_BYTES_MAX + PR_LOG_VALUE_BYTES_MAX + 6) };

static_assert(PR_LOG_LINE_BYTES <= PIPE_BUF, "a pipe takes a line whole");
static_assert(FIELDS_BYTES + 1024 <= PR_LOG_LINE_BYTES, "fields leave room for a message");

/* Text that grows in its owner's array; what is over its size is dropped. */
typedef struct text {
    char *data;
    size_t n, n_max;
} text;

static void text_append(text *t, const char *s, size_t n)
{
    if (n > t->n_max - t->n) n = t->n_max - t->n;
    memcpy(t->data + t->n, s, n);
    t->n += n;
}

static void text_append_str(text *t, const char *s)
{
    text_append(t, s, strlen(s));
}

/* One write(2) unless it is interrupted or the other end takes less: a file that is full, or a pipe
 * that does not block. */
static void write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(fd, data, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return; /* nowhere left to report it */
        data += wrote;
        n -= (size_t)wrote;
    }
}

/* Control bytes become spaces, those of U+0080 to U+009F too (terminals obey them); bytes that are
 * not UTF-8 (a path's, or a character that a cut went through) become '?', without which the JSON
 * form could not be made. */
static void text_tidy(char *s, size_t n)
{
    for (size_t i = 0; (i += pr_utf8_prefix(s + i, n - i)) < n; i++) s[i] = '?';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7F) s[i] = ' ';
        if (c == 0xC2 && (unsigned char)s[i + 1] < 0xA0) s[i] = s[i + 1] = ' ';
    }
}

/* Appends tidy text with a backslash before each quote and backslash, as far as n_max bytes of the
 * line go; whole characters only. */
static void text_append_escaped(text *t, const char *s, size_t n, size_t n_max)
{
    size_t end = t->n + n_max < t->n_max ? t->n + n_max : t->n_max;
    for (size_t i = 0; i < n;) {
        size_t width = pr_utf8_width((unsigned char)s[i]);
        bool is_special = s[i] == '"' || s[i] == '\\';
        if (t->n + width + is_special > end) return;
        if (is_special) text_append(t, "\\", 1);
        text_append(t, s + i, width);
        i += width;
    }
}

static void value_append_text(text *t, const char *value, bool is_json)
{
    char tidy[PR_LOG_VALUE_BYTES_MAX];
    size_t n = strnlen(value, sizeof tidy);
    memcpy(tidy, value, n);
    text_tidy(tidy, n);
    bool is_plain = n > 0;
    for (size_t i = 0; i < n; i++) {
        is_plain = is_plain && (unsigned char)tidy[i] > ' ' && !strchr("\"\\=", tidy[i]);
    }
    bool is_quoted = is_json || !is_plain;
    if (is_quoted) text_append(t, "\"", 1);
    text_append_escaped(t, tidy, n, PR_LOG_VALUE_BYTES_MAX);
    if (is_quoted) text_append(t, "\"", 1);
}

static void value_append(text *t, const pr_log_field *field, bool is_json)
{
    char number[40];
    switch (field->kind) {
    case PR_LOG_KIND_TEXT:
        value_append_text(t, field->text, is_json);
        return;
    case PR_LOG_KIND_INTEGER:
        snprintf(number, sizeof number, "%" PRId64, field->integer);
        break;
    case PR_LOG_KIND_NUMBER:
        if (is_json && !isfinite(field->number)) {
            text_append_str(t, "null");
            return;
        }
        pr_number_format(number, sizeof number, 'g', 9, field->number);
        break;
    }
    text_append_str(t, number);
}

static void fields_append(text *t, const pr_log_field *fields, size_t n_fields, bool is_json)
{
    for (size_t i = 0; i < n_fields; i++) {
        const pr_log_field *field = &fields[i];
        assert(strlen(field->name) <= PR_LOG_NAME_BYTES_MAX);
        if (field->kind == PR_LOG_KIND_TEXT && !field->text) continue;
        if (field->is_said && !is_json) continue;
        text_append_str(t, is_json ? ",\"" : " ");
        text_append_str(t, field->name);
        text_append_str(t, is_json ? "\":" : "=");
        value_append(t, field, is_json);
    }
}

static void head_append_json(text *t, pr_log_level level)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char head[160];
    snprintf(head, sizeof head,
             "{\"ts\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\",\"level\":\"%s\",\"message\":\"",
             utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
             now.tv_nsec / 1000000, level_names[level]);
    text_append_str(t, head);
}

static void head_append_text(text *t, const pr_log *log, pr_log_level level)
{
    char head[128];
    snprintf(head, sizeof head, "%s: %s", log->program ? log->program : "poolrank",
             level == PR_LOG_ERROR     ? "error: "
             : level == PR_LOG_WARNING ? "warning: "
                                       : "");
    text_append_str(t, head);
}

static void __attribute__((format(printf, 5, 0)))
line_write(const pr_log *log, pr_log_level level, const pr_log_field *fields, size_t n_fields,
           const char *fmt, va_list ap)
{
    assert(n_fields <= PR_LOG_FIELDS_MAX);
    bool is_json = log->format == PR_LOG_JSON;
    char message[PR_LOG_LINE_BYTES];
    int n = pr_text_format(message, sizeof message, fmt, ap);
    size_t n_message = n < 0 ? 0 : (size_t)n < sizeof message ? (size_t)n : sizeof message - 1;
    text_tidy(message, n_message);

    char fields_data[FIELDS_BYTES];
    text tail = {.data = fields_data, .n_max = sizeof fields_data};
    fields_append(&tail, fields, n_fields, is_json);

    const char *end = is_json ? "}\n" : "\n";
    char line_data[PR_LOG_LINE_BYTES];
    text line = {.data = line_data, .n_max = sizeof line_data};
    if (is_json) {
        head_append_json(&line, level);
        text_append_escaped(&line, message, n_message,
                            line.n_max - line.n - 1 - tail.n - strlen(end));
        text_append(&line, "\"", 1);
    } else {
        head_append_text(&line, log, level);
        size_t room = line.n_max - line.n - tail.n - strlen(end);
        if (n_message > room) n_message = pr_utf8_prefix(message, room);
        text_append(&line, message, n_message);
    }
    text_append(&line, tail.data, tail.n);
    text_append_str(&line, end);
    write_all(log->fd, line.data, line.n);
}

void pr_log_line(const pr_log *log, pr_log_level level, const char *fmt, ...)
{
    if (!pr_log_takes(log, level)) return;
    va_list ap;
    va_start(ap, fmt);
    line_write(log, level, NULL, 0, fmt, ap);
    va_end(ap);
}

void pr_log_event(const pr_log *log, pr_log_level level, const pr_log_field *fields,
                  size_t n_fields, const char *fmt, ...)
{
    if (!pr_log_takes(log, level)) return;
    va_list ap;
    va_start(ap, fmt);
    line_write(log, level, fields, n_fields, fmt, ap);
    va_end(ap);
}
