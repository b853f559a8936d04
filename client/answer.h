/* client/answer.h: what came from the server as a pr_client_answer, whose lists are its own.
 *
 * Pure but for memory. */
#ifndef POOLRANK_CLIENT_ANSWER_H
#define POOLRANK_CLIENT_ANSWER_H

#include "include/poolrank/client.h"
#include "runtime/wire/rpc_answer.h"

/* Fails PR_E_NOMEM, PR_E_INPUT (an answer that has not what it should). */
pr_status pr_client_answer_make(const pr_rpc_answer *from, pr_client_answer **out, pr_error *err);
/* Of a request that failed as a whole. */
pr_status pr_client_answer_fail(const pr_rpc_error *from, pr_client_answer **out, pr_error *err);

#endif
