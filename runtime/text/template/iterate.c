#include "runtime/text/template/iterate.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/methods.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"

#include <string.h>

static int next_list(pr_render *r, pr_iter *it, pr_value *out)
{
    (void)r;
    const pr_list *list = it->source.u.list;
    if (it->at >= list->n) return PR_ITER_END;
    *out = list->items[it->at++];
    return PR_ITER_ITEM;
}

static int next_str(pr_render *r, pr_iter *it, pr_value *out)
{
    (void)r;
    if (it->at >= it->source.n) return PR_ITER_END;
    size_t width = pr_utf8_width((unsigned char)it->source.u.s[it->at]);
    *out = pr_str_part(it->source, it->at, it->at + width);
    out->flag = 0; /* iterating over Markup gives plain strings */
    it->at += width;
    return PR_ITER_ITEM;
}

static int next_dict(pr_render *r, pr_iter *it, pr_value *out)
{
    const pr_dict *d = it->source.u.dict;
    if (it->at >= d->n) return PR_ITER_END;
    const pr_pair *pair = &d->pairs[it->at++];
    int view = it->source.kind == PR_V_VIEW ? it->source.flag : PR_VIEW_KEYS;
    if (view == PR_VIEW_ITEMS) {
        return pr_value_pair(r, pair->key, pair->value, out) ? PR_ITER_ITEM : PR_ITER_RAISED;
    }
    *out = view == PR_VIEW_KEYS ? pair->key : pair->value;
    return PR_ITER_ITEM;
}

static int next_range(pr_render *r, pr_iter *it, pr_value *out)
{
    (void)r;
    const pr_range *range = it->source.u.range;
    if (it->at >= range->n) return PR_ITER_END;
    *out = pr_value_int(range->start + (int64_t)it->at++ * range->step);
    return PR_ITER_ITEM;
}

static int next_nothing(pr_render *r, pr_iter *it, pr_value *out)
{
    (void)r;
    (void)it;
    (void)out;
    return PR_ITER_END;
}

static int next_iter(pr_render *r, pr_iter *it, pr_value *out)
{
    return pr_iter_next(r, it->source.u.iter, out);
}

static int next_loop(pr_render *r, pr_iter *it, pr_value *out)
{
    pr_value item;
    int got = pr_loop_next(r, it->source.u.loop, &item);
    if (got != PR_ITER_ITEM) return got;
    return pr_value_pair(r, item, it->source, out) ? PR_ITER_ITEM : PR_ITER_RAISED;
}

static int (*next_of(pr_value v))(pr_render *, pr_iter *, pr_value *)
{
    switch (v.kind) {
    case PR_V_LIST:
    case PR_V_TUPLE:
        return next_list;
    case PR_V_STR:
        return next_str;
    case PR_V_DICT:
    case PR_V_VIEW:
        return next_dict;
    case PR_V_RANGE:
        return next_range;
    case PR_V_UNDEFINED:
        return next_nothing;
    case PR_V_ITER:
        return next_iter;
    case PR_V_LOOP:
        return next_loop;
    default:
        return NULL;
    }
}

bool pr_value_iterable(pr_value v)
{
    return next_of(v) != NULL;
}

bool pr_iter_begin(pr_render *r, pr_value v, pr_iter *it)
{
    *it = (pr_iter){.next = next_of(v), .type = "iterator", .source = v};
    if (it->next) return true;
    return pr_raise(r, PR_EXC_TYPE, "'%s' object is not iterable", pr_value_type(v));
}

int pr_iter_next(pr_render *r, pr_iter *it, pr_value *out)
{
    if (it->done) return PR_ITER_END;
    if (!pr_render_step(r)) return PR_ITER_RAISED;
    pr_value item; /* *out stays as it was at the end */
    int got = it->next(r, it, &item);
    if (got == PR_ITER_ITEM)
        *out = item;
    else
        it->done = true;
    return got;
}

const char *pr_iter_type(const pr_iter *it)
{
    return it->type;
}

bool pr_iter_value(pr_render *r, pr_iter it, pr_value *out)
{
    pr_iter *copy = pr_render_alloc(r, sizeof *copy);
    if (!copy) return false;
    *copy = it;
    *out = (pr_value){.kind = PR_V_ITER, .u.iter = copy};
    return true;
}

