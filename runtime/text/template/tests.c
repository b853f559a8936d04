#include "runtime/text/template/tests.h"

#include "runtime/text/template/ast.h"
#include "runtime/text/template/call.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/lexer.h"
#include "runtime/text/template/methods.h"
#include "runtime/text/template/operators.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

static bool answer(bool b, pr_value *out)
{
    *out = pr_value_bool(b);
    return true;
}

static bool test_defined(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind != PR_V_UNDEFINED, out);
}

static bool test_undefined(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_UNDEFINED, out);
}

static bool test_none(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_NONE, out);
}

static bool test_boolean(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_BOOL, out);
}

static bool test_true(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_BOOL && argv[0].u.b, out);
}

static bool test_false(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_BOOL && !argv[0].u.b, out);
}

static bool test_integer(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_INT, out);
}

static bool test_float(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_FLOAT, out);
}

static bool test_number(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(pr_value_is_number(argv[0]), out);
}

static bool test_string(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_STR, out);
}

static bool test_mapping(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_DICT, out);
}

/* What has a length and __getitem__; jinja2's Undefined has both, a view has no items by index. */
static bool test_sequence(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    switch (argv[0].kind) {
    case PR_V_UNDEFINED:
    case PR_V_STR:
    case PR_V_LIST:
    case PR_V_TUPLE:
    case PR_V_DICT:
    case PR_V_RANGE:
        return answer(true, out);
    default:
        return answer(false, out);
    }
}

static bool test_iterable(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(pr_value_iterable(argv[0]), out);
}

static bool test_callable(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(pr_value_callable(argv[0]), out);
}

static bool test_escaped(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(argv[0].kind == PR_V_STR && argv[0].flag & PR_FLAG_MARKUP, out);
}

static bool test_sameas(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return answer(pr_value_same(argv[0], argv[1]), out);
}

static bool modulo(pr_render *r, pr_value v, pr_value by, int64_t wanted, pr_value *out)
{
    pr_value rest;
    if (!pr_operate(r, PR_T_MOD, v, by, &rest)) return false;
    return answer(pr_value_equal(rest, pr_value_int(wanted)), out);
}

static bool test_odd(pr_render *r, const pr_value *argv, pr_value *out)
{
    return modulo(r, argv[0], pr_value_int(2), 1, out);
}

static bool test_even(pr_render *r, const pr_value *argv, pr_value *out)
{
    return modulo(r, argv[0], pr_value_int(2), 0, out);
}

static bool test_divisibleby(pr_render *r, const pr_value *argv, pr_value *out)
{
    return modulo(r, argv[0], argv[1], 0, out);
}

static bool test_method(pr_render *r, pr_value v, const char *name, pr_value *out)
{
    pr_value text, method;
    pr_actual none = {0};
    if (!pr_value_to_str(r, v, &text)) return false;
    return pr_method_bind(r, text, pr_value_cstr(name), &method) &&
           pr_value_call(r, method, &none, out);
}

static bool test_lower(pr_render *r, const pr_value *argv, pr_value *out)
{
    return test_method(r, argv[0], "islower", out);
}

static bool test_upper(pr_render *r, const pr_value *argv, pr_value *out)
{
    return test_method(r, argv[0], "isupper", out);
}

static bool test_filter(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!pr_value_hashable(argv[0])) {
        return pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", pr_value_type(argv[0]));
    }
    return answer(pr_filter_find(argv[0]) != PR_FUNCTION_NONE, out);
}

static bool test_test(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!pr_value_hashable(argv[0])) {
        return pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", pr_value_type(argv[0]));
    }
    return answer(pr_test_find(argv[0]) != PR_FUNCTION_NONE, out);
}

static bool test_in(pr_render *r, const pr_value *argv, pr_value *out)
{
    bool found = false;
    return pr_contains(r, argv[1], argv[0], &found) && answer(found, out);
}

static bool compare(pr_render *r, int op, const pr_value *argv, pr_value *out)
{
    bool result = false;
    return pr_compare_values(r, op, argv[0], argv[1], &result) && answer(result, out);
}

static bool test_eq(pr_render *r, const pr_value *argv, pr_value *out)
{
    return compare(r, PR_CMP_EQ, argv, out);
}

static bool test_ne(pr_render *r, const pr_value *argv, pr_value *out)
{
    return compare(r, PR_CMP_NE, argv, out);
}

static bool test_gt(pr_render *r, const pr_value *argv, pr_value *out)
{
    return compare(r, PR_CMP_GT, argv, out);
}

static bool test_ge(pr_render *r, const pr_value *argv, pr_value *out)
{
    return compare(r, PR_CMP_GTEQ, argv, out);
}

static bool test_lt(pr_render *r, const pr_value *argv, pr_value *out)
{
    return compare(r, PR_CMP_LT, argv, out);
}

static bool test_le(pr_render *r, const pr_value *argv, pr_value *out)
{
    return compare(r, PR_CMP_LTEQ, argv, out);
}

#define ONE(name, function)                                                                        \
    {                                                                                              \
        name, "test_" name, PR_STYLE_PYTHON, 1, {"value"}, function, NULL                          \
    }
#define OPERATOR(name, python, function)                                                           \
    {                                                                                              \
        name, python, PR_STYLE_C, 2, {"a", "b"}, function, NULL                                    \
    }

const pr_function pr_tests[] = {
    ONE("defined", test_defined),
    ONE("undefined", test_undefined),
    ONE("none", test_none),
    ONE("string", test_string),
    ONE("mapping", test_mapping),
    ONE("iterable", test_iterable),
    ONE("sequence", test_sequence),
    ONE("boolean", test_boolean),
    ONE("true", test_true),
    ONE("false", test_false),
    ONE("integer", test_integer),
    ONE("float", test_float),
    ONE("number", test_number),
    ONE("odd", test_odd),
    ONE("even", test_even),
    ONE("lower", test_lower),
    ONE("upper", test_upper),
    ONE("escaped", test_escaped),
    ONE("callable", test_callable),
    {"filter", "test_filter", PR_STYLE_PYTHON, 1, {"value"}, test_filter, NULL},
    {"test", "test_test", PR_STYLE_PYTHON, 1, {"value"}, test_test, NULL},
    {"divisibleby",
     "test_divisibleby",
     PR_STYLE_PYTHON,
     2,
     {"value", "num"},
     test_divisibleby,
     NULL},
    {"sameas", "test_sameas", PR_STYLE_PYTHON, 2, {"value", "other"}, test_sameas, NULL},
    {"in", "test_in", PR_STYLE_PYTHON, 2, {"value", "seq"}, test_in, NULL},
    OPERATOR("==", "eq", test_eq),
    OPERATOR("eq", "eq", test_eq),
    OPERATOR("equalto", "eq", test_eq),
    OPERATOR("!=", "ne", test_ne),
    OPERATOR("ne", "ne", test_ne),
    OPERATOR(">", "gt", test_gt),
    OPERATOR("gt", "gt", test_gt),
    OPERATOR("greaterthan", "gt", test_gt),
    OPERATOR("ge", "ge", test_ge),
    OPERATOR(">=", "ge", test_ge),
    OPERATOR("<", "lt", test_lt),
    OPERATOR("lt", "lt", test_lt),
    OPERATOR("lessthan", "lt", test_lt),
    OPERATOR("<=", "le", test_le),
    OPERATOR("le", "le", test_le),
};
const size_t pr_n_tests = sizeof pr_tests / sizeof *pr_tests;
