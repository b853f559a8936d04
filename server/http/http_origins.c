#include "server/http/http_origins.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct pr_http_origins {
    char *text;  /* origins, each with a NUL, then an empty one */
    bool is_any;
};

static bool is_separator(char c)
{
    return c == ',' || c == ' ' || c == '\t';
}

pr_status pr_http_origins_open(const char *list, pr_http_origins **out, pr_error *err)
{
    size_t n = strlen(list), at = 0;
    pr_http_origins *o = calloc(1, sizeof *o);
    if (!o || !(o->text = calloc(1, n + 2))) {
        free(o);
        return pr_error_nomem(err, "allowed origins", n + 2);
    }
    while (*list) {
        while (is_separator(*list)) list++;
        size_t n_one = strcspn(list, ", \t");
        if (n_one == 0) break;
        if (n_one == 1 && *list == '*') o->is_any = true;
        memcpy(o->text + at, list, n_one);
        at += n_one + 1; /* calloc's zero stays behind it */
        list += n_one;
    }
    *out = o;
    return PR_OK;
}

void pr_http_origins_free(pr_http_origins *o)
{
    if (!o) return;
    free(o->text);
    free(o);
}

const char *pr_http_origins_allow(const pr_http_origins *o, const char *origin)
{
    if (o->is_any) return "*";
    /* Scheme and host are in lower case in what browsers send; the list's writer may differ. */
    for (const char *one = o->text; *one; one += strlen(one) + 1) {
        if (strcasecmp(one, origin) == 0) return origin;
    }
    return NULL;
}
