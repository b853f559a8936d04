/* nccl_shared.cpp: the simulated NCCL: the memory that ranks share, and how they come together. */
#include "tests/simcuda/nccl_state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static const uint64_t timeout_ms_default = 30000;
static const uint64_t look_every_ns = 10 * 1000 * 1000;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t timeout_ns(void)
{
    const char *text = getenv("POOLRANK_SIM_NCCL_TIMEOUT_MS");
    return (text && *text ? strtoull(text, NULL, 10) : timeout_ms_default) * 1000000u;
}

ncclResult_t nccl_fail(ncclComm_t c, ncclResult_t e, const char *format, ...)
{
    if (c->error != ncclSuccess) return c->error;
    va_list args;
    va_start(args, format);
    vsnprintf(c->message, sizeof c->message, format, args);
    va_end(args);
    c->error = e;
    return e;
}

/* ---- is a rank there? ---- */
/* A process that has ended but that nobody has waited for still has a number. */
static bool is_alive(int pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno != ENOENT;
    const ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n <= 0) return false;
    line[n] = '\0';
    const char *end = strrchr(line, ')'); /* of the name, which may hold anything */
    return !end || end[1] == '\0' || (end[2] != 'Z' && end[2] != 'X');
}

ncclResult_t nccl_wait_check(ncclComm_t c, nccl_patience *p, int rank, const char *what)
{
    const uint64_t now = clock_ns();
    if (p->since_ns == 0) p->since_ns = p->looked_ns = now;
    const nccl_shared_rank *r = c->shared ? &c->shared->ranks[rank] : NULL;
    const int presence = r ? __atomic_load_n(&r->presence, __ATOMIC_ACQUIRE) : NCCL_AWAY;
    if (presence == NCCL_ABORTED || presence == NCCL_LEFT)
        return nccl_fail(c, ncclRemoteError, "%s: rank %d has %s its communicator", what, rank,
                         presence == NCCL_LEFT ? "destroyed" : "aborted");
    if (now - p->looked_ns > look_every_ns) {
        p->looked_ns = now;
        if (presence == NCCL_HERE && !is_alive(r->pid))
            return nccl_fail(c, ncclRemoteError, "%s: rank %d (process %d) has ended", what, rank,
                             (int)r->pid);
    }
    if (now - p->since_ns > timeout_ns())
        return nccl_fail(c, ncclRemoteError, "%s: rank %d did not come within %llu ms", what, rank,
                         (unsigned long long)(timeout_ns() / 1000000u));
    return ncclInProgress;
}

