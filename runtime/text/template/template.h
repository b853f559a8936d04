/* runtime/text/template/template.h: chat templates, rendered as transformers renders them.
 *
 * The language is jinja2's in the environment of transformers' apply_chat_template: an
 * ImmutableSandboxedEnvironment with trim_blocks and lstrip_blocks, the tags break, continue and
 * generation, and transformers' own tojson, raise_exception and strftime_now. Output is the same,
 * byte for byte, and so is the text of what is raised. Template inheritance (block, extends,
 * include, import) and the few filters that make random or HTML text (random, urlize, wordwrap,
 * pprint, xmlattr, lipsum) are refused by name, with their line, when a template is parsed.
 *
 * A pr_template owns its source and its tree, and does not change after it is parsed: any number
 * of threads may render it at once. A rendering is bounded in steps, nesting, output and memory. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_TEMPLATE_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_TEMPLATE_H

#include "runtime/base/buffer.h"
#include "runtime/base/json.h"
#include "runtime/base/status.h"

#include <stdint.h>

enum {
    PR_TEMPLATE_SOURCE_BYTES_MAX = 1 << 20,
    PR_TEMPLATE_NESTING_MAX = 200, /* of statements and expressions in the source, together */
};

typedef struct pr_template pr_template;

typedef struct pr_template_limits {
    size_t n_steps;      /* evaluations, loop rounds, and bytes worked on over 64 */
    size_t n_depth;      /* nested evaluations */
    size_t output_bytes; /* of the rendered text */
    size_t memory_bytes;
} pr_template_limits;

/* 20 million steps (about a second), 1,000 levels, 64 MiB, 256 MiB. */
pr_template_limits pr_template_limits_default(void);

typedef struct pr_template_variable {
    const char *name;
    const json_t *value; /* borrowed for the rendering; NULL stands for None */
} pr_template_variable;

typedef struct pr_template_input {
    const pr_template_variable *variables; /* [n_variables]; of equal names the last counts */
    size_t n_variables;
    int64_t now_us;                   /* strftime_now's clock: microseconds since 1970, UTC */
    const pr_template_limits *limits; /* NULL: the default ones */
} pr_template_input;

/* What was raised, whole: a pr_error cuts it. The caller's storage; deinit releases it. */
typedef struct pr_template_failure {
    const char *kind; /* the name of the exception's class in Python, "UndefinedError"; "Bound" for
                         a limit, "Unsupported" for what jinja2 has and this does not; a literal */
    uint32_t line;    /* of the template, from 1 */
    pr_buffer message;
} pr_template_failure;

void pr_template_failure_init(pr_template_failure *f);
void pr_template_failure_deinit(pr_template_failure *f);

/* source: [n], UTF-8, copied. *out: owned, release with pr_template_free. failure may be NULL.
 * Fails PR_E_MODEL, "line N: TemplateSyntaxError: …", when it is no template or uses what is not
 * supported; PR_E_NOMEM. */
pr_status pr_template_parse(const char *source, size_t n, pr_template **out,
                            pr_template_failure *failure, pr_error *err);
void pr_template_free(pr_template *t);

/* Appends the text to out, nothing on failure. failure may be NULL.
 * Fails PR_E_INPUT: what the template raises (raise_exception's text alone; else
 * "line N: UndefinedError: …"), or a limit; PR_E_NOMEM. */
pr_status pr_template_render(const pr_template *t, const pr_template_input *input, pr_buffer *out,
                             pr_template_failure *failure, pr_error *err);

#endif
