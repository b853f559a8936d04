/* coordinator/fleet/launcher.h: the command lines that start the ranks of one replica group:
 * mpirun's and srun's, with the environment they run in.
 *
 * Building is pure: plain data in, owned words out. Only the two functions that find programs look
 * at the file system. Called by the fleet. */
#ifndef POOLRANK_COORDINATOR_FLEET_LAUNCHER_H
#define POOLRANK_COORDINATOR_FLEET_LAUNCHER_H

#include "coordinator/options/config.h"
#include "runtime/base/status.h"

/* Words as execve takes them. */
typedef struct pr_words {
    char **words; /* [n + 1], the last NULL; owned, like each word */
    size_t n;
} pr_words;

void pr_words_deinit(pr_words *words); /* safe on a zeroed struct */

/* Cuts text at blanks; '…', "…" and \ work as in a shell, nothing is expanded. Fails PR_E_ARGUMENT
 * (a quote without its end), PR_E_NOMEM. */
pr_status pr_words_split(const char *text, pr_words *out, pr_error *err);

/* All borrowed for the call. */
typedef struct pr_launch {
    pr_worker_launch mode;   /* MPIRUN or SRUN */
    const char *launcher;    /* path of mpirun or srun */
    const char *guard;       /* path of setpriv: the launcher dies with this process, also when it
                                hangs; NULL: it ends by itself once its ranks have left */
    const char *program;     /* path of poolrank */
    uint32_t n_ranks;
    const char *connect, *group, *key_file;
    const char *log_level;   /* "warning" */
    const char *work_folder; /* where Open MPI keeps its files: one of its own for each start, on
                                this host; NULL: its default, for groups on several hosts */
    const char *hostfile;    /* NULL: none */
    const char *args;        /* further words for the launcher; NULL: none */
    int32_t cpus_per_rank;   /* srun; 0: unset */
    int32_t n_groups;        /* that share an allocation, at least 1 */
    char *const *environment; /* the process's own, NULL at its end */
} pr_launch;

typedef struct pr_launch_command {
    pr_words argv, environment;
} pr_launch_command;

/* Fails PR_E_ARGUMENT (args that cannot be cut into words), PR_E_NOMEM. */
pr_status pr_launch_build(const pr_launch *launch, pr_launch_command *out, pr_error *err);
void pr_launch_command_deinit(pr_launch_command *command); /* safe on a zeroed struct */

/* Whether ranks may come to be on other hosts: a hostfile, words for mpirun that name hosts, or an
 * allocation of several nodes, or one that this process does not run in itself. Fails as
 * pr_words_split. */
pr_status pr_launch_leaves_host(pr_worker_launch mode, const char *hostfile, const char *args,
                                char *const *environment, bool *out, pr_error *err);

/* Whether an entry "NAME=value" is what MPI's launchers tell their ranks (OMPI_, PMIX_, PMI_). */
bool pr_environment_is_launchers(const char *entry);

/* The value of a variable; NULL: unset. Borrowed from environment. */
const char *pr_environment_get(char *const *environment, const char *name);

/* An executable file in one of the folders of `path` (as $PATH; NULL: none). *out owned. Fails
 * PR_E_NOT_FOUND naming the program and the package that has it. */
pr_status pr_launcher_find(pr_worker_launch mode, const char *path, char **out, pr_error *err);

/* The program setpriv (util-linux), for `guard`; NULL: it is not there, or no memory. Owned. */
char *pr_launcher_guard_find(const char *path);

/* The program poolrank, of which a rank is made: this process's own, else what `named`
 * ($POOLRANK_PROGRAM; NULL: unset) says, else the one that was built or installed with this
 * library. *out owned. Fails PR_E_NOT_FOUND saying where it was looked for. */
pr_status pr_launcher_program_find(const char *named, char **out, pr_error *err);

#endif
