#define _GNU_SOURCE
#include "program/output_lines.h"

#include "runtime/base/buffer.h"
#include "runtime/base/file.h"
#include "runtime/base/json_write.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FLUSH_BYTES = 64 * 1024, /* written out once there is as much */
    PIECE = 128,             /* floats written between two looks at the buffer */
    SLACK_BYTES = 4 * 1024,  /* room behind that for the piece in hand */
    TEMPORARY_TRIES_MAX = 100,
    TEMPORARY_NAME_BYTES = 200 /* of the target's name kept, so that the longest still fits */
};

struct pr_output_lines {
    int fd;
    bool owns_fd;
    char *name;      /* for messages: the path, or "standard output" */
    char *target;    /* what the temporary file becomes; NULL: written to directly */
    char *temporary; /* NULL once it is renamed */
    pr_buffer buffer;
    pr_error failure; /* of the first write that failed; status PR_OK before */
};

/* ---- opening ---- */

/* "/folder/.NAME.tmp0123456789abcdef", owned; NULL: no memory. */
static char *temporary_name(const char *target)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) {
        random = (uint64_t)getpid(); /* O_EXCL and the retry below cover a name that is taken */
    }
    const char *slash = strrchr(target, '/');
    int n_folder = slash ? (int)(slash + 1 - target) : 0;
    char *name = NULL;
    int n = asprintf(&name, "%.*s.%.*s.tmp%016" PRIx64, n_folder, target, TEMPORARY_NAME_BYTES,
                     target + n_folder, random);
    return n < 0 ? NULL : name;
}

/* Made with open, not mkstemp: the file's mode is then the one that the umask gives. */
static pr_status temporary_open(pr_output_lines *out, pr_error *err)
{
    for (int i = 0;; i++) {
        out->temporary = temporary_name(out->target);
        if (!out->temporary) return pr_error_nomem(err, out->name, strlen(out->target));
        out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0666);
        if (out->fd >= 0) break;
        int errnum = errno;
        free(out->temporary);
        out->temporary = NULL;
        if (errnum != EEXIST || i + 1 == TEMPORARY_TRIES_MAX) {
            return pr_error_errno(err, errnum, "write %s", out->name);
        }
    }
    out->owns_fd = true;
    return PR_OK;
}

/* path exists as sb says. */
static pr_status open_existing(pr_output_lines *out, const char *path, const struct stat *sb,
                               pr_error *err)
{
    if (S_ISDIR(sb->st_mode)) {
        return pr_error_set(err, PR_E_ARGUMENT, "write %s: found a folder, expected a file", path);
    }
    if (!S_ISREG(sb->st_mode)) {
        out->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        out->owns_fd = out->fd >= 0;
        return out->fd >= 0 ? PR_OK : pr_error_errno(err, errno, "write %s", path);
    }
    /* A rename would replace a file that its owner made read-only; a link stays a link. */
    if (access(path, W_OK) != 0) return pr_error_errno(err, errno, "write %s", path);
    out->target = realpath(path, NULL);
    if (!out->target) return pr_error_errno(err, errno, "write %s", path);
    pr_status st = temporary_open(out, err);
    /* Some file systems have no modes: the result matters more than they do. */
    if (st == PR_OK) (void)fchmod(out->fd, sb->st_mode & 0777);
    return st;
}

static pr_status open_path(pr_output_lines *out, const char *path, pr_error *err)
{
    struct stat sb;
    if (stat(path, &sb) == 0) return open_existing(out, path, &sb, err);
    if (errno != ENOENT) return pr_error_errno(err, errno, "write %s", path);
    size_t n = strlen(path);
    if (n == 0 || path[n - 1] == '/') {
        return pr_error_set(err, PR_E_ARGUMENT, "write '%s': expected the name of a file", path);
    }
    out->target = strdup(path);
    if (!out->target) return pr_error_nomem(err, path, n + 1);
    return temporary_open(out, err);
}

/* /dev/stdout leads to the redirected file, which is to be continued, not replaced. */
static bool is_standard_output(const char *path)
{
    return !path || strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0 ||
           strcmp(path, "/dev/fd/1") == 0 || strcmp(path, "/proc/self/fd/1") == 0;
}

