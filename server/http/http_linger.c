#define _GNU_SOURCE
#include "server/http/http_linger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 65536,
    READS_MAX = 16, /* of one turn of the loop, for each socket */
};

typedef struct lingerer {
    pr_http_linger *linger;
    uv_poll_t poll;
    int fd;
    uint64_t until_ms;
    size_t n_left;
    struct lingerer *next, *prev;
} lingerer;

struct pr_http_linger {
    uv_loop_t *loop;
    lingerer *first;
    size_t n;
    char bytes[READ_BYTES]; /* that nobody looks at */
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void lingerer_end(lingerer *l)
{
    pr_http_linger *linger = l->linger;
    if (l->prev) l->prev->next = l->next;
    else linger->first = l->next;
    if (l->next) l->next->prev = l->prev;
    linger->n--;
    uv_close((uv_handle_t *)&l->poll, on_closed);
    close(l->fd);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    lingerer *l = poll->data;
    (void)events;
    for (int i = 0; status == 0 && i < READS_MAX; i++) {
        ssize_t n = recv(l->fd, l->linger->bytes, READ_BYTES, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0 || (size_t)n > l->n_left) status = -1;
        else l->n_left -= (size_t)n;
    }
    if (status < 0) lingerer_end(l);
}

pr_http_linger *pr_http_linger_open(uv_loop_t *loop)
{
    pr_http_linger *linger = calloc(1, sizeof *linger);
    if (linger) linger->loop = loop;
    return linger;
}

void pr_http_linger_add(pr_http_linger *linger, int fd)
{
    lingerer *l = linger->n < PR_HTTP_LINGER_SOCKETS_MAX ? calloc(1, sizeof *l) : NULL;
    if (!l) return;
    l->linger = linger;
    l->until_ms = uv_now(linger->loop) + PR_HTTP_LINGER_MS;
    l->n_left = PR_HTTP_LINGER_BYTES_MAX;
    l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (l->fd < 0 || uv_poll_init(linger->loop, &l->poll, l->fd) != 0) {
        if (l->fd >= 0) close(l->fd);
        free(l);
        return;
    }
    l->poll.data = l;
    l->next = linger->first;
    if (l->next) l->next->prev = l;
    linger->first = l;
    linger->n++;
    if (uv_poll_start(&l->poll, UV_READABLE, on_readable) != 0) lingerer_end(l);
}

void pr_http_linger_sweep(pr_http_linger *linger)
{
    uint64_t now = uv_now(linger->loop);
    lingerer *next = NULL;
    for (lingerer *l = linger->first; l; l = next) {
        next = l->next;
        if (now >= l->until_ms) lingerer_end(l);
    }
}

void pr_http_linger_close(pr_http_linger *linger)
{
    if (!linger) return;
    while (linger->first) lingerer_end(linger->first);
    free(linger);
}
