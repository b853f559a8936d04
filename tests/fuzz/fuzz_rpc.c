/* Any bytes as what a client of the socket protocol sends, and as what a server does: refused with
 * a reason or taken, and what is taken packs to a message that unpacks to the same bytes again. */
#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_answer.h"
#include "runtime/wire/rpc_info.h"
#include "runtime/wire/rpc_request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int ok)
{
    if (!ok) abort();
}

static void request_again(const pr_rpc_request *q)
{
    pr_buffer once, twice;
    pr_rpc_request again;
    pr_buffer_init(&once);
    pr_buffer_init(&twice);
    check(pr_rpc_request_pack(q, &once, NULL) == PR_OK);
    check(pr_rpc_request_unpack(once.data + PR_FRAME_HEADER_BYTES, once.n - PR_FRAME_HEADER_BYTES,
                                q->kind, 1000, &again, NULL) == PR_OK);
    check(again.n_items == q->n_items && again.id == q->id);
    check(pr_rpc_request_pack(&again, &twice, NULL) == PR_OK);
    check(once.n == twice.n && memcmp(once.data, twice.data, once.n) == 0);
    pr_rpc_request_deinit(&again);
    pr_buffer_deinit(&once);
    pr_buffer_deinit(&twice);
}

static void from_client(const char *payload, size_t n)
{
    pr_rpc_head head;
    pr_rpc_hello hello;
    pr_rpc_request q;
    pr_error err = {0};
    if (pr_rpc_head_read(payload, n, &head, &err) != PR_OK) {
        check(err.message[0] != '\0');
        return;
    }
    if (head.kind == PR_RPC_HELLO) {
        pr_rpc_hello_unpack(payload, n, &hello, &err);
    } else if (head.kind <= PR_RPC_CANCEL) {
        if (pr_rpc_request_unpack(payload, n, head.kind, 1000, &q, &err) != PR_OK) {
            check(err.message[0] != '\0');
            return;
        }
        check(head.has_id && q.id == head.id);
        check(!pr_rpc_kind_has_items(q.kind) || q.n_items > 0);
        for (size_t i = 0; i < q.n_items; i++) check(q.items[i].text || q.items[i].tokens);
        request_again(&q);
        pr_rpc_request_deinit(&q);
    }
}

static void from_server(const char *payload, size_t n)
{
    pr_rpc_answer answer;
    pr_rpc_error error;
    pr_rpc_info info;
    if (pr_rpc_answer_unpack(payload, n, &answer, NULL) == PR_OK) pr_rpc_answer_deinit(&answer);
    pr_rpc_error_unpack(payload, n, &error, NULL);
    pr_rpc_info_unpack(payload, n, &info, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy = malloc(n ? n : 1); /* of its own size, so that a read behind it is seen */
    if (!copy) return 0;
    if (n > 0) memcpy(copy, data, n);
    from_client(copy, n);
    from_server(copy, n);
    free(copy);
    return 0;
}
