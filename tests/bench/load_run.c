#include "tests/bench/load_run.h"

#include "runtime/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, READ_BYTES = 64 << 10, LEAVE_WITHIN_NS = 5000000 };

typedef struct slot {
    bool is_open;
    uint64_t id;
    uint64_t begin_ns;
    size_t i_body;
} slot;

typedef struct connection {
    int fd;
    bool is_greeted;   /* hello was answered, or none is needed */
    bool wants_write;  /* epoll watches for room */
    pr_buffer in, out;
    size_t in_at, out_at; /* of the first byte that was not taken, not sent */
    slot *slots;       /* [n_in_flight] */
    int n_open;
    uint64_t leave_ns; /* when the client goes away; 0: it stays */
} connection;

typedef struct run {
    const load_settings *s;
    load_numbers *n;
    pr_error *err;
    pr_status st;
    int epoll;
    struct sockaddr_storage address;
    socklen_t n_address;
    connection *connections;
    uint64_t next_id, n_sent, n_done; /* over all of the run */
    uint64_t begin_ns, measure_ns, end_ns; /* of the schedule; end_ns 0: by n_requests */
    bool is_measured, is_ending;
    double own_begin_s, server_begin_s;
    unsigned random;
} run;

/* ---- processor time ---- */

static double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Of all threads that the server's processes have and had, to the nanosecond, where the ticks of
 * /proc/PID/stat are 10 ms. */
static double server_cpu(const load_settings *s)
{
    double seconds = 0;
    for (int i = 0; i < s->n_pids; i++) {
        clockid_t clock;
        struct timespec t;
        if (clock_getcpuclockid(s->pids[i], &clock) != 0 || clock_gettime(clock, &t) != 0) continue;
        seconds += (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    }
    return seconds;
}

/* ---- connections ---- */

static pr_status address_parse(run *r, const char *address)
{
    if (strncmp(address, "unix://", 7) == 0) {
        struct sockaddr_un *a = (struct sockaddr_un *)&r->address;
        if (strlen(address + 7) >= sizeof a->sun_path) {
            return pr_error_set(r->err, PR_E_ARGUMENT, "%s: too long for a socket", address);
        }
        a->sun_family = AF_UNIX;
        strcpy(a->sun_path, address + 7);
        r->n_address = sizeof *a;
        return PR_OK;
    }
    char host[256];
    const char *colon = strrchr(address, ':');
    if (strncmp(address, "tcp://", 6) != 0 || colon < address + 6 ||
        (size_t)(colon - address) - 6 >= sizeof host) {
        return pr_error_set(r->err, PR_E_ARGUMENT,
                            "found %s, expected tcp://HOST:PORT or unix://PATH", address);
    }
    size_t n_host = (size_t)(colon - address) - 6;
    memcpy(host, address + 6, n_host);
    host[n_host] = '\0';
    struct addrinfo want = {.ai_socktype = SOCK_STREAM}, *found;
    int rc = getaddrinfo(host, colon + 1, &want, &found);
    if (rc != 0) return pr_error_set(r->err, PR_E_ARGUMENT, "%s: %s", address, gai_strerror(rc));
    memcpy(&r->address, found->ai_addr, found->ai_addrlen);
    r->n_address = found->ai_addrlen;
    freeaddrinfo(found);
    return PR_OK;
}

static pr_status connection_open(run *r, connection *c)
{
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    c->fd = socket(r->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&r->address, r->n_address) != 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0 ||
        epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        return pr_error_errno(r->err, errno, "connect to %s", r->s->address);
    }
    if (r->address.ss_family != AF_UNIX) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    pr_buffer_clear(&c->in);
    pr_buffer_clear(&c->out);
    c->in_at = c->out_at = 0;
    c->wants_write = false;
    c->n_open = 0;
    c->leave_ns = 0;
    memset(c->slots, 0, (size_t)r->s->n_in_flight * sizeof *c->slots);
    c->is_greeted = !r->s->protocol->hello;
    if (!c->is_greeted && !r->s->protocol->hello(&r->s->shape, &c->out)) {
        return pr_error_nomem(r->err, "greeting", c->out.n);
    }
    return PR_OK;
}

