/* server/http/http_write.h: what the answers of several routes have in common, written into the
 * answer's body.
 *
 * Called by the routes, on the thread that formats. A lack of memory is seen at the end, by
 * pr_http_exchange_format. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_WRITE_H
#define POOLRANK_SERVER_HTTP_HTTP_WRITE_H

#include "server/http/http_params.h"

/* The answer is 200 and JSON, which the caller writes into the body that is returned. */
pr_buffer *pr_http_answer_begin(pr_http_exchange *x);

/* {"id":"PREFIX-…","object":"list","created":…,"model":"…","data":[ */
pr_buffer *pr_http_list_begin(pr_http_exchange *x, const char *id_prefix);
/* ],"usage":{…}} */
void pr_http_list_end(pr_http_exchange *x);

/* {"index":i — with the comma in front; an item that failed is written whole. True: the caller
 * writes the rest of it and the brace. */
bool pr_http_item_begin(pr_http_exchange *x, size_t i);
/* ,"object":"error","error":{…}} of an item that failed. */
void pr_http_item_error(pr_http_exchange *x, size_t i);
/* The same with a status and message of the caller's. */
void pr_http_status_error(pr_http_exchange *x, pr_status st, const char *message);

uint64_t pr_http_prompt_tokens(const pr_http_exchange *x);
/* "usage":{"prompt_tokens":…} */
void pr_http_usage(pr_http_exchange *x);
/* "id":"PREFIX-…" */
void pr_http_id(pr_http_exchange *x, const char *prefix);
void pr_http_model(pr_http_exchange *x); /* "model":"…" */

/* "…": standard base64 of the floats, little-endian. */
void pr_http_base64(pr_buffer *b, const float *x, size_t n);

/* One row's floats as the request wants them: a list, or base64. */
void pr_http_row(pr_http_exchange *x, const pr_result *result);

/* The model's pooling for the task where every text has one row; false: the answer says that it has
 * more. Nothing is known while the model is being loaded: true. */
bool pr_http_one_row_check(pr_http_exchange *x, pr_task task, const char *route);

/* Indexes of results [n_items] that did not fail, best first (equal scores: the lower index first),
 * then those that failed. owned; NULL: no memory, and the answer says so. */
size_t *pr_http_order(pr_http_exchange *x, size_t *n_good);

#endif