bool pr_iter_list(pr_render *r, pr_value v, pr_kind kind, pr_value *out)
{
    if (v.kind == PR_V_LIST || v.kind == PR_V_TUPLE) {
        return pr_value_list_of(r, kind, v.u.list->items, v.u.list->n, out);
    }
    pr_iter it;
    pr_values list = {0};
    pr_value item;
    int got = 0;
    if (!pr_iter_begin(r, v, &it)) return false;
    while ((got = pr_iter_next(r, &it, &item)) == PR_ITER_ITEM) {
        if (!pr_values_add(r, &list, item)) return false;
    }
    return got == PR_ITER_END && pr_value_list_of(r, kind, list.items, list.n, out);
}

bool pr_value_at(pr_render *r, pr_value v, size_t i, pr_value *out)
{
    const pr_pair *pair = NULL;
    size_t begin = 0;
    switch (v.kind) {
    case PR_V_LIST:
    case PR_V_TUPLE:
        *out = v.u.list->items[i];
        return true;
    case PR_V_RANGE:
        *out = pr_value_int(v.u.range->start + (int64_t)i * v.u.range->step);
        return true;
    case PR_V_STR:
        begin = pr_str_offset(v, i);
        *out = pr_str_part(v, begin, begin + pr_utf8_width((unsigned char)v.u.s[begin]));
        return pr_render_work(r, begin / 64);
    default:
        pair = &v.u.dict->pairs[i];
        if (v.kind == PR_V_VIEW && v.flag == PR_VIEW_ITEMS) {
            return pr_value_pair(r, pair->key, pair->value, out);
        }
        *out = v.kind == PR_V_VIEW && v.flag == PR_VIEW_VALUES ? pair->value : pair->key;
        return true;
    }
}

static int next_reversed(pr_render *r, pr_iter *it, pr_value *out)
{
    if (it->at == 0) return PR_ITER_END;
    return pr_value_at(r, it->source, --it->at, out) ? PR_ITER_ITEM : PR_ITER_RAISED;
}

bool pr_iter_reversed(pr_render *r, pr_value v, pr_value *out)
{
    static const char *const types[PR_V_KIND_COUNT] = {
        [PR_V_UNDEFINED] = "reversed", /* an empty one */
        [PR_V_STR] = "reversed",         [PR_V_LIST] = "list_reverseiterator",
        [PR_V_TUPLE] = "reversed",       [PR_V_DICT] = "dict_reversekeyiterator",
        [PR_V_RANGE] = "range_iterator", [PR_V_VIEW] = "dict_reverseitemiterator",
    };
    size_t n = 0;
    if (!types[v.kind]) {
        return pr_raise(r, PR_EXC_TYPE, "'%s' object is not reversible", pr_value_type(v));
    }
    if (!pr_value_len(r, v, &n)) return false;
    if (v.kind == PR_V_STR && !pr_iter_list(r, v, PR_V_TUPLE, &v)) return false;
    pr_iter it = {.next = next_reversed, .type = types[v.kind], .source = v, .at = n};
    return pr_iter_value(r, it, out);
}

int pr_loop_next(pr_render *r, pr_loop *loop, pr_value *out)
{
    pr_value item = loop->after;
    int got = PR_ITER_ITEM;
    if (item.kind == PR_V_MISSING) got = pr_iter_next(r, loop->iter, &item);
    if (got != PR_ITER_ITEM) return got;
    loop->after = (pr_value){0};
    loop->index0++;
    loop->before = loop->current;
    loop->current = item;
    *out = item;
    return PR_ITER_ITEM;
}

/* The next item, which stays the next one; PR_V_MISSING at the end. */
static bool peek(pr_render *r, pr_loop *loop)
{
    if (loop->after.kind != PR_V_MISSING) return true;
    return pr_iter_next(r, loop->iter, &loop->after) != PR_ITER_RAISED;
}

