/* server/http/http_input.h: texts and token ids of a request's body as the items of its call.
 *
 * Items borrow strings of the parsed body, and ids of the exchange's parameters; they start as
 * params->item. Called by the routes, on the thread that parses. On false the answer is an error.
 */
#ifndef POOLRANK_SERVER_HTTP_HTTP_INPUT_H
#define POOLRANK_SERVER_HTTP_HTTP_INPUT_H

#include "server/http/http_params.h"

/* x->json[key]: a text, an array of texts, or, where the server takes them, token ids or an array
 * of arrays of them. key: constant. */
bool pr_http_input_read(pr_http_exchange *x, const char *key);

/* Whether the body has messages; then they become the only item, and *ok says whether that went
 * well. Beside them x->json[key] must not be given. */
bool pr_http_messages_read(pr_http_exchange *x, const char *key, bool *ok);

/* The same for texts only. */
bool pr_http_texts_read(pr_http_exchange *x, const char *key);

/* Pairs of x->json[first] and x->json[second], each a text or an array of texts: 1:1, 1:N, N:N. */
bool pr_http_pairs_read(pr_http_exchange *x, const char *first, const char *second);

/* Pairs of one text, x->json[query], with each element of x->json[documents], a text or, where
 * takes_objects, {"text": …}. */
bool pr_http_documents_read(pr_http_exchange *x, const char *query, const char *documents,
                            bool takes_objects);

/* TEI's: a text, a pair [a, b], or an array of [a] and [a, b], each an item. */
bool pr_http_sequences_read(pr_http_exchange *x, const char *key);

/* x->json becomes its member, which is an object: what is read from then on is read there. */
bool pr_http_unwrap(pr_http_exchange *x, const char *key);

/* The text of such an element, [*n]; NULL: it is something else. */
const char *pr_http_document_text(const json_t *document, size_t *n);

/* Makes n items like params->item. False also when n is 0 or more than a request may have. */
bool pr_http_items_create(pr_http_exchange *x, const char *key, size_t n);

/* ids: [n] of an array of integers of 0 to INT32_MAX. where: for messages ("input[3]"). */
bool pr_http_ids_read(pr_http_exchange *x, const char *key, const char *where, const json_t *array,
                      int32_t *ids);

#endif
