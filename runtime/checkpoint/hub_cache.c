#define _GNU_SOURCE
#include "runtime/checkpoint/hub_cache.h"

#include "runtime/base/file.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAME_BYTES_MAX = 96, /* of "org/name", the hub's own bound */
    REVISION_BYTES_MAX = 250,
    REF_FILE_BYTES_MAX = 1024
};

static bool is_set(const char *s)
{
    return s && *s;
}

/* asprintf with NULL for "no memory". */
static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
    char *out = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&out, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : out;
}

/* Letters, digits, and . _ - between them: what may stand as one component of a path. */
static bool component_ok(const char *s, size_t n)
{
    if (n == 0 || strchr("-.", s[0]) || strchr("-.", s[n - 1])) return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i])) return false;
    }
    return true;
}

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    const char *slash = strchr(name, '/');
    if (n > NAME_BYTES_MAX || strstr(name, "--") || strstr(name, "..")) return false;
    if (n > 4 && strcmp(name + n - 4, ".git") == 0) return false;
    if (!slash) return component_ok(name, n);
    return component_ok(name, (size_t)(slash - name)) &&
           component_ok(slash + 1, n - (size_t)(slash + 1 - name));
}

/* A branch, tag or commit: components with slashes between ("refs/pr/3"). */
static bool revision_ok(const char *revision)
{
    if (strlen(revision) > REVISION_BYTES_MAX || strstr(revision, "..")) return false;
    for (const char *p = revision;;) {
        size_t n = strcspn(p, "/");
        if (!component_ok(p, n)) return false;
        if (p[n] == '\0') return true;
        p += n + 1;
    }
}

static bool looks_like_path(const char *model)
{
    size_t n = strlen(model);
    return model[0] == '/' || strncmp(model, "./", 2) == 0 || strncmp(model, "../", 3) == 0 ||
           strncmp(model, "~/", 2) == 0 || strcmp(model, ".") == 0 || strcmp(model, "..") == 0 ||
           (n > 0 && model[n - 1] == '/');
}

/* The cache's root, owned; *is_known is false when the environment names none. */
static char *cache_root(const pr_hub_env *env, bool *is_known)
{
    *is_known = true;
    const char *named = is_set(env->hf_hub_cache) ? env->hf_hub_cache
                        : is_set(env->hf_home)    ? env->hf_home
                                                  : NULL;
    if (named) {
        /* Set without a shell (a unit file, a container): the hub's own library expands it too. */
        bool tilde = strncmp(named, "~/", 2) == 0 && is_set(env->home);
        const char *tail = named == env->hf_hub_cache ? "" : "/hub";
        return text("%s%s%s", tilde ? env->home : "", tilde ? named + 1 : named, tail);
    }
    if (is_set(env->xdg_cache_home)) return text("%s/huggingface/hub", env->xdg_cache_home);
    if (is_set(env->home)) return text("%s/.cache/huggingface/hub", env->home);
    *is_known = false;
    return NULL;
}

/* "models--org--name" below the root; owned. */
static char *repo_folder(const char *root, const char *name)
{
    const char *slash = strchr(name, '/');
    if (!slash) return text("%s/models--%s", root, name);
    return text("%s/models--%.*s--%s", root, (int)(slash - name), name, slash + 1);
}

/* The commit that refs/REVISION holds, owned; *commit stays NULL when there is no such ref. */
static pr_status ref_read(const char *repo, const char *revision, char **commit, pr_error *err)
{
    char *data = NULL;
    size_t n = 0;
    char *path = text("%s/refs/%s", repo, revision);
    if (!path) return pr_error_nomem(err, revision, strlen(repo) + strlen(revision) + 7);
    pr_status st = PR_OK;
    if (!pr_file_exists(path) || pr_file_is_folder(path)) goto cleanup;
    if ((st = pr_file_read(path, REF_FILE_BYTES_MAX, &data, &n, err)) != PR_OK) goto cleanup;
    while (n > 0 && isspace((unsigned char)data[n - 1])) data[--n] = '\0';
    if (strlen(data) != n || strchr(data, '/') || !revision_ok(data)) {
        st = pr_error_set(err, PR_E_MODEL, "%s: found no commit in it", path);
        goto cleanup;
    }
    *commit = data;
    data = NULL;
cleanup:
    free(path);
    free(data);
    return st;
}

