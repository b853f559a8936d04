/* runtime/checkpoint/checkpoint.h: model folders, good and hostile, and reading rectangles. */
#define _GNU_SOURCE
#include "runtime/checkpoint/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct fixture {
    char root[64];   /* a fresh folder */
    char model[128]; /* root/model */
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
    strcpy(f->root, "/tmp/poolrank_ckpt_XXXXXX");
    if (!mkdtemp(f->root)) return -1;
    snprintf(f->model, sizeof f->model, "%s/model", f->root);
    *state = f;
    return mkdir(f->model, 0755);
}

static int teardown(void **state)
{
    fixture *f = *state;
    nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void path_of(const char *folder, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", folder, name);
}

static void write_file(const char *folder, const char *name, const void *data, size_t n)
{
    char path[512];
    path_of(folder, name, path);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static void write_text(const char *folder, const char *name, const char *text)
{
    write_file(folder, name, text, strlen(text));
}

/* A safetensors file of this header, its data counting 0, 1, 2, … in u16. */
static void write_safetensors(const char *folder, const char *name, const char *json, size_t n_data)
{
    size_t n_json = strlen(json), n = 8 + n_json + n_data;
    unsigned char *bytes = calloc(1, n);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)n_json >> 8 * i);
    memcpy(bytes + 8, json, n_json);
    for (size_t i = 0; i < n_data; i++) {
        bytes[8 + n_json + i] = (unsigned char)(i % 2 ? i / 2 >> 8 : i / 2);
    }
    write_file(folder, name, bytes, n);
    free(bytes);
}

static const char json_a[] = "{\"a\":{\"dtype\":\"F16\",\"shape\":[3,4],\"data_offsets\":[0,24]},"
                             "\"v\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[24,34]}}";
static const char json_b[] = "{\"b\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,2]},"
                             "\"z\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[2,2]}}";

static pr_checkpoint *open_ok(const char *folder)
{
    pr_checkpoint *c = NULL;
    pr_error err = {0};
    if (pr_checkpoint_open(folder, &c, &err) != PR_OK) fail_msg("%s", err.message);
    return c;
}

static void check_refused(const char *folder, pr_status status, const char *part)
{
    pr_checkpoint *c = NULL;
    pr_error err = {0};
    pr_status st = pr_checkpoint_open(folder, &c, &err);
    if (st != status || !strstr(err.message, part)) {
        fail_msg("status %d: %s (expected %s)", (int)st, err.message, part);
    }
    assert_null(c);
}

static void checkpoint_single_file_is_read_by_rectangle(void **state)
{
    fixture *f = *state;
    write_safetensors(f->model, "model.safetensors", json_a, 34);
    pr_checkpoint *c = open_ok(f->model);
    assert_int_equal(pr_checkpoint_n_tensors(c), 2);
    assert_null(pr_checkpoint_find(c, "b"));
    const pr_tensor *a = pr_checkpoint_find(c, "a"), *v = pr_checkpoint_find(c, "v");
    assert_ptr_equal(a, pr_checkpoint_tensor(c, 0));
    assert_ptr_equal(v, pr_checkpoint_tensor(c, 1));
    uint16_t got[12];
    assert_int_equal(pr_checkpoint_read(c, a, 0, 3, 0, 4, got, NULL), PR_OK);
    for (int i = 0; i < 12; i++) assert_int_equal(got[i], i);
    assert_int_equal(pr_checkpoint_read(c, a, 1, 3, 1, 3, got, NULL), PR_OK);
    assert_int_equal(got[0], 5);
    assert_int_equal(got[1], 6);
    assert_int_equal(got[2], 9);
    assert_int_equal(got[3], 10);
    assert_int_equal(pr_checkpoint_read(c, v, 0, 1, 2, 5, got, NULL), PR_OK);
    assert_int_equal(got[0], 14);
    assert_int_equal(got[2], 16);
    assert_int_equal(pr_checkpoint_read(c, a, 2, 2, 0, 4, got, NULL), PR_OK);
    assert_int_equal(pr_checkpoint_read(c, a, 0, 3, 4, 4, got, NULL), PR_OK);
    assert_int_equal(pr_checkpoint_bytes_read(c, a), 24 + 8); /* what was asked for, no more */
    assert_int_equal(pr_checkpoint_bytes_read(c, v), 6);
    assert_int_equal(pr_checkpoint_bytes_read(c, NULL), 38);
    assert_int_equal(pr_checkpoint_read(c, a, 2, 3, 0, 4, got, NULL), PR_OK);
    assert_int_equal(got[3], 11);
    pr_checkpoint_close(c);
}

