#include "program/job_launch.h"

#include "coordinator/fleet/launcher.h"
#include "program/mpi_plugin.h"
#include "coordinator/options/options.h"
#include "program/worker_environment.h"
#include "program/worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What rank 0 tells the others. */
typedef struct job_place {
    char connect[512];  /* "": there is no coordinator, everybody leaves */
    char key_file[512];
} job_place;

/* The coordinator's process, for the handler that passes SIGTERM on. */
static volatile sig_atomic_t coordinator_pid;

static void on_terminate(int signal_number)
{
    if (coordinator_pid > 0) kill((pid_t)coordinator_pid, signal_number);
}

/* The launcher's SIGTERM and SIGINT are for the coordinator, which lets the ranks leave when it has
 * finished. */
static void signals_pass_on(void)
{
    struct sigaction action = {.sa_handler = on_terminate, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

/* ---- the coordinator's side of the fork ---- */

/* Whatever would make a process believe that it is a rank of the job. */
static void environment_scrub(void)
{
    for (char **entry = environ; *entry;) {
        char name[256];
        size_t n = strcspn(*entry, "=");
        if (!pr_environment_is_launchers(*entry) || n >= sizeof name) {
            entry++;
            continue;
        }
        memcpy(name, *entry, n);
        name[n] = '\0';
        unsetenv(name); /* moves the next entry here */
    }
}

static int coordinator_run(const pr_command_context *context, const pr_worker_environment *e,
                           int fd, pr_error *err)
{
    pr_config config = *context->config;
    pr_command_context own = *context;
    setsid();
    environment_scrub();
    config.job_fd = fd;
    config.job_leaves_host = e->n_local < e->n_ranks;
    own.config = &config;
    return own.command->run(&own, err);
}

/* ---- rank 0's side ---- */

/* Two strings, each with its NUL; *place stays empty when the coordinator ended before. */
static void place_read(int fd, job_place *place)
{
    char text[sizeof *place];
    size_t n = 0;
    for (ssize_t got; n < sizeof text; n += (size_t)got) {
        got = read(fd, text + n, sizeof text - n);
        if (got < 0 && errno == EINTR) got = 0;
        else if (got <= 0) break;
    }
    const char *end = memchr(text, '\0', n);
    const char *key = end ? end + 1 : NULL;
    const char *key_end = key ? memchr(key, '\0', n - (size_t)(key - text)) : NULL;
    if (!key_end || (size_t)(end - text) >= sizeof place->connect ||
        (size_t)(key_end - key) >= sizeof place->key_file) {
        return;
    }
    strcpy(place->connect, text);
    strcpy(place->key_file, key);
}

static int coordinator_await(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return PR_EXIT_FAILED;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : PR_EXIT_FAILED;
}

/* ---- every rank ---- */

static pr_status rank_run(const pr_command_context *context, const pr_worker_environment *e,
                          job_place *place, pr_error *err)
{
    const pr_config *c = context->config;
    int n_group = c->tensor_parallel_size * c->pipeline_parallel_size;
    const pr_mpi_plugin *plugin = NULL;
    int rank = (int)e->rank, size = (int)e->n_ranks;
    if (size > 1) {
        pr_status st = pr_mpi_plugin_load(getenv("POOLRANK_MPI_PLUGIN"), &plugin, err);
        if (st == PR_OK) st = plugin->init(&rank, &size, err);
        if (st == PR_OK) st = plugin->broadcast(place, sizeof *place, 0, err);
        if (st != PR_OK) return st;
    }
    if (place->connect[0]) {
        char group[32];
        snprintf(group, sizeof group, "job/%d", rank / n_group);
        pr_config own = *c;
        own.connect = place->connect;
        own.cluster_key_file = place->key_file;
        own.group = group;
        own.model = NULL; /* as the coordinator says */
        const pr_worker_process process = {
            .config = &own, .environment = e, .rank = (uint32_t)(rank % n_group),
            .n_ranks = (uint32_t)n_group, .mpi = plugin, .first_rank = rank - rank % n_group,
            .log = context->log, .must_end = context->must_end,
        };
        if (pr_worker_process_run(&process, err) != PR_EXIT_DONE) return PR_E_UNAVAILABLE;
    }
    if (plugin) plugin->finalize();
    return PR_OK;
}

static int first_rank_run(const pr_command_context *context, const pr_worker_environment *e,
                          pr_error *err)
{
    job_place place = {0};
    int ends[2];
    if (pipe(ends) != 0) {
        pr_error_errno(err, errno, "pipe to the coordinator");
        return PR_EXIT_FAILED;
    }
    pid_t pid = fork();
    if (pid < 0) {
        pr_error_errno(err, errno, "fork the coordinator");
        return PR_EXIT_FAILED;
    }
    if (pid == 0) {
        close(ends[0]);
        return coordinator_run(context, e, ends[1], err);
    }
    coordinator_pid = pid;
    signals_pass_on();
    close(ends[1]);
    int null = open("/dev/null", O_RDWR); /* input and output are the coordinator's */
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        close(null);
    }
    place_read(ends[0], &place);
    close(ends[0]);
    pr_status st = rank_run(context, e, &place, err);
    if (st != PR_OK) kill(pid, SIGTERM);
    int exit_status = coordinator_await(pid);
    if (st != PR_OK) return PR_EXIT_FAILED;
    err->message[0] = '\0'; /* the coordinator has said it */
    return exit_status;
}

static bool sizes_check(const pr_command_context *context, const pr_worker_environment *e,
                        pr_error *err)
{
    const pr_config *c = context->config;
    int64_t n = (int64_t)c->tensor_parallel_size * c->pipeline_parallel_size *
                c->data_parallel_size;
    if (!e->launcher) {
        pr_error_set(err, PR_E_ARGUMENT,
                     "worker-launch job: found no launcher's environment, expected to be started "
                     "by mpirun -n %lld or srun -n %lld",
                     (long long)n, (long long)n);
        return false;
    }
    if (e->n_ranks == n) return true;
    pr_error_set(err, PR_E_ARGUMENT,
                 "worker-launch job: found %u processes started by %s, expected %lld: "
                 "tensor-parallel-size %d * pipeline-parallel-size %d * data-parallel-size %d",
                 e->n_ranks, e->launcher, (long long)n, c->tensor_parallel_size,
                 c->pipeline_parallel_size, c->data_parallel_size);
    return false;
}

int pr_job_launch_run(const pr_command_context *context, pr_error *err)
{
    pr_worker_environment e;
    bool runs_model = (context->command->bit & PR_COMMAND_POOL) != 0;
    pr_status st = pr_worker_environment_read(environ, &e, err);
    if (st != PR_OK) return PR_EXIT_MISTAKE;
    if (!sizes_check(context, &e, err)) {
        if (e.rank > 0) return PR_EXIT_DONE; /* rank 0 says it */
        return PR_EXIT_MISTAKE;
    }
    if (!runs_model) return e.rank == 0 ? context->command->run(context, err) : PR_EXIT_DONE;
    if (e.rank == 0) return first_rank_run(context, &e, err);
    job_place place = {0};
    signals_pass_on(); /* nobody to pass them to: they are left to rank 0 */
    return rank_run(context, &e, &place, err) == PR_OK ? PR_EXIT_DONE : PR_EXIT_FAILED;
}
