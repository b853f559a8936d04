/* program/output_lines.h: the shape of each line, and files that are whole or not there. */
#define _GNU_SOURCE
#include "program/output_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct fixture {
    char folder[64];
    char path[128]; /* folder/out.jsonl */
} fixture;

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (!f) return -1;
    strcpy(f->folder, "/tmp/poolrank_out_XXXXXX");
    if (!mkdtemp(f->folder)) return -1;
    snprintf(f->path, sizeof f->path, "%s/out.jsonl", f->folder);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    nftw(f->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static char *slurp(const char *path)
{
    FILE *in = fopen(path, "rb");
    if (!in) return NULL;
    fseek(in, 0, SEEK_END);
    long n = ftell(in);
    rewind(in);
    char *text = calloc(1, (size_t)n + 1);
    assert_int_equal(fread(text, 1, (size_t)n, in), n);
    fclose(in);
    return text;
}

static size_t count_entries(const char *folder)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static pr_output_lines *open_ok(const char *path)
{
    pr_output_lines *out = NULL;
    pr_error err = {0};
    if (pr_output_lines_open(path, &out, &err) != PR_OK) fail_msg("%s", err.message);
    return out;
}

static void check_line(const fixture *f, const pr_output_row *row, const char *expected)
{
    pr_output_lines *out = open_ok(f->path);
    assert_int_equal(pr_output_lines_write(out, row, NULL), PR_OK);
    assert_int_equal(pr_output_lines_finish(out, NULL), PR_OK);
    pr_output_lines_close(out);
    char *text = slurp(f->path);
    assert_string_equal(text, expected);
    json_t *value = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    json_decref(value);
    free(text);
}

/* ---- lines ---- */

/* One row of each kind of output, and its line. */
static const float kind_values[6] = {1, -0.5f, 0.1f, 1e-7f, 2, 3};
static const int32_t kind_tokens[3] = {101, 0, 102};
static const struct {
    pr_output_row row;
    const char *line;
} kinds[] = {
    {{.index = 0,
      .kind = PR_OUTPUT_EMBEDDING,
      .n_prompt_tokens = 5,
      .data = kind_values,
      .n_rows = 1,
      .n_columns = 4},
     "{\"index\":0,\"prompt_tokens\":5,\"embedding\":[1.0,-0.5,0.1,1e-07]}\n"},
    {{.index = 9223372036854775807u,
      .kind = PR_OUTPUT_PROBS,
      .data = kind_values,
      .n_rows = 1,
      .n_columns = 2},
     "{\"index\":9223372036854775807,\"prompt_tokens\":0,\"probs\":[1.0,-0.5]}\n"},
    {{.index = 1, .kind = PR_OUTPUT_SCORE, .n_prompt_tokens = 2, .value = 0.25f},
     "{\"index\":1,\"prompt_tokens\":2,\"score\":0.25}\n"},
    {{.index = 1, .kind = PR_OUTPUT_REWARD, .n_prompt_tokens = 2, .value = -3},
     "{\"index\":1,\"prompt_tokens\":2,\"reward\":-3.0}\n"},
    {{.index = 1,
      .kind = PR_OUTPUT_REWARD,
      .n_prompt_tokens = 2,
      .value = 2,
      .step_rewards = kind_values + 4,
      .n_step_rewards = 1},
     "{\"index\":1,\"prompt_tokens\":2,\"reward\":2.0,\"step_rewards\":[2.0]}\n"},
    {{.index = 1,
      .kind = PR_OUTPUT_REWARD,
      .n_prompt_tokens = 2,
      .value = 3,
      .step_rewards = kind_values,
      .n_step_rewards = 0,
      .data = kind_values + 4,
      .n_rows = 2,
      .n_columns = 1,
      .is_token_wise = true},
     "{\"index\":1,\"prompt_tokens\":2,\"reward\":3.0,\"step_rewards\":[],"
     "\"data\":[[2.0],[3.0]],\"shape\":[2,1]}\n"},
    {{.index = 2,
      .kind = PR_OUTPUT_DATA,
      .n_prompt_tokens = 1,
      .data = kind_values,
      .n_rows = 2,
      .n_columns = 3,
      .is_token_wise = true},
     "{\"index\":2,\"prompt_tokens\":1,\"data\":[[1.0,-0.5,0.1],[1e-07,2.0,3.0]],\"shape\":[2,"
     "3]}\n"},
    {{.index = 2,
      .kind = PR_OUTPUT_DATA,
      .n_prompt_tokens = 1,
      .data = kind_values,
      .n_rows = 1,
      .n_columns = 3,
      .is_token_wise = true},
     "{\"index\":2,\"prompt_tokens\":1,\"data\":[[1.0,-0.5,0.1]],\"shape\":[1,3]}\n"},
    {{.index = 2,
      .kind = PR_OUTPUT_DATA,
      .n_prompt_tokens = 1,
      .data = kind_values,
      .n_rows = 0,
      .n_columns = 2,
      .is_token_wise = true},
     "{\"index\":2,\"prompt_tokens\":1,\"data\":[],\"shape\":[0,2]}\n"},
    {{.index = 2,
      .kind = PR_OUTPUT_DATA,
      .n_prompt_tokens = 1,
      .data = kind_values,
      .n_rows = 1,
      .n_columns = 3},
     "{\"index\":2,\"prompt_tokens\":1,\"data\":[1.0,-0.5,0.1],\"shape\":[3]}\n"},
    {{.index = 0,
      .kind = PR_OUTPUT_TOKENS,
      .n_prompt_tokens = 3,
      .tokens = kind_tokens,
      .n_tokens = 3},
     "{\"index\":0,\"tokens\":[101,0,102]}\n"},
    {{.index = 3, .kind = PR_OUTPUT_TOKENS}, "{\"index\":3,\"tokens\":[]}\n"},
    {{.index = 4,
      .kind = PR_OUTPUT_ERROR,
      .status = PR_E_TOO_LONG,
      .message = "a \"b\" \\ \n\x01 \xC3\xA9 \xFF \xE2\x82"},
     "{\"index\":4,\"error\":{\"status\":\"too_long\",\"message\":\"a \\\"b\\\" \\\\ "
     "\\u000a\\u0001 "
     "\xC3\xA9 \xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD\"}}\n"},
    {{.index = 4, .kind = PR_OUTPUT_ERROR, .status = PR_E_INPUT},
     "{\"index\":4,\"error\":{\"status\":\"input\",\"message\":\"\"}}\n"},
};

static void output_line_of_each_kind_has_its_keys_in_order(void **state)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        check_line(*state, &kinds[i].row, kinds[i].line);
    }
}

