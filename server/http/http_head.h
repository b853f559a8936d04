/* server/http/http_head.h: what the transport needs of a request's headers, and whether its
 * framing can be trusted.
 *
 * Plain data, borrowed from libmicrohttpd until the request is completed. Pure. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_HEAD_H
#define POOLRANK_SERVER_HTTP_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum pr_http_field {
    PR_HTTP_FIELD_AUTHORIZATION,
    PR_HTTP_FIELD_API_KEY,
    PR_HTTP_FIELD_CONTENT_TYPE,
    PR_HTTP_FIELD_CONTENT_LENGTH,
    PR_HTTP_FIELD_TRANSFER_ENCODING,
    PR_HTTP_FIELD_EXPECT,
    PR_HTTP_FIELD_ORIGIN,
    PR_HTTP_FIELD_REQUEST_ID,
    PR_HTTP_FIELD_PREFLIGHT_METHOD, /* Access-Control-Request-Method */
    PR_HTTP_FIELD_COUNT
} pr_http_field;

typedef struct pr_http_head {
    const char *text[PR_HTTP_FIELD_COUNT]; /* the first of each name, with a NUL; NULL: none */
    size_t n[PR_HTTP_FIELD_COUNT];         /* without white space at the end */
    uint64_t n_body;       /* Content-Length; 0: none, or chunked */
    bool has_body;         /* Content-Length over 0, or chunked */
    bool expects_continue; /* the client waits before it sends its body */
    const char *fault;     /* why the request's end could be taken for another one; NULL: sound */
} pr_http_head;

/* One header [n_name], [n_value]; head zeroed before the first. */
void pr_http_head_add(pr_http_head *head, const char *name, size_t n_name, const char *value,
                      size_t n_value);
/* After the last. */
void pr_http_head_end(pr_http_head *head);

#endif
