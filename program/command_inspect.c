/* inspect: what is understood of a model, as a table or as JSON. */
#include "program/command.h"
#include "coordinator/engine/engine_inspect.h"
#include "runtime/base/buffer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_COLUMNS = 28, VALUE_COLUMNS = 24, ITEMS_SHOWN = 12 };

static void value_write(const json_t *value, pr_buffer *out)
{
    if (json_is_string(value)) {
        pr_buffer_append_str(out, json_string_value(value));
        return;
    }
    if (json_is_array(value)) {
        size_t n = json_array_size(value);
        for (size_t i = 0; i < n && i < ITEMS_SHOWN; i++) {
            if (i) pr_buffer_append_str(out, ", ");
            value_write(json_array_get(value, i), out);
        }
        if (n > ITEMS_SHOWN) pr_buffer_printf(out, ", … (%zu in all)", n);
        if (n == 0) pr_buffer_append_str(out, "none");
        return;
    }
    if (json_is_null(value)) {
        pr_buffer_append_str(out, "-");
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    pr_buffer_append_str(out, text ? text : "");
    free(text);
}

/* "key value" of each member on one line: an element of a table. */
static void members_write(const json_t *object, int indent, pr_buffer *out)
{
    const char *key;
    json_t *item;
    const char *between = "";
    pr_buffer_printf(out, "%*s", indent, "");
    json_object_foreach((json_t *)object, key, item)
    {
        pr_buffer_printf(out, "%s%s ", between, key);
        value_write(item, out);
        between = ", ";
    }
    pr_buffer_append_char(out, '\n');
}

/* "name   value   (source)"; an object becomes a heading with its own lines below, and so does an
 * array of objects. */
static void entry_write(const char *name, const json_t *value, int depth, pr_buffer *out)
{
    int indent = 2 * depth;
    const json_t *source = json_object_get(value, "source");
    if (json_is_object(value) && !source) {
        pr_buffer_printf(out, "%*s%s\n", indent, "", name);
        const char *key;
        json_t *item;
        json_object_foreach((json_t *)value, key, item) entry_write(key, item, depth + 1, out);
        return;
    }
    if (json_is_object(json_array_get(value, 0))) {
        pr_buffer_printf(out, "%*s%s\n", indent, "", name);
        for (size_t i = 0; i < json_array_size(value); i++) {
            members_write(json_array_get(value, i), indent + 2, out);
        }
        return;
    }
    pr_buffer_printf(out, "%*s%-*s", indent, "", NAME_COLUMNS - indent, name);
    size_t begin = out->n;
    value_write(source ? json_object_get(value, "value") : value, out);
    if (strstr(name, "_bytes") && json_is_integer(value)) {
        pr_buffer_printf(out, "  (%.1f MB)", (double)json_integer_value(value) / 1e6);
    }
    if (source) {
        int n_written = (int)(out->n - begin);
        int n_pad = n_written < VALUE_COLUMNS ? VALUE_COLUMNS - n_written : 1;
        pr_buffer_printf(out, "%*s(%s)", n_pad, "", json_string_value(source));
    }
    pr_buffer_append_char(out, '\n');
}

static void description_write(const json_t *description, bool is_json, pr_buffer *out)
{
    if (is_json) {
        char *text = json_dumps(description, JSON_COMPACT | JSON_REAL_PRECISION(9));
        if (!text) out->failed = true;
        pr_buffer_append_str(out, text ? text : "");
        pr_buffer_append_char(out, '\n');
        free(text);
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)description, key, value) entry_write(key, value, 0, out);
}

/* The exit status that the finding of --check-finite calls for. */
static int finite_exit(const json_t *description, pr_error *err)
{
    const json_t *finite = json_object_get(description, "weights_finite");
    const json_t *first = json_object_get(finite, "first");
    if (!json_is_object(first)) return PR_EXIT_DONE;
    pr_error_set(err, PR_E_MODEL,
                 "%lld of %lld tensors are not finite, the first: %s, element %lld (%lld of its "
                 "elements are not)",
                 (long long)json_integer_value(json_object_get(finite, "not_finite")),
                 (long long)json_integer_value(json_object_get(finite, "tensors")),
                 json_string_value(json_object_get(first, "name")),
                 (long long)json_integer_value(json_object_get(first, "element")),
                 (long long)json_integer_value(json_object_get(first, "count")));
    return PR_EXIT_FAILED;
}

int pr_command_inspect_run(const pr_command_context *context, pr_error *err)
{
    if (context->n_texts > 0) {
        pr_error_set(err, PR_E_ARGUMENT, "found the text \"%.40s\", expected only a model",
                     context->texts[0]);
        return PR_EXIT_MISTAKE;
    }
    json_t *description = NULL;
    pr_status st = pr_engine_inspect(context->config, &description, err);
    if (st != PR_OK) return pr_command_exit(st);
    int exit_status = PR_EXIT_DONE;
    pr_buffer text;
    pr_buffer_init(&text);
    description_write(description, context->config->json, &text);
    if (text.failed) {
        pr_error_nomem(err, "description", text.n);
        exit_status = PR_EXIT_FAILED;
    } else if (fwrite(text.data, 1, text.n, stdout) != text.n || fflush(stdout) != 0) {
        pr_error_errno(err, errno, "write standard output");
        exit_status = PR_EXIT_FAILED;
    } else {
        exit_status = finite_exit(description, err);
    }
    pr_buffer_deinit(&text);
    json_decref(description);
    return exit_status;
}
