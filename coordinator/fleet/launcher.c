#define _GNU_SOURCE /* dladdr */
#include "coordinator/fleet/launcher.h"

#include "runtime/base/buffer.h"
#include "runtime/base/file.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- words ---- */

void pr_words_deinit(pr_words *w)
{
    for (size_t i = 0; i < w->n; i++) free(w->words[i]);
    free(w->words);
    *w = (pr_words){0};
}

/* word: consumed; NULL: there was no memory for it. */
static bool words_add(pr_words *w, char *word)
{
    char **words = word ? realloc(w->words, (w->n + 2) * sizeof *words) : NULL;
    if (!words) {
        free(word);
        return false;
    }
    w->words = words;
    w->words[w->n++] = word;
    w->words[w->n] = NULL;
    return true;
}

/* One word; *text ends behind it. */
static pr_status word_read(const char **text, pr_buffer *word, pr_error *err)
{
    const char *p = *text;
    char quote = '\0';
    for (; *p && (quote || !strchr(" \t\n", *p)); p++) {
        if (quote ? *p == quote : *p == '\'' || *p == '"') {
            quote = quote ? '\0' : *p;
        } else if (*p == '\\' && quote != '\'' && p[1]) {
            pr_buffer_append_char(word, *++p);
        } else {
            pr_buffer_append_char(word, *p);
        }
    }
    if (quote) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: the quote %c has no end", *text, quote);
    }
    *text = p;
    return PR_OK;
}

pr_status pr_words_split(const char *text, pr_words *out, pr_error *err)
{
    pr_words w = {0};
    pr_buffer word;
    pr_status st = PR_OK;
    pr_buffer_init(&word);
    for (text += strspn(text, " \t\n"); *text; text += strspn(text, " \t\n")) {
        pr_buffer_clear(&word);
        if ((st = word_read(&text, &word, err)) != PR_OK) break;
        const char *s = word.failed ? NULL : pr_buffer_str(&word);
        if (s && words_add(&w, strdup(s))) continue;
        st = pr_error_nomem(err, "words", word.n);
        break;
    }
    pr_buffer_deinit(&word);
    if (st == PR_OK) {
        *out = w;
    } else {
        pr_words_deinit(&w);
    }
    return st;
}

/* ---- command lines ---- */

/* Adds words until NULL; ok stays false once it is. */
static void add(pr_words *w, bool *ok, ...)
{
    va_list ap;
    va_start(ap, ok);
    for (const char *word; *ok && (word = va_arg(ap, const char *)) != NULL;) {
        *ok = words_add(w, strdup(word));
    }
    va_end(ap);
}

static void add_number(pr_words *w, bool *ok, const char *prefix, int64_t number)
{
    char text[64];
    snprintf(text, sizeof text, "%s%" PRId64, prefix, number);
    add(w, ok, text, NULL);
}

static void mpirun_add(const pr_launch *l, pr_words *w, bool *ok)
{
    /* Open MPI 4.1's mpirun now and then waits for itself for ever at its end (a lock in PMIx 4.2's
     * pmix_rte_finalize, seen on a loaded machine), and then heeds SIGTERM no more. */
    if (l->guard) add(w, ok, l->guard, "--pdeathsig", "KILL", NULL);
    add(w, ok, l->launcher, "-n", NULL);
    add_number(w, ok, "", l->n_ranks);
    /* mpirun would bind each rank to one core, and refuses more ranks than cores. */
    add(w, ok, "--oversubscribe", "--bind-to", "none", NULL);
    if (l->work_folder) { /* nothing of a killed job may stay in /tmp and /dev/shm */
        add(w, ok, "--mca", "orte_tmpdir_base", l->work_folder, "--mca",
            "btl_vader_backing_directory", l->work_folder, NULL);
    }
    if (l->hostfile) add(w, ok, "--hostfile", l->hostfile, NULL);
}

static const char *n_nodes_allocated(char *const *environment)
{
    const char *n_nodes = pr_environment_get(environment, "SLURM_JOB_NUM_NODES");
    return n_nodes ? n_nodes : pr_environment_get(environment, "SLURM_NNODES");
}

/* Left alone srun spreads each step over all nodes of the allocation, and the sums of every group
 * go over the network: several groups get a share of the nodes each. Words of the user's come
 * behind and win. 0: srun decides. */
