/* runtime/text/template/render.h: one rendering: its memory, its output, its bounds, and the
 * exception that ends it.
 *
 * Owns everything that the rendering makes. One thread. What can raise returns false, with the
 * exception kept here; nobody continues after that. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_RENDER_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_RENDER_H

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"
#include "runtime/text/template/template.h"
#include "runtime/text/template/value.h"

typedef enum pr_exc {
    PR_EXC_NONE,
    PR_EXC_TEMPLATE,  /* TemplateError: raise_exception */
    PR_EXC_SYNTAX,    /* TemplateSyntaxError */
    PR_EXC_ASSERTION, /* TemplateAssertionError */
    PR_EXC_RUNTIME,   /* TemplateRuntimeError */
    PR_EXC_UNDEFINED, /* UndefinedError */
    PR_EXC_SECURITY,
    PR_EXC_FILTER_ARGUMENT,
    PR_EXC_TYPE,
    PR_EXC_VALUE,
    PR_EXC_KEY,
    PR_EXC_INDEX,
    PR_EXC_ATTRIBUTE,
    PR_EXC_ZERO_DIVISION,
    PR_EXC_OVERFLOW,
    PR_EXC_PYTHON_ASSERTION, /* AssertionError */
    PR_EXC_RECURSION,        /* nested deeper than the limit */
    PR_EXC_UNSUPPORTED,      /* ours: jinja2 has it, poolrank does not */
    PR_EXC_BOUND,            /* ours: a limit of template.h */
    PR_EXC_NOMEM,
    PR_EXC_COUNT
} pr_exc;

/* The name of its class in Python; "Unsupported", "Bound" and "NoMemory" for ours. */
const char *pr_exc_name(pr_exc exc);

struct pr_render {
    pr_arena *arena;
    pr_buffer out; /* what was written; captures stack on its end */
    const struct pr_ast *ast;
    const pr_template_input *input;
    pr_template_limits limits;
    pr_value *variables; /* [input->n_variables]: those that were asked for; PR_V_MISSING */
    size_t bytes;        /* of memory handed out */
    size_t n_steps;      /* left */
    size_t depth;        /* of nested evaluations */
    char *tail;          /* the block that joined strings grow in, see pr_render_concat */
    size_t tail_used;    /* bytes of it in use */
    size_t tail_max;
    uint32_t line; /* of what is being evaluated */
    pr_exc exc;
    pr_buffer message; /* of the exception */
};

/* Memory of the rendering, not cleared; NULL with PR_EXC_BOUND or PR_EXC_NOMEM raised. */
void *pr_render_alloc(pr_render *r, size_t n);
/* n_items × item_bytes, with the overflow checked. */
void *pr_render_array(pr_render *r, size_t n_items, size_t item_bytes);

/* Counts n_steps of work; false with PR_EXC_BOUND raised when none are left. */
bool pr_render_work(pr_render *r, size_t n_steps);
static inline bool pr_render_step(pr_render *r)
{
    if (r->n_steps == 0) return pr_render_work(r, 1);
    r->n_steps--;
    return true;
}

/* Writes to the output; false with an exception raised when it is full. */
bool pr_render_write(pr_render *r, const char *s, size_t n);
/* Cuts the output at `begin` and gives what stood behind it as a string. */
bool pr_render_captured(pr_render *r, size_t begin, pr_value *out);

/* A copy as a string value. */
bool pr_render_str(pr_render *r, const char *s, size_t n, pr_value *out);
/* b's contents as a string value; also when appending to b failed, as an exception. */
bool pr_render_buffer(pr_render *r, const pr_buffer *b, pr_value *out);
bool pr_render_printf(pr_render *r, pr_value *out, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* a ~ b. A string that grows by being joined to is extended in place where nothing stands behind
 * it, so that building one piece by piece costs its length. */
bool pr_render_concat(pr_render *r, pr_value a, pr_value b, pr_value *out);

/* Raises; always false. */
bool pr_raise(pr_render *r, pr_exc exc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* message: [n]. */
bool pr_raise_text(pr_render *r, pr_exc exc, const char *message, size_t n);
/* "NAME() …: " style messages need the value's repr: fmt with one %s for it. */
bool pr_raise_repr(pr_render *r, pr_exc exc, const char *fmt, pr_value v)
    __attribute__((format(printf, 3, 0)));
/* The exception of using an undefined value. */
bool pr_raise_undefined(pr_render *r, pr_value v);

#endif
