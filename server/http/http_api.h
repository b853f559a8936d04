/* server/http/http_api.h: the routes, one file a family: how each reads its body and writes its
 * answer.
 *
 * Only server/http/http_route.c calls them. parse: body → call's items, or the answer; false: an
 * error is the answer. format: results, of which none failed unless on_error is per_item, → answer.
 * */
#ifndef POOLRANK_SERVER_HTTP_HTTP_API_H
#define POOLRANK_SERVER_HTTP_HTTP_API_H

#include "server/http/http_exchange.h"

bool pr_http_embeddings_parse(pr_http_exchange *x);
void pr_http_embeddings_format(pr_http_exchange *x);
bool pr_http_pooling_parse(pr_http_exchange *x);
void pr_http_pooling_format(pr_http_exchange *x);
bool pr_http_classify_parse(pr_http_exchange *x);
void pr_http_classify_format(pr_http_exchange *x);
bool pr_http_score_parse(pr_http_exchange *x);
void pr_http_score_format(pr_http_exchange *x);
bool pr_http_rerank_parse(pr_http_exchange *x); /* TEI's body too */
void pr_http_rerank_format(pr_http_exchange *x);
bool pr_http_reward_parse(pr_http_exchange *x);
void pr_http_reward_format(pr_http_exchange *x);
bool pr_http_tokenize_parse(pr_http_exchange *x);
void pr_http_tokenize_format(pr_http_exchange *x);
bool pr_http_detokenize_parse(pr_http_exchange *x);
void pr_http_detokenize_format(pr_http_exchange *x);

/* text-embeddings-inference, Cohere */
bool pr_http_tei_embed_parse(pr_http_exchange *x);
void pr_http_tei_embed_format(pr_http_exchange *x);
bool pr_http_predict_parse(pr_http_exchange *x);
void pr_http_predict_format(pr_http_exchange *x);
bool pr_http_similarity_parse(pr_http_exchange *x);
void pr_http_similarity_format(pr_http_exchange *x);
bool pr_http_root_parse(pr_http_exchange *x);        /* one of these by the body's shape */
bool pr_http_invocations_parse(pr_http_exchange *x); /* SageMaker: any route by the body's shape */
bool pr_http_sparse(pr_http_exchange *x);            /* refused by name */
bool pr_http_cohere_embed_parse(pr_http_exchange *x);
void pr_http_cohere_embed_format(pr_http_exchange *x);

/* Without a body; loop thread. */
bool pr_http_models(pr_http_exchange *x);
bool pr_http_model_of(pr_http_exchange *x); /* /v1/models/NAME */
bool pr_http_ready(pr_http_exchange *x);
bool pr_http_live(pr_http_exchange *x);
bool pr_http_version(pr_http_exchange *x);
bool pr_http_metrics(pr_http_exchange *x);
bool pr_http_load(pr_http_exchange *x);
bool pr_http_info(pr_http_exchange *x); /* TEI's */

#endif
