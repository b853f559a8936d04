#define _GNU_SOURCE
#include "runtime/base/log.h"

#include "runtime/base/utf8.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 4096 };

static const char *const level_names[] = {"error", "warning", "info", "debug"};

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

static void line_json(const pr_log *log, pr_log_level level, const char *message)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_t *o =
        json_pack("{s:f, s:s, s:s}", "time", (double)now.tv_sec + (double)now.tv_nsec * 1e-9,
                  "level", level_names[level], "message", message);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(16)) : NULL;
    char *line = NULL;
    int n = text ? asprintf(&line, "%s\n", text) : -1;
    if (n > 0) write_all(log->fd, line, (size_t)n);
    if (n >= 0) free(line);
    free(text);
    json_decref(o);
}

/* Control bytes become spaces; bytes that are not UTF-8 (a path's, or a character that the line's
 * length cut) become '?', without which the JSON form could not be made. */
static void message_tidy(char *message)
{
    for (char *p = message; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = ' ';
    }
    size_t n = strlen(message);
    for (size_t i = 0; (i += pr_utf8_prefix(message + i, n - i)) < n; i++) message[i] = '?';
}

void pr_log_line(const pr_log *log, pr_log_level level, const char *fmt, ...)
{
    if (!log || log->fd < 0 || level > log->level) return;
    char message[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    message_tidy(message);
    if (log->format == PR_LOG_JSON) {
        line_json(log, level, message);
        return;
    }
    char line[LINE_BYTES + 128];
    const char *program = log->program ? log->program : "poolrank";
    const char *tag = level == PR_LOG_ERROR     ? "error: "
                      : level == PR_LOG_WARNING ? "warning: "
                                                : "";
    int n = snprintf(line, sizeof line, "%s: %s%s\n", program, tag, message);
    if (n > 0) write_all(log->fd, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}