bool pr_loop_length(pr_render *r, pr_loop *loop, size_t *out)
{
    if (!loop->length_known) {
        bool sized = loop->iterable.kind != PR_V_ITER;
        if (sized && !pr_value_len(r, loop->iterable, &loop->length)) return false;
        if (!sized) { /* what is left is computed now */
            pr_value rest, source = {.kind = PR_V_ITER, .u.iter = loop->iter};
            if (!pr_iter_list(r, source, PR_V_LIST, &rest) || !pr_iter_begin(r, rest, loop->iter)) {
                return false;
            }
            loop->length =
                rest.u.list->n + (size_t)(loop->index0 + 1) + (loop->after.kind != PR_V_MISSING);
        }
        loop->length_known = true;
    }
    *out = loop->length;
    return true;
}

static bool undefined_hint(pr_render *r, const char *hint, pr_value *out)
{
    pr_undefined *u = pr_render_alloc(r, sizeof *u);
    if (!u) return false;
    *u = (pr_undefined){.hint = pr_value_cstr(hint)};
    *out = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
    return true;
}

typedef enum loop_attribute {
    LOOP_INDEX,
    LOOP_INDEX0,
    LOOP_FIRST,
    LOOP_LAST,
    LOOP_LENGTH,
    LOOP_REVINDEX,
    LOOP_REVINDEX0,
    LOOP_PREVITEM,
    LOOP_NEXTITEM,
    LOOP_DEPTH,
    LOOP_DEPTH0,
    LOOP_CYCLE,
    LOOP_CHANGED,
    LOOP_COUNT
} loop_attribute;

static bool loop_sized(pr_render *r, pr_loop *loop, loop_attribute what, pr_value *out)
{
    size_t n = 0;
    if (!pr_loop_length(r, loop, &n)) return false;
    int64_t less = what == LOOP_REVINDEX    ? loop->index0
                   : what == LOOP_REVINDEX0 ? loop->index0 + 1
                                            : 0;
    *out = pr_value_int((int64_t)n - less);
    return true;
}

static bool loop_get(pr_render *r, pr_value self, loop_attribute what, pr_value *out)
{
    pr_loop *loop = self.u.loop;
    switch (what) {
    case LOOP_INDEX:
        *out = pr_value_int(loop->index0 + 1);
        return true;
    case LOOP_INDEX0:
        *out = pr_value_int(loop->index0);
        return true;
    case LOOP_FIRST:
        *out = pr_value_bool(loop->index0 == 0);
        return true;
    case LOOP_LAST:
        if (!peek(r, loop)) return false;
        *out = pr_value_bool(loop->after.kind == PR_V_MISSING);
        return true;
    case LOOP_PREVITEM:
        if (loop->index0 == 0) return undefined_hint(r, "there is no previous item", out);
        *out = loop->before;
        return true;
    case LOOP_NEXTITEM:
        if (!peek(r, loop)) return false;
        if (loop->after.kind == PR_V_MISSING) {
            return undefined_hint(r, "there is no next item", out);
        }
        *out = loop->after;
        return true;
    case LOOP_DEPTH:
        *out = pr_value_int(loop->depth0 + 1);
        return true;
    case LOOP_DEPTH0:
        *out = pr_value_int(loop->depth0);
        return true;
    case LOOP_CYCLE:
        return pr_method_bind(r, self, pr_value_cstr("cycle"), out);
    case LOOP_CHANGED:
        return pr_method_bind(r, self, pr_value_cstr("changed"), out);
    default:
        return loop_sized(r, loop, what, out);
    }
}

bool pr_loop_attribute(pr_render *r, pr_value loop, pr_value name, bool *found, pr_value *out)
{
    static const char *const names[LOOP_COUNT] = {
        "index",    "index0",   "first", "last",   "length", "revindex", "revindex0",
        "previtem", "nextitem", "depth", "depth0", "cycle",  "changed"};
    *found = false;
    for (int i = 0; i < LOOP_COUNT; i++) {
        if (!pr_value_named(name, names[i])) continue;
        *found = true;
        return loop_get(r, loop, (loop_attribute)i, out);
    }
    return true;
}

bool pr_loop_repr(pr_render *r, pr_loop *loop, pr_buffer *b)
{
    size_t n = 0;
    if (!pr_loop_length(r, loop, &n)) return false;
    pr_buffer_printf(b, "<LoopContext %lld/%zu>", (long long)loop->index0 + 1, n);
    return true;
}
