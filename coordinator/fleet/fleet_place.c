#define _GNU_SOURCE /* realpath */
#include "coordinator/fleet/fleet_place.h"

#include "runtime/base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pr_status environment_copy(pr_fleet_place *p, char *const *environment, pr_error *err)
{
    size_t n = 0;
    while (environment && environment[n]) n++;
    p->environment.words = calloc(n + 1, sizeof *p->environment.words);
    for (size_t i = 0; p->environment.words && i < n; i++) {
        char *copy = strdup(environment[i]);
        if (!copy) break;
        p->environment.words[p->environment.n++] = copy;
    }
    bool is_whole = p->environment.words && p->environment.n == n;
    return is_whole ? PR_OK : pr_error_nomem(err, "environment", n * sizeof(char *));
}

static pr_status program_find(pr_fleet_place *p, const pr_config *c, pr_worker_launch launch,
                              pr_error *err)
{
    bool is_mpirun = launch == PR_WORKER_LAUNCH_MPIRUN;
    char *const *environment = p->environment.words;
    pr_status st = pr_launch_leaves_host(launch, c->hostfile, is_mpirun ? c->mpirun_args : NULL,
                                         environment, &p->leaves_host, err);
    if (launch == PR_WORKER_LAUNCH_EXTERNAL) p->leaves_host = true;
    if (launch == PR_WORKER_LAUNCH_JOB) p->leaves_host = c->job_leaves_host;
    if (st != PR_OK || launch == PR_WORKER_LAUNCH_EXTERNAL) return st;
    if (p->leaves_host && !c->cluster_key_file) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "cluster-key-file: ranks on other hosts need one that they can read "
                            "too; make it with: (umask 077; openssl rand -hex 32 > FILE)");
    }
    if (launch == PR_WORKER_LAUNCH_JOB) return PR_OK;
    st = pr_launcher_find(launch, pr_environment_get(environment, "PATH"), &p->launcher, err);
    /* On several hosts mpirun is left to clear away what it has on the others. */
    bool is_guarded = st == PR_OK && is_mpirun && !p->leaves_host;
    if (is_guarded) p->guard = pr_launcher_guard_find(pr_environment_get(environment, "PATH"));
    const char *named = pr_environment_get(environment, "POOLRANK_PROGRAM");
    if (st == PR_OK) st = pr_launcher_program_find(named, &p->program, err);
    return st;
}

static pr_status key_make(pr_fleet_place *p, const char *given, pr_error *err)
{
    pr_status st = PR_OK;
    p->key_file = given ? realpath(given, NULL)
                        : pr_path_join(pr_run_folder_path(p->folder), "key");
    if (!p->key_file && given) p->key_file = strdup(given);
    if (!p->key_file) return pr_error_nomem(err, "path", 0);
    if (!given) st = pr_key_create(p->key_file, err);
    if (st == PR_OK) st = pr_key_read(p->key_file, &p->key, err);
    return given && st != PR_OK ? pr_error_context(err, st, "cluster-key-file") : st;
}

static pr_status listener_open(pr_fleet_place *p, const char *given, pr_error *err)
{
    pr_listen_at at = {0};
    if (given) {
        pr_status st = pr_listen_parse(given, &at, err);
        if (st != PR_OK) return st;
    } else if (!p->leaves_host) {
        at.is_unix = true;
        snprintf(at.name, sizeof at.name, "%s/ctrl", pr_run_folder_path(p->folder));
    }
    return pr_listener_open(&at, &p->listener, err);
}

pr_status pr_fleet_place_open(const pr_config *config, pr_worker_launch launch,
                              char *const *environment, pr_fleet_place *out, pr_error *err)
{
    pr_status st = environment_copy(out, environment, err);
    if (st == PR_OK) st = program_find(out, config, launch, err);
    if (st == PR_OK) {
        const char *runtime_folder = pr_environment_get(out->environment.words, "XDG_RUNTIME_DIR");
        st = pr_run_folder_open(runtime_folder, &out->folder, err);
    }
    if (st == PR_OK) st = key_make(out, config->cluster_key_file, err);
    if (st == PR_OK) st = listener_open(out, config->ctrl_interface, err);
    return st;
}

void pr_fleet_place_close(pr_fleet_place *p)
{
    pr_listener_close(p->listener);
    pr_run_folder_close(p->folder);
    free(p->key_file);
    free(p->launcher);
    free(p->guard);
    free(p->program);
    pr_words_deinit(&p->environment);
    memset(p, 0, sizeof *p); /* the key too */
}
