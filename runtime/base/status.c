#include "runtime/base/status.h"

#include "runtime/base/number.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const pr_status_row rows[] = {
    [PR_OK] = {"ok", 0, 200, ""},
    [PR_E_ARGUMENT] = {"argument", 2, 400, "BadRequestError"},
    [PR_E_INPUT] = {"input", 2, 400, "BadRequestError"},
    [PR_E_TOO_LONG] = {"too_long", 2, 400, "BadRequestError"},
    [PR_E_TOO_LARGE] = {"too_large", 2, 413, "RequestTooLargeError"},
    [PR_E_UNSUPPORTED] = {"unsupported", 2, 400, "BadRequestError"},
    [PR_E_MODEL] = {"model", 2, 500, "InternalServerError"},
    [PR_E_NOT_FOUND] = {"not_found", 2, 404, "NotFoundError"},
    [PR_E_IO] = {"io", 1, 500, "InternalServerError"},
    [PR_E_NOMEM] = {"no_memory", 1, 500, "InternalServerError"},
    [PR_E_OVERLOADED] = {"overloaded", 1, 429, "OverloadedError"},
    [PR_E_CANCELLED] = {"cancelled", 1, 499, "CancelledError"},
    [PR_E_TIMEOUT] = {"timeout", 1, 503, "TimeoutError"},
    [PR_E_UNAVAILABLE] = {"unavailable", 1, 503, "ServiceUnavailableError"},
    [PR_E_INTERNAL] = {"internal", 1, 500, "InternalServerError"},
};
static_assert(sizeof rows / sizeof *rows == PR_STATUS_COUNT, "one row per status");

const pr_status_row *pr_status_describe(pr_status st)
{
    assert((unsigned)st < PR_STATUS_COUNT);
    return &rows[st];
}

/* Cuts an incomplete UTF-8 sequence at the end and blanks control bytes. */
static void message_tidy(char *message)
{
    size_t n = strlen(message);
    if (n == PR_ERROR_BYTES - 1) {
        size_t i = n;
        while (i > 0 && n - i < 3 && ((unsigned char)message[i - 1] & 0xC0) == 0x80) i--;
        if (i > 0 && (unsigned char)message[i - 1] >= 0xC0) {
            unsigned char lead = (unsigned char)message[i - 1];
            size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
            if (n - (i - 1) < need) message[i - 1] = '\0';
        }
    }
    for (char *p = message; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = ' ';
    }
}

pr_status pr_error_set(pr_error *err, pr_status st, const char *fmt, ...)
{
    assert(st != PR_OK);
    if (!err) return st;
    err->status = st;
    va_list ap;
    va_start(ap, fmt);
    pr_text_format(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    message_tidy(err->message);
    return st;
}

static void message_prefix(pr_error *err, const char *fmt, va_list ap)
{
    char old[PR_ERROR_BYTES];
    memcpy(old, err->message, sizeof old);
    int n = pr_text_format(err->message, sizeof err->message, fmt, ap);
    size_t at = n < 0 ? 0 : (size_t)n < sizeof err->message ? (size_t)n : sizeof err->message - 1;
    snprintf(err->message + at, sizeof err->message - at, ": %s", old);
    message_tidy(err->message);
}

pr_status pr_error_context(pr_error *err, pr_status st, const char *fmt, ...)
{
    if (!err || st == PR_OK) return st;
    err->status = st;
    va_list ap;
    va_start(ap, fmt);
    message_prefix(err, fmt, ap);
    va_end(ap);
    return st;
}

pr_status pr_error_nomem(pr_error *err, const char *what, size_t bytes)
{
    return pr_error_set(err, PR_E_NOMEM, "%s: no memory for %zu bytes", what, bytes);
}

pr_status pr_error_errno(pr_error *err, int errnum, const char *fmt, ...)
{
    pr_status st = errnum == ENOENT || errnum == ENOTDIR ? PR_E_NOT_FOUND
                   : errnum == ENOMEM                    ? PR_E_NOMEM
                                                         : PR_E_IO;
    if (!err) return st;
    pr_error_set(err, st, "%s", strerror(errnum));
    va_list ap;
    va_start(ap, fmt);
    message_prefix(err, fmt, ap);
    va_end(ap);
    return st;
}
