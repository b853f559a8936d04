/* server/socket/socket_answer.h: the results of a call as an answer of the socket protocol.
 *
 * Pure but for memory; any thread. */
#ifndef POOLRANK_SERVER_SOCKET_SOCKET_ANSWER_H
#define POOLRANK_SERVER_SOCKET_SOCKET_ANSWER_H

#include "coordinator/model/model.h"
#include "runtime/base/buffer.h"
#include "runtime/wire/rpc_request.h"
#include "server/service/call.h"

/* call: done, with a result for each item. Appends one frame. Fails with the first item's error
 * (*i_item says which; else -1) unless the request takes them one by one; PR_E_TOO_LARGE,
 * PR_E_NOMEM. */
pr_status pr_socket_answer_pack(const pr_rpc_request *request, const pr_call *call,
                                const pr_model *model, pr_buffer *out, int64_t *i_item,
                                pr_error *err);

/* About how many bytes of numbers that answer has. */
size_t pr_socket_answer_bytes(const pr_call *call);

#endif
