/* runtime/text/template/value.h: the values that a template computes with, as Python has them.
 *
 * A value is 16 bytes and copied freely. What it points to lives in the render's memory
 * (render.h), in the parsed template, or in the caller's JSON, and is never changed once it is
 * made: the sandbox of transformers forbids append and its kin. A namespace, a cycler, a joiner
 * and the iterators are the exceptions, and belong to one render. Strings are UTF-8; what counts
 * characters counts code points.
 *
 * Integers are of 64 bits here; arithmetic that leaves them is an error that says so. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_VALUE_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct pr_render pr_render;
typedef struct pr_value pr_value;

typedef enum pr_kind {
    PR_V_MISSING, /* a slot that holds nothing; never seen by a template */
    PR_V_UNDEFINED,
    PR_V_NONE,
    PR_V_BOOL,
    PR_V_INT,
    PR_V_FLOAT,
    PR_V_STR,
    PR_V_LIST,
    PR_V_TUPLE,
    PR_V_DICT,
    PR_V_RANGE,
    PR_V_VIEW, /* keys, values or items of a dict */
    PR_V_ITER,
    PR_V_NAMESPACE,
    PR_V_MACRO,
    PR_V_METHOD, /* a method of a value */
    PR_V_GLOBAL, /* a function of the environment */
    PR_V_LOOP,
    PR_V_CYCLER,
    PR_V_JOINER,
    PR_V_KIND_COUNT
} pr_kind;

typedef struct pr_pair pr_pair;

typedef struct pr_list { /* a list or a tuple */
    size_t n;
    const pr_value *items;
} pr_list;

typedef struct pr_dict { /* in the order of insertion; keys differ from each other */
    size_t n, n_max;
    pr_pair *pairs;
} pr_dict;

typedef struct pr_range {
    int64_t start, stop, step;
    size_t n;
} pr_range;

typedef struct pr_undefined pr_undefined;
typedef struct pr_iter pr_iter;
typedef struct pr_macro pr_macro;
typedef struct pr_bound pr_bound;
typedef struct pr_loop pr_loop;
typedef struct pr_cycler pr_cycler;

enum { PR_FLAG_MARKUP = 1 };                 /* of a string: markupsafe's Markup */
enum { PR_FLAG_NAME = 0, PR_FLAG_FULL = 1 }; /* of an undefined value: its name only, or a struct */
enum { PR_VIEW_KEYS, PR_VIEW_VALUES, PR_VIEW_ITEMS }; /* of a view */

struct pr_value {
    uint8_t kind; /* pr_kind */
    uint8_t flag;
    uint32_t n; /* of a string, and of an undefined value's name: bytes */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s; /* [n], not NUL-terminated */
        const pr_list *list;
        pr_dict *dict; /* a namespace's attributes too */
        const pr_range *range;
        const pr_undefined *undefined;
        pr_iter *iter;
        const pr_macro *macro;
        const pr_bound *method;
        uint32_t global; /* index in the table of functions */
        pr_loop *loop;
        pr_cycler *cycler;
        bool *joiner; /* whether it was used; its text follows as a value */
    } u;
};

struct pr_pair {
    pr_value key, value;
};

/* Why a value is undefined. hint: n 0 when there is none; then obj has no attribute or element
 * `name`. */
struct pr_undefined {
    pr_value hint; /* a string */
    pr_value obj, name;
    bool security; /* raises SecurityError in place of UndefinedError */
};

struct pr_bound {
    pr_value self;
    uint32_t i_method; /* in methods.h's table */
};

struct pr_cycler {
    const pr_value *items;
    size_t n, at;
};

static inline pr_value pr_value_none(void)
{
    return (pr_value){.kind = PR_V_NONE};
}
static inline pr_value pr_value_bool(bool b)
{
    return (pr_value){.kind = PR_V_BOOL, .u.b = b};
}
static inline pr_value pr_value_int(int64_t i)
{
    return (pr_value){.kind = PR_V_INT, .u.i = i};
}
static inline pr_value pr_value_float(double f)
{
    return (pr_value){.kind = PR_V_FLOAT, .u.f = f};
}
static inline pr_value pr_value_str(const char *s, size_t n)
{
    return (pr_value){.kind = PR_V_STR, .n = (uint32_t)n, .u.s = s};
}
/* s: a literal, or lives as long as the value. */
pr_value pr_value_cstr(const char *s);
/* A name that no scope knows. s: [n], lives as long as the template. */
static inline pr_value pr_value_unknown(const char *s, size_t n)
{
    return (pr_value){.kind = PR_V_UNDEFINED, .n = (uint32_t)n, .u.s = s};
}

/* Whether a string is this text. */
static inline bool pr_value_named(pr_value v, const char *text)
{
    return v.n > 0 && text[0] == v.u.s[0] && strlen(text) == v.n && memcmp(text, v.u.s, v.n) == 0;
}
static inline bool pr_value_is_number(pr_value v)
{
    return v.kind == PR_V_INT || v.kind == PR_V_FLOAT || v.kind == PR_V_BOOL;
}
/* An integer or a bool. */
static inline bool pr_value_is_integral(pr_value v)
{
    return v.kind == PR_V_INT || v.kind == PR_V_BOOL;
}
static inline int64_t pr_value_as_int(pr_value v)
{
    return v.kind == PR_V_BOOL ? v.u.b : v.u.i;
}
double pr_value_as_float(pr_value v); /* of a number */

/* Python's name of the type: "str", "NoneType", … */
const char *pr_value_type(pr_value v);

/* What follows returns false with an exception raised in r (render.h), for want of memory or for
 * what Python raises; outputs are then untouched. */

/* items: [n], copied. */
bool pr_value_list(pr_render *r, pr_kind kind, const pr_value *items, size_t n, pr_value *out);
/* items: [n], borrowed by the value. */
bool pr_value_list_of(pr_render *r, pr_kind kind, const pr_value *items, size_t n, pr_value *out);
/* A pair as a tuple. */
bool pr_value_pair(pr_render *r, pr_value a, pr_value b, pr_value *out);
bool pr_value_dict(pr_render *r, size_t n_max, pr_value *out);
/* Adds or replaces. Raises TypeError for a key that has no hash. */
bool pr_dict_put(pr_render *r, pr_dict *d, pr_value key, pr_value value);
/* NULL when it is not there. Does not raise. */
const pr_pair *pr_dict_find(const pr_dict *d, pr_value key);
const pr_pair *pr_dict_find_str(const pr_dict *d, const char *s, size_t n);

/* Python's truth; never raises for the kinds here. */
bool pr_value_truth(pr_value v);
/* == ; exact between integers and floats. */
bool pr_value_equal(pr_value a, pr_value b);
/* `is` for the constants, and the same object. */
bool pr_value_same(pr_value a, pr_value b);
bool pr_value_hashable(pr_value v);
/* < 0, 0, > 0 by Python's order; raises TypeError naming op ("<", …) where there is none. An
 * unordered pair (nan) gives 2. */
bool pr_value_order(pr_render *r, const char *op, pr_value a, pr_value b, int *out);
/* len(): raises TypeError. */
bool pr_value_len(pr_render *r, pr_value v, size_t *out);

#endif