/* ---- the memory file ---- */
ncclResult_t nccl_file_make(nccl_place *out)
{
    uint64_t nonce = 0;
    if (getrandom(&nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce) return ncclSystemError;
    const int fd = memfd_create("simulated-nccl", MFD_CLOEXEC);
    if (fd < 0) return ncclSystemError;
    if (ftruncate(fd, sizeof(nccl_shared)) != 0 ||
        pwrite(fd, &nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce) {
        close(fd);
        return ncclSystemError;
    }
    *out = nccl_place{(int32_t)getpid(), fd, nonce};
    return ncclSuccess;
}

void nccl_file_forget(ncclComm_t c)
{
    if (c->own_fd >= 0) close(c->own_fd);
    c->own_fd = -1;
}

static ncclResult_t file_map(ncclComm_t c, const nccl_place *place)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)place->pid, (int)place->fd);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return nccl_fail(c, ncclRemoteError, "process %d, which made the id, is not there: %s",
                         (int)place->pid, strerror(errno));
    void *p = mmap(NULL, sizeof(nccl_shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return nccl_fail(c, ncclSystemError, "mmap: %s", strerror(errno));
    if (((const nccl_shared *)p)->nonce != place->nonce) {
        munmap(p, sizeof(nccl_shared));
        return nccl_fail(c, ncclInvalidArgument, "the id is not valid any more");
    }
    c->shared = (nccl_shared *)p;
    if (place->pid == getpid()) c->own_fd = place->fd;
    return ncclSuccess;
}

ncclResult_t nccl_attach(ncclComm_t c, const nccl_place *place)
{
    const ncclResult_t e = file_map(c, place);
    if (e != ncclSuccess) return e;
    nccl_shared *s = c->shared;
    int32_t none = 0;
    if (!__atomic_compare_exchange_n(&s->n_ranks, &none, c->n_ranks, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE) &&
        none != c->n_ranks)
        return nccl_fail(c, ncclInvalidArgument, "ranks: %d here, %d on another rank", c->n_ranks,
                         (int)none);
    nccl_shared_rank *r = &s->ranks[c->rank];
    int32_t away = NCCL_AWAY;
    r->pid = (int32_t)getpid();
    r->device = 1 + (uint64_t)sim.i_physical[c->i_device];
    if (!__atomic_compare_exchange_n(&r->presence, &away, NCCL_HERE, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return nccl_fail(c, ncclInvalidUsage, "rank %d is there already", c->rank);
    __atomic_add_fetch(&s->n_here, 1, __ATOMIC_ACQ_REL);
    return ncclSuccess;
}

void nccl_leave(ncclComm_t c, nccl_presence how)
{
    if (c->shared)
        __atomic_store_n(&c->shared->ranks[c->rank].presence, how, __ATOMIC_RELEASE);
}

void nccl_unref(ncclComm_t c)
{
    if (--c->n_refs > 0) return;
    nccl_file_forget(c);
    if (c->shared) munmap(c->shared, sizeof(nccl_shared));
    c->magic = 0;
    free(c);
}

/* ---- coming together ---- */
static ncclResult_t gather(ncclComm_t c)
{
    nccl_shared *s = c->shared;
    for (int r = 0; r < c->n_ranks; r++)
        if (__atomic_load_n(&s->ranks[r].presence, __ATOMIC_ACQUIRE) == NCCL_AWAY)
            return nccl_wait_check(c, &c->patience, r, "coming together");
    for (int r = 0; r < c->n_ranks; r++)
        if (r != c->rank && s->ranks[r].device == s->ranks[c->rank].device)
            return nccl_fail(c, ncclInvalidUsage, "ranks %d and %d are on the same device", r,
                             c->rank);
    nccl_file_forget(c);
    c->stage = NCCL_READY;
    c->patience = nccl_patience{};
    return ncclSuccess;
}

/* The parent's rank that has the place among those of its color: by key, then rank; -1: nobody. */
static int member_at(const ncclComm_t parent, int color, int place)
{
    const nccl_shared_rank *ranks = parent->shared->ranks;
    for (int r = 0; r < parent->n_ranks; r++) {
        if (ranks[r].color != color) continue;
        int n_before = 0;
        for (int o = 0; o < parent->n_ranks; o++)
            if (ranks[o].color == color &&
                (ranks[o].key < ranks[r].key || (ranks[o].key == ranks[r].key && o < r)))
                n_before++;
        if (n_before == place) return r;
    }
    return -1;
}

static bool all_reached(const ncclComm_t parent, size_t offset, uint64_t n, int *missing)
{
    for (int r = 0; r < parent->n_ranks; r++) {
        const char *rank = (const char *)&parent->shared->ranks[r];
        *missing = r;
        if (__atomic_load_n((const uint64_t *)(rank + offset), __ATOMIC_ACQUIRE) < n) return false;
    }
    return true;
}

static ncclResult_t split_post(ncclComm_t c)
{
    ncclComm_t p = c->parent;
    nccl_shared_rank *own = &p->shared->ranks[p->rank];
    int missing;
    if (!all_reached(p, offsetof(nccl_shared_rank, n_splits_done), p->n_splits - 1, &missing))
        return nccl_wait_check(p, &c->patience, missing, "split");
    own->color = c->color;
    own->key = c->key;
    __atomic_store_n(&own->n_splits, p->n_splits, __ATOMIC_RELEASE);
    c->stage = NCCL_SPLIT_GATHER;
    return ncclInProgress;
}

static ncclResult_t split_gather(ncclComm_t c)
{
    ncclComm_t p = c->parent;
    int missing;
    if (!all_reached(p, offsetof(nccl_shared_rank, n_splits), p->n_splits, &missing))
        return nccl_wait_check(p, &c->patience, missing, "split");
    for (int place = 0, member; (member = member_at(p, c->color, place)) >= 0; place++) {
        if (member == p->rank) c->rank = place;
        c->n_ranks = place + 1;
    }
    nccl_shared_rank *own = &p->shared->ranks[p->rank];
    if (c->color != NCCL_SPLIT_NOCOLOR && c->rank == 0) {
        const ncclResult_t e = nccl_file_make(&own->child);
        if (e != ncclSuccess) return nccl_fail(p, e, "split: no memory to share");
    }
    __atomic_store_n(&own->n_split_children, p->n_splits, __ATOMIC_RELEASE);
    c->stage = NCCL_SPLIT_OPEN;
    return ncclInProgress;
}

static ncclResult_t split_open(ncclComm_t c)
{
    ncclComm_t p = c->parent;
    nccl_shared_rank *own = &p->shared->ranks[p->rank];
    ncclResult_t e = ncclSuccess;
    if (c->color != NCCL_SPLIT_NOCOLOR) {
        const int first = member_at(p, c->color, 0);
        const nccl_shared_rank *maker = &p->shared->ranks[first];
        if (__atomic_load_n(&maker->n_split_children, __ATOMIC_ACQUIRE) < p->n_splits)
            return nccl_wait_check(p, &c->patience, first, "split");
        e = nccl_attach(c, &maker->child);
    }
    __atomic_store_n(&own->n_splits_done, p->n_splits, __ATOMIC_RELEASE);
    c->patience = nccl_patience{};
    c->stage = c->color == NCCL_SPLIT_NOCOLOR ? NCCL_READY : NCCL_GATHER;
    return e == ncclSuccess ? ncclInProgress : e;
}

ncclResult_t nccl_come_together(ncclComm_t c)
{
    ncclResult_t e = ncclInProgress;
    for (nccl_stage before = NCCL_READY; e == ncclInProgress && c->stage != before;) {
        before = c->stage;
        switch (c->stage) {
        case NCCL_SPLIT_POST: e = split_post(c); break;
        case NCCL_SPLIT_GATHER: e = split_gather(c); break;
        case NCCL_SPLIT_OPEN: e = split_open(c); break;
        case NCCL_GATHER: e = gather(c); break;
        case NCCL_READY: e = ncclSuccess; break;
        }
    }
    return e;
}
