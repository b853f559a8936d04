/* The files of Sentence Transformers, in the forms that its versions 2 to 6 write. */
#include "runtime/model/st_files.h"
#include "tests/unit/model/fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OLD(kind)   "'type': 'sentence_transformers.models." kind "'"
#define NEW(kind)   "'type': 'sentence_transformers.sentence_transformer.modules." kind "'"
#define BASE(kind)  "'type': 'sentence_transformers.base.modules." kind "'"
#define TRANSFORMER "{'path': '', " OLD("Transformer") "}"
#define POOLING     "{'path': '1_Pooling', " OLD("Pooling") "}"
#define NORMALIZE   "{'path': '2_Normalize', " OLD("Normalize") "}"
#define DENSE       "{'path': '2_Dense', " OLD("Dense") "}"
#define MEAN        "{'pooling_mode_mean_tokens': true}"

typedef struct file {
    const char *path, *text;
} file;

enum { FILES_MAX = 6 };

static void folder_create(char *folder)
{
    strcpy(folder, "/tmp/poolrank-st-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void file_write(const char *folder, const file *f)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, f->path);
    char *slash = strrchr(path, '/');
    *slash = 0;
    assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
    *slash = '/';
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (const char *c = f->text; *c; c++) fputc(*c == '\'' ? '"' : *c, out);
    assert_int_equal(fclose(out), 0);
}

/* The file, then its folder where nothing else is left in it. */
static void file_remove(const char *folder, const file *f)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, f->path);
    assert_int_equal(unlink(path), 0);
    *strrchr(path, '/') = 0;
    rmdir(path);
}

static pr_status files_read(const file *files, pr_st_files *out, pr_error *err)
{
    char folder[64];
    folder_create(folder);
    for (int i = 0; i < FILES_MAX && files[i].path; i++) file_write(folder, &files[i]);
    pr_status st = pr_st_files_read(folder, out, err);
    for (int i = 0; i < FILES_MAX && files[i].path; i++) file_remove(folder, &files[i]);
    rmdir(folder); /* gone already when its last file stood in it */
    assert_int_not_equal(access(folder, F_OK), 0);
    return st;
}

static pr_st_files files_of(const file *files)
{
    pr_st_files st = {0};
    pr_error err = {0};
    if (files_read(files, &st, &err) != PR_OK) fail_msg("%s", err.message);
    return st;
}

static void folder_without_files_says_nothing(void **state)
{
    (void)state;
    static const file none[FILES_MAX] = {{0}};
    pr_st_files st = files_of(none);
    assert_false(st.is_present || st.has_pooling || st.normalize || st.is_cross_encoder);
    assert_null(st.prompts);
    pr_st_files_deinit(&st);
}

static void files_of_version_2_are_read(void **state)
{
    (void)state;
    static const file files[FILES_MAX] = {
        {"modules.json", "[" TRANSFORMER "," POOLING "," NORMALIZE "]"},
        {"1_Pooling/config.json", "{'word_embedding_dimension': 384, 'pooling_mode_cls_token': "
                                  "false, 'pooling_mode_mean_tokens': true}"},
        {"sentence_bert_config.json", "{'max_seq_length': 256, 'do_lower_case': true}"},
        {"config_sentence_transformers.json", "{'__version__': {'pytorch': '1.6'}}"},
    };
    pr_st_files st = files_of(files);
    assert_true(st.is_present && st.has_pooling && st.normalize && st.do_lower_case);
    assert_true(st.include_prompt);
    assert_int_equal(st.pooling, PR_POOL_MEAN);
    assert_int_equal(st.pooling_width, 384);
    assert_int_equal(st.max_seq_length, 256);
    assert_string_equal(st.transformer_path, "");
    pr_st_files_deinit(&st);
}

