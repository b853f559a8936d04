#include "runtime/base/json.h"

#include "runtime/base/file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* jansson's own bound on nesting is 2048 at compile time: more stack than a pool thread should
 * give. This pass looks at brackets outside strings only; jansson judges everything else. */
static bool depth_ok(const char *data, size_t n)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > PR_JSON_DEPTH_MAX) return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

static pr_status parse(const char *data, size_t n, const char *where, size_t flags, json_t **out,
                       pr_error *err)
{
    assert(out);
    if (!depth_ok(data, n)) {
        return pr_error_set(err, PR_E_MODEL, "%s: nested deeper than %d levels", where,
                            PR_JSON_DEPTH_MAX);
    }
    json_error_t je;
    json_t *value = json_loadb(n ? data : "", n, JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &je);
    if (value) {
        *out = value;
        return PR_OK;
    }
    if (je.text[0] == '\0') return pr_error_nomem(err, where, n); /* all that jansson says of it */
    if (n == 0 || !memchr(data, '\n', n)) {
        return pr_error_set(err, PR_E_MODEL, "%s: column %d: not JSON: %s", where, je.column,
                            je.text);
    }
    return pr_error_set(err, PR_E_MODEL, "%s: line %d, column %d: not JSON: %s", where, je.line,
                        je.column, je.text);
}

pr_status pr_json_parse(const char *data, size_t n, const char *where, json_t **out, pr_error *err)
{
    return parse(data, n, where, 0, out, err);
}

pr_status pr_json_parse_unique(const char *data, size_t n, const char *where, json_t **out,
                               pr_error *err)
{
    return parse(data, n, where, JSON_REJECT_DUPLICATES, out, err);
}

/* Digits of a number that an int64 may not hold. */
enum { WIDE_DIGITS = 19 };

/* Writes ".0" behind each integer of WIDE_DIGITS and more, so that it is read as a real number.
 * *out: owned; NULL when there is none of them, or no memory. */
static char *integers_widen(const char *data, size_t n, size_t *n_out)
{
    char *out = malloc(n + 2 * (n / WIDE_DIGITS) + 1);
    bool in_string = false;
    size_t at = 0, n_wide = 0;
    for (size_t i = 0; out && i < n;) {
        size_t n_digits = 0;
        while (!in_string && i + n_digits < n && data[i + n_digits] >= '0' &&
               data[i + n_digits] <= '9') {
            n_digits++;
        }
        bool is_escape = in_string && data[i] == '\\' && i + 1 < n;
        if (data[i] == '"') in_string = !in_string;
        size_t n_copy = n_digits ? n_digits : is_escape ? 2 : 1;
        memcpy(out + at, data + i, n_copy);
        at += n_copy;
        i += n_copy;
        /* Behind a point or an exponent the digits are a real number's already. */
        char before = i > n_digits ? data[i - n_digits - 1] : ' ';
        char after = i < n ? data[i] : ' ';
        bool is_real = strchr(".eE+", before) || after == '.' || after == 'e' || after == 'E';
        if (n_digits < WIDE_DIGITS || is_real) continue;
        memcpy(out + at, ".0", 2);
        at += 2;
        n_wide++;
    }
    *n_out = at;
    if (n_wide > 0) return out;
    free(out);
    return NULL;
}

/* transformers writes a length without limit as 1000000000000000019884624838656 into
 * tokenizer_config.json; jansson refuses what no int64 holds. */
pr_status pr_json_load(const char *path, size_t bytes_max, json_t **out, pr_error *err)
{
    char *data = NULL, *wide = NULL;
    size_t n = 0, n_wide = 0;
    pr_status st = pr_file_read(path, bytes_max, &data, &n, err);
    if (st != PR_OK) return st;
    st = pr_json_parse(data, n, path, out, err);
    if (st == PR_E_MODEL && (wide = integers_widen(data, n, &n_wide)) != NULL) {
        st = pr_json_parse(wide, n_wide, path, out, err);
    }
    free(wide);
    free(data);
    return st;
}

