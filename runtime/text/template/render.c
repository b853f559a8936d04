#include "runtime/text/template/render.h"

#include "runtime/base/number.h"
#include "runtime/text/template/value_text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAIL_BYTES = 4096, MESSAGE_BYTES_MAX = 1 << 20 };

const char *pr_exc_name(pr_exc exc)
{
    static const char *const names[] = {
        [PR_EXC_NONE] = "",
        [PR_EXC_TEMPLATE] = "TemplateError",
        [PR_EXC_SYNTAX] = "TemplateSyntaxError",
        [PR_EXC_ASSERTION] = "TemplateAssertionError",
        [PR_EXC_RUNTIME] = "TemplateRuntimeError",
        [PR_EXC_UNDEFINED] = "UndefinedError",
        [PR_EXC_SECURITY] = "SecurityError",
        [PR_EXC_FILTER_ARGUMENT] = "FilterArgumentError",
        [PR_EXC_TYPE] = "TypeError",
        [PR_EXC_VALUE] = "ValueError",
        [PR_EXC_KEY] = "KeyError",
        [PR_EXC_INDEX] = "IndexError",
        [PR_EXC_ATTRIBUTE] = "AttributeError",
        [PR_EXC_ZERO_DIVISION] = "ZeroDivisionError",
        [PR_EXC_OVERFLOW] = "OverflowError",
        [PR_EXC_PYTHON_ASSERTION] = "AssertionError",
        [PR_EXC_RECURSION] = "RecursionError",
        [PR_EXC_UNSUPPORTED] = "Unsupported",
        [PR_EXC_BOUND] = "Bound",
        [PR_EXC_NOMEM] = "NoMemory",
    };
    static_assert(sizeof names / sizeof *names == PR_EXC_COUNT, "one name per exception");
    return names[exc];
}

void *pr_render_alloc(pr_render *r, size_t n)
{
    if (n > r->limits.memory_bytes - r->bytes) {
        pr_raise(r, PR_EXC_BOUND, "the rendering takes more than %zu bytes of memory",
                 r->limits.memory_bytes);
        return NULL;
    }
    void *p = pr_arena_alloc(r->arena, n ? n : 1);
    if (!p) {
        pr_raise(r, PR_EXC_NOMEM, "no memory: %zu bytes", n);
        return NULL;
    }
    r->bytes += n;
    return p;
}

void *pr_render_array(pr_render *r, size_t n_items, size_t item_bytes)
{
    size_t n = 0;
    if (__builtin_mul_overflow(n_items, item_bytes, &n)) n = SIZE_MAX;
    return pr_render_alloc(r, n);
}

bool pr_render_work(pr_render *r, size_t n_steps)
{
    if (n_steps > r->n_steps) {
        r->n_steps = 0;
        return pr_raise(r, PR_EXC_BOUND, "the rendering takes more than %zu steps",
                        r->limits.n_steps);
    }
    r->n_steps -= n_steps;
    return true;
}

bool pr_render_write(pr_render *r, const char *s, size_t n)
{
    if (n > r->limits.output_bytes - r->out.n) {
        return pr_raise(r, PR_EXC_BOUND, "the rendered text has more than %zu bytes",
                        r->limits.output_bytes);
    }
    if (!pr_buffer_append(&r->out, s, n)) {
        return pr_raise(r, PR_EXC_NOMEM, "no memory: %zu bytes", r->out.n + n);
    }
    return true;
}

bool pr_render_captured(pr_render *r, size_t begin, pr_value *out)
{
    assert(begin <= r->out.n);
    const char *text = r->out.n > begin ? r->out.data + begin : "";
    if (!pr_render_str(r, text, r->out.n - begin, out)) return false;
    r->out.n = begin;
    return true;
}

bool pr_render_str(pr_render *r, const char *s, size_t n, pr_value *out)
{
    if (n == 0) {
        *out = pr_value_str("", 0);
        return true;
    }
    if (n > UINT32_MAX) return pr_raise(r, PR_EXC_BOUND, "a string of %zu bytes", n);
    char *copy = pr_render_alloc(r, n);
    if (!copy) return false;
    memcpy(copy, s, n);
    *out = pr_value_str(copy, n);
    return true;
}

bool pr_render_buffer(pr_render *r, const pr_buffer *b, pr_value *out)
{
    if (b->failed) return pr_raise(r, PR_EXC_NOMEM, "no memory: %zu bytes", b->n);
    return pr_render_str(r, b->data, b->n, out);
}

