/* runtime/base/file.h: opening and reading files without being led astray.
 *
 * Only regular files are opened (never FIFOs, devices, sockets), without blocking. A model folder
 * is a root that nothing named inside its files may leave. Called on any thread. */
#ifndef POOLRANK_RUNTIME_BASE_FILE_H
#define POOLRANK_RUNTIME_BASE_FILE_H

#include "runtime/base/status.h"

#include <stdint.h>

/* Opens for reading; the caller closes *fd. Fails PR_E_NOT_FOUND, PR_E_IO, or PR_E_MODEL when the
 * path is not a regular file, may not be read, or is a link that leads in circles. */
pr_status pr_file_open(const char *path, int *fd, uint64_t *size_bytes, pr_error *err);

/* Reads a whole regular file. *data: owned (free), with a NUL behind the last byte.
 * Fails as pr_file_open, PR_E_TOO_LARGE when it is larger than bytes_max, PR_E_NOMEM. */
pr_status pr_file_read(const char *path, size_t bytes_max, char **data, size_t *n, pr_error *err);

/* Reads exactly n bytes at offset with pread. Fails PR_E_IO, also at end of file. */
pr_status pr_file_pread(int fd, void *dst, size_t n, uint64_t offset, pr_error *err);

bool pr_file_exists(const char *path); /* anything at all, links followed */
bool pr_file_is_folder(const char *path);

/* A path of a file inside a model folder: joins root and relative, follows links, and checks that
 * the result lies below root, or below the `blobs` folder of the Hugging Face cache that root is a
 * snapshot of (…/models--a--b/snapshots/REV → …/models--a--b/blobs).
 * *out: owned (free). Fails PR_E_MODEL for an absolute path, "..", or a link that leaves;
 * PR_E_NOT_FOUND when there is no such file. `relative` may hold slashes. */
pr_status pr_file_resolve(const char *root, const char *relative, char **out, pr_error *err);

/* "a/b": owned (free); NULL when there is no memory. */
char *pr_path_join(const char *a, const char *b);

#endif
