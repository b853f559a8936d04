/* Opening a checkpoint with any one allocation failing: PR_E_NOMEM, and nothing is leaked. */
#define _GNU_SOURCE
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/hub_cache.h"
#include "tests/unit/fault_alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ftw.h>
#include <sys/stat.h>

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void write_file(const char *folder, const char *name, const char *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, n, out), n);
    fclose(out);
}

/* A folder with two shards of one 2 x 2 tensor each. */
static int setup(void **state)
{
    char *folder = strdup("/tmp/poolrank_fault_XXXXXX");
    if (!folder || !mkdtemp(folder)) return -1;
    char shard[128] = {0};
    for (int i = 0; i < 2; i++) {
        int n = snprintf(shard + 8, sizeof shard - 8,
                         "{\"t%d\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}", i);
        shard[0] = (char)n;
        char name[32];
        snprintf(name, sizeof name, "m%d.safetensors", i);
        write_file(folder, name, shard, 8 + (size_t)n + 8);
    }
    const char index[] = "{\"weight_map\":{\"t0\":\"m0.safetensors\",\"t1\":\"m1.safetensors\"}}";
    write_file(folder, "model.safetensors.index.json", index, sizeof index - 1);
    *state = folder;
    return 0;
}

static int teardown(void **state)
{
    nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static pr_status open_and_read(void *folder)
{
    pr_checkpoint *c = NULL;
    pr_status st = pr_checkpoint_open(folder, &c, NULL);
    if (st != PR_OK) return st;
    uint16_t column[2];
    st = pr_checkpoint_read(c, pr_checkpoint_find(c, "t1"), 0, 2, 1, 2, column, NULL);
    pr_checkpoint_close(c);
    return st;
}

static pr_status open_one(void *folder)
{
    pr_checkpoint *c = NULL;
    pr_status st = pr_checkpoint_open_file(folder, "m0.safetensors", &c, NULL);
    pr_checkpoint_close(c);
    return st;
}

static pr_status find_folder(void *folder)
{
    pr_hub_env env = {0};
    char *found = NULL;
    pr_status st = pr_hub_cache_find(&env, folder, NULL, &found, NULL);
    free(found);
    return st;
}

static void checkpoint_survives_any_failing_allocation(void **state)
{
    pr_status (*const calls[])(void *) = {open_and_read, open_one, find_folder};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        pr_status wrong = PR_OK;
        long n = fault_every_allocation(calls[i], *state, &wrong);
        if (n < 1) fail_msg("call %zu: %ld allocations, status %d", i, n, (int)wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoint_survives_any_failing_allocation)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