/* Row sizes on both sides of the choice between reading rows alone and cutting them out. */
static void checkpoint_every_way_of_reading_gives_the_same_bytes(void **state)
{
    fixture *f = *state;
    static const struct {
        int64_t n_rows, n_columns, row_begin, row_end, column_begin, column_end;
    } cases[] = {
        {9, 30000, 2, 9, 100, 200},   /* gap over two pages: row by row */
        {9, 30000, 0, 8, 0, 29999},   /* small gap: cut out of blocks */
        {700, 3000, 1, 700, 5, 2990}, /* more rows than one block holds */
        {3, 600000, 0, 3, 1, 599999}, /* a row longer than a block */
        {2000, 2, 0, 2000, 1, 2},     /* many tiny rows */
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        int64_t n = cases[k].n_rows * cases[k].n_columns;
        char json[256];
        snprintf(json, sizeof json,
                 "{\"t\":{\"dtype\":\"F16\",\"shape\":[%d,%d],\"data_offsets\":[0,%d]}}",
                 (int)cases[k].n_rows, (int)cases[k].n_columns, (int)(2 * n));
        write_safetensors(f->model, "model.safetensors", json, (size_t)(2 * n));
        pr_checkpoint *c = open_ok(f->model);
        const pr_tensor *t = pr_checkpoint_find(c, "t");
        int64_t width = cases[k].column_end - cases[k].column_begin;
        int64_t height = cases[k].row_end - cases[k].row_begin;
        uint16_t *got = malloc((size_t)(width * height) * 2);
        assert_int_equal(pr_checkpoint_read(c, t, cases[k].row_begin, cases[k].row_end,
                                            cases[k].column_begin, cases[k].column_end, got, NULL),
                         PR_OK);
        for (int64_t i = 0; i < width * height; i++) {
            int64_t at = (cases[k].row_begin + i / width) * cases[k].n_columns +
                         cases[k].column_begin + i % width;
            if (got[i] != (uint16_t)at) fail_msg("case %zu, element %d", k, (int)i);
        }
        assert_int_equal(pr_checkpoint_bytes_read(c, t), 2 * width * height);
        free(got);
        pr_checkpoint_close(c);
    }
}

static void checkpoint_sharded_index_takes_what_it_names(void **state)
{
    fixture *f = *state;
    write_safetensors(f->model, "m-1.safetensors", json_a, 34);
    write_safetensors(f->model, "m-2.safetensors", json_b, 2);
    write_text(f->model, "model.safetensors.index.json",
               "{\"metadata\":{\"total_size\":36},\"weight_map\":{\"z\":\"m-2.safetensors\","
               "\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}");
    pr_checkpoint *c = open_ok(f->model);
    assert_int_equal(pr_checkpoint_n_tensors(c), 3);
    assert_null(pr_checkpoint_find(c, "v")); /* in the file, not in the index */
    const pr_tensor *a = pr_checkpoint_find(c, "a"), *b = pr_checkpoint_find(c, "b"),
                    *z = pr_checkpoint_find(c, "z");
    uint16_t got[12] = {7};
    assert_int_equal(pr_checkpoint_read(c, a, 0, 1, 3, 4, got, NULL), PR_OK);
    assert_int_equal(got[0], 3);
    assert_int_equal(pr_checkpoint_read(c, b, 0, 1, 0, 1, got, NULL), PR_OK);
    assert_int_equal(got[0], 0);
    assert_int_equal(pr_checkpoint_read(c, z, 0, 0, 0, 7, NULL, NULL), PR_OK);
    pr_checkpoint_close(c);
}

