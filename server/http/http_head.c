#include "server/http/http_head.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

typedef struct field_row {
    const char *name;
    size_t n;
    bool is_framing; /* says where the request ends: once at most */
} field_row;

#define FIELD(text) .name = text, .n = sizeof text - 1
static const field_row fields[] = {
    [PR_HTTP_FIELD_AUTHORIZATION] = {FIELD("Authorization")},
    [PR_HTTP_FIELD_API_KEY] = {FIELD("X-API-Key")},
    [PR_HTTP_FIELD_CONTENT_TYPE] = {FIELD("Content-Type")},
    [PR_HTTP_FIELD_CONTENT_LENGTH] = {FIELD("Content-Length"), .is_framing = true},
    [PR_HTTP_FIELD_TRANSFER_ENCODING] = {FIELD("Transfer-Encoding"), .is_framing = true},
    [PR_HTTP_FIELD_EXPECT] = {FIELD("Expect")},
    [PR_HTTP_FIELD_ORIGIN] = {FIELD("Origin")},
    [PR_HTTP_FIELD_REQUEST_ID] = {FIELD("X-Request-Id")},
    [PR_HTTP_FIELD_PREFLIGHT_METHOD] = {FIELD("Access-Control-Request-Method")},
};
static_assert(sizeof fields / sizeof *fields == PR_HTTP_FIELD_COUNT, "one row per field");

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

void pr_http_head_add(pr_http_head *head, const char *name, size_t n_name, const char *value,
                      size_t n_value)
{
    /* RFC 9112, 5.1: "Content-Length : 5" must be refused, for others may take it for a length. */
    if (memchr(name, ' ', n_name) || memchr(name, '\t', n_name)) {
        head->fault = "white space in the name of a header";
        return;
    }
    for (size_t i = 0; i < PR_HTTP_FIELD_COUNT; i++) {
        if (n_name != fields[i].n || strncasecmp(name, fields[i].name, n_name) != 0) continue;
        if (head->text[i]) {
            if (fields[i].is_framing) head->fault = "a Content-Length or Transfer-Encoding twice";
            return;
        }
        while (n_value > 0 && is_blank(value[n_value - 1])) n_value--;
        head->text[i] = value ? value : "";
        head->n[i] = n_value;
        return;
    }
}

/* Digits only, as libmicrohttpd has checked already. */
static bool length_parse(const char *text, size_t n, uint64_t *out)
{
    uint64_t length = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        unsigned digit = (unsigned)(text[i] - '0');
        if (length > (UINT64_MAX - digit) / 10) return false;
        length = 10 * length + digit;
    }
    *out = length;
    return n > 0;
}

void pr_http_head_end(pr_http_head *head)
{
    const char *length = head->text[PR_HTTP_FIELD_CONTENT_LENGTH];
    const char *encoding = head->text[PR_HTTP_FIELD_TRANSFER_ENCODING];
    const char *expect = head->text[PR_HTTP_FIELD_EXPECT];
    head->expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
    if (head->fault) return;
    if (length && encoding) {
        head->fault = "both Content-Length and Transfer-Encoding";
    } else if (encoding && strcasecmp(encoding, "chunked") != 0) {
        head->fault = "a Transfer-Encoding that is not chunked";
    } else if (length &&
               !length_parse(length, head->n[PR_HTTP_FIELD_CONTENT_LENGTH], &head->n_body)) {
        head->fault = "a Content-Length that is no number";
    }
    head->has_body = encoding || head->n_body > 0;
}
