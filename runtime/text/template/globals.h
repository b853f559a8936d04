/* runtime/text/template/globals.h: the functions of the environment: range, dict, namespace,
 * cycler, joiner, raise_exception, strftime_now. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_GLOBALS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_GLOBALS_H

#include "runtime/text/template/functions.h"

extern const pr_function pr_globals[];
extern const size_t pr_n_globals;

/* Whether Python's is a class (dict, namespace, …), not a function. */
bool pr_global_is_type(uint32_t i);
/* dict[…] is dict again, an alias of it for annotations. */
bool pr_global_is_dict(uint32_t i);

bool pr_joiner_call(pr_render *r, pr_value joiner, pr_value *out);

#endif
