#include "runtime/text/tokenizer/pieces.h"

#include <stdlib.h>

void pr_pieces_init(pr_pieces *p)
{
    *p = (pr_pieces){0};
}

void pr_pieces_deinit(pr_pieces *p)
{
    pr_buffer_deinit(&p->text);
    pr_buffer_deinit(&p->spare_text);
    free(p->pieces);
    free(p->spare_pieces);
    *p = (pr_pieces){0};
}

void pr_pieces_clear(pr_pieces *p)
{
    pr_buffer_clear(&p->text);
    p->n = 0;
}