pr_status pr_output_lines_open(const char *path, pr_output_lines **out, pr_error *err)
{
    assert(out);
    bool is_stdout = is_standard_output(path);
    pr_status st = PR_OK;
    pr_output_lines *o = calloc(1, sizeof *o);
    if (!o) return pr_error_nomem(err, "output", sizeof *o);
    o->fd = is_stdout ? STDOUT_FILENO : -1;
    pr_buffer_init(&o->buffer);
    o->name = strdup(is_stdout ? "standard output" : path);
    if (!o->name || !pr_buffer_reserve(&o->buffer, FLUSH_BYTES + SLACK_BYTES)) {
        st = pr_error_nomem(err, "output", FLUSH_BYTES + SLACK_BYTES);
        goto cleanup;
    }
    if (!is_stdout && (st = open_path(o, path, err)) != PR_OK) goto cleanup;
    *out = o;
    o = NULL;
cleanup:
    pr_output_lines_close(o);
    return st;
}

void pr_output_lines_close(pr_output_lines *out)
{
    if (!out) return;
    if (out->owns_fd) close(out->fd);
    if (out->temporary) unlink(out->temporary);
    pr_buffer_deinit(&out->buffer);
    free(out->name);
    free(out->target);
    free(out->temporary);
    free(out);
}

/* ---- writing out ---- */

static pr_status fail_errno(pr_output_lines *out, int errnum)
{
    return pr_error_set(&out->failure, PR_E_IO, "write %s: %s", out->name, strerror(errnum));
}

static pr_status write_all(pr_output_lines *out, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(out->fd, data, n);
        if (wrote < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            struct pollfd p = {.fd = out->fd, .events = POLLOUT};
            (void)poll(&p, 1, -1);
        } else if (wrote < 0 && errno != EINTR) {
            return fail_errno(out, errno);
        } else if (wrote > 0) {
            data += wrote;
            n -= (size_t)wrote;
        }
    }
    return PR_OK;
}

static void flush(pr_output_lines *out)
{
    if (out->failure.status == PR_OK && out->buffer.failed) {
        pr_error_nomem(&out->failure, out->name, out->buffer.n);
    }
    if (out->failure.status == PR_OK) (void)write_all(out, out->buffer.data, out->buffer.n);
    pr_buffer_clear(&out->buffer);
}

static pr_status verdict(const pr_output_lines *out, pr_error *err)
{
    if (out->failure.status != PR_OK && err) *err = out->failure;
    return out->failure.status;
}

pr_status pr_output_lines_flush(pr_output_lines *out, pr_error *err)
{
    flush(out);
    return verdict(out, err);
}

/* The rename survives a crash only when the folder is on disk too. Best effort: some file systems
 * cannot sync a folder, and the file itself is already safe. */
static void folder_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

pr_status pr_output_lines_finish(pr_output_lines *out, pr_error *err)
{
    flush(out);
    if (out->failure.status != PR_OK || !out->target) return verdict(out, err);
    assert(out->temporary);
    int fd = out->fd;
    out->fd = -1;
    out->owns_fd = false;
    if (fsync(fd) != 0 && errno != EINVAL) fail_errno(out, errno);
    if (close(fd) != 0 && out->failure.status == PR_OK) fail_errno(out, errno);
    if (out->failure.status == PR_OK && rename(out->temporary, out->target) != 0) {
        fail_errno(out, errno);
    }
    if (out->failure.status != PR_OK) return verdict(out, err);
    free(out->temporary);
    out->temporary = NULL;
    folder_sync(out->target);
    return PR_OK;
}

/* ---- one line ---- */

static void put(pr_output_lines *out, const char *s)
{
    pr_buffer_append_str(&out->buffer, s);
}

/* Called between pieces: rows may be far larger than the buffer. */
static void flush_if_full(pr_output_lines *out)
{
    if (out->buffer.n >= FLUSH_BYTES) flush(out);
}

/* In pieces, between which the buffer is written out. */
static void put_floats(pr_output_lines *out, const float *x, size_t n)
{
    pr_buffer_append_char(&out->buffer, '[');
    for (size_t begin = 0; begin < n; begin += PIECE) {
        flush_if_full(out);
        if (begin > 0) pr_buffer_append_char(&out->buffer, ',');
        pr_json_write_elements(&out->buffer, x + begin, n - begin < PIECE ? n - begin : PIECE);
    }
    pr_buffer_append_char(&out->buffer, ']');
}

