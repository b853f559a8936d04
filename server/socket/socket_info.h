/* server/socket/socket_info.h: what the server of the socket protocol says of itself and its model.
 *
 * Loop thread only. */
#ifndef POOLRANK_SERVER_SOCKET_SOCKET_INFO_H
#define POOLRANK_SERVER_SOCKET_SOCKET_INFO_H

#include "runtime/base/buffer.h"
#include "server/socket/socket_state.h"

/* kind: HELLO or INFO. Append one frame each. */
pr_status pr_socket_info_pack(const pr_socket_shared *shared, pr_rpc_kind kind, uint64_t id,
                              pr_buffer *out, pr_error *err);
pr_status pr_socket_stats_pack(const pr_socket_shared *shared, uint64_t id, pr_buffer *out,
                               pr_error *err);

#endif
