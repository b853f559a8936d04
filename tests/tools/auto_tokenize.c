/* tests/tools/auto_tokenize.c: tokenizers read with the files beside them, for other programs and
 * against golden answers.
 *
 *     auto_tokenize FOLDER < cases          one JSON line each, answers likewise
 *     auto_tokenize FOLDER --golden FILE    compares; status 1 where one differs
 *
 * FOLDER holds the tokenizer files that cases name. A case: {"base": "x.json", "patch": {…} to its
 * sections, "files": {"config": …, "special_map": …, "added": …, "arguments": …, "model_type": …,
 * "model_class": …}, "texts": […], "pairs": [[a, b], …]}. An answer: {"encodings": [[ids, types],
 * …]} or {"error": "…"}. A golden file: {"texts", "pairs", "encodings": all that occur, "cases":
 * [{…, "expect": [numbers of encodings] or null: an error}]}. */
#include "runtime/base/buffer.h"
#include "runtime/base/json.h"
#include "runtime/text/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pr_status add_encoding(const pr_tokenizer *t, const json_t *a, const json_t *b, json_t *out,
                              pr_error *err)
{
    pr_ids ids[2] = {{0}, {0}};
    pr_encoding e = {0};
    static const int32_t none[1];
    pr_status st =
        pr_tokenizer_encode(t, json_string_value(a), json_string_length(a), &ids[0], err);
    if (st == PR_OK && b) {
        st = pr_tokenizer_encode(t, json_string_value(b), json_string_length(b), &ids[1], err);
    }
    if (st == PR_OK) {
        const int32_t *second = b ? ids[1].ids ? ids[1].ids : none : NULL;
        st = pr_tokenizer_assemble(t, ids[0].ids, ids[0].n, second, ids[1].n, true, &e, err);
    }
    if (st == PR_OK) {
        json_t *list = json_array();
        json_t *types = json_array();
        for (size_t i = 0; i < e.n; i++) {
            json_array_append_new(list, json_integer(e.ids[i]));
            json_array_append_new(types, json_integer(e.type_ids[i]));
        }
        json_array_append_new(out, json_pack("[o, o]", list, types));
    }
    pr_encoding_deinit(&e);
    for (int i = 0; i < 2; i++) pr_ids_deinit(&ids[i]);
    return st;
}

/* The base with the case's patch, in a file of its own: the loader reads files. */
static pr_status load_patched(const char *path, const json_t *patch,
                              const pr_tokenizer_files *files, pr_tokenizer **out, pr_error *err)
{
    if (!json_is_object(patch)) return pr_tokenizer_load_auto(path, files, out, err);
    json_t *root = NULL;
    pr_status st = pr_json_load(path, 64 << 20, &root, err);
    if (st != PR_OK) return st;
    json_object_update(root, (json_t *)(uintptr_t)patch);
    char name[] = "/tmp/auto_tokenize_XXXXXX";
    int fd = mkstemp(name);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f || json_dumpf(root, f, JSON_COMPACT) || fclose(f)) {
        st = pr_error_set(err, PR_E_INTERNAL, "cannot write %s", name);
    }
    json_decref(root);
    if (st == PR_OK) st = pr_tokenizer_load_auto(name, files, out, err);
    unlink(name);
    return st;
}

static pr_status answer(const char *folder, const json_t *one, const json_t *texts,
                        const json_t *pairs, json_t *out, pr_error *err)
{
    char path[4096];
    const json_t *beside = json_object_get(one, "files");
    const pr_tokenizer_files files = {
        .config = json_object_get(beside, "config"),
        .special_map = json_object_get(beside, "special_map"),
        .added = json_object_get(beside, "added"),
        .arguments = json_object_get(beside, "arguments"),
        .model_type = json_string_value(json_object_get(beside, "model_type")),
        .model_class = json_string_value(json_object_get(beside, "model_class")),
    };
    pr_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, json_string_value(json_object_get(one, "base")));
    pr_status st = load_patched(path, json_object_get(one, "patch"), &files, &t, err);
    size_t i;
    json_t *item;
    json_array_foreach(texts, i, item)
    {
        if (st == PR_OK) st = add_encoding(t, item, NULL, out, err);
    }
    json_array_foreach(pairs, i, item)
    {
        if (st != PR_OK) break;
        st = add_encoding(t, json_array_get(item, 0), json_array_get(item, 1), out, err);
    }
    pr_tokenizer_free(t);
    return st;
}

static int lines_answer(const char *folder)
{
    char *line = NULL;
    size_t n_line = 0;
    while (getline(&line, &n_line, stdin) > 0) {
        pr_error err;
        json_t *one = json_loads(line, 0, NULL);
        json_t *encodings = json_array();
        pr_status st = answer(folder, one, json_object_get(one, "texts"),
                              json_object_get(one, "pairs"), encodings, &err);
        json_t *out = st == PR_OK ? json_pack("{s:O}", "encodings", encodings)
                                  : json_pack("{s:s}", "error", err.message);
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(out);
        json_decref(encodings);
        json_decref(one);
    }
    free(line);
    return 0;
}

/* Whether the case's answers are the expected ones; says what differs. */
static bool is_expected(const json_t *golden, const json_t *one, const json_t *encodings,
                        pr_status st, const pr_error *err)
{
    const json_t *expect = json_object_get(one, "expect");
    const json_t *all = json_object_get(golden, "encodings");
    bool fails = json_is_null(expect);
    size_t i_wrong = 0;
    bool is_right = fails == (st != PR_OK);
    for (size_t i = 0; is_right && !fails && i < json_array_size(expect); i++) {
        size_t k = (size_t)json_integer_value(json_array_get(expect, i));
        i_wrong = i;
        is_right = json_equal(json_array_get(encodings, i), json_array_get(all, k));
    }
    if (is_right) return true;
    char *text = json_dumps(one, JSON_COMPACT);
    char *found = json_dumps(json_array_get(encodings, i_wrong), JSON_COMPACT | JSON_ENCODE_ANY);
    fprintf(stderr, "%s\n  item %zu: %s\n", text, i_wrong,
            st != PR_OK ? err->message
            : found     ? found
                        : "read, expected an error");
    free(text);
    free(found);
    return false;
}

static int golden_check(const char *folder, const char *path)
{
    json_t *golden = json_load_file(path, 0, NULL);
    const json_t *cases = json_object_get(golden, "cases");
    size_t n_wrong = 0;
    size_t i;
    json_t *one;
    json_array_foreach(cases, i, one)
    {
        pr_error err;
        json_t *encodings = json_array();
        pr_status st = answer(folder, one, json_object_get(golden, "texts"),
                              json_object_get(golden, "pairs"), encodings, &err);
        if (!is_expected(golden, one, encodings, st, &err)) n_wrong++;
        json_decref(encodings);
    }
    size_t n = json_array_size(cases);
    printf("%zu cases, %zu differ\n", n, n_wrong);
    json_decref(golden);
    return n == 0 || n_wrong > 0;
}

int main(int argc, char **argv)
{
    if (argc == 2) return lines_answer(argv[1]);
    if (argc == 4 && strcmp(argv[2], "--golden") == 0) return golden_check(argv[1], argv[3]);
    fprintf(stderr, "usage: auto_tokenize FOLDER [--golden FILE]\n");
    return 2;
}
