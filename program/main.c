/* poolrank: finds the command, gathers its settings from all sources, runs it. Reads the command
 * line and the environment, once each, and nobody else does. */
#include "program/arguments.h"
#include "program/command.h"
#include "program/help.h"
#include "program/job_launch.h"
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

/* Written by the signal handlers only, but for drain_seconds, which is set before they are. */
static atomic_int is_interrupted;
static atomic_int is_draining;
static volatile sig_atomic_t drain_seconds;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    is_interrupted = 1;
}

static void on_terminate(int signal_number)
{
    (void)signal_number;
    is_draining = 1;
    alarm((unsigned)drain_seconds);
}

/* Whoever waits for answers may wait for long: the process ends from here. */
static void on_drain_timeout(int signal_number)
{
    static const char text[] = "poolrank: error: what was accepted before SIGTERM was not finished "
                               "within --drain-timeout\n";
    (void)signal_number;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(PR_EXIT_FAILED);
}

/* A standard file that the caller closed would be the next file that is opened, and logs or answers
 * would go there. Its place is held by a file that fails as a closed one does: reads of 0, writes
 * to 1 and 2. */
static bool standard_files_hold(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return false;
    }
    return true;
}

static void handler_set(int signal_number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(signal_number, &action, NULL);
}

/* A reader that leaves shows as a failed write. The first SIGINT or SIGTERM lets a command end in
 * order, a second one ends the process; without SA_RESTART it also ends a read that waits. A rank
 * ends when its coordinator or its launcher says so; serve watches signals on its loop. */
static void signals_prepare(const pr_command_row *command, const pr_config *config)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* the limit of a file's size, likewise */
    if (command->bit == PR_COMMAND_WORKER || command->bit == PR_COMMAND_SERVE) return;
    bool drains = (command->bit & PR_COMMAND_POOL) && config->drain_timeout > 0;
    drain_seconds = config->drain_timeout;
    handler_set(SIGINT, on_interrupt);
    handler_set(SIGTERM, drains ? on_terminate : on_interrupt);
    if (drains) handler_set(SIGALRM, on_drain_timeout);
}

static int fail(const pr_log *log, int exit_status, const char *where, const pr_error *err)
{
    pr_log_line(log, PR_LOG_ERROR, "%s%s%s", where, *where ? ": " : "", err->message);
    return exit_status;
}

/* Text for a person or a file that asked for it; 1 when it cannot be written. */
static int text_print(const pr_log *log, pr_buffer *text, FILE *to, int exit_status)
{
    bool is_written = !text->failed && fwrite(text->data, 1, text->n, to) == text->n;
    if (!is_written || fflush(to) != 0) {
        pr_log_line(log, PR_LOG_ERROR, "write standard output: %s", strerror(errno));
        exit_status = PR_EXIT_FAILED;
    }
    pr_buffer_deinit(text);
    return exit_status;
}

static int program_help(const pr_log *log, FILE *to, int exit_status)
{
    pr_buffer text;
    pr_buffer_init(&text);
    pr_help_program(&text);
    return text_print(log, &text, to, exit_status);
}

static int command_help(const pr_log *log, const pr_command_row *command)
{
    pr_buffer text;
    pr_buffer_init(&text);
    pr_help_command(command, &text);
    return text_print(log, &text, stdout, PR_EXIT_DONE);
}

static int version_print(const pr_log *log)
{
    pr_buffer text;
    pr_buffer_init(&text);
    pr_buffer_printf(&text, "poolrank %s\n", POOLRANK_VERSION);
    return text_print(log, &text, stdout, PR_EXIT_DONE);
}

/* `poolrank generate KIND`: texts of the build, made from the tables. */
static int generate(const pr_log *log, const char *kind)
{
    void (*generator)(pr_buffer *) = kind ? pr_help_generator(kind) : NULL;
    if (!generator) {
        pr_log_line(log, PR_LOG_ERROR,
                    "generate: found %s, expected man, completion-bash, completion-zsh or "
                    "engine-arguments",
                    kind ? kind : "nothing");
        return PR_EXIT_MISTAKE;
    }
    pr_buffer text;
    pr_buffer_init(&text);
    generator(&text);
    return text_print(log, &text, stdout, PR_EXIT_DONE);
}

static int command_unknown(const pr_log *log, const char *name)
{
    pr_buffer known;
    pr_buffer_init(&known);
    for (size_t i = 0; i < pr_command_count(); i++) {
        pr_buffer_printf(&known, "%s%s", i ? ", " : "", pr_command_at(i)->name);
    }
    const char *names = pr_buffer_str(&known), *near = NULL;
    size_t nearest = 3;
    for (size_t i = 0; i < pr_command_count(); i++) {
        const char *other = pr_command_at(i)->name;
        size_t distance = pr_word_distance(name, other);
        if (distance >= nearest || distance * 2 >= strlen(other)) continue;
        nearest = distance;
        near = other;
    }
    pr_log_line(log, PR_LOG_ERROR, "%.80s: no such command%s%s%s; there are: %s", name,
                near ? "; did you mean " : "", near ? near : "", near ? "?" : "",
                names ? names : "");
    pr_buffer_deinit(&known);
    return PR_EXIT_MISTAKE;
}

