#include "runtime/text/template/operators.h"

#include "runtime/text/template/ast.h"
#include "runtime/text/template/format.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/lexer.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"

#include <math.h>
#include <string.h>

static const char *op_name(int op)
{
    return op == PR_T_POW ? "** or pow()" : pr_token_describe((pr_tok)op);
}

static bool raise_operands(pr_render *r, int op, pr_value a, pr_value b)
{
    return pr_raise(r, PR_EXC_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'",
                    op_name(op), pr_value_type(a), pr_value_type(b));
}

static bool raise_wide(pr_render *r)
{
    return pr_raise(r, PR_EXC_BOUND, "an integer of more than 64 bits");
}

static bool floor_divide(pr_render *r, int op, int64_t x, int64_t y, pr_value *out)
{
    if (y == 0) {
        return pr_raise(r, PR_EXC_ZERO_DIVISION,
                        op == PR_T_MOD   ? "integer modulo by zero"
                        : op == PR_T_DIV ? "division by zero"
                                         : "integer division or modulo by zero");
    }
    if (op == PR_T_DIV) {
        *out = pr_value_float((double)x / (double)y);
        return true;
    }
    if (y == -1) { /* INT64_MIN / -1 does not fit */
        if (op == PR_T_FLOORDIV && x == INT64_MIN) return raise_wide(r);
        *out = pr_value_int(op == PR_T_MOD ? 0 : -x);
        return true;
    }
    int64_t quotient = x / y, rest = x % y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
        quotient--;
        rest += y;
    }
    *out = pr_value_int(op == PR_T_MOD ? rest : quotient);
    return true;
}

static bool power_int(pr_render *r, int64_t x, int64_t y, pr_value *out)
{
    if (y < 0) {
        if (x == 0) {
            return pr_raise(r, PR_EXC_ZERO_DIVISION, "0.0 cannot be raised to a negative power");
        }
        *out = pr_value_float(pow((double)x, (double)y));
        return true;
    }
    int64_t power = 1;
    for (; y > 0; y >>= 1) {
        if (y & 1 && __builtin_mul_overflow(power, x, &power)) return raise_wide(r);
        if (y > 1 && __builtin_mul_overflow(x, x, &x)) return raise_wide(r);
    }
    *out = pr_value_int(power);
    return true;
}

static bool operate_ints(pr_render *r, int op, int64_t x, int64_t y, pr_value *out)
{
    int64_t result = 0;
    bool wide = false;
    switch (op) {
    case PR_T_ADD:
        wide = __builtin_add_overflow(x, y, &result);
        break;
    case PR_T_SUB:
        wide = __builtin_sub_overflow(x, y, &result);
        break;
    case PR_T_MUL:
        wide = __builtin_mul_overflow(x, y, &result);
        break;
    case PR_T_POW:
        return power_int(r, x, y, out);
    default:
        return floor_divide(r, op, x, y, out);
    }
    if (wide) return raise_wide(r);
    *out = pr_value_int(result);
    return true;
}

static bool power_float(pr_render *r, double x, double y, pr_value *out)
{
    if (x == 0 && y < 0) {
        return pr_raise(r, PR_EXC_ZERO_DIVISION, "0.0 cannot be raised to a negative power");
    }
    if (x < 0 && y != floor(y) && isfinite(y)) {
        return pr_raise(r, PR_EXC_UNSUPPORTED, "a complex number");
    }
    double power = pow(x, y);
    if (isinf(power) && isfinite(x) && isfinite(y)) {
        return pr_raise(r, PR_EXC_OVERFLOW, "(34, 'Numerical result out of range')");
    }
    *out = pr_value_float(power);
    return true;
}

