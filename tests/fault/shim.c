/* tests/fault/shim.c: put in front of a rank's libc (LD_PRELOAD) by the fault tests: it sees what
 * goes over the rank's control socket, keeps time, and does harm when it is told to.
 *
 *     PR_FAULT_TRACE   file: "PID NANOSECONDS" for each DONE that is sent, CLOCK_MONOTONIC
 *     PR_FAULT_PACE    microseconds that each DONE is held back, so that a run can be met midway
 *     PR_FAULT_GO      file: who can remove it does the harm below, once
 *     PR_FAULT_KIND    drop-done, drop-batch, delay-done, cut-result, shutdown, die-ready
 *     PR_FAULT_RANK    which rank does it
 *     PR_FAULT_MARKER  hexadecimal bytes: a rank that receives them kills itself
 *
 * The control socket is the Unix socket whose path ends in "/ctrl". State of the file: a process
 * has one control socket, written by whole frames and read by one thread. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Kinds of worker/control.h. */
enum { KIND_READY = 5, KIND_BATCH = 7, KIND_RESULT = 8, KIND_DONE = 9 };
enum { MARKER_BYTES_MAX = 64, DELAY_US = 300 * 1000 };

int connect(int fd, const struct sockaddr *to, socklen_t n);
ssize_t send(int fd, const void *data, size_t n, int flags);
ssize_t recv(int fd, void *data, size_t n, int flags);

static struct {
    int fd; /* 0: no control socket yet */
    size_t left;       /* bytes of the frame that is being received */
    uint8_t header[5]; /* of it: length, and the array's first byte */
    size_t n_header;
    int is_dropped;    /* that frame */
    uint8_t tail[MARKER_BYTES_MAX]; /* the last bytes received, for a marker over two reads */
    size_t n_tail;
} control;

static int is_rank(void)
{
    const char *asked = getenv("PR_FAULT_RANK"), *own = getenv("OMPI_COMM_WORLD_RANK");
    return asked && own && strcmp(asked, own) == 0;
}

static int is_kind(const char *kind)
{
    const char *asked = getenv("PR_FAULT_KIND");
    return asked && strcmp(asked, kind) == 0;
}

/* Whether this process is to do the harm `kind` now. */
static int is_told(const char *kind)
{
    const char *go = getenv("PR_FAULT_GO");
    return go && is_kind(kind) && is_rank() && unlink(go) == 0;
}

static void trace(void)
{
    const char *path = getenv("PR_FAULT_TRACE");
    char line[64];
    struct timespec now;
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int n = snprintf(line, sizeof line, "%d %lld\n", (int)getpid(),
                     (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    if (write(fd, line, (size_t)n) != n) abort();
    close(fd);
}

int connect(int fd, const struct sockaddr *to, socklen_t n)
{
    int (*next)(int, const struct sockaddr *, socklen_t);
    *(void **)&next = dlsym(RTLD_NEXT, "connect");
    if (to->sa_family == AF_UNIX) {
        const char *path = ((const struct sockaddr_un *)(const void *)to)->sun_path;
        size_t length = strnlen(path, sizeof(struct sockaddr_un) - sizeof(sa_family_t));
        if (length > 5 && strcmp(path + length - 5, "/ctrl") == 0) control.fd = fd;
    }
    return next(fd, to, n);
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
    ssize_t (*next)(int, const void *, size_t, int);
    *(void **)&next = dlsym(RTLD_NEXT, "send");
    const uint8_t *bytes = data;
    int kind = control.fd > 0 && fd == control.fd && n > 6 ? bytes[5] : -1;
    if (kind == KIND_READY && is_told("die-ready")) kill(getpid(), SIGKILL);
    if (kind == KIND_RESULT && is_told("cut-result")) { /* half a frame, and nothing after it */
        next(fd, data, n / 2, flags);
        for (;;) pause();
    }
    if (kind != KIND_DONE) return next(fd, data, n, flags);
    const char *pace = getenv("PR_FAULT_PACE");
    if (pace) usleep((useconds_t)strtoul(pace, NULL, 10));
    if (is_told("drop-done")) return (ssize_t)n;
    if (is_told("delay-done")) usleep(DELAY_US);
    if (is_told("shutdown")) shutdown(fd, SHUT_RDWR);
    ssize_t sent = next(fd, data, n, flags);
    trace();
    return sent;
}

/* ---- receiving ---- */

static size_t marker_read(uint8_t *marker)
{
    const char *hex = getenv("PR_FAULT_MARKER");
    size_t n = 0;
    unsigned byte;
    for (; hex && n < MARKER_BYTES_MAX && sscanf(hex + 2 * n, "%2x", &byte) == 1; n++) {
        marker[n] = (uint8_t)byte;
    }
    return n;
}

static void marker_look(const uint8_t *data, size_t n)
{
    uint8_t marker[MARKER_BYTES_MAX];
    size_t n_marker = marker_read(marker);
    if (n_marker == 0) return;
    size_t n_all = control.n_tail + n;
    uint8_t *all = malloc(n_all);
    if (!all) abort();
    memcpy(all, control.tail, control.n_tail);
    memcpy(all + control.n_tail, data, n);
    if (memmem(all, n_all, marker, n_marker)) kill(getpid(), SIGKILL);
    control.n_tail = n_all < n_marker - 1 ? n_all : n_marker - 1;
    memcpy(control.tail, all + n_all - control.n_tail, control.n_tail);
    free(all);
}

/* Takes a dropped frame's bytes out of what was received; returns how many bytes are left. A frame
 * can be dropped when its first six bytes came in one read. */
static size_t frames_filter(uint8_t *data, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n;) {
        if (control.left == 0) {
            if (control.n_header == 0 && n - i >= 6) {
                control.is_dropped = data[i + 5] == KIND_BATCH && is_told("drop-batch");
            }
            control.header[control.n_header++] = data[i];
            if (!control.is_dropped) data[kept++] = data[i];
            i++;
            if (control.n_header < 4) continue;
            uint32_t length = 0;
            for (int k = 3; k >= 0; k--) length = length << 8 | control.header[k];
            control.left = length;
            continue;
        }
        size_t step = control.left < n - i ? control.left : n - i;
        if (!control.is_dropped) {
            memmove(data + kept, data + i, step);
            kept += step;
        }
        i += step;
        control.left -= step;
        if (control.left > 0) continue;
        control.n_header = 0;
        control.is_dropped = 0;
    }
    return kept;
}

ssize_t recv(int fd, void *data, size_t n, int flags)
{
    ssize_t (*next)(int, void *, size_t, int);
    *(void **)&next = dlsym(RTLD_NEXT, "recv");
    for (;;) {
        ssize_t got = next(fd, data, n, flags);
        if (got <= 0 || control.fd <= 0 || fd != control.fd) return got;
        marker_look(data, (size_t)got);
        size_t kept = frames_filter(data, (size_t)got);
        if (kept > 0) return (ssize_t)kept;
    }
}
