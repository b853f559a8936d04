/* A coordinator that is short of memory for a moment when a rank connects takes it in later: it
 * stays able to hear. */
#include "fake_rank.h"
#include "include/poolrank/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINK_BYTES_MIN = 64 << 10, LINK_BYTES_MAX = 72 << 10 }; /* with what a link reads into */

void *__real_calloc(size_t n, size_t size);
void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static atomic_int n_failures_left; /* the wrapped function has no handle */
static pthread_t opener;           /* links are made on the fleet's thread, not on this one */

void *__wrap_calloc(size_t n, size_t size)
{
    bool is_link = n == 1 && size >= LINK_BYTES_MIN && size < LINK_BYTES_MAX &&
                   !pthread_equal(pthread_self(), opener);
    if (is_link && atomic_fetch_sub(&n_failures_left, 1) > 0) return NULL;
    return __real_calloc(n, size);
}

void *__wrap_malloc(size_t n)
{
    return __real_malloc(n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
    return __real_strdup(s);
}

static void option_set(pr_options *o, const char *name, const char *value)
{
    pr_error err;
    if (pr_options_set(o, name, value, &err) != PR_OK) fail_msg("%s", err.message);
}

static pr_engine *engine_at(const char *at, const char *key_path)
{
    char model[512];
    snprintf(model, sizeof model, "%s/parity/models/qwen2-plain", PR_TESTS_DIR);
    pr_options *o = pr_options_create();
    option_set(o, "model", model);
    option_set(o, "worker-launch", "external");
    option_set(o, "ctrl-interface", at);
    option_set(o, "cluster-key-file", key_path);
    option_set(o, "quiet", "true");
    option_set(o, "start-timeout", "60");
    pr_engine *engine = NULL;
    pr_error err;
    if (pr_engine_open(o, &engine, &err) != PR_OK) fail_msg("%s", err.message);
    pr_options_free(o);
    return engine;
}

static void a_rank_that_there_was_no_memory_for_is_taken_in_later(void **state)
{
    (void)state;
    char folder[] = "/tmp/poolrank-test-XXXXXX", socket_path[64], key_path[64], at[80];
    assert_non_null(mkdtemp(folder));
    snprintf(socket_path, sizeof socket_path, "%s/ctrl", folder);
    snprintf(key_path, sizeof key_path, "%s/key", folder);
    snprintf(at, sizeof at, "unix:%s", socket_path);
    assert_int_equal(pr_key_create(key_path, NULL), PR_OK);
    fake_rank rank = {.socket_path = socket_path, .key_path = key_path, .group = "a", .n_ranks = 1,
                      .n_lives = 1, .dies_at_batch = FAKE_NEVER, .poison = FAKE_NEVER};
    opener = pthread_self();
    atomic_store(&n_failures_left, 2);
    fake_rank_start(&rank);
    pr_engine *engine = engine_at(at, key_path); /* returns when the group is ready */
    assert_true(atomic_load(&n_failures_left) < 0);
    pr_engine_close(engine);
    fake_rank_join(&rank);
    assert_int_equal(rank.n_connected, 1);
    unlink(key_path);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_that_there_was_no_memory_for_is_taken_in_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