static bool operate_floats(pr_render *r, int op, double x, double y, pr_value *out)
{
    double rest = 0;
    switch (op) {
    case PR_T_ADD:
        *out = pr_value_float(x + y);
        return true;
    case PR_T_SUB:
        *out = pr_value_float(x - y);
        return true;
    case PR_T_MUL:
        *out = pr_value_float(x * y);
        return true;
    case PR_T_POW:
        return power_float(r, x, y, out);
    default:
        break;
    }
    if (y == 0) {
        return pr_raise(r, PR_EXC_ZERO_DIVISION,
                        op == PR_T_DIV   ? "float division by zero"
                        : op == PR_T_MOD ? "float modulo"
                                         : "float floor division by zero");
    }
    if (op == PR_T_DIV) {
        *out = pr_value_float(x / y);
        return true;
    }
    rest = fmod(x, y);
    if (rest != 0 && (rest < 0) != (y < 0)) rest += y;
    if (rest == 0) rest = copysign(0, y);
    double whole = floor((x - rest) / y + 0.5);
    *out = pr_value_float(op == PR_T_MOD ? rest : whole);
    return true;
}

/* Markup keeps being Markup: what is added to it is escaped. */
static bool add_strings(pr_render *r, pr_value a, pr_value b, pr_value *out)
{
    uint8_t flag = (a.flag | b.flag) & PR_FLAG_MARKUP;
    if (flag && (!pr_str_escape(r, a, &a) || !pr_str_escape(r, b, &b))) return false;
    if (!pr_render_concat(r, a, b, out)) return false;
    out->flag = flag;
    return true;
}

static bool add_lists(pr_render *r, pr_value a, pr_value b, pr_value *out)
{
    size_t n = a.u.list->n + b.u.list->n;
    pr_value *items = pr_render_array(r, n, sizeof *items);
    if (!items || !pr_render_work(r, n / 16)) return false;
    if (a.u.list->n) memcpy(items, a.u.list->items, a.u.list->n * sizeof *items);
    if (b.u.list->n) memcpy(items + a.u.list->n, b.u.list->items, b.u.list->n * sizeof *items);
    return pr_value_list_of(r, (pr_kind)a.kind, items, n, out);
}

static bool is_sequence(pr_value v)
{
    return v.kind == PR_V_STR || v.kind == PR_V_LIST || v.kind == PR_V_TUPLE;
}

static bool add(pr_render *r, pr_value a, pr_value b, pr_value *out)
{
    if (a.kind == PR_V_STR && b.kind == PR_V_STR) return add_strings(r, a, b, out);
    if (a.kind == b.kind && (a.kind == PR_V_LIST || a.kind == PR_V_TUPLE)) {
        return add_lists(r, a, b, out);
    }
    if (is_sequence(a) && !(a.flag & PR_FLAG_MARKUP)) {
        return pr_raise(r, PR_EXC_TYPE, "can only concatenate %s (not \"%s\") to %s",
                        pr_value_type(a), pr_value_type(b), pr_value_type(a));
    }
    return raise_operands(r, PR_T_ADD, a, b);
}

static bool multiply(pr_render *r, pr_value a, pr_value b, pr_value *out)
{
    if (!is_sequence(a) && is_sequence(b)) {
        pr_value swap = a;
        a = b;
        b = swap;
    }
    if (!is_sequence(a)) return raise_operands(r, PR_T_MUL, a, b);
    if (!pr_value_is_integral(b)) {
        return pr_raise(r, PR_EXC_TYPE, "can't multiply sequence by non-int of type '%s'",
                        pr_value_type(b));
    }
    int64_t times = pr_value_as_int(b);
    if (a.kind == PR_V_STR) return pr_str_repeat(r, a, times, out);
    size_t each = a.u.list->n, n = 0;
    if (times < 0) times = 0;
    if (__builtin_mul_overflow((size_t)times, each, &n)) n = SIZE_MAX;
    pr_value *items = pr_render_array(r, n, sizeof *items);
    if (!items || !pr_render_work(r, n / 16)) return false;
    for (size_t i = 0; i < n; i++) items[i] = a.u.list->items[i % each];
    return pr_value_list_of(r, (pr_kind)a.kind, items, n, out);
}

