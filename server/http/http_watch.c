#include "server/http/http_watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 64 }; /* of one epoll_wait; the rest comes with the next turn of the loop */

struct pr_http_watch {
    int epoll_fd;
    uv_poll_t poll;
};

static void on_event(pr_http_watched *c, uint32_t events)
{
    bool had_ended = c->has_ended, was_gone = c->is_gone;
    c->has_ended = true;
    c->is_gone |= (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (!had_ended || c->is_gone != was_gone) c->changed(c);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    pr_http_watch *w = poll->data;
    struct epoll_event e[EVENTS_MAX];
    (void)events;
    if (status < 0) return;
    int n = epoll_wait(w->epoll_fd, e, EVENTS_MAX, 0);
    for (int i = 0; i < n; i++) on_event(e[i].data.ptr, e[i].events);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
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
    int failure = uv_poll_init(loop, &w->poll, w->epoll_fd);
    if (failure != 0) {
        close(w->epoll_fd);
        free(w);
        return pr_error_set(err, PR_E_INTERNAL, "watch of connections: %s", uv_strerror(failure));
    }
    w->poll.data = w;
    failure = uv_poll_start(&w->poll, UV_READABLE, on_poll);
    if (failure != 0) {
        pr_http_watch_close(w);
        return pr_error_set(err, PR_E_INTERNAL, "watch of connections: %s", uv_strerror(failure));
    }
    *out = w;
    return PR_OK;
}

void pr_http_watch_close(pr_http_watch *w)
{
    if (!w) return;
    uv_close((uv_handle_t *)&w->poll, on_closed);
    close(w->epoll_fd);
}

bool pr_http_watch_add(pr_http_watch *w, pr_http_watched *c)
{
    struct epoll_event e = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = c};
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

/* Closing the socket would do if no process that is being started could share it just then. */
void pr_http_watch_remove(pr_http_watch *w, pr_http_watched *c)
{
    epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
}

bool pr_http_watch_ask(int fd, gnutls_session_t session)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    /* The kernel calls a socket writable when a third of its buffer is free: these few bytes go
     * through whole, and leave nothing behind in the session. */
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) return false;
    if (session) (void)gnutls_record_send(session, text, sizeof text - 1);
    else (void)send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    return true;
}