/* All sources of settings, then the configuration. --task may repeat a command's own task. */
static pr_status settings_gather(const pr_command_row *command, pr_options *options,
                                 pr_arguments *arguments, pr_config *config, pr_error *err)
{
    pr_status st = pr_options_read_environment(options, environ, true, err);
    if (st != PR_OK) return st;
    const char *file = pr_options_text(options, "config");
    if (file && (st = pr_options_read_file(options, file, err)) != PR_OK) {
        return pr_error_context(err, st, "--config");
    }
    bool opens_model = command->bit != PR_COMMAND_WORKER; /* whose coordinator names it */
    if (opens_model) st = pr_arguments_take_model(arguments, options, err);
    if (st != PR_OK) return st;
    if ((st = pr_config_build(options, config, err)) != PR_OK) return st;
    if (command->task == PR_TASK_AUTO) return PR_OK;
    /* What the environment or a file says of the task is for commands that name none. */
    const char *task = pr_options_word(options, "task");
    if (task && config->task != PR_TASK_AUTO && config->task != command->task) {
        pr_config_deinit(config);
        return pr_error_set(err, PR_E_ARGUMENT,
                            "--task: found %s, but the command %s names its task itself; "
                            "`poolrank encode` takes any",
                            task, command->name);
    }
    config->task = command->task;
    return PR_OK;
}

static void warnings_log(const pr_options *options, const pr_config *config, const pr_log *log)
{
    const char *line;
    for (size_t i = 0; !config->quiet && (line = pr_options_warning(options, i)) != NULL; i++) {
        pr_log_line(log, PR_LOG_WARNING, "%s", line);
    }
}

/* Started by mpirun, but not as a job: every process does all of the work. */
static void launcher_warn(const pr_command_row *command, const pr_config *config, const pr_log *log)
{
    if (config->quiet || config->launcher_size < 1 || command->bit == PR_COMMAND_WORKER ||
        config->worker_launch == PR_WORKER_LAUNCH_JOB) {
        return;
    }
    pr_log_line(log, PR_LOG_WARNING,
                "mpirun started %d of this program; each ignores that and does everything by "
                "itself: --worker-launch job makes them the ranks of one run",
                config->launcher_size);
}

static int configured_run(const pr_command_row *command, const pr_options *options,
                          const pr_arguments *arguments, const pr_config *config, pr_log *log)
{
    pr_error err = {0};
    bool must_end = false;
    log->level = config->log_level;
    log->format = config->log_format;
    warnings_log(options, config, log);
    launcher_warn(command, config, log);
    signals_prepare(command, config);
    pr_command_context context = {.command = command,
                                  .config = config,
                                  .texts = arguments->texts,
                                  .n_texts = arguments->n_texts,
                                  .log = log,
                                  .is_interrupted = &is_interrupted,
                                  .is_draining = &is_draining,
                                  .must_end = &must_end};
    bool is_job = config->worker_launch == PR_WORKER_LAUNCH_JOB;
    int exit_status = is_job ? pr_job_launch_run(&context, &err) : command->run(&context, &err);
    if (is_interrupted && exit_status == PR_EXIT_MISTAKE) exit_status = PR_EXIT_FAILED;
    bool has_failed = exit_status == PR_EXIT_FAILED || exit_status == PR_EXIT_MISTAKE;
    if (has_failed && (err.message[0] || !is_job)) { /* of a job another process may have said it */
        fail(log, exit_status, command->name, &err);
    }
    if (must_end) _exit(exit_status);
    return exit_status;
}

static int command_run(const pr_command_row *command, int argc, char **argv, pr_log *log)
{
    pr_error err = {0};
    pr_arguments arguments = {0};
    pr_config config = {0};
    int exit_status = PR_EXIT_DONE;
    pr_options *options = pr_options_create_for(command->bit);
    pr_status st = options ? PR_OK : pr_error_nomem(&err, "options", 0);
    if (st == PR_OK) st = pr_arguments_parse(argc, argv, options, &arguments, &err);
    if (st == PR_OK && arguments.wants_help) {
        exit_status = command_help(log, command);
    } else if (st == PR_OK && arguments.wants_version) {
        exit_status = version_print(log);
    } else {
        if (st == PR_OK) st = settings_gather(command, options, &arguments, &config, &err);
        exit_status = st == PR_OK
                          ? configured_run(command, options, &arguments, &config, log)
                          : fail(log, pr_command_exit(st), command->name, &err);
    }
    pr_config_deinit(&config);
    pr_arguments_deinit(&arguments);
    pr_options_free(options);
    return exit_status;
}

int main(int argc, char **argv)
{
    pr_log log = {.fd = STDERR_FILENO, .level = PR_LOG_WARNING, .program = "poolrank"};
    if (!standard_files_hold()) return PR_EXIT_FAILED;
    if (argc < 2) return program_help(&log, stderr, PR_EXIT_MISTAKE);
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return program_help(&log, stdout, PR_EXIT_DONE);
    }
    if (strcmp(name, "help") == 0) {
        if (argc == 2) return program_help(&log, stdout, PR_EXIT_DONE);
        const pr_command_row *about = pr_command_find(argv[2]);
        return about ? command_help(&log, about) : command_unknown(&log, argv[2]);
    }
    bool is_version = strcmp(name, "--version") == 0 || strcmp(name, "version") == 0;
    if (is_version) return version_print(&log);
    if (strcmp(name, "generate") == 0) return generate(&log, argc > 2 ? argv[2] : NULL);
    const pr_command_row *command = pr_command_find(name);
    return command ? command_run(command, argc - 2, argv + 2, &log) : command_unknown(&log, name);
}