static void output_line_repeats_the_id_as_it_was_given(void **state)
{
    static const struct {
        const char *json;
        const char *line;
    } cases[] = {
        {"\"a\\\"\\u00e9\\u0000\"",
         "{\"index\":0,\"id\":\"a\\\"\xC3\xA9\\u0000\",\"prompt_tokens\":0,\"score\":1.0}\n"},
        {"-9223372036854775807",
         "{\"index\":0,\"id\":-9223372036854775807,\"prompt_tokens\":0,\"score\":1.0}\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *id = json_loads(cases[i].json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        pr_output_row row = {.id = id, .kind = PR_OUTPUT_SCORE, .value = 1};
        check_line(*state, &row, cases[i].line);
        json_decref(id);
    }
}

static void output_line_larger_than_the_buffer_is_whole(void **state)
{
    fixture *f = *state;
    enum { N = 50000 };
    float *x = malloc(N * sizeof *x);
    for (int i = 0; i < N; i++) x[i] = (float)i / 7;
    pr_output_lines *out = open_ok(f->path);
    for (uint64_t i = 0; i < 3; i++) {
        pr_output_row row = {.index = i,
                             .kind = PR_OUTPUT_DATA,
                             .data = x,
                             .n_rows = N / 10,
                             .n_columns = 10,
                             .is_token_wise = true};
        assert_int_equal(pr_output_lines_write(out, &row, NULL), PR_OK);
    }
    assert_int_equal(pr_output_lines_finish(out, NULL), PR_OK);
    pr_output_lines_close(out);
    FILE *in = fopen(f->path, "r");
    for (uint64_t i = 0; i < 3; i++) {
        char *line = NULL;
        size_t n = 0;
        assert_true(getline(&line, &n, in) > 0);
        json_t *value = json_loads(line, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(value, "index")), i);
        json_t *data = json_object_get(value, "data");
        assert_int_equal(json_array_size(data), N / 10);
        for (int k = 0; k < N; k++) {
            json_t *number = json_array_get(json_array_get(data, (size_t)k / 10), (size_t)k % 10);
            assert_true((float)json_real_value(number) == x[k]);
        }
        json_decref(value);
        free(line);
    }
    assert_int_equal(fgetc(in), EOF);
    fclose(in);
    free(x);
}

/* ---- files ---- */

static const pr_output_row one_row = {.kind = PR_OUTPUT_SCORE, .value = 1};
static const char one_line[] = "{\"index\":0,\"prompt_tokens\":0,\"score\":1.0}\n";

