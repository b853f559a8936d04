/* runtime/text/template/json_text.h: a value as json.dumps writes it. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_JSON_TEXT_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_JSON_TEXT_H

#include "runtime/text/template/value.h"

/* ensure_ascii, indent (None, a number, a string), separators (None or two strings), sort_keys:
 * as json.dumps takes them. Raises TypeError for what JSON has no form for. */
bool pr_json_text(pr_render *r, pr_value v, bool ensure_ascii, pr_value indent, pr_value separators,
                  bool sort_keys, pr_value *out);

#endif