static void files_of_version_6_are_read(void **state)
{
    (void)state;
    static const file files[FILES_MAX] = {
        {"modules.json",
         "[{'path': '', " BASE("transformer.Transformer") "}, {'path': '1_Pooling', " NEW(
             "pooling.Pooling") "}, {'path': '2_Dense', " BASE("dense.Dense") "}]"},
        {"1_Pooling/config.json", "{'embedding_dimension': 16, 'pooling_mode': 'lasttoken', "
                                  "'include_prompt': false}"},
        {"2_Dense/config.json", "{'in_features': 16, 'out_features': 8, 'bias': false, "
                                "'activation_function': 'torch.nn.modules.linear.Identity', "
                                "'module_input_name': 'sentence_embedding', "
                                "'module_output_name': 'sentence_embedding'}"},
        {"config_sentence_transformers.json",
         "{'model_type': 'SentenceTransformer', 'prompts': {'query': 'q: ', 'document': ''}, "
         "'default_prompt_name': 'query'}"},
        {"sentence_bert_config.json", "{'transformer_task': 'feature-extraction'}"},
    };
    pr_st_files st = files_of(files);
    assert_int_equal(st.pooling, PR_POOL_LAST);
    assert_false(st.normalize || st.include_prompt || st.is_cross_encoder);
    assert_int_equal(st.n_dense, 1);
    assert_int_equal(st.dense[0].n_in, 16);
    assert_int_equal(st.dense[0].n_out, 8);
    assert_false(st.dense[0].bias);
    assert_int_equal(st.dense[0].activation, PR_ACTIVATION_NONE);
    assert_string_equal(st.dense[0].path, "2_Dense");
    assert_int_equal(json_object_size(st.prompts), 2);
    assert_string_equal(st.default_prompt, "q: ");
    assert_int_equal(st.max_seq_length, 0);
    pr_st_files_deinit(&st);
}

static void transformer_in_a_folder_of_its_own_has_its_settings_there(void **state)
{
    (void)state;
    static const file files[FILES_MAX] = {
        {"modules.json", "[{'path': '0_Transformer', " OLD("Transformer") "}," POOLING "]"},
        {"0_Transformer/sentence_xlm-roberta_config.json", "{'max_seq_length': 77}"},
        {"1_Pooling/config.json", MEAN},
    };
    pr_st_files st = files_of(files);
    assert_string_equal(st.transformer_path, "0_Transformer");
    assert_int_equal(st.max_seq_length, 77);
    pr_st_files_deinit(&st);
}

static void pooling_modes_are_read_in_both_spellings(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        pr_status status;
        pr_pool pool;
        const char *text;
    } cases[] = {
        {"{'pooling_mode_cls_token': true}", PR_OK, PR_POOL_CLS, ""},
        {"{'pooling_mode_lasttoken': true, 'pooling_mode_max_tokens': false}", PR_OK, PR_POOL_LAST,
         ""},
        {"{'pooling_mode_cls_token': false}", PR_OK, PR_POOL_MEAN, ""},
        {"{}", PR_OK, PR_POOL_MEAN, ""},
        {"{'pooling_mode': 'cls'}", PR_OK, PR_POOL_CLS, ""},
        {"{'pooling_mode': ['mean']}", PR_OK, PR_POOL_MEAN, ""},
        {"{'pooling_mode': 'cls', 'pooling_mode_mean_tokens': true}", PR_OK, PR_POOL_CLS, ""},
        {"{'pooling_mode_max_tokens': true}", PR_E_UNSUPPORTED, 0, "pooling_mode_max_tokens"},
        {"{'pooling_mode_cls_token': true, 'pooling_mode_mean_tokens': true}", PR_E_UNSUPPORTED, 0,
         "several"},
        {"{'pooling_mode': ['cls', 'mean']}", PR_E_UNSUPPORTED, 0, "several"},
        {"{'pooling_mode': 'weightedmean'}", PR_E_UNSUPPORTED, 0, "weightedmean"},
        {"{'pooling_mode': 5}", PR_E_MODEL, 0, "pooling_mode"},
        {"{'pooling_mode_cls_token': 'yes'}", PR_E_MODEL, 0, "pooling_mode_cls_token"},
        {"[]", PR_E_MODEL, 0, "an array"},
        {"{", PR_E_MODEL, 0, "1_Pooling"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const file files[FILES_MAX] = {{"modules.json", "[" TRANSFORMER "," POOLING "]"},
                                       {"1_Pooling/config.json", cases[i].config}};
        pr_st_files st = {0};
        pr_error err = {0};
        if (files_read(files, &st, &err) != cases[i].status ||
            (cases[i].status == PR_OK && st.pooling != cases[i].pool) ||
            (cases[i].status != PR_OK && !strstr(err.message, cases[i].text))) {
            fail_msg("case %zu: %s", i, err.message);
        }
        pr_st_files_deinit(&st);
    }
}

