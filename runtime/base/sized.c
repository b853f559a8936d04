#include "runtime/base/sized.h"

#include <assert.h>
#include <string.h>

enum { STRUCT_BYTES_MAX = 1 << 16 }; /* a size over it is not one: nobody wrote it */

void pr_sized_give(void *to, size_t to_bytes, const void *full, size_t full_bytes)
{
    size_t n = to_bytes < full_bytes ? to_bytes : full_bytes;
    assert(to_bytes >= sizeof to_bytes);
    memset(to, 0, to_bytes);
    memcpy(to, full, n);
    memcpy(to, &to_bytes, sizeof to_bytes);
}

pr_status pr_sized_take(const char *what, const void *given, size_t min_bytes, void *full,
                        size_t full_bytes, pr_error *err)
{
    size_t n;
    memcpy(&n, given, sizeof n);
    if (n < min_bytes || n > STRUCT_BYTES_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "%s: found a struct_bytes of %zu, expected %zu to %zu: it was not "
                            "initialised (%s_init)", what, n, min_bytes, full_bytes, what);
    }
    if (n > full_bytes) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "%s: found a struct of %zu bytes, expected at most %zu: the program "
                            "was compiled for a newer version of the library than the one that it "
                            "runs with", what, n, full_bytes);
    }
    memcpy(full, given, n);
    memcpy(full, &full_bytes, sizeof full_bytes);
    return PR_OK;
}
