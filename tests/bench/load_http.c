#define _GNU_SOURCE /* memmem, strcasestr */
#include "tests/bench/load_protocol.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEADERS_BYTES_MAX = 16 << 10 };

static void append_json_string(pr_buffer *b, const char *s)
{
    pr_buffer_append_char(b, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') pr_buffer_append_char(b, '\\');
        pr_buffer_append_char(b, *s);
    }
    pr_buffer_append_char(b, '"');
}

/* A single text is sent as a string, as most clients do. */
static void append_embeddings(const load_shape *shape, const load_body *body, pr_buffer *b)
{
    pr_buffer_append_str(b, "{\"input\":");
    if (body->n_texts != 1) pr_buffer_append_char(b, '[');
    for (size_t i = 0; i < body->n_texts; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        append_json_string(b, body->texts[i]);
    }
    if (body->n_texts != 1) pr_buffer_append_char(b, ']');
    if (shape->format) pr_buffer_printf(b, ",\"encoding_format\":\"%s\"", shape->format);
    pr_buffer_append_char(b, '}');
}

static bool prepare(const load_shape *shape, load_body *body)
{
    pr_buffer json, *out = &body->request;
    pr_buffer_init(&json);
    if (body->raw) {
        pr_buffer_append(&json, body->raw, body->n_raw);
    } else {
        append_embeddings(shape, body, &json);
    }
    pr_buffer_printf(out, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n",
                     shape->path, shape->host);
    if (shape->key) pr_buffer_printf(out, "Authorization: Bearer %s\r\n", shape->key);
    pr_buffer_printf(out, "Content-Length: %zu\r\n\r\n", json.n);
    pr_buffer_append(out, json.data, json.n);
    bool is_made = !json.failed && !out->failed;
    pr_buffer_deinit(&json);
    return is_made;
}

static bool append(const load_body *body, uint64_t id, pr_buffer *out)
{
    (void)id;
    return pr_buffer_append(out, body->request.data, body->request.n);
}

/* The value of a header [*n]; NULL: there is no such header. head: [n_head], a status line and
 * headers, each with its line's end. */
static const char *header_find(const char *head, size_t n_head, const char *name, size_t *n)
{
    size_t n_name = strlen(name);
    const char *end = head + n_head, *line = head;
    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        line++;
        if ((size_t)(end - line) <= n_name || line[n_name] != ':' ||
            strncasecmp(line, name, n_name) != 0) {
            continue;
        }
        const char *value = line + n_name + 1;
        while (value < end && *value == ' ') value++;
        const char *stop = memchr(value, '\r', (size_t)(end - value));
        *n = stop ? (size_t)(stop - value) : 0;
        return value;
    }
    return NULL;
}

/* What differs between two answers to one request, its id and its time, stands before the data. */
static void body_of_answer(const char *body, size_t n, load_answer *out)
{
    const char *data = memmem(body, n, "\"data\"", 6);
    out->body = data ? data : body;
    out->n = n - (size_t)(out->body - body);
}

static int64_t take(const char *bytes, size_t n, load_answer *out)
{
    size_t n_value;
    const char *head_end = memmem(bytes, n, "\r\n\r\n", 4);
    if (!head_end) return n > HEADERS_BYTES_MAX ? LOAD_NOT_AN_ANSWER : 0;
    size_t n_head = (size_t)(head_end - bytes) + 4;
    if (n_head < 16 || memcmp(bytes, "HTTP/1.1 ", 9) != 0) return LOAD_NOT_AN_ANSWER;
    const char *length = header_find(bytes, n_head, "Content-Length", &n_value);
    if (!length) return LOAD_NOT_AN_ANSWER;
    size_t n_body = strtoull(length, NULL, 10);
    if (n - n_head < n_body) return 0;
    const char *connection = header_find(bytes, n_head, "Connection", &n_value);
    out->status = atoi(bytes + 9);
    out->closes = connection && n_value == 5 && strncasecmp(connection, "close", 5) == 0;
    body_of_answer(bytes + n_head, n_body, out);
    return (int64_t)(n_head + n_body);
}

const load_protocol load_http = {.prepare = prepare, .append = append, .take = take};
