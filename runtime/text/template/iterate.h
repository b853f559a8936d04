/* runtime/text/template/iterate.h: going through values one by one, and the `loop` variable.
 *
 * What Python computes when it is asked for (generators of map and select, a loop's condition) is
 * computed when it is asked for here too: what a condition sees depends on it. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_ITERATE_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_ITERATE_H

#include "runtime/base/buffer.h"
#include "runtime/text/template/value.h"

enum { PR_ITER_END = 0, PR_ITER_ITEM = 1, PR_ITER_RAISED = -1 };

struct pr_iter {
    int (*next)(pr_render *r, pr_iter *it, pr_value *out); /* PR_ITER_… */
    const char *type;                                      /* Python's name of it: "generator" */
    pr_value source;
    size_t at;
    pr_iter *from; /* what a generator draws from; NULL until it begins */
    void *state;   /* its own */
    bool done;
};

/* iter(v), in the caller's storage. Raises TypeError. */
bool pr_iter_begin(pr_render *r, pr_value v, pr_iter *it);
int pr_iter_next(pr_render *r, pr_iter *it, pr_value *out);
bool pr_value_iterable(pr_value v);
const char *pr_iter_type(const pr_iter *it);
/* A generator as a value. */
bool pr_iter_value(pr_render *r, pr_iter it, pr_value *out);
/* list(v); shares the items of a list. */
bool pr_iter_list(pr_render *r, pr_value v, pr_kind kind, pr_value *out);
/* reversed(v) of a sequence, a dict or a view; raises TypeError. */
bool pr_iter_reversed(pr_render *r, pr_value v, pr_value *out);

/* The i-th item of a list, tuple, range, string, or view; i is inside. */
bool pr_value_at(pr_render *r, pr_value v, size_t i, pr_value *out);

/* The variable `loop`. */
typedef struct pr_act pr_act;
typedef struct pr_node pr_node;
struct pr_loop {
    pr_iter *iter;
    pr_value iterable;
    pr_value after, current, before; /* PR_V_MISSING: none */
    int64_t index0;
    int64_t depth0;
    size_t length;
    bool length_known, changed_known;
    pr_value changed;       /* a tuple */
    const pr_node *recurse; /* the loop to call again; NULL when it is not recursive */
    pr_act *act;            /* where that loop stands */
};

int pr_loop_next(pr_render *r, pr_loop *loop, pr_value *out);
bool pr_loop_length(pr_render *r, pr_loop *loop, size_t *out);
/* One of its attributes; *found is false for what it does not have. */
bool pr_loop_attribute(pr_render *r, pr_value loop, pr_value name, bool *found, pr_value *out);
bool pr_loop_repr(pr_render *r, pr_loop *loop, pr_buffer *b);

/* Counts characters; here for value.c. */
size_t pr_str_count(pr_value s);

#endif