bool pr_render_printf(pr_render *r, pr_value *out, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = pr_text_format(text, sizeof text, fmt, args);
    va_end(args);
    assert(n >= 0);
    if ((size_t)n < sizeof text) return pr_render_str(r, text, (size_t)n, out);
    char *longer = pr_render_alloc(r, (size_t)n + 1);
    if (!longer) return false;
    va_start(args, fmt);
    pr_text_format(longer, (size_t)n + 1, fmt, args);
    va_end(args);
    *out = pr_value_str(longer, (size_t)n);
    return true;
}

bool pr_render_concat(pr_render *r, pr_value a, pr_value b, pr_value *out)
{
    size_t n = (size_t)a.n + b.n;
    if (n > UINT32_MAX) return pr_raise(r, PR_EXC_BOUND, "a string of %zu bytes", n);
    if (b.n == 0 || a.n == 0) {
        *out = pr_value_str(b.n ? b.u.s : a.u.s, n);
        return true;
    }
    if (r->tail && a.u.s + a.n == r->tail + r->tail_used && b.n <= r->tail_max - r->tail_used) {
        memcpy(r->tail + r->tail_used, b.u.s, b.n);
        r->tail_used += b.n;
        *out = pr_value_str(a.u.s, n);
        return true;
    }
    /* A new block, with room to double: short strings share one. */
    if (!r->tail || n > r->tail_max - r->tail_used) {
        size_t block = n < TAIL_BYTES / 2 ? TAIL_BYTES : 2 * n;
        char *tail = pr_render_alloc(r, block);
        if (!tail) return false;
        r->tail = tail;
        r->tail_max = block;
        r->tail_used = 0;
    }
    char *to = r->tail + r->tail_used;
    memcpy(to, a.u.s, a.n);
    memcpy(to + a.n, b.u.s, b.n);
    r->tail_used += n;
    *out = pr_value_str(to, n);
    return pr_render_work(r, n / 64);
}

bool pr_raise_text(pr_render *r, pr_exc exc, const char *message, size_t n)
{
    r->exc = exc;
    pr_buffer_clear(&r->message);
    pr_buffer_append(&r->message, message, n < MESSAGE_BYTES_MAX ? n : MESSAGE_BYTES_MAX);
    return false;
}

bool pr_raise(pr_render *r, pr_exc exc, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = pr_text_format(text, sizeof text, fmt, args);
    va_end(args);
    assert(n >= 0);
    if ((size_t)n >= sizeof text) n = (int)sizeof text - 1;
    return pr_raise_text(r, exc, text, (size_t)n);
}

bool pr_raise_repr(pr_render *r, pr_exc exc, const char *fmt, pr_value v)
{
    pr_buffer text, message;
    pr_buffer_init(&text);
    pr_buffer_init(&message);
    if (pr_value_repr(r, v, &text)) {
        const char *s = pr_buffer_str(&text);
        pr_buffer_printf(&message, fmt, s ? s : "");
        pr_raise_text(r, exc, message.data, message.n);
    }
    pr_buffer_deinit(&text);
    pr_buffer_deinit(&message);
    return false;
}

/* "'dict object'", and "None" without "object". */
static void undefined_owner(pr_value obj, char *out, size_t n_max)
{
    const char *type = pr_value_type(obj);
    if (obj.kind == PR_V_NONE)
        snprintf(out, n_max, "None");
    else if (obj.kind == PR_V_NAMESPACE || obj.kind == PR_V_CYCLER || obj.kind == PR_V_JOINER)
        snprintf(out, n_max, "jinja2.utils.%s object", type);
    else if (obj.kind == PR_V_MACRO || obj.kind == PR_V_LOOP)
        snprintf(out, n_max, "jinja2.runtime.%s object", type);
    else if (obj.kind == PR_V_STR && obj.flag == PR_FLAG_MARKUP)
        snprintf(out, n_max, "markupsafe.Markup object");
    else
        snprintf(out, n_max, "%s object", type);
}

bool pr_raise_undefined(pr_render *r, pr_value v)
{
    assert(v.kind == PR_V_UNDEFINED);
    if (v.flag == PR_FLAG_NAME) {
        return pr_raise_repr(r, PR_EXC_UNDEFINED, "%s is undefined", pr_value_str(v.u.s, v.n));
    }
    const pr_undefined *u = v.u.undefined;
    pr_exc exc = u->security ? PR_EXC_SECURITY : PR_EXC_UNDEFINED;
    if (u->hint.n) return pr_raise_text(r, exc, u->hint.u.s, u->hint.n);
    char owner[96], fmt[128];
    undefined_owner(u->obj, owner, sizeof owner);
    snprintf(fmt, sizeof fmt,
             u->name.kind == PR_V_STR ? "'%s' has no attribute %%s" : "%s has no element %%s",
             owner);
    return pr_raise_repr(r, exc, fmt, u->name);
}