bool pr_operate(pr_render *r, int op, pr_value a, pr_value b, pr_value *out)
{
    if (pr_value_is_integral(a) && pr_value_is_integral(b)) {
        return operate_ints(r, op, pr_value_as_int(a), pr_value_as_int(b), out);
    }
    if (pr_value_is_number(a) && pr_value_is_number(b)) {
        return operate_floats(r, op, pr_value_as_float(a), pr_value_as_float(b), out);
    }
    if (op == PR_T_MOD && a.kind == PR_V_STR) return pr_format_percent(r, a, b, out);
    if (a.kind == PR_V_UNDEFINED) return pr_raise_undefined(r, a);
    if (b.kind == PR_V_UNDEFINED) return pr_raise_undefined(r, b);
    if (op == PR_T_ADD) return add(r, a, b, out);
    if (op == PR_T_MUL) return multiply(r, a, b, out);
    return raise_operands(r, op, a, b);
}

bool pr_negate(pr_render *r, pr_value v, bool plus, pr_value *out)
{
    if (v.kind == PR_V_UNDEFINED) return pr_raise_undefined(r, v);
    if (v.kind == PR_V_FLOAT) {
        *out = pr_value_float(plus ? v.u.f : -v.u.f);
        return true;
    }
    if (!pr_value_is_integral(v)) {
        return pr_raise(r, PR_EXC_TYPE, "bad operand type for unary %s: '%s'", plus ? "+" : "-",
                        pr_value_type(v));
    }
    int64_t i = pr_value_as_int(v);
    if (!plus && i == INT64_MIN) return raise_wide(r);
    *out = pr_value_int(plus ? i : -i);
    return true;
}

bool pr_contains(pr_render *r, pr_value all, pr_value item, bool *out)
{
    pr_iter it;
    pr_value each;
    int got = 0;
    switch (all.kind) {
    case PR_V_STR:
        if (item.kind != PR_V_STR) {
            return pr_raise(r, PR_EXC_TYPE, "'in <string>' requires string as left operand, not %s",
                            pr_value_type(item));
        }
        *out = pr_str_find(all, item, 0) != SIZE_MAX;
        return pr_render_work(r, all.n / 64);
    case PR_V_VIEW:
        if (all.flag != PR_VIEW_KEYS) break;
        /* fallthrough */
    case PR_V_DICT:
        if (!pr_value_hashable(item)) {
            return pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", pr_value_type(item));
        }
        *out = pr_dict_find(all.u.dict, item) != NULL;
        return pr_render_work(r, all.u.dict->n / 16);
    default:
        break;
    }
    if (!pr_value_iterable(all)) {
        return pr_raise(r, PR_EXC_TYPE, "argument of type '%s' is not iterable",
                        pr_value_type(all));
    }
    *out = false;
    if (!pr_iter_begin(r, all, &it)) return false;
    while ((got = pr_iter_next(r, &it, &each)) == PR_ITER_ITEM) {
        if (!pr_value_equal(each, item)) continue;
        *out = true;
        return true;
    }
    return got == PR_ITER_END;
}

bool pr_compare_values(pr_render *r, int op, pr_value a, pr_value b, bool *out)
{
    static const char *const names[] = {
        [PR_CMP_LT] = "<", [PR_CMP_LTEQ] = "<=", [PR_CMP_GT] = ">", [PR_CMP_GTEQ] = ">="};
    int order = 0;
    switch (op) {
    case PR_CMP_EQ:
    case PR_CMP_NE:
        *out = pr_value_equal(a, b) == (op == PR_CMP_EQ);
        return pr_render_step(r);
    case PR_CMP_IN:
    case PR_CMP_NOT_IN:
        if (!pr_contains(r, b, a, out)) return false;
        *out ^= op == PR_CMP_NOT_IN;
        return true;
    default:
        break;
    }
    if (!pr_value_order(r, names[op], a, b, &order)) return false;
    *out = order != 2 && (op == PR_CMP_LT     ? order < 0
                          : op == PR_CMP_LTEQ ? order <= 0
                          : op == PR_CMP_GT   ? order > 0
                                              : order >= 0);
    return true;
}