static void connection_close(connection *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/* Another connection takes its place; what was open on it is not answered any more. */
static pr_status connection_renew(run *r, connection *c, uint64_t *n_given_up)
{
    *n_given_up += (uint64_t)c->n_open;
    r->n_done += (uint64_t)c->n_open;
    connection_close(c);
    return r->is_ending ? PR_OK : connection_open(r, c);
}

/* ---- sending ---- */

static pr_status connection_flush(run *r, connection *c)
{
    while (c->out_at < c->out.n) {
        ssize_t n = send(c->fd, c->out.data + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return connection_renew(r, c, &r->n->n_lost);
        if (n < 0) break;
        c->out_at += (size_t)n;
    }
    bool wants_write = c->out_at < c->out.n;
    if (!wants_write) {
        pr_buffer_clear(&c->out);
        c->out_at = 0;
    }
    if (wants_write != c->wants_write) {
        struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0),
                                    .data.ptr = c};
        epoll_ctl(r->epoll, EPOLL_CTL_MOD, c->fd, &event);
        c->wants_write = wants_write;
    }
    return PR_OK;
}

static slot *slot_free(const run *r, connection *c)
{
    for (int i = 0; i < r->s->n_in_flight; i++) {
        if (!c->slots[i].is_open) return &c->slots[i];
    }
    return NULL;
}

/* The request that an answer belongs to; NULL: none. */
static slot *slot_of_answer(const run *r, connection *c, uint64_t id)
{
    slot *found = NULL;
    for (int i = 0; i < r->s->n_in_flight; i++) {
        slot *one = &c->slots[i];
        if (!one->is_open) continue;
        if (r->s->protocol->has_ids ? one->id == id : !found || one->id < found->id) found = one;
    }
    return found;
}

/* When the next request is due; 0: at once. */
static uint64_t due_ns(const run *r)
{
    if (r->s->rate <= 0) return 0;
    return r->begin_ns + (uint64_t)((double)r->n_sent / r->s->rate * 1e9);
}

static pr_status request_send(run *r, connection *c, uint64_t now_ns)
{
    slot *one = slot_free(r, c);
    assert(one);
    *one = (slot){true, ++r->next_id, r->s->rate > 0 ? due_ns(r) : now_ns,
                  r->n_sent % r->s->n_bodies};
    c->n_open++;
    r->n_sent++;
    if (!r->s->protocol->append(&r->s->bodies[one->i_body], one->id, &c->out)) {
        return pr_error_nomem(r->err, "request", c->out.n);
    }
    if (r->s->leave_share > 0 && !c->leave_ns &&
        rand_r(&r->random) < r->s->leave_share * (double)RAND_MAX) {
        c->leave_ns = now_ns + (uint64_t)rand_r(&r->random) % LEAVE_WITHIN_NS;
    }
    return PR_OK;
}

/* Fills the connection's free places with requests that are due. */
static pr_status connection_fill(run *r, connection *c)
{
    pr_status st = PR_OK;
    if (c->fd < 0) return PR_OK;
    uint64_t now_ns = pr_clock_ns();
    while (st == PR_OK && c->is_greeted && !r->is_ending && c->n_open < r->s->n_in_flight &&
           (r->s->n_requests == 0 || r->n_sent < r->s->n_requests) && due_ns(r) <= now_ns) {
        st = request_send(r, c, now_ns);
    }
    return st == PR_OK ? connection_flush(r, c) : st;
}

/* ---- answers ---- */

static bool differs(load_body *body, const load_answer *answer)
{
    if (body->first.n == 0) pr_buffer_append(&body->first, answer->body, answer->n);
    return body->first.n != answer->n || memcmp(body->first.data, answer->body, answer->n) != 0;
}

