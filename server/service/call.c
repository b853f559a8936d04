#include "server/service/call.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

void pr_call_init(pr_call *call)
{
    memset(call, 0, sizeof *call);
}

void pr_call_deinit(pr_call *call)
{
    for (size_t i = 0; call->results && i < call->n_items; i++) pr_result_free(call->results[i]);
    free(call->results);
    call->results = NULL;
}

static bool is_id(const char *s, size_t n)
{
    static const char punctuation[] = "._:-";
    if (n == 0 || n > PR_REQUEST_ID_BYTES_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        bool is_letter = (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= 'a' && s[i] <= 'z');
        bool is_digit = s[i] >= '0' && s[i] <= '9';
        if (!is_letter && !is_digit && !memchr(punctuation, s[i], sizeof punctuation - 1)) {
            return false;
        }
    }
    return true;
}

void pr_request_id_take(char id[PR_REQUEST_ID_BYTES_MAX + 1], const char *client_id, size_t n)
{
    if (client_id && is_id(client_id, n)) {
        memcpy(id, client_id, n);
        id[n] = '\0';
        return;
    }
    unsigned char random[16];
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != sizeof random) {
        /* Ids only tell log lines apart; at boot the time does. */
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        memset(random, 0, sizeof random);
        memcpy(random, &now, sizeof now < sizeof random ? sizeof now : sizeof random);
    }
    for (size_t i = 0; i < sizeof random; i++) {
        static const char digits[] = "0123456789abcdef";
        id[2 * i] = digits[random[i] >> 4];
        id[2 * i + 1] = digits[random[i] & 15];
    }
    id[2 * sizeof random] = '\0';
}