static void checkpoint_bad_index_is_refused(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *index;
        pr_status status;
        const char *part;
    } cases[] = {
        {"{", PR_E_MODEL, "not JSON"},
        {"[]", PR_E_MODEL, "weight_map: found nothing"},
        {"{\"weight_map\":[]}", PR_E_MODEL, "weight_map: found an array"},
        {"{\"weight_map\":{\"a\":1}}", PR_E_MODEL, "weight_map: a: found an integer"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\\u0000x\"}}", PR_E_MODEL, "NUL"},
        {"{\"weight_map\":{\"a\":\"m-9.safetensors\"}}", PR_E_NOT_FOUND, "m-9.safetensors"},
        {"{\"weight_map\":{\"q\":\"m-1.safetensors\"}}", PR_E_MODEL, "tensor q: not in m-1"},
        {"{\"weight_map\":{\"b\":\"m-1.safetensors\",\"a\":\"m-2.safetensors\"}}", PR_E_MODEL,
         "not in m-1"},
        {"{\"weight_map\":{\"a\":\"../outside.safetensors\"}}", PR_E_MODEL,
         "leaves the model folder"},
        {"{\"weight_map\":{\"a\":\"sub/../../outside.safetensors\"}}", PR_E_MODEL,
         "leaves the model folder"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", PR_E_MODEL, "leaves the model folder"},
        {"{\"weight_map\":{\"a\":\"link.safetensors\"}}", PR_E_MODEL, "outside the model folder"},
        {"{\"weight_map\":{\"a\":\"fifo.safetensors\"}}", PR_E_MODEL, "found a FIFO"},
        {"{\"weight_map\":{\"a\":\"\"}}", PR_E_MODEL, "found a folder"},
        {"{\"weight_map\":{\"a\":\"text.safetensors\"}}", PR_E_MODEL, "header length"},
    };
    char path[512], target[512];
    write_safetensors(f->root, "outside.safetensors", json_a, 34);
    write_safetensors(f->model, "m-1.safetensors", json_a, 34);
    write_safetensors(f->model, "m-2.safetensors", json_b, 2);
    write_text(f->model, "text.safetensors", "these are eight bytes and more");
    path_of(f->model, "link.safetensors", path);
    path_of(f->root, "outside.safetensors", target);
    assert_int_equal(symlink(target, path), 0);
    path_of(f->model, "fifo.safetensors", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(f->model, "model.safetensors.index.json", cases[i].index);
        check_refused(f->model, cases[i].status, cases[i].part);
    }
}

static void checkpoint_what_is_no_regular_file_is_refused_without_blocking(void **state)
{
    fixture *f = *state;
    char path[512];
    path_of(f->model, "model.safetensors", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    check_refused(f->model, PR_E_MODEL, "found a FIFO, expected a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    check_refused(f->model, PR_E_MODEL, "found a folder, expected a regular file");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/dev/zero", path), 0);
    check_refused(f->model, PR_E_MODEL, "outside the model folder");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("nowhere", path), 0);
    check_refused(f->model, PR_E_NOT_FOUND, "model.safetensors");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("model.safetensors", path), 0);
    check_refused(f->model, PR_E_MODEL, "symbolic links");
}