static void cross_encoder_keeps_its_activation_in_the_package_file(void **state)
{
    (void)state;
    static const file files[FILES_MAX] = {
        {"modules.json", "[" TRANSFORMER "]"},
        {"config_sentence_transformers.json",
         "{'model_type': 'CrossEncoder', 'activation_fn': 'torch.nn.modules.linear.Identity', "
         "'default_prompt_name': null, 'prompts': {}}"},
    };
    pr_st_files st = files_of(files);
    assert_true(st.is_cross_encoder && st.ce_set);
    assert_int_equal(st.ce_activation, PR_ACTIVATION_NONE);
    assert_false(st.has_pooling || st.ce_softmax);
    assert_null(st.default_prompt);
    pr_st_files_deinit(&st);
}

#define DENSE_OF(extra)                                                                            \
    {                                                                                              \
        "2_Dense/config.json", "{'in_features': 4, 'out_features': 2" extra "}"                    \
    }
#define WITH_DENSE                                                                                 \
    {"modules.json", "[" TRANSFORMER "," POOLING "," DENSE "]"},                                   \
    {                                                                                              \
        "1_Pooling/config.json", MEAN                                                              \
    }
static const struct {
    file files[FILES_MAX];
    pr_status status;
    const char *text;
} refused[] = {
    {{{"modules.json", "{}"}}, PR_E_MODEL, "an array of at most"},
    {{{"modules.json", "[3]"}}, PR_E_MODEL, "modules.json[0]"},
    {{{"modules.json", "[{'path': ''}]"}}, PR_E_MODEL, "type"},
    {{{"modules.json", "[{'path': 4, " OLD("Transformer") "}]"}}, PR_E_MODEL, "path"},
    {{{"modules.json", "[" TRANSFORMER ",{'path': '1_L', " OLD("LSTM") "}]"}},
     PR_E_UNSUPPORTED,
     "models.LSTM"},
    {{{"modules.json", "[" TRANSFORMER ",{'path': '', " OLD("WeightedLayerPooling") "}]"}},
     PR_E_UNSUPPORTED,
     "WeightedLayerPooling"},
    {{{"modules.json", "[{'path': '', 'type': 'custom_st.Transformer'}]"}},
     PR_E_UNSUPPORTED,
     "custom_st.Transformer"},
    {{{"modules.json", "[" TRANSFORMER "," POOLING "]"}}, PR_E_NOT_FOUND, "modules.json[1]"},
    {{{"modules.json", "[{'path': '../../etc', " OLD("Transformer") "}]"}},
     PR_E_MODEL,
     "leaves the model folder"},
    {{{"modules.json", "[" TRANSFORMER ",{'path': '/etc', " OLD("Pooling") "}]"}},
     PR_E_MODEL,
     "leaves the model folder"},
    {{{"modules.json", "[" POOLING "]"}}, PR_E_UNSUPPORTED, "order"},
    {{{"modules.json", "[" TRANSFORMER "," NORMALIZE "]"}}, PR_E_UNSUPPORTED, "order"},
    {{{"modules.json", "[" TRANSFORMER "," POOLING "," NORMALIZE "," DENSE "]"},
      {"1_Pooling/config.json", MEAN}},
     PR_E_UNSUPPORTED,
     "modules.json[3]"},
    {{WITH_DENSE, DENSE_OF(", 'use_residual': true")}, PR_E_UNSUPPORTED, "use_residual"},
    {{WITH_DENSE, DENSE_OF(", 'module_input_name': 'token_embeddings'")},
     PR_E_UNSUPPORTED,
     "token_embeddings"},
    {{WITH_DENSE, DENSE_OF(", 'activation_function': 'os.system'")}, PR_E_UNSUPPORTED, "os.system"},
    {{WITH_DENSE, {"2_Dense/config.json", "{'in_features': 4}"}}, PR_E_MODEL, "out_features"},
    {{{"sentence_bert_config.json", "{'max_seq_length': 'long'}"}}, PR_E_MODEL, "max_seq_length"},
    {{{"sentence_bert_config.json", "{'max_seq_length': 0}"}}, PR_E_MODEL, "max_seq_length"},
    {{{"config_sentence_transformers.json", "{'model_type': 'SparseEncoder'}"}},
     PR_E_UNSUPPORTED,
     "SparseEncoder"},
    {{{"config_sentence_transformers.json", "{'prompts': {'q': 3}}"}}, PR_E_MODEL, "prompts: q"},
    {{{"config_sentence_transformers.json", "{'similarity_fn_name': 'maxsim'}"}},
     PR_E_UNSUPPORTED,
     "similarity_fn_name"},
    {{{"config_sentence_transformers.json", "{'truncate_dim': 0}"}}, PR_E_MODEL, "truncate_dim"},
    {{{"config_sentence_transformers.json", "{'prompts': {}, 'default_prompt_name': 'query'}"}},
     PR_E_MODEL,
     "default_prompt_name"},
};

