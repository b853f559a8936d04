#include "runtime/base/status.h"
#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_answer.h"
#include "runtime/wire/rpc_request.h"
#include "tests/bench/load_protocol.h"

#include <string.h>

/* body->request holds the items, [n_texts] pr_rpc_item: the message is packed anew under each
 * id. */
static bool prepare(const load_shape *shape, load_body *body)
{
    if (body->raw) return false;
    for (size_t i = 0; i < body->n_texts; i++) {
        const pr_rpc_item item = {.text = body->texts[i], .n_text = strlen(body->texts[i])};
        pr_buffer_append(&body->request, &item, sizeof item);
    }
    body->format = shape->format;
    return !body->request.failed;
}

static bool append(const load_body *body, uint64_t id, pr_buffer *out)
{
    pr_rpc_request request = {.kind = PR_RPC_EMBED, .id = id, .n_items = body->n_texts,
                              .items = (pr_rpc_item *)(void *)body->request.data};
    pr_rpc_params_init(&request.params);
    if (body->format &&
        !pr_rpc_format_parse(body->format, strlen(body->format), &request.params.format)) {
        return false;
    }
    return pr_rpc_request_pack(&request, out, NULL) == PR_OK;
}

static bool hello(const load_shape *shape, pr_buffer *out)
{
    const pr_rpc_hello message = {.key = shape->key, .n_key = shape->key ? strlen(shape->key) : 0,
                                  .client = "poolrank_load", .n_client = 13};
    return pr_rpc_hello_pack(&message, out, NULL) == PR_OK;
}

static bool answer_read(const char *payload, size_t n, load_answer *out)
{
    pr_rpc_answer answer;
    if (pr_rpc_answer_unpack(payload, n, &answer, NULL) != PR_OK) return false;
    out->status = answer.n_errors == 0 ? 200 : 0;
    out->body = answer.data.bytes;
    out->n = answer.data.n_rows * answer.data.n_columns * pr_rpc_format_bytes(answer.data.format);
    pr_rpc_answer_deinit(&answer);
    return true;
}

static bool error_read(const char *payload, size_t n, load_answer *out)
{
    pr_rpc_error error;
    if (pr_rpc_error_unpack(payload, n, &error, NULL) != PR_OK || !error.has_id) return false;
    out->status = pr_status_describe(error.status)->http_status;
    return true;
}

static bool message_read(const char *payload, size_t n, load_answer *out)
{
    pr_rpc_head head;
    if (pr_rpc_head_read(payload, n, &head, NULL) != PR_OK) return false;
    out->id = head.id;
    switch (head.kind) {
    case PR_RPC_HELLO:
        out->status = 200;
        return true;
    case PR_RPC_ALIVE:
        out->is_nothing = true;
        return true;
    case PR_RPC_ANSWER:
        return answer_read(payload, n, out);
    case PR_RPC_ERROR:
        return error_read(payload, n, out);
    default:
        return false;
    }
}

static int64_t take(const char *bytes, size_t n, load_answer *out)
{
    const unsigned char *b = (const unsigned char *)bytes;
    if (n < PR_FRAME_HEADER_BYTES) return 0;
    size_t n_payload = (size_t)b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
    if (n_payload > PR_FRAME_BYTES_MAX) return LOAD_NOT_AN_ANSWER;
    if (n - PR_FRAME_HEADER_BYTES < n_payload) return 0;
    if (!message_read(bytes + PR_FRAME_HEADER_BYTES, n_payload, out)) return LOAD_NOT_AN_ANSWER;
    return (int64_t)(PR_FRAME_HEADER_BYTES + n_payload);
}

const load_protocol load_socket = {
    .has_ids = true, .prepare = prepare, .append = append, .hello = hello, .take = take};
