#include "server/http/http_exchange.h"

#include "runtime/base/json_write.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pr_http_exchange_init(pr_http_exchange *x, pr_service *service, const pr_metrics *metrics)
{
    memset(x, 0, sizeof *x);
    x->service = service;
    x->metrics = metrics;
    x->key_name = "";
    pr_call_init(&x->call);
    pr_buffer_init(&x->answer.body);
}

void pr_http_exchange_deinit(pr_http_exchange *x)
{
    pr_call_deinit(&x->call);
    free(x->call.items);
    x->call.items = NULL;
    x->call.n_items = 0;
    if (x->params) x->params_free(x->params);
    x->params = NULL;
    json_decref(x->json);
    x->json = NULL;
    json_decref(x->whole);
    x->whole = NULL;
    pr_buffer_deinit(&x->answer.body);
}

void pr_http_answer_header(pr_http_answer *answer, const char *name, const char *value)
{
    assert(answer->n_headers < PR_HTTP_HEADERS_MAX);
    pr_http_header *header = &answer->headers[answer->n_headers++];
    header->name = name;
    snprintf(header->value, sizeof header->value, "%s", value);
}

void pr_http_exchange_error(pr_http_exchange *x, int http_status, const char *type,
                            const pr_error *err, const char *param, uint32_t retry_after_s)
{
    const pr_status_row *row = pr_status_describe(err->status);
    pr_http_answer *answer = &x->answer;
    answer->status = http_status ? http_status : row->http_status;
    answer->content_type = "application/json";
    pr_buffer_clear(&answer->body);
    pr_http_error_write(&answer->body, answer->status, type ? type : row->http_type, err->message,
                        param);
    if (answer->body.failed) { /* the status line has to do */
        pr_buffer_clear(&answer->body);
        answer->content_type = NULL;
    }
    if (retry_after_s > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", (unsigned)retry_after_s);
        pr_http_answer_header(answer, "Retry-After", seconds);
    }
    if (answer->status == 401) pr_http_answer_header(answer, "WWW-Authenticate", "Bearer");
}

void pr_http_error_write(pr_buffer *b, int http_status, const char *type, const char *message,
                         const char *param)
{
    pr_buffer_append_str(b, "{\"error\":{\"message\":");
    pr_json_write_str(b, message, strlen(message));
    pr_buffer_append_str(b, ",\"type\":");
    pr_json_write_str(b, type, strlen(type));
    pr_buffer_append_str(b, ",\"param\":");
    if (param) {
        pr_json_write_str(b, param, strlen(param));
    } else {
        pr_buffer_append_str(b, "null");
    }
    pr_buffer_append_str(b, ",\"code\":");
    pr_json_write_int(b, http_status);
    pr_buffer_append_str(b, "}}");
}
