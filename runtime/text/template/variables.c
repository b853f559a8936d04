#include "runtime/text/template/variables.h"

#include "runtime/text/template/functions.h"
#include "runtime/text/template/render.h"

#include <string.h>

static bool from_array(pr_render *r, const json_t *json, pr_value *out)
{
    size_t n = json_array_size(json);
    pr_value *items = pr_render_array(r, n, sizeof *items);
    if (!items) return false;
    for (size_t i = 0; i < n; i++) {
        if (!pr_value_from_json(r, json_array_get(json, i), &items[i])) return false;
    }
    return pr_value_list_of(r, PR_V_LIST, items, n, out);
}

static bool from_object(pr_render *r, const json_t *json, pr_value *out)
{
    json_t *object = (json_t *)json; /* jansson iterates over objects that are not const */
    if (!pr_value_dict(r, json_object_size(object), out)) return false;
    pr_dict *d = out->u.dict;
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);
        pr_pair *pair = &d->pairs[d->n++];
        pair->key = pr_value_cstr(key);
        if (!pr_value_from_json(r, json_object_iter_value(it), &pair->value)) return false;
    }
    return true;
}

bool pr_value_from_json(pr_render *r, const json_t *json, pr_value *out)
{
    if (!pr_render_step(r)) return false;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return from_object(r, json, out);
    case JSON_ARRAY:
        return from_array(r, json, out);
    case JSON_STRING:
        if (json_string_length(json) > UINT32_MAX) {
            return pr_raise(r, PR_EXC_BOUND, "a string of %zu bytes", json_string_length(json));
        }
        *out = pr_value_str(json_string_value(json), json_string_length(json));
        return true;
    case JSON_INTEGER:
        *out = pr_value_int(json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = pr_value_float(json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = pr_value_bool(json_is_true(json));
        return true;
    default:
        *out = pr_value_none();
        return true;
    }
}

bool pr_variable_find(pr_render *r, pr_value name, pr_value *out)
{
    const pr_template_input *input = r->input;
    for (size_t i = input->n_variables; i > 0; i--) {
        const pr_template_variable *v = &input->variables[i - 1];
        if (strncmp(v->name, name.u.s, name.n) != 0 || v->name[name.n] != '\0') continue;
        pr_value *value = &r->variables[i - 1];
        if (value->kind == PR_V_MISSING) {
            *value = pr_value_none();
            if (v->value && !pr_value_from_json(r, v->value, value)) return false;
        }
        *out = *value;
        return true;
    }
    if (!pr_global_find(name, out)) *out = (pr_value){0};
    return true;
}
