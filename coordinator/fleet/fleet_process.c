#define _GNU_SOURCE
#include "coordinator/fleet/fleet_process.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LAST_LINES = 4,
    READ_BYTES = 4096,
    LINGER_MS = 200 /* after its end, for output that is still on its way */
};

struct pr_process {
    pr_process_config c;
    uv_process_t child;
    uv_pipe_t output;
    uv_timer_t linger;
    int pid;
    int n_handles; /* open */
    bool has_exited, has_output_ended, is_closing;
    int64_t exit_status;
    int exit_signal;
    char line[PR_PROCESS_LINE_BYTES]; /* begun */
    size_t n_line;
    char last[LAST_LINES][PR_PROCESS_LINE_BYTES];
    unsigned n_lines;
    char error[PR_PROCESS_LINE_BYTES]; /* the first that a rank called an error; "": none */
    char words[LAST_LINES * PR_PROCESS_LINE_BYTES];
    char bytes[READ_BYTES];
};

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    pr_process *p = handle->data;
    if (--p->n_handles == 0) free(p);
}

static void handles_close(pr_process *p)
{
    uv_close((uv_handle_t *)&p->child, on_closed);
    uv_close((uv_handle_t *)&p->output, on_closed);
    uv_close((uv_handle_t *)&p->linger, on_closed);
}

const char *pr_process_last_words(pr_process *p)
{
    if (p->error[0]) return p->error;
    unsigned n = p->n_lines < LAST_LINES ? p->n_lines : LAST_LINES;
    size_t at = 0;
    p->words[0] = '\0';
    for (unsigned i = p->n_lines - n; i < p->n_lines; i++) {
        int wrote = snprintf(p->words + at, sizeof p->words - at, "%s%s", at ? " | " : "",
                             p->last[i % LAST_LINES]);
        if (wrote < 0 || (size_t)wrote >= sizeof p->words - at) break;
        at += (size_t)wrote;
    }
    return p->words;
}

static void end_report(pr_process *p)
{
    if (p->is_closing) return;
    p->is_closing = true;
    char how[sizeof p->words + 64];
    const char *words = pr_process_last_words(p);
    const char *colon = words[0] ? ": " : "";
    if (p->exit_signal) {
        snprintf(how, sizeof how, "was ended by signal %d%s%s", p->exit_signal, colon, words);
    } else {
        snprintf(how, sizeof how, "ended with status %lld%s%s", (long long)p->exit_status, colon,
                 words);
    }
    p->c.ended(p->c.context, p, how);
    handles_close(p);
}

static void on_linger(uv_timer_t *timer)
{
    end_report(timer->data);
}

static void end_check(pr_process *p)
{
    if (!p->has_exited) return;
    if (p->has_output_ended) {
        end_report(p);
    } else { /* a process that outlives the launcher may hold the pipe for ever */
        uv_timer_start(&p->linger, on_linger, LINGER_MS, 0);
    }
}

static void on_exit_seen(uv_process_t *child, int64_t status, int signal_number)
{
    pr_process *p = child->data;
    p->has_exited = true;
    p->exit_status = status;
    p->exit_signal = signal_number;
    end_check(p);
}

/* ---- output ---- */

/* What a rank says of its end says more than what the launcher says of the rank's. */
static void line_keep(pr_process *p)
{
    static const char tag[] = "poolrank: error: ";
    bool is_rule = strspn(p->line, "-") == strlen(p->line);
    if (!p->error[0] && strncmp(p->line, tag, sizeof tag - 1) == 0) {
        snprintf(p->error, sizeof p->error, "%s", p->line + sizeof tag - 1);
    }
    if (!is_rule) memcpy(p->last[p->n_lines++ % LAST_LINES], p->line, sizeof p->line);
}

