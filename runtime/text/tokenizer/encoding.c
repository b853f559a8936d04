#include "runtime/text/tokenizer/encoding.h"

#include <stdlib.h>

bool pr_ids_append(pr_ids *ids, int32_t id)
{
    if (ids->n == ids->n_max) {
        size_t n_max = ids->n_max ? ids->n_max * 2 : 64;
        int32_t *grown = realloc(ids->ids, n_max * sizeof *grown);
        if (!grown) return false;
        ids->ids = grown;
        ids->n_max = n_max;
    }
    ids->ids[ids->n++] = id;
    return true;
}

void pr_ids_deinit(pr_ids *ids)
{
    free(ids->ids);
    *ids = (pr_ids){0};
}

void pr_encoding_deinit(pr_encoding *e)
{
    free(e->ids);
    free(e->type_ids);
    *e = (pr_encoding){0};
}
