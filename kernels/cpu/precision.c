#include "kernels/cpu/precision.h"

#include <assert.h>

const char *pr_matmul_precision_name(pr_matmul_precision precision)
{
    static const char *const names[] = {[PR_MATMUL_AUTO] = "auto",
                                        [PR_MATMUL_HIGHEST] = "highest",
                                        [PR_MATMUL_HIGH] = "high",
                                        [PR_MATMUL_MEDIUM] = "medium"};
    static_assert(sizeof names / sizeof *names == PR_MATMUL_COUNT, "one name per precision");
    assert((unsigned)precision < PR_MATMUL_COUNT);
    return names[precision];
}

pr_matmul_precision pr_matmul_precision_resolve(pr_matmul_precision precision)
{
    return precision == PR_MATMUL_AUTO ? PR_MATMUL_HIGHEST : precision;
}
