#include "runtime/text/template/call.h"

#include "runtime/text/template/eval.h"
#include "runtime/text/template/globals.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/methods.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/value_text.h"

#include <stdio.h>
#include <string.h>

pr_act *pr_act_create(pr_render *r, pr_act *parent, size_t n_slots)
{
    pr_act *act = pr_render_alloc(r, sizeof *act + n_slots * sizeof *act->slots);
    if (!act) return NULL;
    act->parent = parent;
    memset(act->slots, 0, n_slots * sizeof *act->slots); /* PR_V_MISSING */
    return act;
}

/* Keywords that are taken one by one: which ones are left. */
typedef struct keywords {
    const pr_actual *args;
    bool *taken; /* [args->n_keywords] */
} keywords;

static bool take(keywords *k, pr_value name, pr_value *out)
{
    for (size_t i = 0; i < k->args->n_keywords; i++) {
        if (k->taken[i] || !pr_value_same(k->args->keywords[i].key, name)) continue;
        k->taken[i] = true;
        *out = k->args->keywords[i].value;
        return true;
    }
    return false;
}

static bool undefined_parameter(pr_render *r, pr_value name, pr_value *out)
{
    pr_undefined *u = pr_render_alloc(r, sizeof *u);
    if (!u) return false;
    *u = (pr_undefined){.name = name};
    *out = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
    return pr_render_printf(r, &u->hint, "parameter '%.*s' was not provided", (int)name.n,
                            name.u.s);
}

static bool set_caller(pr_render *r, const pr_macro_code *code, keywords *k, pr_act *act)
{
    pr_value caller = pr_value_none();
    take(k, pr_value_cstr("caller"), &caller);
    if (caller.kind == PR_V_NONE) {
        pr_undefined *u = pr_render_alloc(r, sizeof *u);
        if (!u) return false;
        *u = (pr_undefined){.hint = pr_value_cstr("No caller defined")};
        caller = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
    }
    act->slots[code->caller] = caller;
    return true;
}

static bool macro_name(pr_render *r, const pr_macro_code *code, pr_buffer *b)
{
    return pr_value_repr(r, code->name, b);
}

static bool raise_macro(pr_render *r, const pr_macro_code *code, const char *what, pr_value name)
{
    pr_buffer b;
    pr_buffer_init(&b);
    pr_buffer_append_str(&b, "macro ");
    bool ok = macro_name(r, code, &b);
    pr_buffer_append_str(&b, what);
    if (ok && name.kind == PR_V_STR) pr_str_repr(name.u.s, name.n, false, &b);
    if (ok) pr_raise_text(r, PR_EXC_TYPE, b.data, b.n);
    pr_buffer_deinit(&b);
    return false;
}

/* What is left of the keywords: into `kwargs`, or an error. */
static bool set_kwargs(pr_render *r, const pr_macro_code *code, const keywords *k, pr_act *act)
{
    pr_value rest = pr_value_none();
    const pr_value *first = NULL;
    bool caller = false;
    if (code->kwargs != PR_NO_SLOT && !pr_value_dict(r, k->args->n_keywords, &rest)) return false;
    for (size_t i = 0; i < k->args->n_keywords; i++) {
        const pr_pair *pair = &k->args->keywords[i];
        if (k->taken[i]) continue;
        if (!first) first = &pair->key;
        caller |= pr_value_same(pair->key, pr_value_cstr("caller"));
        if (rest.kind == PR_V_DICT && !pr_dict_put(r, rest.u.dict, pair->key, pair->value)) {
            return false;
        }
    }
    if (rest.kind == PR_V_DICT) {
        act->slots[code->kwargs] = rest;
        return true;
    }
    if (!first) return true;
    if (caller) {
        return raise_macro(r, code,
                           " was invoked with two values for the special caller argument. "
                           "This is most likely a bug.",
                           pr_value_none());
    }
    return raise_macro(r, code, " takes no keyword argument ", *first);
}

static bool set_varargs(pr_render *r, const pr_macro_code *code, const pr_actual *args, pr_act *act)
{
    size_t n = args->n > code->n_args ? args->n - code->n_args : 0;
    if (code->varargs != PR_NO_SLOT) {
        return pr_value_list(r, PR_V_TUPLE, n ? args->items + code->n_args : NULL, n,
                             &act->slots[code->varargs]);
    }
    if (n == 0) return true;
    char text[64];
    snprintf(text, sizeof text, " takes not more than %u argument(s)", code->n_args);
    return raise_macro(r, code, text, pr_value_none());
}

static bool set_defaults(pr_render *r, const pr_macro_code *code, pr_act *act)
{
    uint32_t first = code->n_args - code->n_defaults;
    for (uint32_t i = 0; i < code->n_args; i++) {
        pr_value *slot = &act->slots[code->slots[i]];
        if (slot->kind != PR_V_MISSING) continue;
        pr_value v;
        bool ok = i >= first ? pr_eval(r, act, code->defaults[i - first], &v)
                             : undefined_parameter(r, code->args[i]->value, &v);
        if (!ok) return false;
        *slot = v;
    }
    return true;
}