const char *pr_json_type_name(const json_t *value)
{
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "an unknown value";
}

/* The value, or NULL for a missing key and for null. */
static json_t *value_of(const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static pr_status wrong(const json_t *v, const char *where, const char *key, const char *expected,
                       pr_error *err)
{
    return pr_error_set(err, PR_E_MODEL, "%s: %s: found %s, expected %s", where, key,
                        pr_json_type_name(v), expected);
}

pr_status pr_json_get_i64_opt(const json_t *o, const char *where, const char *key, int64_t min,
                              int64_t max, int64_t *out, pr_error *err)
{
    json_t *v = value_of(o, key);
    if (!v) return PR_OK;
    if (!json_is_integer(v)) return wrong(v, where, key, "an integer", err);
    int64_t i = json_integer_value(v);
    if (i < min || i > max) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: found %lld, expected %lld to %lld", where,
                            key, (long long)i, (long long)min, (long long)max);
    }
    *out = i;
    return PR_OK;
}

pr_status pr_json_get_i64(const json_t *o, const char *where, const char *key, int64_t min,
                          int64_t max, int64_t *out, pr_error *err)
{
    if (!value_of(o, key)) return wrong(NULL, where, key, "an integer", err);
    return pr_json_get_i64_opt(o, where, key, min, max, out, err);
}

pr_status pr_json_get_f64_opt(const json_t *o, const char *where, const char *key, double *out,
                              pr_error *err)
{
    json_t *v = value_of(o, key);
    if (!v) return PR_OK;
    if (!json_is_number(v)) return wrong(v, where, key, "a number", err);
    *out = json_number_value(v);
    return PR_OK;
}

pr_status pr_json_get_f64(const json_t *o, const char *where, const char *key, double *out,
                          pr_error *err)
{
    if (!value_of(o, key)) return wrong(NULL, where, key, "a number", err);
    return pr_json_get_f64_opt(o, where, key, out, err);
}

pr_status pr_json_get_bool_opt(const json_t *o, const char *where, const char *key, bool *out,
                               pr_error *err)
{
    json_t *v = value_of(o, key);
    if (!v) return PR_OK;
    if (!json_is_boolean(v)) return wrong(v, where, key, "true or false", err);
    *out = json_is_true(v);
    return PR_OK;
}

pr_status pr_json_get_bool(const json_t *o, const char *where, const char *key, bool *out,
                           pr_error *err)
{
    if (!value_of(o, key)) return wrong(NULL, where, key, "true or false", err);
    return pr_json_get_bool_opt(o, where, key, out, err);
}

pr_status pr_json_get_str_opt(const json_t *o, const char *where, const char *key, const char **out,
                              pr_error *err)
{
    json_t *v = value_of(o, key);
    if (!v) return PR_OK;
    if (!json_is_string(v)) return wrong(v, where, key, "a string", err);
    if (strlen(json_string_value(v)) != json_string_length(v)) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: found a string with a NUL character", where,
                            key);
    }
    *out = json_string_value(v);
    return PR_OK;
}

pr_status pr_json_get_str(const json_t *o, const char *where, const char *key, const char **out,
                          pr_error *err)
{
    if (!value_of(o, key)) return wrong(NULL, where, key, "a string", err);
    return pr_json_get_str_opt(o, where, key, out, err);
}

pr_status pr_json_get_node_opt(const json_t *o, const char *where, const char *key, json_type type,
                               json_t **out, pr_error *err)
{
    json_t *v = value_of(o, key);
    if (!v) return PR_OK;
    if (json_typeof(v) != type) {
        return wrong(v, where, key, type == JSON_ARRAY ? "an array" : "an object", err);
    }
    *out = v;
    return PR_OK;
}

pr_status pr_json_get_node(const json_t *o, const char *where, const char *key, json_type type,
                           json_t **out, pr_error *err)
{
    if (!value_of(o, key)) {
        return wrong(NULL, where, key, type == JSON_ARRAY ? "an array" : "an object", err);
    }
    return pr_json_get_node_opt(o, where, key, type, out, err);
}