static void package_file_says_how_embeddings_are_compared_and_cut(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        pr_similarity similarity;
        int32_t truncate_dim;
    } cases[] = {
        {"{'similarity_fn_name': null, 'truncate_dim': null}", PR_SIMILARITY_COSINE, 0},
        {"{'similarity_fn_name': 'cosine', 'truncate_dim': 5}", PR_SIMILARITY_COSINE, 5},
        {"{'similarity_fn_name': 'dot'}", PR_SIMILARITY_DOT, 0},
        {"{'similarity_fn_name': 'euclidean'}", PR_SIMILARITY_EUCLIDEAN, 0},
        {"{'similarity_fn_name': 'manhattan'}", PR_SIMILARITY_MANHATTAN, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const file files[FILES_MAX] = {{"config_sentence_transformers.json", cases[i].text}};
        pr_st_files st;
        pr_error err;
        assert_int_equal(files_read(files, &st, &err), PR_OK);
        assert_int_equal(st.similarity, cases[i].similarity);
        assert_int_equal(st.truncate_dim, cases[i].truncate_dim);
        pr_st_files_deinit(&st);
    }
}

static void files_that_are_broken_or_not_built_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        pr_st_files st = {0};
        pr_error err = {0};
        pr_status status = files_read(refused[i].files, &st, &err);
        if (status != refused[i].status || !strstr(err.message, refused[i].text)) {
            fail_msg("case %zu (%s): status %d, message \"%s\"", i, refused[i].text, status,
                     err.message);
        }
        assert_null(st.prompts); /* nothing is written on failure */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder_without_files_says_nothing),
        cmocka_unit_test(files_of_version_2_are_read),
        cmocka_unit_test(files_of_version_6_are_read),
        cmocka_unit_test(transformer_in_a_folder_of_its_own_has_its_settings_there),
        cmocka_unit_test(pooling_modes_are_read_in_both_spellings),
        cmocka_unit_test(cross_encoder_keeps_its_activation_in_the_package_file),
        cmocka_unit_test(package_file_says_how_embeddings_are_compared_and_cut),
        cmocka_unit_test(files_that_are_broken_or_not_built_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
