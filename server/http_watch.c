#include "server/http_watch.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 64,     /* of one epoll_wait; the rest comes with the next */
    RETRY_MS = 1000,     /* a socket that the kernel would not take: no memory */
};

/* Of a pr_http_watched. */
enum {
    WATCHED_NOT = 0,
    WATCHED_YOUNG,  /* in the list, not in the epoll instance yet */
    WATCHED_OPEN,   /* waits for EPOLLRDHUP */
    WATCHED_FULL,   /* FIN came; waits for room for the interim response */
    WATCHED_HALF,   /* FIN came, and what could be done was done: only a reset is waited for */
};

struct pr_http_watch {
    int epoll_fd;
    uv_poll_t poll;
    uv_timer_t timer;
    pr_http_watched *first, *last; /* young ones, oldest first */
    size_t n_watched;
    int n_open_handles;
};

/* ---- the list of young ones ---- */

static void young_append(pr_http_watch *w, pr_http_watched *c)
{
    c->next = NULL;
    c->prev = w->last;
    if (w->last) w->last->next = c;
    else w->first = c;
    w->last = c;
}

static void young_remove(pr_http_watch *w, pr_http_watched *c)
{
    if (c->prev) c->prev->next = c->next;
    else w->first = c->next;
    if (c->next) c->next->prev = c->prev;
    else w->last = c->prev;
    c->next = c->prev = NULL;
}

static void on_timer(uv_timer_t *timer)
{
    pr_http_watch *w = timer->data;
    uint64_t now = uv_now(timer->loop);
    while (w->first && now - w->first->since_ms >= PR_HTTP_WATCH_DELAY_MS) {
        pr_http_watched *c = w->first;
        struct epoll_event e = {.events = EPOLLRDHUP, .data.ptr = c};
        young_remove(w, c);
        if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, c->fd, &e) == 0) {
            c->state = WATCHED_OPEN;
            continue;
        }
        c->since_ms = now + RETRY_MS - PR_HTTP_WATCH_DELAY_MS;
        young_append(w, c); /* the list stays sorted well enough: it is only late */
        break;
    }
    if (!w->first) uv_timer_stop(timer);
}

/* ---- events ---- */

static void events_set(pr_http_watch *w, pr_http_watched *c, int state, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    c->state = state;
    epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static bool has_room(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

/* Nothing else writes to the socket: the request is whole, and its answer has not begun. The kernel
 * calls a socket writable when a third of its buffer is free, so these few bytes go through whole. */
static void interim_send(pr_http_watched *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (c->session) {
        (void)gnutls_record_send(c->session, text, sizeof text - 1);
    } else {
        (void)send(c->fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

static void on_gone(pr_http_watch *w, pr_http_watched *c)
{
    pr_http_watch_remove(w, c);
    c->gone(c);
}

static void on_event(pr_http_watch *w, pr_http_watched *c, uint32_t events)
{
    if (events & (EPOLLERR | EPOLLHUP)) {
        on_gone(w, c);
        return;
    }
    if (c->state == WATCHED_HALF) return;
    if (c->is_unix) {
        events_set(w, c, WATCHED_HALF, 0);
    } else if (!c->takes_interim) {
        on_gone(w, c);
    } else if (!has_room(c->fd)) {
        /* The level stays, so RDHUP is waited for no more: it would wake the loop at once again. */
        events_set(w, c, WATCHED_FULL, EPOLLOUT);
    } else {
        events_set(w, c, WATCHED_HALF, 0); /* ERR and HUP are always told */
        interim_send(c);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    pr_http_watch *w = poll->data;
    struct epoll_event e[EVENTS_MAX];
    (void)events;
    if (status < 0) return;
    /* `gone` may end the watch of others only after it has returned, so none of e is stale. */
    int n = epoll_wait(w->epoll_fd, e, EVENTS_MAX, 0);
    for (int i = 0; i < n; i++) on_event(w, e[i].data.ptr, e[i].events);
}

/* ---- open and close ---- */

static void on_closed(uv_handle_t *handle)
{
    pr_http_watch *w = handle->data;
    if (--w->n_open_handles == 0) free(w);
}

pr_status pr_http_watch_open(uv_loop_t *loop, pr_http_watch **out, pr_error *err)
{
    pr_http_watch *w = calloc(1, sizeof *w);
    if (!w) return pr_error_nomem(err, "watch of connections", sizeof *w);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll_fd < 0) {
        pr_status st = pr_error_errno(err, errno, "watch of connections: epoll_create1");
        free(w);
        return st;
    }
    uv_timer_init(loop, &w->timer);
    w->timer.data = w;
    w->n_open_handles = 1;
    int failure = uv_poll_init(loop, &w->poll, w->epoll_fd);
    if (failure == 0) {
        w->n_open_handles = 2;
        w->poll.data = w;
        failure = uv_poll_start(&w->poll, UV_READABLE, on_poll);
    }
    if (failure != 0) {
        pr_http_watch_close(w);
        return pr_error_set(err, failure == UV_ENOMEM ? PR_E_NOMEM : PR_E_INTERNAL,
                            "watch of connections: %s", uv_strerror(failure));
    }
    *out = w;
    return PR_OK;
}

void pr_http_watch_close(pr_http_watch *w)
{
    if (!w) return;
    assert(w->n_watched == 0);
    if (w->n_open_handles == 2) uv_close((uv_handle_t *)&w->poll, on_closed);
    close(w->epoll_fd);
    uv_close((uv_handle_t *)&w->timer, on_closed);
}

void pr_http_watch_add(pr_http_watch *w, pr_http_watched *c)
{
    assert(c->state == WATCHED_NOT);
    c->state = WATCHED_YOUNG;
    c->since_ms = uv_now(w->timer.loop);
    young_append(w, c);
    w->n_watched++;
    if (!uv_is_active((uv_handle_t *)&w->timer)) {
        uv_timer_start(&w->timer, on_timer, PR_HTTP_WATCH_DELAY_MS, PR_HTTP_WATCH_DELAY_MS);
    }
}

void pr_http_watch_remove(pr_http_watch *w, pr_http_watched *c)
{
    if (c->state == WATCHED_NOT) return;
    if (c->state == WATCHED_YOUNG) young_remove(w, c);
    else epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->state = WATCHED_NOT;
    w->n_watched--;
}
