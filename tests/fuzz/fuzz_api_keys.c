/* libFuzzer: any bytes as a key file, and as the Authorization header that a client sends. */
#include "server/service/api_keys.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void header_check(const uint8_t *data, size_t n, const pr_api_keys *keys)
{
    char *header = malloc(n + 1);
    if (!header) return;
    memcpy(header, data, n);
    header[n] = '\0';
    size_t n_key = 0;
    const char *key = pr_api_key_of_header(header, &n_key);
    if (key && (key < header || n_key == 0 || key + n_key > header + strlen(header))) abort();
    if (key && keys && pr_api_keys_find(keys, key, n_key) && !pr_api_keys_are_needed(keys)) abort();
    free(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pr_api_keys *keys = NULL;
    pr_error err;
    bool is_taken = pr_api_keys_parse((const char *)data, n, "file", &keys, &err) == PR_OK;
    if (is_taken != (keys != NULL)) abort();
    if (keys && !pr_api_keys_are_needed(keys)) abort();
    if (!keys && !strstr(err.message, "file: ")) abort();
    header_check(data, n, keys);
    /* The key of the first line is found under the name of that line. */
    const uint8_t *colon = n ? memchr(data, ':', n) : NULL;
    const uint8_t *feed = n ? memchr(data, '\n', n) : NULL;
    if (keys && colon && feed && colon < feed && data[0] != '#' && feed[-1] != '\r') {
        const char *name =
            pr_api_keys_find(keys, (const char *)colon + 1, (size_t)(feed - colon) - 1);
        size_t n_name = (size_t)(colon - data);
        if (!name || strlen(name) != n_name || memcmp(name, data, n_name) != 0) abort();
    }
    pr_api_keys_free(keys);
    return 0;
}
