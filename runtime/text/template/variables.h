/* runtime/text/template/variables.h: names that no scope sets: what the rendering was given, and
 * the functions of the environment. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_VARIABLES_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_VARIABLES_H

#include "runtime/base/json.h"
#include "runtime/text/template/value.h"

/* *out: PR_V_MISSING when nothing has that name. A variable is made from its JSON when it is first
 * asked for; its strings stay the JSON's. */
bool pr_variable_find(pr_render *r, pr_value name, pr_value *out);

bool pr_value_from_json(pr_render *r, const json_t *json, pr_value *out);

#endif
