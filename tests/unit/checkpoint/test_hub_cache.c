/* runtime/checkpoint/hub_cache.h: folders as they are, names through the Hugging Face cache. */
#define _GNU_SOURCE
#include "runtime/checkpoint/hub_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER  "89abcdef0123456789abcdef0123456789abcdef"

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void make_folder(const char *root, const char *relative)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", root, relative);
    for (char *p = path + strlen(root) + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        mkdir(path, 0755);
        *p = '/';
    }
    mkdir(path, 0755);
}

static void make_file(const char *root, const char *relative, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", root, relative);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* home/.cache/huggingface/hub holds org/name (main, a tag, a pull request) and bare-name. */
static int setup(void **state)
{
    char *home = strdup("/tmp/poolrank_hub_XXXXXX");
    if (!home || !mkdtemp(home)) return -1;
#define HUB ".cache/huggingface/hub/"
    make_folder(home, HUB "models--org--name/snapshots/" COMMIT);
    make_folder(home, HUB "models--org--name/snapshots/" OTHER);
    make_folder(home, HUB "models--org--name/refs/refs/pr");
    make_file(home, HUB "models--org--name/refs/main", COMMIT);
    make_file(home, HUB "models--org--name/refs/v1.0", OTHER "\n");
    make_file(home, HUB "models--org--name/refs/refs/pr/1", OTHER);
    make_file(home, HUB "models--org--name/refs/evil", "../../../..");
    make_file(home, HUB "models--org--name/refs/empty", "");
    make_file(home, HUB "models--org--name/refs/deeper", COMMIT "/sub");
    make_file(home, HUB "models--org--name/refs/gone", "ffffffffffffffffffffffffffffffffffffffff");
    make_folder(home, HUB "models--bare-name/snapshots/" COMMIT);
    make_folder(home, HUB "models--bare-name/refs");
    make_file(home, HUB "models--bare-name/refs/main", COMMIT);
    make_folder(home, "here");
    make_file(home, "afile", "");
    *state = home;
    return 0;
}

static int teardown(void **state)
{
    nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static void check_found(const pr_hub_env *env, const char *model, const char *revision,
                        const char *tail)
{
    char *folder = NULL;
    pr_error err = {0};
    if (pr_hub_cache_find(env, model, revision, &folder, &err) != PR_OK)
        fail_msg("%s", err.message);
    size_t n = strlen(folder), n_tail = strlen(tail);
    if (n < n_tail || strcmp(folder + n - n_tail, tail) != 0) fail_msg("%s", folder);
    free(folder);
}

static void check_refused(const pr_hub_env *env, const char *model, const char *revision,
                          pr_status status, const char *part)
{
    char *folder = NULL;
    pr_error err = {0};
    pr_status st = pr_hub_cache_find(env, model, revision, &folder, &err);
    if (st != status || !strstr(err.message, part)) {
        fail_msg("%s: status %d: %s", model, (int)st, err.message);
    }
    assert_null(folder);
}

static void hub_cache_finds_names_by_branch_tag_and_commit(void **state)
{
    pr_hub_env env = {.home = *state};
    check_found(&env, "org/name", NULL, "/models--org--name/snapshots/" COMMIT);
    check_found(&env, "org/name", "", "/models--org--name/snapshots/" COMMIT);
    check_found(&env, "org/name", "main", "/models--org--name/snapshots/" COMMIT);
    check_found(&env, "org/name", "v1.0", "/models--org--name/snapshots/" OTHER);
    check_found(&env, "org/name", "refs/pr/1", "/models--org--name/snapshots/" OTHER);
    check_found(&env, "org/name", OTHER, "/models--org--name/snapshots/" OTHER);
    check_found(&env, "bare-name", NULL, "/models--bare-name/snapshots/" COMMIT);
}

static void hub_cache_looks_where_the_environment_says_most_specific_first(void **state)
{
    char cache[256], huggingface[512], hub[768];
    snprintf(cache, sizeof cache, "%s/.cache", (char *)*state);
    snprintf(huggingface, sizeof huggingface, "%s/huggingface", cache);
    snprintf(hub, sizeof hub, "%s/hub", huggingface);
    pr_hub_env by_hub = {.hf_hub_cache = hub,
                         .hf_home = "/nowhere",
                         .xdg_cache_home = "/nowhere",
                         .home = "/nowhere"};
    pr_hub_env by_home = {.hf_hub_cache = "", .hf_home = huggingface, .xdg_cache_home = "/nowhere"};
    pr_hub_env by_xdg = {.xdg_cache_home = cache, .home = "/nowhere"};
    pr_hub_env by_tilde = {.hf_home = "~/.cache/huggingface", .home = *state};
    pr_hub_env wrong = {.hf_home = "/nowhere", .home = *state};
    check_found(&by_hub, "org/name", NULL, COMMIT);
    check_found(&by_home, "org/name", NULL, COMMIT);
    check_found(&by_xdg, "org/name", NULL, COMMIT);
    check_found(&by_tilde, "org/name", NULL, COMMIT);
    check_refused(&wrong, "org/name", NULL, PR_E_NOT_FOUND, "/nowhere/hub");
    check_refused(&(pr_hub_env){0}, "org/name", NULL, PR_E_NOT_FOUND, "HF_HOME");
}

static void hub_cache_a_folder_wins_and_a_missing_path_is_no_name(void **state)
{
    pr_hub_env env = {.home = *state};
    char here[256];
    snprintf(here, sizeof here, "%s/here", (char *)*state);
    check_found(&env, here, "v1.0", "/here");
    assert_int_equal(chdir(*state), 0);
    check_found(&env, "here", NULL, "here");
    check_refused(&env, "afile", NULL, PR_E_ARGUMENT, "expected a model's folder");
    static const char *const paths[] = {"/no/such", "./no", "../no", "no/", "~/no"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        check_refused(&env, paths[i], NULL, PR_E_NOT_FOUND, "no such folder");
    }
    assert_int_equal(chdir("/"), 0);
}

static void hub_cache_says_which_command_downloads(void **state)
{
    pr_hub_env env = {.home = *state};
    check_refused(&env, "org/other", NULL, PR_E_NOT_FOUND, "hf download org/other");
    check_refused(&env, "org/other", NULL, PR_E_NOT_FOUND, "/.cache/huggingface/hub");
    check_refused(&env, "org/name", "dev", PR_E_NOT_FOUND, "hf download org/name --revision dev");
    check_refused(&env, "org/name", "dev", PR_E_NOT_FOUND, "no revision dev");
    check_refused(&env, "org/name", "gone", PR_E_NOT_FOUND, "--revision gone");
    check_refused(&env, "org/name", "no/such", PR_E_NOT_FOUND, "--revision no/such");
    check_refused(&env, "org/name", "01234567", PR_E_NOT_FOUND, "--revision 01234567");
    check_refused(&env, "org/name", "refs", PR_E_NOT_FOUND, "--revision refs");
}

static void hub_cache_refuses_names_that_the_hub_would_refuse(void **state)
{
    pr_hub_env env = {.home = *state};
    static const char *const names[] = {
        "",
        "a/b/c",
        "org--name",
        "org/na..me",
        "-name",
        "org/.name",
        "org/name.",
        "org/n\tm",
        "or g/n",
        "org/",
        "org/n\xC3\xA9",
        "org//n",
        "name.git",
        ("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234"
         "567890123456"),
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool is_path = names[i][0] && names[i][strlen(names[i]) - 1] == '/';
        check_refused(&env, names[i], NULL, is_path ? PR_E_NOT_FOUND : PR_E_ARGUMENT, "no such");
    }
    static const char *const revisions[] = {"../main", "a/../b", "/etc", "a//b", "-x", "a b", "a/"};
    for (size_t i = 0; i < sizeof revisions / sizeof *revisions; i++) {
        check_refused(&env, "org/name", revisions[i], PR_E_ARGUMENT, "expected a branch");
    }
}

static void hub_cache_a_ref_file_that_leads_elsewhere_is_refused(void **state)
{
    pr_hub_env env = {.home = *state};
    check_refused(&env, "org/name", "evil", PR_E_MODEL, "refs/evil: found no commit");
    check_refused(&env, "org/name", "deeper", PR_E_MODEL, "refs/deeper: found no commit");
    check_refused(&env, "org/name", "empty", PR_E_MODEL, "refs/empty: found no commit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hub_cache_finds_names_by_branch_tag_and_commit),
        cmocka_unit_test(hub_cache_looks_where_the_environment_says_most_specific_first),
        cmocka_unit_test(hub_cache_a_folder_wins_and_a_missing_path_is_no_name),
        cmocka_unit_test(hub_cache_says_which_command_downloads),
        cmocka_unit_test(hub_cache_refuses_names_that_the_hub_would_refuse),
        cmocka_unit_test(hub_cache_a_ref_file_that_leads_elsewhere_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
