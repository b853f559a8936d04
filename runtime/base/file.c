#define _GNU_SOURCE
#include "runtime/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a FIFO"
           : S_ISCHR(mode)  ? "a character device"
           : S_ISBLK(mode)  ? "a block device"
           : S_ISSOCK(mode) ? "a socket"
                            : "not a regular file";
}

/* A file that may not be read or a link that leads nowhere is what the folder is like, not a
 * failing device. */
static pr_status open_error(const char *path, int errnum, pr_error *err)
{
    if (errnum != EACCES && errnum != EPERM && errnum != ELOOP && errnum != ENAMETOOLONG) {
        return pr_error_errno(err, errnum, "%s", path);
    }
    return pr_error_set(err, PR_E_MODEL, "%s: %s", path, strerror(errnum));
}

pr_status pr_file_open(const char *path, int *fd, uint64_t *size_bytes, pr_error *err)
{
    /* Looked at before it is opened: opening a device can have effects. O_NONBLOCK covers the case
     * that it is exchanged for a FIFO in between. */
    struct stat sb;
    if (stat(path, &sb) != 0) return open_error(path, errno, err);
    if (!S_ISREG(sb.st_mode)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected a regular file", path,
                            kind_of(sb.st_mode));
    }
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f < 0) return open_error(path, errno, err);
    if (fstat(f, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        close(f);
        return pr_error_set(err, PR_E_MODEL, "%s: changed while it was opened", path);
    }
    *fd = f;
    *size_bytes = (uint64_t)sb.st_size;
    return PR_OK;
}

pr_status pr_file_pread(int fd, void *dst, size_t n, uint64_t offset, pr_error *err)
{
    char *p = dst;
    while (n > 0) {
        size_t step = n < ((size_t)1 << 30) ? n : (size_t)1 << 30;
        ssize_t got = pread(fd, p, step, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return pr_error_errno(err, errno, "read at byte %llu", (unsigned long long)offset);
        if (got == 0) {
            return pr_error_set(err, PR_E_IO, "end of file at byte %llu, %zu bytes short",
                                (unsigned long long)offset, n);
        }
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return PR_OK;
}

pr_status pr_file_read(const char *path, size_t bytes_max, char **data, size_t *n, pr_error *err)
{
    int fd = -1;
    uint64_t size = 0;
    char *bytes = NULL;
    pr_status st = pr_file_open(path, &fd, &size, err);
    if (st != PR_OK) return st;
    if (size > bytes_max) {
        st = pr_error_set(err, PR_E_TOO_LARGE, "%s: %llu bytes, expected at most %zu", path,
                          (unsigned long long)size, bytes_max);
        goto cleanup;
    }
    bytes = malloc((size_t)size + 1);
    if (!bytes) {
        st = pr_error_nomem(err, path, (size_t)size + 1);
        goto cleanup;
    }
    st = pr_file_pread(fd, bytes, (size_t)size, 0, err);
    if (st != PR_OK) {
        pr_error_context(err, st, "%s", path);
        goto cleanup;
    }
    bytes[size] = '\0';
    *data = bytes;
    *n = (size_t)size;
    bytes = NULL;
cleanup:
    free(bytes);
    close(fd);
    return st;
}

bool pr_file_exists(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0;
}

bool pr_file_is_folder(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

char *pr_path_join(const char *a, const char *b)
{
    char *out = NULL;
    size_t n = strlen(a);
    const char *slash = n > 0 && a[n - 1] == '/' ? "" : "/";
    return asprintf(&out, "%s%s%s", a, slash, b) < 0 ? NULL : out;
}

static bool has_dotdot(const char *relative)
{
    for (const char *p = relative; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.') return true;
        p += n;
        while (*p == '/') p++;
    }
    return false;
}

static bool lies_below(const char *path, const char *root)
{
    size_t n = strlen(root);
    if (n > 0 && root[n - 1] == '/') n--; /* only "/" itself ends so */
    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* The blobs folder of the cache entry that `root` (already resolved) is a snapshot of, or NULL. */
static char *cache_blobs(const char *root)
{
    const char *rev = strrchr(root, '/');
    if (!rev) return NULL;
    static const char snapshots[] = "/snapshots";
    size_t n = (size_t)(rev - root);
    size_t n_snapshots = sizeof snapshots - 1;
    if (n < n_snapshots || memcmp(rev - n_snapshots, snapshots, n_snapshots) != 0) return NULL;
    char *blobs = NULL;
    return asprintf(&blobs, "%.*s/blobs", (int)(n - n_snapshots), root) < 0 ? NULL : blobs;
}

pr_status pr_file_resolve(const char *root, const char *relative, char **out, pr_error *err)
{
    pr_status st = PR_OK;
    char *real_root = NULL, *joined = NULL, *real = NULL, *blobs = NULL;
    if (relative[0] == '/' || has_dotdot(relative)) {
        st = pr_error_set(err, PR_E_MODEL, "%s: path leaves the model folder", relative);
        goto cleanup;
    }
    real_root = realpath(root, NULL);
    if (!real_root) {
        st = open_error(root, errno, err);
        goto cleanup;
    }
    joined = pr_path_join(real_root, relative);
    if (!joined) {
        st = pr_error_nomem(err, relative, strlen(relative));
        goto cleanup;
    }
    real = realpath(joined, NULL);
    if (!real) {
        st = open_error(joined, errno, err);
        goto cleanup;
    }
    blobs = cache_blobs(real_root);
    if (!lies_below(real, real_root) && !(blobs && lies_below(real, blobs))) {
        st = pr_error_set(err, PR_E_MODEL, "%s: is a link to %s, outside the model folder", joined,
                          real);
        goto cleanup;
    }
    *out = real;
    real = NULL;
cleanup:
    free(real_root);
    free(joined);
    free(real);
    free(blobs);
    return st;
}
