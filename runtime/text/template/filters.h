/* runtime/text/template/filters.h: the table of filters, and the functions that its rows name. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_FILTERS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_FILTERS_H

#include "runtime/text/template/functions.h"

extern const pr_function pr_filters[];
extern const size_t pr_n_filters;

#define PR_FILTER(name) bool pr_filter_##name(pr_render *r, const pr_value *argv, pr_value *out)
/* Text (filters_text.c). */
PR_FILTER(capitalize);
PR_FILTER(center);
PR_FILTER(escape);
PR_FILTER(forceescape);
PR_FILTER(indent);
PR_FILTER(lower);
PR_FILTER(replace);
PR_FILTER(safe);
PR_FILTER(string);
PR_FILTER(title);
PR_FILTER(tojson);
PR_FILTER(trim);
PR_FILTER(truncate);
PR_FILTER(upper);
PR_FILTER(urlencode);
PR_FILTER(wordcount);
/* Numbers (filters_number.c). */
PR_FILTER(abs);
PR_FILTER(filesizeformat);
PR_FILTER(float);
PR_FILTER(int);
PR_FILTER(round);
/* Sequences (filters_list.c). */
PR_FILTER(attr);
PR_FILTER(batch);
PR_FILTER(default);
PR_FILTER(dictsort);
PR_FILTER(first);
PR_FILTER(groupby);
PR_FILTER(items);
PR_FILTER(join);
PR_FILTER(last);
PR_FILTER(length);
PR_FILTER(list);
PR_FILTER(max);
PR_FILTER(min);
PR_FILTER(reverse);
PR_FILTER(slice);
PR_FILTER(sort);
PR_FILTER(sum);
PR_FILTER(unique);
#undef PR_FILTER

#define PR_FILTER(name)                                                                            \
    bool pr_filter_##name(pr_render *r, pr_value value, const pr_actual *args, pr_value *out)
/* Generators that take a filter's or a test's name (filters_select.c), and format. */
PR_FILTER(map);
PR_FILTER(select);
PR_FILTER(reject);
PR_FILTER(selectattr);
PR_FILTER(rejectattr);
PR_FILTER(format);
#undef PR_FILTER

#endif