static bool macro_bind(pr_render *r, const pr_macro_code *code, const pr_actual *args, pr_act *act)
{
    bool taken[16] = {0};
    keywords k = {.args = args, .taken = taken};
    bool found_caller = code->explicit_caller;
    if (args->n_keywords > sizeof taken) {
        k.taken = pr_render_array(r, args->n_keywords, sizeof *k.taken);
        if (!k.taken) return false;
        memset(k.taken, 0, args->n_keywords * sizeof *k.taken);
    }
    for (uint32_t i = 0; i < code->n_args; i++) {
        pr_value *slot = &act->slots[code->slots[i]];
        if (i < args->n)
            *slot = args->items[i];
        else
            take(&k, code->args[i]->value, slot);
    }
    if (code->caller != PR_NO_SLOT && !found_caller && !set_caller(r, code, &k, act)) return false;
    return set_kwargs(r, code, &k, act) && set_varargs(r, code, args, act);
}

static bool macro_call(pr_render *r, const pr_macro *macro, const pr_actual *args, pr_value *out)
{
    const pr_macro_code *code = macro->code;
    pr_act *act = pr_act_create(r, macro->act, code->n_slots);
    size_t begin = r->out.n;
    if (!act || !macro_bind(r, code, args, act) || !pr_scope_enter(r, act, &code->scope) ||
        !set_defaults(r, code, act)) {
        return false;
    }
    if (pr_exec(r, act, code->body) == PR_FLOW_RAISED) return false;
    return pr_render_captured(r, begin, out);
}

static bool loop_call(pr_render *r, pr_loop *loop, const pr_actual *args, pr_value *out)
{
    if (args->n != 1 || args->n_keywords) {
        return pr_raise(r, PR_EXC_TYPE,
                        "LoopContext.__call__() takes 2 positional arguments but "
                        "%zu were given",
                        args->n + 1);
    }
    if (!loop->recurse) {
        return pr_raise(r, PR_EXC_TYPE,
                        "The loop must have the 'recursive' marker to be called recursively.");
    }
    return pr_loop_run(r, loop->act, loop->recurse, args->items[0], loop->depth0 + 1, out);
}

bool pr_value_callable(pr_value v)
{
    return v.kind == PR_V_MACRO || v.kind == PR_V_METHOD || v.kind == PR_V_GLOBAL ||
           v.kind == PR_V_LOOP || v.kind == PR_V_JOINER || v.kind == PR_V_UNDEFINED;
}

static bool call_inside(pr_render *r, pr_value callee, const pr_actual *args, pr_value *out)
{
    switch (callee.kind) {
    case PR_V_MACRO:
        return macro_call(r, callee.u.macro, args, out);
    case PR_V_METHOD:
        return pr_method_call(r, callee.u.method, args, out);
    case PR_V_GLOBAL:
        return pr_global_call(r, callee.u.global, args, out);
    case PR_V_LOOP:
        return loop_call(r, callee.u.loop, args, out);
    case PR_V_JOINER:
        return pr_joiner_call(r, callee, out);
    case PR_V_UNDEFINED:
        return pr_raise_undefined(r, callee);
    default:
        return pr_raise(r, PR_EXC_TYPE, "'%s' object is not callable", pr_value_type(callee));
    }
}

bool pr_value_call(pr_render *r, pr_value callee, const pr_actual *args, pr_value *out)
{
    if (!pr_eval_enter(r)) return false;
    bool ok = call_inside(r, callee, args, out);
    r->depth--;
    return ok;
}

bool pr_macro_repr(const pr_macro *macro, pr_buffer *b)
{
    pr_value name = macro->code->name;
    pr_buffer_append_str(b, "<Macro ");
    if (name.kind == PR_V_STR)
        pr_str_repr(name.u.s, name.n, false, b);
    else
        pr_buffer_append_str(b, "anonymous");
    pr_buffer_append_char(b, '>');
    return true;
}

bool pr_macro_attribute(pr_render *r, const pr_macro *macro, pr_value name, bool *found,
                        pr_value *out)
{
    const pr_macro_code *code = macro->code;
    static const char *const names[] = {"name", "arguments", "catch_kwargs", "catch_varargs",
                                        "caller"};
    size_t i = 0, n = sizeof names / sizeof *names;
    while (i < n && !pr_value_named(name, names[i])) i++;
    *found = i < n;
    if (!*found) return true;
    if (i == 0) *out = code->name;
    if (i == 2) *out = pr_value_bool(code->kwargs != PR_NO_SLOT);
    if (i == 3) *out = pr_value_bool(code->varargs != PR_NO_SLOT);
    if (i == 4) *out = pr_value_bool(code->caller != PR_NO_SLOT);
    if (i != 1) return true;
    pr_value *items = pr_render_array(r, code->n_args, sizeof *items);
    if (!items) return false;
    for (uint32_t k = 0; k < code->n_args; k++) items[k] = code->args[k]->value;
    return pr_value_list_of(r, PR_V_TUPLE, items, code->n_args, out);
}
