#define _GNU_SOURCE
#include "coordinator/fleet/run_folder.h"

#include "runtime/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    DEPTH_MAX = 16,       /* of folders that are removed */
    BASE_BYTES_MAX = 56,  /* leaves room for the rest of a socket's path (108 bytes) */
    YOUNG_SECONDS = 60,   /* a folder without a lock file is being made */
    TRIES_MAX = 8
};

struct pr_run_folder {
    char *path;
    int lock_fd;
};

/* ---- removing ---- */

static void tree_remove_at(int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0 || depth == 0) return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0) close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        tree_remove_at(fd, e->d_name, depth - 1);
    }
    closedir(dir);
    unlinkat(parent, name, AT_REMOVEDIR);
}

void pr_tree_remove(const char *path)
{
    tree_remove_at(AT_FDCWD, path, DEPTH_MAX);
}

/* ---- folders of coordinators that are gone ---- */

/* "poolrank-UID-": what this user's folders begin with. */
static void prefix_make(char *out, size_t n)
{
    snprintf(out, n, "poolrank-%ju-", (uintmax_t)geteuid());
}

static bool is_own_folder(int base, const char *name, struct stat *st)
{
    return fstatat(base, name, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st->st_mode) &&
           st->st_uid == geteuid();
}

/* Takes the dead owner's lock, so that no two sweep the same; -1: its owner lives. */
static bool owner_is_gone(int base, const char *name, const struct stat *st, int *lock_fd)
{
    char path[300];
    snprintf(path, sizeof path, "%s/lock", name);
    *lock_fd = openat(base, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (*lock_fd < 0) return errno == ENOENT && time(NULL) - st->st_mtime > YOUNG_SECONDS;
    return flock(*lock_fd, LOCK_EX | LOCK_NB) == 0;
}

uint32_t pr_run_folder_sweep(const char *base_path)
{
    char prefix[48];
    uint32_t n_swept = 0;
    prefix_make(prefix, sizeof prefix);
    DIR *dir = opendir(base_path);
    if (!dir) return 0;
    int base = dirfd(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct stat st;
        int lock_fd = -1;
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
        if (!is_own_folder(base, e->d_name, &st)) continue;
        if (owner_is_gone(base, e->d_name, &st, &lock_fd)) {
            tree_remove_at(base, e->d_name, DEPTH_MAX);
            n_swept++;
        }
        if (lock_fd >= 0) close(lock_fd);
    }
    closedir(dir);
    return n_swept;
}

/* ---- the own folder ---- */

static bool is_usable_base(const char *path)
{
    struct stat st;
    return path && path[0] == '/' && strlen(path) <= BASE_BYTES_MAX && stat(path, &st) == 0 &&
           S_ISDIR(st.st_mode) && st.st_uid == geteuid() && access(path, W_OK | X_OK) == 0;
}

/* A sweeper may have taken the new folder for a dead one's between its making and its lock. */
static pr_status lock_take(pr_run_folder *f, bool *is_taken, pr_error *err)
{
    char *path = pr_path_join(f->path, "lock");
    if (!path) return pr_error_nomem(err, "path", strlen(f->path));
    f->lock_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int open_errno = errno;
    *is_taken = f->lock_fd >= 0 && flock(f->lock_fd, LOCK_EX | LOCK_NB) == 0;
    if (*is_taken) *is_taken = pr_file_exists(path);
    free(path);
    if (*is_taken) return PR_OK;
    bool is_swept = f->lock_fd >= 0 || open_errno == ENOENT;
    if (f->lock_fd >= 0) close(f->lock_fd);
    f->lock_fd = -1;
    return is_swept ? PR_OK : pr_error_errno(err, open_errno, "%s/lock", f->path);
}

static pr_status folder_make(pr_run_folder *f, const char *base, pr_error *err)
{
    char prefix[48];
    prefix_make(prefix, sizeof prefix);
    for (int i = 0; i < TRIES_MAX; i++) {
        bool is_taken = false;
        free(f->path);
        if (asprintf(&f->path, "%s/%sXXXXXX", base, prefix) < 0) {
            f->path = NULL;
            return pr_error_nomem(err, "path", strlen(base));
        }
        if (!mkdtemp(f->path)) return pr_error_errno(err, errno, "run folder in %s", base);
        pr_status st = lock_take(f, &is_taken, err);
        if (st != PR_OK || is_taken) return st;
        pr_tree_remove(f->path);
    }
    return pr_error_set(err, PR_E_IO, "run folder in %s: each is removed before it is locked",
                        base);
}

pr_status pr_run_folder_open(const char *runtime_folder, pr_run_folder **out, pr_error *err)
{
    const char *base = is_usable_base(runtime_folder) ? runtime_folder : "/tmp";
    pr_run_folder_sweep(base);
    pr_run_folder *f = calloc(1, sizeof *f);
    if (!f) return pr_error_nomem(err, "run folder", sizeof *f);
    f->lock_fd = -1;
    pr_status st = folder_make(f, base, err);
    if (st != PR_OK) {
        pr_run_folder_close(f);
        return st;
    }
    *out = f;
    return PR_OK;
}

void pr_run_folder_close(pr_run_folder *f)
{
    if (!f) return;
    if (f->path) pr_tree_remove(f->path);
    if (f->lock_fd >= 0) close(f->lock_fd);
    free(f->path);
    free(f);
}

const char *pr_run_folder_path(const pr_run_folder *f)
{
    return f->path;
}

pr_status pr_run_folder_make(const pr_run_folder *f, const char *name, char **out, pr_error *err)
{
    char *path = pr_path_join(f->path, name);
    if (!path) return pr_error_nomem(err, "path", strlen(name));
    if (mkdir(path, 0700) != 0) {
        pr_status st = pr_error_errno(err, errno, "%s", path);
        free(path);
        return st;
    }
    *out = path;
    return PR_OK;
}
