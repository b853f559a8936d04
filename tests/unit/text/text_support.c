#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void to_quotes(pr_buffer *b)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->data[i] == '\'') b->data[i] = '"';
    }
}

json_t *support_json(const char *text)
{
    pr_error err;
    pr_buffer b = {0};
    json_t *value = NULL;
    pr_buffer_append_str(&b, text);
    to_quotes(&b);
    if (pr_json_parse(b.data, b.n, "test", &value, &err) != PR_OK) fail_msg("%s", err.message);
    pr_buffer_deinit(&b);
    return value;
}

static pr_status parse(const char *members, pr_tokenizer **out, pr_error *err)
{
    pr_buffer b = {0};
    pr_buffer_append_str(&b, "{");
    pr_buffer_append_str(&b, members);
    pr_buffer_append_str(&b, "}");
    to_quotes(&b);
    pr_status st = pr_tokenizer_parse(b.data, b.n, "test", out, err);
    pr_buffer_deinit(&b);
    return st;
}

pr_tokenizer *support_tokenizer(const char *members)
{
    pr_error err;
    pr_tokenizer *t = NULL;
    if (parse(members, &t, &err) != PR_OK) fail_msg("%s", err.message);
    return t;
}

pr_status support_refusal(const char *members, pr_error *err)
{
    pr_tokenizer *t = NULL;
    pr_status st = parse(members, &t, err);
    assert_null(t);
    return st;
}

const char *support_show(const int32_t *ids, size_t n, char *buffer, size_t n_buffer)
{
    size_t used = 0;
    buffer[0] = '\0';
    for (size_t i = 0; i < n && used < n_buffer; i++) {
        used += (size_t)snprintf(buffer + used, n_buffer - used, i ? " %d" : "%d", ids[i]);
    }
    return buffer;
}

const char *support_encode(const pr_tokenizer *t, const char *text, char *buffer, size_t n_buffer)
{
    pr_error err;
    pr_ids ids = {0};
    if (pr_tokenizer_encode(t, text, strlen(text), &ids, &err) == PR_OK) {
        support_show(ids.ids, ids.n, buffer, n_buffer);
    } else {
        snprintf(buffer, n_buffer, "error: %s", err.message);
    }
    pr_ids_deinit(&ids);
    return buffer;
}

const char *support_decode(const pr_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                           char *buffer, size_t n_buffer)
{
    pr_error err;
    pr_buffer text = {0};
    if (pr_tokenizer_decode(t, ids, n, skip_special, &text, &err) == PR_OK) {
        snprintf(buffer, n_buffer, "%.*s", (int)text.n, text.n ? text.data : "");
    } else {
        snprintf(buffer, n_buffer, "error: %s", err.message);
    }
    pr_buffer_deinit(&text);
    return buffer;
}