static void answer_count(run *r, const slot *one, const load_answer *answer)
{
    load_numbers *n = r->n;
    load_body *body = &r->s->bodies[one->i_body];
    if (answer->status == 200 && r->s->is_compared && differs(body, answer)) n->n_differing++;
    if (!r->is_measured) return;
    n->n_answered++;
    n->by_status[answer->status > 0 && answer->status < LOAD_STATUS_MAX ? answer->status : 0]++;
    if (answer->status != 200) return;
    n->n_texts += body->raw ? 1 : body->n_texts;
    load_latency_add(&n->latency, pr_clock_ns() - one->begin_ns);
}

static pr_status answer_take(run *r, connection *c, const load_answer *answer)
{
    if (!c->is_greeted) {
        c->is_greeted = true;
        if (answer->status == 200) return PR_OK;
        return pr_error_set(r->err, PR_E_IO, "%s: the greeting was answered with %d",
                            r->s->address, answer->status);
    }
    slot *one = slot_of_answer(r, c, answer->id);
    if (!one) {
        return pr_error_set(r->err, PR_E_IO, "%s: an answer to no request (id %llu)",
                            r->s->address, (unsigned long long)answer->id);
    }
    answer_count(r, one, answer);
    one->is_open = false;
    c->n_open--;
    r->n_done++;
    return PR_OK;
}

/* Takes the whole answers that have come. *closes: the last of them was the connection's. */
static pr_status answers_take(run *r, connection *c, bool *closes)
{
    *closes = false;
    while (c->in_at < c->in.n && !*closes) {
        load_answer answer = {0};
        int64_t n = r->s->protocol->take(c->in.data + c->in_at, c->in.n - c->in_at, &answer);
        if (n == 0) break;
        if (n < 0) return pr_error_set(r->err, PR_E_IO, "%s: no answer", r->s->address);
        pr_status st = answer.is_nothing ? PR_OK : answer_take(r, c, &answer);
        if (st != PR_OK) return st;
        c->in_at += (size_t)n;
        *closes = answer.closes;
    }
    if (c->in_at == c->in.n) {
        pr_buffer_clear(&c->in);
        c->in_at = 0;
    }
    return PR_OK;
}

static pr_status connection_read(run *r, connection *c)
{
    bool closes;
    if (!pr_buffer_reserve(&c->in, READ_BYTES)) return pr_error_nomem(r->err, "answer", READ_BYTES);
    ssize_t n = recv(c->fd, c->in.data + c->in.n, c->in.n_max - c->in.n, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return PR_OK;
    if (n <= 0) return connection_renew(r, c, &r->n->n_lost);
    c->in.n += (size_t)n;
    if (r->is_measured) r->n->bytes_in += (uint64_t)n;
    pr_status st = answers_take(r, c, &closes);
    if (st == PR_OK && closes) st = connection_renew(r, c, &r->n->n_lost);
    return st;
}

/* ---- the schedule ---- */

static void measure_begin(run *r)
{
    r->is_measured = true;
    r->measure_ns = pr_clock_ns();
    r->own_begin_s = own_cpu();
    r->server_begin_s = server_cpu(r->s);
}

static void measure_end(run *r)
{
    r->is_measured = false;
    r->n->seconds = (double)(pr_clock_ns() - r->measure_ns) / 1e9;
    r->n->own_cpu_s = own_cpu() - r->own_begin_s;
    r->n->server_cpu_s = server_cpu(r->s) - r->server_begin_s;
}

/* Milliseconds until something is due, rounded up; at least 0. */
static int wait_ms(const run *r, uint64_t now_ns)
{
    uint64_t at_ns = now_ns + 100000000;
    if (r->s->rate > 0 && due_ns(r) < at_ns) at_ns = due_ns(r);
    if (r->s->leave_share > 0 && now_ns + 1000000 < at_ns) at_ns = now_ns + 1000000;
    if (r->end_ns && r->end_ns < at_ns) at_ns = r->end_ns;
    return at_ns <= now_ns ? 0 : (int)((at_ns - now_ns + 999999) / 1000000);
}

/* Clients that are due to leave, and requests that are due to be sent. */
static pr_status connections_turn(run *r, uint64_t now_ns)
{
    pr_status st = PR_OK;
    for (int i = 0; i < r->s->n_connections && st == PR_OK; i++) {
        connection *c = &r->connections[i];
        if (c->leave_ns && c->leave_ns <= now_ns) st = connection_renew(r, c, &r->n->n_left);
        if (st == PR_OK) st = connection_fill(r, c);
    }
    return st;
}

static pr_status events_turn(run *r, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(r->epoll, events, EVENTS_MAX, timeout_ms);
    pr_status st = PR_OK;
    for (int i = 0; i < n && st == PR_OK; i++) {
        connection *c = events[i].data.ptr;
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) st = connection_read(r, c);
        if (st == PR_OK) st = connection_fill(r, c);
    }
    return st;
}