static int64_t n_nodes_of(const pr_launch *l)
{
    const char *allocated = n_nodes_allocated(l->environment);
    long n_nodes = allocated ? strtol(allocated, NULL, 10) : 0;
    if (l->n_groups < 2 || n_nodes < 2) return 0;
    long share = n_nodes / l->n_groups;
    if (share > (long)l->n_ranks) share = (long)l->n_ranks;
    return share < 1 ? 1 : share;
}

static void srun_add(const pr_launch *l, pr_words *w, bool *ok)
{
    add(w, ok, l->launcher, "--overlap", "--exact", "--mpi=pmix", "--kill-on-bad-exit=1",
        "--input=none", "-n", NULL);
    add_number(w, ok, "", l->n_ranks);
    if (l->cpus_per_rank > 0) add_number(w, ok, "--cpus-per-task=", l->cpus_per_rank);
    int64_t n_nodes = n_nodes_of(l);
    if (n_nodes > 0) add_number(w, ok, "--nodes=", n_nodes);
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The coordinator listens before it launches: a rank that finds nobody there need not wait long,
 * its coordinator is gone. */
static void worker_add(const pr_launch *l, pr_words *w, bool *ok)
{
    bool is_here = starts_with(l->connect, "unix:");
    add(w, ok, l->program, "worker", "--connect", l->connect, "--group", l->group,
        "--cluster-key-file", l->key_file, "--log-level", l->log_level, "--start-timeout",
        is_here ? "5" : "30", NULL);
}

bool pr_environment_is_launchers(const char *entry)
{
    static const char *const prefixes[] = {"OMPI_", "PMIX_", "PMI_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (starts_with(entry, prefixes[i])) return true;
    }
    return false;
}

/* Settings that are the server's alone: ranks need no client's key, and speak text, which their
 * coordinator reads. */
static bool is_servers(const char *entry)
{
    return starts_with(entry, "POOLRANK_API_KEY=") || starts_with(entry, "POOLRANK_LOG_FORMAT=");
}

/* A launcher that this process was started by must not be taken for the ranks' own. */
static void environment_add(const pr_launch *l, pr_words *w, bool *ok)
{
    for (char *const *e = l->environment; *ok && e && *e; e++) {
        if (!pr_environment_is_launchers(*e) && !is_servers(*e)) add(w, ok, *e, NULL);
    }
    /* As root, in a container, without the user setting anything. */
    add(w, ok, "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", NULL);
}

pr_status pr_launch_build(const pr_launch *l, pr_launch_command *out, pr_error *err)
{
    assert(l->mode == PR_WORKER_LAUNCH_MPIRUN || l->mode == PR_WORKER_LAUNCH_SRUN);
    bool is_mpirun = l->mode == PR_WORKER_LAUNCH_MPIRUN;
    pr_launch_command c = {0};
    pr_words args = {0};
    bool ok = true;
    pr_status st = l->args ? pr_words_split(l->args, &args, err) : PR_OK;
    if (st != PR_OK) {
        return pr_error_context(err, st, "%s", is_mpirun ? "mpirun-args" : "srun-args");
    }
    if (is_mpirun) {
        mpirun_add(l, &c.argv, &ok);
    } else {
        srun_add(l, &c.argv, &ok);
    }
    for (size_t i = 0; i < args.n; i++) add(&c.argv, &ok, args.words[i], NULL);
    worker_add(l, &c.argv, &ok);
    environment_add(l, &c.environment, &ok);
    pr_words_deinit(&args);
    if (!ok) {
        pr_launch_command_deinit(&c);
        return pr_error_nomem(err, "command line", 0);
    }
    *out = c;
    return PR_OK;
}

void pr_launch_command_deinit(pr_launch_command *c)
{
    pr_words_deinit(&c->argv);
    pr_words_deinit(&c->environment);
}

const char *pr_environment_get(char *const *environment, const char *name)
{
    size_t n = strlen(name);
    for (char *const *e = environment; e && *e; e++) {
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return *e + n + 1;
    }
    return NULL;
}

static bool words_name_hosts(const pr_words *w)
{
    static const char *const names[] = {
        "-H", "-host", "--host", "-hostfile", "--hostfile", "-machinefile", "--machinefile",
        "-default-hostfile", "--default-hostfile",
    };
    for (size_t i = 0; i < w->n; i++) {
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            if (strcmp(w->words[i], names[k]) == 0) return true;
        }
    }
    return false;
}

