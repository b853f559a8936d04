#include "runtime/text/template/filters.h"

#define F(filter, python, required, ...)                                                           \
    {                                                                                              \
#filter, python, PR_STYLE_PYTHON, required,                                                \
            {"value", ##__VA_ARGS__ }, pr_filter_##filter, NULL                                    \
    }
#define RAW(filter)                                                                                \
    {                                                                                              \
#filter, "do_" #filter, PR_STYLE_PYTHON, 1, {"value" }, NULL, pr_filter_##filter           \
    }
#define REFUSED(name)                                                                              \
    {                                                                                              \
        name, name, PR_STYLE_PYTHON, 1, {"value"}, NULL, NULL                                      \
    }

const pr_function pr_filters[] = {
    F(tojson, "_cached_compile_jinja_template.<locals>.tojson", 1, "ensure_ascii", "indent",
      "separators", "sort_keys"),
    F(trim, "do_trim", 1, "chars"),
    {"length", "len", PR_STYLE_ONE, 1, {"value"}, pr_filter_length, NULL},
    {"count", "len", PR_STYLE_ONE, 1, {"value"}, pr_filter_length, NULL},
    F(default, "do_default", 1, "default_value", "boolean"),
    {"d",
     "do_default",
     PR_STYLE_PYTHON,
     1,
     {"value", "default_value", "boolean"},
     pr_filter_default,
     NULL},
    F(string, "soft_str", 1),
    F(safe, "do_mark_safe", 1),
    F(items, "do_items", 1),
    F(join, "sync_do_join", 1, "d", "attribute"),
    F(list, "sync_do_list", 1),
    RAW(map),
    RAW(select),
    RAW(reject),
    RAW(selectattr),
    RAW(rejectattr),
    F(first, "sync_do_first", 1),
    F(last, "do_last", 1),
    F(upper, "do_upper", 1),
    F(lower, "do_lower", 1),
    F(title, "do_title", 1),
    F(capitalize, "do_capitalize", 1),
    F(replace, "do_replace", 3, "old", "new", "count"),
    F(indent, "do_indent", 1, "width", "first", "blank"),
    F(int, "do_int", 1, "default", "base"),
    F(float, "do_float", 1, "default"),
    F(round, "do_round", 1, "precision", "method"),
    {"abs", "abs", PR_STYLE_ONE, 1, {"value"}, pr_filter_abs, NULL},
    F(sort, "do_sort", 1, "reverse", "case_sensitive", "attribute"),
    F(dictsort, "do_dictsort", 1, "case_sensitive", "by", "reverse"),
    F(unique, "sync_do_unique", 1, "case_sensitive", "attribute"),
    F(groupby, "sync_do_groupby", 2, "attribute", "default", "case_sensitive"),
    F(min, "do_min", 1, "case_sensitive", "attribute"),
    F(max, "do_max", 1, "case_sensitive", "attribute"),
    F(sum, "sync_do_sum", 1, "attribute", "start"),
    F(reverse, "do_reverse", 1),
    F(batch, "do_batch", 2, "linecount", "fill_with"),
    F(slice, "sync_do_slice", 2, "slices", "fill_with"),
    F(attr, "do_attr", 2, "name"),
    RAW(format),
    F(escape, "escape", 1),
    {"e", "escape", PR_STYLE_PYTHON, 1, {"value"}, pr_filter_escape, NULL},
    F(forceescape, "do_forceescape", 1),
    F(center, "do_center", 1, "width"),
    F(truncate, "do_truncate", 1, "length", "killwords", "end", "leeway"),
    F(urlencode, "do_urlencode", 1),
    F(wordcount, "do_wordcount", 1),
    F(filesizeformat, "do_filesizeformat", 1, "binary"),
    REFUSED("random"),
    REFUSED("pprint"),
    REFUSED("striptags"),
    REFUSED("urlize"),
    REFUSED("wordwrap"),
    REFUSED("xmlattr"),
};
const size_t pr_n_filters = sizeof pr_filters / sizeof *pr_filters;