static void output_file_appears_only_when_it_is_complete(void **state)
{
    fixture *f = *state;
    pr_output_lines *out = open_ok(f->path);
    assert_int_equal(pr_output_lines_write(out, &one_row, NULL), PR_OK);
    assert_int_equal(pr_output_lines_flush(out, NULL), PR_OK);
    assert_int_not_equal(access(f->path, F_OK), 0);
    assert_int_equal(count_entries(f->folder), 1); /* the temporary one lies beside it */
    assert_int_equal(pr_output_lines_finish(out, NULL), PR_OK);
    assert_int_equal(access(f->path, F_OK), 0);
    pr_output_lines_close(out);
    assert_int_equal(count_entries(f->folder), 1);
}

static void output_file_that_is_given_up_leaves_the_old_one(void **state)
{
    fixture *f = *state;
    FILE *old = fopen(f->path, "w");
    fputs("old", old);
    fclose(old);
    assert_int_equal(chmod(f->path, 0640), 0);
    pr_output_lines *out = open_ok(f->path);
    assert_int_equal(pr_output_lines_write(out, &one_row, NULL), PR_OK);
    pr_output_lines_close(out);
    assert_int_equal(count_entries(f->folder), 1);
    char *text = slurp(f->path);
    assert_string_equal(text, "old");
    free(text);
    check_line(f, &one_row, one_line); /* and replaces it, with its mode, when complete */
    struct stat sb;
    assert_int_equal(stat(f->path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0640);
}

static void output_file_gets_the_mode_that_the_umask_gives(void **state)
{
    fixture *f = *state;
    mode_t old = umask(027);
    check_line(f, &one_row, one_line);
    umask(old);
    struct stat sb;
    assert_int_equal(stat(f->path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0640);
}

static void output_through_a_link_replaces_what_it_leads_to(void **state)
{
    fixture *f = *state;
    char link[160];
    snprintf(link, sizeof link, "%s/link", f->folder);
    FILE *old = fopen(f->path, "w");
    fclose(old);
    assert_int_equal(symlink("out.jsonl", link), 0);
    pr_output_lines *out = open_ok(link);
    assert_int_equal(pr_output_lines_write(out, &one_row, NULL), PR_OK);
    assert_int_equal(pr_output_lines_finish(out, NULL), PR_OK);
    pr_output_lines_close(out);
    struct stat sb;
    assert_int_equal(lstat(link, &sb), 0);
    assert_true(S_ISLNK(sb.st_mode));
    char *text = slurp(f->path);
    assert_string_equal(text, one_line);
    free(text);
}

static void output_name_of_the_longest_length_works(void **state)
{
    fixture *f = *state;
    char name[256], path[400];
    memset(name, 'n', 255);
    name[255] = '\0';
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    pr_output_lines *out = open_ok(path);
    assert_int_equal(pr_output_lines_finish(out, NULL), PR_OK);
    pr_output_lines_close(out);
    assert_int_equal(access(path, F_OK), 0);
}

static void check_open_refused(const char *path, pr_status status, const char *part)
{
    pr_output_lines *out = NULL;
    pr_error err = {0};
    pr_status st = pr_output_lines_open(path, &out, &err);
    if (st != status || !strstr(err.message, part)) fail_msg("%d %s", (int)st, err.message);
    assert_null(out);
}

static void output_that_cannot_be_opened_is_refused_with_its_path(void **state)
{
    fixture *f = *state;
    char path[200];
    check_open_refused(f->folder, PR_E_ARGUMENT, "folder");
    check_open_refused("", PR_E_ARGUMENT, "name of a file");
    snprintf(path, sizeof path, "%s/none/out", f->folder);
    check_open_refused(path, PR_E_NOT_FOUND, path);
    snprintf(path, sizeof path, "%s/new/", f->folder);
    check_open_refused(path, PR_E_ARGUMENT, "name of a file");
}

/* Root may write anywhere, so this is done as somebody else. */
static void output_in_a_folder_without_permission_is_refused(void **state)
{
    fixture *f = *state;
    FILE *old = fopen(f->path, "w");
    fclose(old);
    assert_int_equal(chmod(f->path, 0444), 0);
    char path[160];
    snprintf(path, sizeof path, "%s/new", f->folder);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 &&
            (chmod(f->folder, 0755) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
            _exit(9);
        if (geteuid() != 65534 && chmod(f->folder, 0555) != 0) _exit(9);
        pr_output_lines *out = NULL;
        pr_error err = {0};
        int bad = pr_output_lines_open(path, &out, &err) != PR_E_IO || !strstr(err.message, path);
        bad |=
            pr_output_lines_open(f->path, &out, &err) != PR_E_IO || !strstr(err.message, f->path);
        _exit(bad);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(f->folder, 0755), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- failing writes ---- */

static pr_status write_many(pr_output_lines *out, pr_error *err)
{
    for (int i = 0; i < 10000; i++) {
        pr_status st = pr_output_lines_write(out, &one_row, err);
        if (st != PR_OK) return st;
    }
    return pr_output_lines_finish(out, err);
}

static void output_to_a_full_device_is_an_error_with_the_path(void **state)
{
    (void)state;
    pr_output_lines *out = open_ok("/dev/full");
    pr_error err = {0};
    assert_int_equal(pr_output_lines_write(out, &one_row, &err), PR_OK); /* still buffered */
    assert_int_equal(pr_output_lines_finish(out, &err), PR_E_IO);
    assert_non_null(strstr(err.message, "/dev/full: No space left"));
    /* and it stays an error */
    assert_int_equal(pr_output_lines_write(out, &one_row, NULL), PR_E_IO);
    assert_int_equal(pr_output_lines_flush(out, NULL), PR_E_IO);
    pr_output_lines_close(out);
    out = open_ok("/dev/full");
    pr_status st = PR_OK; /* the buffer is bounded: one of many lines is written out, and fails */
    for (int i = 0; i < 10000 && st == PR_OK; i++) {
        st = pr_output_lines_write(out, &one_row, &err);
    }
    assert_int_equal(st, PR_E_IO);
    pr_output_lines_close(out);
    assert_int_equal(access("/dev/full", F_OK), 0);
}

static void output_over_the_file_size_limit_is_an_error_and_leaves_nothing(void **state)
{
    fixture *f = *state;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    pr_output_lines *out = open_ok(f->path);
    pr_error err = {0};
    pr_status st = write_many(out, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(st, PR_E_IO);
    assert_non_null(strstr(err.message, f->path));
    assert_non_null(strstr(err.message, "File too large"));
    pr_output_lines_close(out);
    assert_int_equal(count_entries(f->folder), 0);
}

static void output_to_a_closed_pipe_is_an_error(void **state)
{
    fixture *f = *state;
    signal(SIGPIPE, SIG_IGN);
    char path[160];
    snprintf(path, sizeof path, "%s/fifo", f->folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    pr_output_lines *out = open_ok(path);
    assert_int_equal(pr_output_lines_write(out, &one_row, NULL), PR_OK);
    assert_int_equal(pr_output_lines_flush(out, NULL), PR_OK);
    char got[100] = {0};
    assert_int_equal(read(reader, got, sizeof got), sizeof one_line - 1);
    assert_string_equal(got, one_line);
    close(reader);
    pr_error err = {0};
    assert_int_equal(write_many(out, &err), PR_E_IO);
    assert_non_null(strstr(err.message, "Broken pipe"));
    pr_output_lines_close(out);
    struct stat sb;
    assert_int_equal(stat(path, &sb), 0);
    assert_true(S_ISFIFO(sb.st_mode)); /* not replaced by a file */
}

static void output_to_standard_output_is_written_to_its_descriptor(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {NULL, "-", "/dev/stdout"};
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    pr_status st = PR_OK;
    for (size_t i = 0; i < 3 && st == PR_OK; i++) {
        pr_output_lines *out = NULL;
        st = pr_output_lines_open(names[i], &out, NULL);
        if (st == PR_OK) st = pr_output_lines_write(out, &one_row, NULL);
        if (st == PR_OK) st = pr_output_lines_finish(out, NULL);
        pr_output_lines_close(out);
    }
    bool is_open = fcntl(STDOUT_FILENO, F_GETFD) >= 0;
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_int_equal(st, PR_OK);
    assert_true(is_open);
    char *text = slurp(f->path);
    assert_int_equal(strlen(text), 3 * strlen(one_line)); /* one behind the other */
    free(text);
    assert_int_equal(count_entries(f->folder), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(output_line_of_each_kind_has_its_keys_in_order),
        TEST(output_line_repeats_the_id_as_it_was_given),
        TEST(output_line_larger_than_the_buffer_is_whole),
        TEST(output_file_appears_only_when_it_is_complete),
        TEST(output_file_that_is_given_up_leaves_the_old_one),
        TEST(output_file_gets_the_mode_that_the_umask_gives),
        TEST(output_through_a_link_replaces_what_it_leads_to),
        TEST(output_name_of_the_longest_length_works),
        TEST(output_that_cannot_be_opened_is_refused_with_its_path),
        TEST(output_in_a_folder_without_permission_is_refused),
        TEST(output_to_a_full_device_is_an_error_with_the_path),
        TEST(output_over_the_file_size_limit_is_an_error_and_leaves_nothing),
        TEST(output_to_a_closed_pipe_is_an_error),
        TEST(output_to_standard_output_is_written_to_its_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