/* *folder stays NULL when the snapshot is not there. */
static pr_status snapshot_find(const char *repo, const char *revision, char **folder, pr_error *err)
{
    char *commit = NULL, *path = NULL;
    pr_status st = ref_read(repo, revision, &commit, err);
    if (st != PR_OK) goto cleanup;
    const char *name = commit ? commit : revision;
    if (strchr(name, '/')) goto cleanup; /* no ref of that name, and no commit looks like it */
    path = text("%s/snapshots/%s", repo, name);
    if (!path) {
        st = pr_error_nomem(err, repo, strlen(repo));
        goto cleanup;
    }
    if (pr_file_is_folder(path)) {
        *folder = path;
        path = NULL;
    }
cleanup:
    free(commit);
    free(path);
    return st;
}

static pr_status missing(const char *model, const char *revision, const char *root, bool has_repo,
                         pr_error *err)
{
    bool is_main = strcmp(revision, "main") == 0;
    return pr_error_set(err, PR_E_NOT_FOUND,
                        "model %s: no folder of that name, and %s%s in the Hugging Face cache %s; "
                        "poolrank downloads nothing itself, this does: hf download %s%s%s",
                        model, has_repo ? "no revision " : "nothing", has_repo ? revision : "",
                        root, model, is_main ? "" : " --revision ", is_main ? "" : revision);
}

static pr_status find_in_cache(const pr_hub_env *env, const char *model, const char *revision,
                               char **folder, pr_error *err)
{
    char *repo = NULL, *found = NULL;
    bool is_known = false;
    pr_status st = PR_OK;
    char *root = cache_root(env, &is_known);
    if (!is_known) {
        return pr_error_set(err, PR_E_NOT_FOUND,
                            "model %s: no folder of that name, and no Hugging Face cache to look "
                            "in: none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME is set",
                            model);
    }
    if (root) repo = repo_folder(root, model);
    if (!repo) {
        st = pr_error_nomem(err, model, strlen(model));
        goto cleanup;
    }
    if ((st = snapshot_find(repo, revision, &found, err)) != PR_OK) goto cleanup;
    if (found) {
        *folder = found;
    } else {
        st = missing(model, revision, root, pr_file_is_folder(repo), err);
    }
cleanup:
    free(root);
    free(repo);
    return st;
}

pr_status pr_hub_cache_find(const pr_hub_env *env, const char *model, const char *revision,
                            char **folder, pr_error *err)
{
    assert(env);
    assert(model);
    assert(folder);
    if (pr_file_is_folder(model)) {
        char *copy = strdup(model);
        if (!copy) return pr_error_nomem(err, model, strlen(model) + 1);
        *folder = copy;
        return PR_OK;
    }
    if (pr_file_exists(model)) {
        return pr_error_set(err, PR_E_ARGUMENT, "model %s: found a file, expected a model's folder",
                            model);
    }
    if (looks_like_path(model)) {
        return pr_error_set(err, PR_E_NOT_FOUND, "model %s: no such folder", model);
    }
    if (!name_ok(model)) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "model '%s': no such folder, and not a hub name: expected name or "
                            "org/name of letters, digits, '-', '_', '.' (no '--' or '..', at most "
                            "%d)",
                            model, NAME_BYTES_MAX);
    }
    if (!is_set(revision)) revision = "main";
    if (!revision_ok(revision)) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "revision '%s': expected a branch, a tag or a commit", revision);
    }
    return find_in_cache(env, model, revision, folder, err);
}
