/* The command lines that start ranks. */
#include "coordinator/fleet/launcher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* Words with single blanks between them. */
static const char *joined(const pr_words *w, char *out, size_t n)
{
    out[0] = '\0';
    for (size_t i = 0; i < w->n; i++) {
        size_t at = strlen(out);
        snprintf(out + at, n - at, "%s%s", i ? " " : "", w->words[i]);
    }
    assert_true(!w->words || w->words[w->n] == NULL);
    return out;
}

static void words_are_cut_as_a_shell_cuts_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *expected[4];
    } cases[] = {
        {"", {NULL}},
        {"  \t ", {NULL}},
        {"a", {"a", NULL}},
        {" a  b\tc ", {"a", "b", "c", NULL}},
        {"-x 'A=b c' d", {"-x", "A=b c", "d", NULL}},
        {"\"a 'b'\"c", {"a 'b'c", NULL}},
        {"a\\ b \\\"", {"a b", "\"", NULL}},
        {"'' x", {"", "x", NULL}},
        {"'a\\b' \"a\\\"b\"", {"a\\b", "a\"b", NULL}},
        {"$HOME *", {"$HOME", "*", NULL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_words words = {0};
        pr_error err;
        assert_int_equal(pr_words_split(cases[i].text, &words, &err), PR_OK);
        size_t n = 0;
        for (; cases[i].expected[n]; n++) {
            assert_true(n < words.n);
            assert_string_equal(words.words[n], cases[i].expected[n]);
        }
        assert_int_equal(words.n, n);
        pr_words_deinit(&words);
    }
}

static void a_quote_without_its_end_is_refused(void **state)
{
    (void)state;
    pr_words words = {0};
    pr_error err;
    assert_int_equal(pr_words_split("-x 'A=b", &words, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "the quote ' has no end"));
}

static char *const outer[] = {
    "HOME=/h", "OMPI_COMM_WORLD_RANK=3", "PMIX_RANK=3", "PMI_RANK=3", "SLURM_JOB_ID=1",
    "POOLRANK_API_KEY=secret", "POOLRANK_LOG_FORMAT=json",
    "OMPINOT=1", NULL,
};

static pr_launch launch_of(pr_worker_launch mode)
{
    return (pr_launch){
        .mode = mode, .launcher = "/bin/launch", .program = "/p/poolrank", .n_ranks = 4,
        .connect = "unix:/r/s", .group = "0.1", .key_file = "/r/key", .log_level = "info",
        .environment = outer,
    };
}

static void mpirun_is_told_to_bind_nothing_and_to_leave_nothing(void **state)
{
    (void)state;
    pr_launch l = launch_of(PR_WORKER_LAUNCH_MPIRUN);
    l.work_folder = "/r/work";
    l.args = "--mca a 'b c'";
    pr_launch_command c;
    char line[1024];
    assert_int_equal(pr_launch_build(&l, &c, NULL), PR_OK);
    assert_string_equal(joined(&c.argv, line, sizeof line),
                        "/bin/launch -n 4 --oversubscribe --bind-to none --mca orte_tmpdir_base "
                        "/r/work --mca btl_vader_backing_directory /r/work --mca a b c "
                        "/p/poolrank worker --connect unix:/r/s --group 0.1 --cluster-key-file "
                        "/r/key --log-level info --start-timeout 5");
    pr_launch_command_deinit(&c);
}

static void on_several_hosts_mpirun_keeps_its_own_folders(void **state)
{
    (void)state;
    pr_launch l = launch_of(PR_WORKER_LAUNCH_MPIRUN);
    l.hostfile = "/h/hosts";
    pr_launch_command c;
    char line[1024];
    assert_int_equal(pr_launch_build(&l, &c, NULL), PR_OK);
    joined(&c.argv, line, sizeof line);
    assert_non_null(strstr(line, "--bind-to none --hostfile /h/hosts /p/poolrank worker"));
    pr_launch_command_deinit(&c);
}

static void srun_starts_a_step_that_ends_as_one(void **state)
{
    (void)state;
    pr_launch l = launch_of(PR_WORKER_LAUNCH_SRUN);
    l.cpus_per_rank = 2;
    l.args = "-N 1";
    pr_launch_command c;
    char line[1024];
    assert_int_equal(pr_launch_build(&l, &c, NULL), PR_OK);
    joined(&c.argv, line, sizeof line);
    assert_non_null(strstr(line, "/bin/launch --overlap --exact --mpi=pmix --kill-on-bad-exit=1 "
                                 "--input=none -n 4 --cpus-per-task=2 -N 1 /p/poolrank worker"));
    pr_launch_command_deinit(&c);
}

static void groups_of_an_allocation_get_a_share_of_its_nodes(void **state)
{
    (void)state;
    static const struct {
        const char *nodes;
        int32_t n_groups;
        const char *expected; /* NULL: nothing is said */
    } cases[] = {
        {"SLURM_JOB_NUM_NODES=4", 2, " --nodes=2 "}, {"SLURM_JOB_NUM_NODES=4", 4, " --nodes=1 "},
        {"SLURM_JOB_NUM_NODES=4", 9, " --nodes=1 "}, {"SLURM_NNODES=64", 2, " --nodes=4 "},
        {"SLURM_JOB_NUM_NODES=4", 1, NULL},          {"SLURM_JOB_NUM_NODES=1", 4, NULL},
        {"SLURM_JOB_ID=1", 4, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_launch l = launch_of(PR_WORKER_LAUNCH_SRUN); /* 4 ranks */
        char nodes[64], line[1024];
        char *const environment[] = {nodes, NULL};
        snprintf(nodes, sizeof nodes, "%s", cases[i].nodes);
        l.environment = environment;
        l.n_groups = cases[i].n_groups;
        pr_launch_command c;
        assert_int_equal(pr_launch_build(&l, &c, NULL), PR_OK);
        joined(&c.argv, line, sizeof line);
        const char *said = strstr(line, "--nodes=");
        assert_int_equal(said != NULL, cases[i].expected != NULL);
        if (said) assert_non_null(strstr(line, cases[i].expected));
        pr_launch_command_deinit(&c);
    }
}

static void an_outer_launcher_and_a_clients_key_are_not_seen_by_the_ranks(void **state)
{
    (void)state;
    pr_launch l = launch_of(PR_WORKER_LAUNCH_MPIRUN);
    pr_launch_command c;
    char line[1024];
    assert_int_equal(pr_launch_build(&l, &c, NULL), PR_OK);
    assert_string_equal(joined(&c.environment, line, sizeof line),
                        "HOME=/h SLURM_JOB_ID=1 OMPINOT=1 OMPI_ALLOW_RUN_AS_ROOT=1 "
                        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    pr_launch_command_deinit(&c);
}

static void bad_arguments_name_their_option(void **state)
{
    (void)state;
    pr_launch l = launch_of(PR_WORKER_LAUNCH_SRUN);
    l.args = "\"x";
    pr_launch_command c;
    pr_error err;
    assert_int_equal(pr_launch_build(&l, &c, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "srun-args: "));
}

static void groups_leave_the_host_when_hosts_are_named_or_allocated(void **state)
{
    (void)state;
    char *none[] = {"A=1", NULL}, *one[] = {"SLURM_NNODES=1", NULL};
    char *two[] = {"SLURM_JOB_NUM_NODES=2", NULL};
    char *login[] = {"SLURM_JOB_ID=7", "SLURM_NNODES=1", NULL}; /* salloc, where it was called */
    char *node[] = {"SLURM_JOB_ID=7", "SLURM_NNODES=1", "SLURMD_NODENAME=n1", NULL};
    const struct {
        pr_worker_launch mode;
        const char *hostfile, *args;
        char *const *environment;
        bool expected;
    } cases[] = {
        {PR_WORKER_LAUNCH_MPIRUN, NULL, NULL, none, false},
        {PR_WORKER_LAUNCH_MPIRUN, "f", NULL, none, true},
        {PR_WORKER_LAUNCH_MPIRUN, NULL, "-x A=-host", none, false},
        {PR_WORKER_LAUNCH_MPIRUN, NULL, "-x A --host b", none, true},
        {PR_WORKER_LAUNCH_MPIRUN, NULL, NULL, one, false},
        {PR_WORKER_LAUNCH_MPIRUN, NULL, NULL, two, true},
        {PR_WORKER_LAUNCH_SRUN, NULL, "-H", one, false},
        {PR_WORKER_LAUNCH_SRUN, NULL, NULL, two, true},
        {PR_WORKER_LAUNCH_SRUN, NULL, NULL, login, true},
        {PR_WORKER_LAUNCH_MPIRUN, NULL, NULL, login, true},
        {PR_WORKER_LAUNCH_SRUN, NULL, NULL, node, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool leaves = !cases[i].expected;
        assert_int_equal(pr_launch_leaves_host(cases[i].mode, cases[i].hostfile, cases[i].args,
                                               cases[i].environment, &leaves, NULL), PR_OK);
        assert_int_equal(leaves, cases[i].expected);
    }
}

static void a_launcher_is_looked_for_in_the_path(void **state)
{
    (void)state;
    char folder[] = "/tmp/poolrank-launcher-XXXXXX", file[64], path[128];
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/srun", folder);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    snprintf(path, sizeof path, "/nowhere::%s", folder);
    char *found = NULL;
    pr_error err;
    assert_int_equal(pr_launcher_find(PR_WORKER_LAUNCH_SRUN, path, &found, &err), PR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "install Slurm"));
    assert_int_equal(chmod(file, 0700), 0);
    assert_int_equal(pr_launcher_find(PR_WORKER_LAUNCH_SRUN, path, &found, &err), PR_OK);
    assert_string_equal(found, file);
    free(found);
    assert_int_equal(pr_launcher_find(PR_WORKER_LAUNCH_MPIRUN, path, &found, &err),
                     PR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "openmpi-bin"));
    assert_int_equal(pr_launcher_find(PR_WORKER_LAUNCH_MPIRUN, NULL, &found, &err),
                     PR_E_NOT_FOUND);
    unlink(file);
    rmdir(folder);
}

static void the_program_is_the_one_that_is_named(void **state)
{
    (void)state;
    char *found = NULL;
    pr_error err;
    assert_int_equal(pr_launcher_program_find("/bin/sh", &found, &err), PR_OK);
    assert_non_null(found);
    free(found);
    assert_int_equal(pr_launcher_program_find("/nowhere/poolrank", &found, &err), PR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "POOLRANK_PROGRAM: /nowhere/poolrank"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_cut_as_a_shell_cuts_them),
        cmocka_unit_test(a_quote_without_its_end_is_refused),
        cmocka_unit_test(mpirun_is_told_to_bind_nothing_and_to_leave_nothing),
        cmocka_unit_test(on_several_hosts_mpirun_keeps_its_own_folders),
        cmocka_unit_test(srun_starts_a_step_that_ends_as_one),
        cmocka_unit_test(groups_of_an_allocation_get_a_share_of_its_nodes),
        cmocka_unit_test(an_outer_launcher_and_a_clients_key_are_not_seen_by_the_ranks),
        cmocka_unit_test(bad_arguments_name_their_option),
        cmocka_unit_test(groups_leave_the_host_when_hosts_are_named_or_allocated),
        cmocka_unit_test(a_launcher_is_looked_for_in_the_path),
        cmocka_unit_test(the_program_is_the_one_that_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