static uint64_t n_open(const run *r)
{
    return r->n_sent - r->n_done;
}

static pr_status turn(run *r)
{
    const load_settings *s = r->s;
    bool is_timed = s->rate > 0 || s->leave_share > 0;
    uint64_t now_ns = pr_clock_ns();
    bool is_warm = now_ns - r->begin_ns >= (uint64_t)(s->warm_up_s * 1e9);
    if (!r->is_measured && is_warm) measure_begin(r);
    pr_status st = events_turn(r, wait_ms(r, now_ns));
    return st == PR_OK && is_timed ? connections_turn(r, pr_clock_ns()) : st;
}

static bool is_over(const run *r)
{
    if (r->end_ns) return pr_clock_ns() >= r->end_ns;
    return r->n_sent >= r->s->n_requests && n_open(r) == 0;
}

static pr_status run_all(run *r)
{
    const load_settings *s = r->s;
    r->begin_ns = pr_clock_ns();
    if (s->seconds > 0) r->end_ns = r->begin_ns + (uint64_t)((s->warm_up_s + s->seconds) * 1e9);
    pr_status st = connections_turn(r, r->begin_ns);
    while (st == PR_OK && !is_over(r)) st = turn(r);
    if (r->is_measured) measure_end(r);
    r->is_ending = true;
    r->end_ns = 0;
    uint64_t give_up_ns = pr_clock_ns() + LOAD_DRAIN_S * UINT64_C(1000000000);
    while (st == PR_OK && n_open(r) > 0 && pr_clock_ns() < give_up_ns) st = events_turn(r, 100);
    r->n->n_unanswered = n_open(r);
    return st;
}

static pr_status connections_open(run *r)
{
    r->connections = calloc((size_t)r->s->n_connections, sizeof *r->connections);
    if (!r->connections) return pr_error_nomem(r->err, "connections", sizeof *r->connections);
    for (int i = 0; i < r->s->n_connections; i++) r->connections[i].fd = -1;
    pr_status st = PR_OK;
    for (int i = 0; i < r->s->n_connections && st == PR_OK; i++) {
        connection *c = &r->connections[i];
        pr_buffer_init(&c->in);
        pr_buffer_init(&c->out);
        c->slots = calloc((size_t)r->s->n_in_flight, sizeof *c->slots);
        st = c->slots ? connection_open(r, c) : pr_error_nomem(r->err, "requests", sizeof(slot));
    }
    return st;
}

pr_status load_run(const load_settings *settings, load_numbers *out, pr_error *err)
{
    run r = {.s = settings, .n = out, .err = err, .random = settings->seed};
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r.epoll < 0) return pr_error_errno(err, errno, "epoll");
    pr_status st = address_parse(&r, settings->address);
    if (st == PR_OK) st = connections_open(&r);
    if (st == PR_OK) st = run_all(&r);
    for (int i = 0; r.connections && i < settings->n_connections; i++) {
        connection *c = &r.connections[i];
        connection_close(c);
        pr_buffer_deinit(&c->in);
        pr_buffer_deinit(&c->out);
        free(c->slots);
    }
    free(r.connections);
    close(r.epoll);
    return st;
}