static void line_end(pr_process *p)
{
    if (p->n_line == 0) return;
    p->line[p->n_line] = '\0';
    p->n_line = 0;
    line_keep(p);
    p->c.line(p->c.context, p, p->line);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    pr_process *p = handle->data;
    *out = uv_buf_init(p->bytes, sizeof p->bytes);
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    pr_process *p = stream->data;
    if (p->is_closing) return;
    for (ssize_t i = 0; i < n; i++) {
        char c = bytes->base[i];
        if (c == '\n' || p->n_line == sizeof p->line - 1) line_end(p);
        if (c != '\n' && c != '\r') p->line[p->n_line++] = c;
    }
    if (n >= 0) return;
    line_end(p);
    uv_read_stop(stream);
    p->has_output_ended = true;
    end_check(p);
}

/* ---- start ---- */

static int process_spawn(pr_process *p)
{
    int fds[2];
    uv_loop_t *loop = p->c.loop;
    uv_timer_init(loop, &p->linger);
    uv_pipe_init(loop, &p->output, 0);
    p->child.data = p->output.data = p->linger.data = p;
    p->n_handles = 3;
    int rc = uv_pipe(fds, UV_NONBLOCK_PIPE, 0);
    if (rc != 0) {
        fds[0] = fds[1] = -1;
    } else if ((rc = uv_pipe_open(&p->output, fds[0])) != 0) {
        close(fds[0]);
    }
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = fds[1]},
        {.flags = UV_INHERIT_FD, .data.fd = fds[1]},
    };
    const uv_process_options_t options = {
        .exit_cb = on_exit_seen,
        .file = p->c.command->argv.words[0],
        .args = p->c.command->argv.words,
        .env = p->c.command->environment.words,
        .flags = UV_PROCESS_DETACHED, /* a session of its own */
        .stdio_count = 3,
        .stdio = stdio,
    };
    /* Also when the spawn fails the handle is initialized, and must be closed. */
    int rc_spawn = uv_spawn(loop, &p->child, &options);
    if (fds[1] >= 0) close(fds[1]);
    if (rc == 0) rc = rc_spawn;
    p->pid = rc_spawn == 0 ? p->child.pid : 0;
    return rc != 0 ? rc : uv_read_start((uv_stream_t *)&p->output, on_alloc, on_output);
}

pr_status pr_process_start(const pr_process_config *config, pr_process **out, pr_error *err)
{
    pr_process *p = calloc(1, sizeof *p);
    if (!p) return pr_error_nomem(err, "process", sizeof *p);
    p->c = *config;
    int rc = process_spawn(p);
    if (rc != 0) {
        const char *file = config->command->argv.words[0];
        pr_process_kill(p);
        p->is_closing = true;
        handles_close(p);
        return pr_error_set(err, rc == UV_ENOENT ? PR_E_NOT_FOUND : PR_E_IO, "start %s: %s", file,
                            uv_strerror(rc));
    }
    p->c.command = NULL;
    *out = p;
    return PR_OK;
}

/* ---- killing ---- */

/* The session of a process; -1: it is gone. The name in /proc/PID/stat may hold anything but ends
 * with the last ')'. */
static int session_of(const char *pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return -1;
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    int session;
    return end && sscanf(end + 1, " %*c %*d %*d %d", &session) == 1 ? session : -1;
}

static void session_kill(int session)
{
    DIR *proc = opendir("/proc");
    if (!proc) return;
    for (struct dirent *e; (e = readdir(proc)) != NULL;) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        if (session_of(e->d_name) != session) continue;
        kill((pid_t)strtol(e->d_name, NULL, 10), SIGKILL);
    }
    closedir(proc);
}

/* The launcher first: it would report the ranks' deaths, and could start another. Its number is not
 * given to another process while its session has members, nor before it was reaped. */
void pr_process_kill(pr_process *p)
{
    if (p->pid <= 0 || p->is_closing) return;
    if (!p->has_exited) kill(p->pid, SIGKILL);
    session_kill(p->pid);
}

void pr_process_terminate(pr_process *p)
{
    if (p->pid > 0 && !p->has_exited) kill(p->pid, SIGTERM);
}

int pr_process_pid(const pr_process *p)
{
    return p->pid;
}