static void checkpoint_links_into_the_caches_own_blobs_are_followed(void **state)
{
    fixture *f = *state;
    char path[512], snapshot[256];
    static const char *const folders[] = {"models--a--b", "models--a--b/blobs",
                                          "models--a--b/snapshots", "models--a--b/snapshots/rev"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        path_of(f->root, folders[i], path);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    path_of(f->root, "models--a--b/blobs", path);
    write_safetensors(path, "cafe", json_a, 34);
    snprintf(snapshot, sizeof snapshot, "%s/models--a--b/snapshots/rev", f->root);
    path_of(snapshot, "model.safetensors", path);
    assert_int_equal(symlink("../../blobs/cafe", path), 0);
    pr_checkpoint_close(open_ok(snapshot));
}

static void checkpoint_missing_weights_say_what_would_help(void **state)
{
    fixture *f = *state;
    check_refused("/no/such/folder", PR_E_NOT_FOUND, "no such folder");
    check_refused(f->model, PR_E_NOT_FOUND, "found neither model.safetensors nor");
    write_text(f->model, "pytorch_model.bin", "pickle");
    check_refused(f->model, PR_E_NOT_FOUND, "python -c");
    check_refused(f->model, PR_E_NOT_FOUND, "safe_serialization=True");
}

static void checkpoint_truncated_file_is_refused_at_every_length(void **state)
{
    fixture *f = *state;
    write_safetensors(f->model, "model.safetensors", json_a, 34);
    char path[512];
    path_of(f->model, "model.safetensors", path);
    struct stat sb;
    assert_int_equal(stat(path, &sb), 0);
    for (off_t n = sb.st_size - 1; n >= 0; n--) {
        assert_int_equal(truncate(path, n), 0);
        check_refused(f->model, PR_E_MODEL, "model.safetensors");
    }
}

static void checkpoint_file_that_shrinks_later_is_an_error_with_the_tensors_name(void **state)
{
    fixture *f = *state;
    write_safetensors(f->model, "model.safetensors", json_a, 34);
    pr_checkpoint *c = open_ok(f->model);
    char path[512];
    path_of(f->model, "model.safetensors", path);
    assert_int_equal(truncate(path, 150), 0);
    uint16_t got[5];
    pr_error err = {0};
    assert_int_equal(pr_checkpoint_read(c, pr_checkpoint_find(c, "v"), 0, 1, 0, 5, got, &err),
                     PR_E_IO);
    assert_non_null(strstr(err.message, "tensor v"));
    assert_non_null(strstr(err.message, "end of file"));
    pr_checkpoint_close(c);
}

static void checkpoint_one_file_of_a_module_opens_by_relative_path(void **state)
{
    fixture *f = *state;
    char folder[512];
    path_of(f->model, "2_Dense", folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    write_safetensors(folder, "model.safetensors", json_b, 2);
    write_safetensors(f->root, "outside.safetensors", json_b, 2);
    pr_checkpoint *c = NULL;
    assert_int_equal(pr_checkpoint_open_file(f->model, "2_Dense/model.safetensors", &c, NULL),
                     PR_OK);
    assert_non_null(pr_checkpoint_find(c, "b"));
    pr_checkpoint_close(c);
    c = NULL;
    assert_int_equal(pr_checkpoint_open_file(f->model, "../outside.safetensors", &c, NULL),
                     PR_E_MODEL);
    assert_int_equal(pr_checkpoint_open_file(f->model, "2_Dense/none", &c, NULL), PR_E_NOT_FOUND);
    assert_null(c);
}

static void *read_many(void *context)
{
    pr_checkpoint *c = context;
    const pr_tensor *a = pr_checkpoint_find(c, "a");
    for (int i = 0; i < 500; i++) {
        uint16_t got[4];
        if (pr_checkpoint_read(c, a, 0, 2, 1, 3, got, NULL) != PR_OK || got[3] != 6) return c;
    }
    return NULL;
}

static void checkpoint_reads_of_several_threads_are_all_counted(void **state)
{
    fixture *f = *state;
    write_safetensors(f->model, "model.safetensors", json_a, 34);
    pr_checkpoint *c = open_ok(f->model);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, c), 0);
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(pr_checkpoint_bytes_read(c, NULL), 4 * 500 * 8);
    pr_checkpoint_close(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(checkpoint_single_file_is_read_by_rectangle),
        TEST(checkpoint_every_way_of_reading_gives_the_same_bytes),
        TEST(checkpoint_sharded_index_takes_what_it_names),
        TEST(checkpoint_bad_index_is_refused),
        TEST(checkpoint_what_is_no_regular_file_is_refused_without_blocking),
        TEST(checkpoint_links_into_the_caches_own_blobs_are_followed),
        TEST(checkpoint_missing_weights_say_what_would_help),
        TEST(checkpoint_truncated_file_is_refused_at_every_length),
        TEST(checkpoint_file_that_shrinks_later_is_an_error_with_the_tensors_name),
        TEST(checkpoint_one_file_of_a_module_opens_by_relative_path),
        TEST(checkpoint_reads_of_several_threads_are_all_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