pr_status pr_launch_leaves_host(pr_worker_launch mode, const char *hostfile, const char *args,
                                char *const *environment, bool *out, pr_error *err)
{
    const char *n_nodes = n_nodes_allocated(environment);
    bool leaves = hostfile || (n_nodes && strtol(n_nodes, NULL, 10) > 1);
    /* salloc runs its command where it was called, often a login node; only a node's own daemon
     * sets SLURMD_NODENAME. */
    leaves |= pr_environment_get(environment, "SLURM_JOB_ID") &&
              !pr_environment_get(environment, "SLURMD_NODENAME");
    if (!leaves && args && mode == PR_WORKER_LAUNCH_MPIRUN) {
        pr_words words = {0};
        pr_status st = pr_words_split(args, &words, err);
        if (st != PR_OK) return pr_error_context(err, st, "mpirun-args");
        leaves = words_name_hosts(&words);
        pr_words_deinit(&words);
    }
    *out = leaves;
    return PR_OK;
}

/* ---- finding programs ---- */

static bool is_executable(const char *path)
{
    return pr_file_exists(path) && !pr_file_is_folder(path) && access(path, X_OK) == 0;
}

/* *out NULL: none. Fails PR_E_NOMEM. */
static pr_status path_search(const char *path, const char *name, char **out, pr_error *err)
{
    *out = NULL;
    while (path && *path) {
        size_t n = strcspn(path, ":");
        char *file = NULL;
        if (n > 0 && asprintf(&file, "%.*s/%s", (int)n, path, name) < 0) {
            return pr_error_nomem(err, "path", n);
        }
        if (file && is_executable(file)) {
            *out = file;
            return PR_OK;
        }
        free(file);
        path += n;
        path += *path == ':';
    }
    return PR_OK;
}

char *pr_launcher_guard_find(const char *path)
{
    char *found = NULL;
    return path_search(path, "setpriv", &found, NULL) == PR_OK ? found : NULL;
}

pr_status pr_launcher_find(pr_worker_launch mode, const char *path, char **out, pr_error *err)
{
    bool is_mpirun = mode == PR_WORKER_LAUNCH_MPIRUN;
    const char *name = is_mpirun ? "mpirun" : "srun";
    char *found = NULL;
    pr_status st = path_search(path, name, &found, err);
    if (st != PR_OK) return st;
    if (found) {
        *out = found;
        return PR_OK;
    }
    return pr_error_set(err, PR_E_NOT_FOUND, "%s: not found in PATH; install %s", name,
                        is_mpirun ? "Open MPI (Debian: openmpi-bin)"
                                  : "Slurm's client (Debian: slurm-client)");
}

/* The file that holds this code, if it is a shared library: the program beside it, or in ../bin. */
static char *beside_library(void)
{
    Dl_info info;
    if (dladdr((void *)(uintptr_t)pr_launcher_program_find, &info) == 0) return NULL;
    char *library = info.dli_fname ? realpath(info.dli_fname, NULL) : NULL;
    char *slash = library ? strrchr(library, '/') : NULL;
    char *found = NULL;
    static const char *const places[] = {"poolrank", "../bin/poolrank"};
    if (slash) *slash = '\0';
    for (size_t i = 0; slash && !found && i < sizeof places / sizeof *places; i++) {
        char *file = pr_path_join(library, places[i]);
        if (file && is_executable(file)) found = realpath(file, NULL);
        free(file);
    }
    free(library);
    return found;
}

static char *own_program(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) return NULL;
    path[n] = '\0';
    const char *name = strrchr(path, '/');
    return name && strcmp(name, "/poolrank") == 0 ? strdup(path) : NULL;
}

pr_status pr_launcher_program_find(const char *named, char **out, pr_error *err)
{
    char *found = own_program();
    if (!found && named) {
        if (!is_executable(named)) {
            return pr_error_set(err, PR_E_NOT_FOUND,
                                "POOLRANK_PROGRAM: %s: found no program, expected poolrank", named);
        }
        found = realpath(named, NULL);
    }
    if (!found) found = beside_library();
    if (!found) {
        return pr_error_set(err, PR_E_NOT_FOUND,
                            "the program poolrank, of which ranks are made: not found beside the "
                            "library, nor in ../bin from there; set POOLRANK_PROGRAM to its path");
    }
    *out = found;
    return PR_OK;
}