static void put_rows(pr_output_lines *out, const pr_output_row *row)
{
    put(out, ",\"data\":");
    if (!row->is_token_wise) {
        assert(row->n_rows == 1);
        put_floats(out, row->data, row->n_columns);
        pr_buffer_printf(&out->buffer, ",\"shape\":[%" PRIu32 "]", row->n_columns);
        return;
    }
    pr_buffer_append_char(&out->buffer, '[');
    for (size_t i = 0; i < row->n_rows; i++) {
        if (i > 0) pr_buffer_append_char(&out->buffer, ',');
        put_floats(out, row->data + i * row->n_columns, row->n_columns);
    }
    pr_buffer_printf(&out->buffer, "],\"shape\":[%" PRIu32 ",%" PRIu32 "]", row->n_rows,
                     row->n_columns);
}

static void put_tokens(pr_output_lines *out, const int32_t *tokens, size_t n)
{
    put(out, ",\"tokens\":[");
    for (size_t i = 0; i < n; i++) {
        flush_if_full(out);
        if (i > 0) pr_buffer_append_char(&out->buffer, ',');
        pr_json_write_int(&out->buffer, tokens[i]);
    }
    put(out, "]");
}

static int put_bytes(const char *data, size_t n, void *context)
{
    pr_output_lines *out = context;
    return pr_buffer_append(&out->buffer, data, n) ? 0 : -1;
}

static void put_head(pr_output_lines *out, const pr_output_row *row)
{
    pr_buffer_printf(&out->buffer, "{\"index\":%" PRIu64, row->index);
    if (row->id) {
        put(out, ",\"id\":");
        if (json_dump_callback(row->id, put_bytes, out, JSON_ENCODE_ANY | JSON_COMPACT) != 0) {
            out->buffer.failed = true;
        }
    }
    if (row->kind != PR_OUTPUT_TOKENS && row->kind != PR_OUTPUT_ERROR) {
        pr_buffer_printf(&out->buffer, ",\"prompt_tokens\":%" PRIu32, row->n_prompt_tokens);
    }
}

static void put_reward(pr_output_lines *out, const pr_output_row *row)
{
    put(out, ",\"reward\":");
    pr_json_write_float(&out->buffer, row->value);
    if (row->step_rewards) {
        put(out, ",\"step_rewards\":");
        put_floats(out, row->step_rewards, row->n_step_rewards);
    }
    if (row->data) put_rows(out, row);
}

static void put_error(pr_output_lines *out, const pr_output_row *row)
{
    pr_buffer_printf(&out->buffer, ",\"error\":{\"status\":\"%s\",\"message\":",
                     pr_status_describe(row->status)->name);
    const char *message = row->message ? row->message : "";
    pr_json_write_str(&out->buffer, message, strlen(message));
    put(out, "}");
}

pr_status pr_output_lines_write(pr_output_lines *out, const pr_output_row *row, pr_error *err)
{
    assert(row);
    if (out->failure.status != PR_OK) return verdict(out, err);
    put_head(out, row);
    switch (row->kind) {
    case PR_OUTPUT_EMBEDDING:
        put(out, ",\"embedding\":");
        put_floats(out, row->data, row->n_columns);
        break;
    case PR_OUTPUT_PROBS:
        put(out, ",\"probs\":");
        put_floats(out, row->data, row->n_columns);
        break;
    case PR_OUTPUT_SCORE:
        put(out, ",\"score\":");
        pr_json_write_float(&out->buffer, row->value);
        break;
    case PR_OUTPUT_REWARD:
        put_reward(out, row);
        break;
    case PR_OUTPUT_DATA:
        put_rows(out, row);
        break;
    case PR_OUTPUT_TOKENS:
        if (row->prompt) {
            put(out, ",\"prompt\":");
            pr_json_write_str(&out->buffer, row->prompt, row->n_prompt);
        }
        put_tokens(out, row->tokens, row->n_tokens);
        break;
    case PR_OUTPUT_ERROR:
        put_error(out, row);
        break;
    }
    put(out, "}\n");
    if (out->buffer.failed) flush(out); /* records the failure: part of the line is missing */
    flush_if_full(out);
    return verdict(out, err);
}
