#include "runtime/text/tokenizer/auto_tokenizer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum post_kind { POST_FILE, POST_BOS_EOS, POST_BERT, POST_ROBERTA, POST_XLM } post_kind;

struct pr_auto_tokenizer {
    pr_auto_tokens tokens;
    pr_auto_traits traits;
    post_kind post;
    bool add_bos, add_eos; /* POST_BOS_EOS */
    bool fix_regex;        /* of Mistral, for large vocabularies */
    pr_buffer applied;     /* names of what was followed, with commas */
};

void pr_auto_tokenizer_free(pr_auto_tokenizer *a)
{
    if (!a) return;
    pr_auto_tokens_deinit(&a->tokens);
    pr_buffer_deinit(&a->applied);
    free(a);
}

const pr_auto_traits *pr_auto_tokenizer_traits(const pr_auto_tokenizer *a)
{
    return &a->traits;
}

char *pr_auto_tokenizer_applied(const pr_auto_tokenizer *a)
{
    return strndup(a->applied.n ? a->applied.data : "", a->applied.n);
}

/* ---- refusals ---- */

static bool is_set(const json_t *value)
{
    if (!value || json_is_null(value) || json_is_false(value)) return false;
    if (json_is_array(value)) return json_array_size(value) > 0;
    if (json_is_object(value)) return json_object_size(value) > 0;
    return true;
}

/* Keywords that reach a tokenizer's innards or name other files. */
static const char *const not_followed[] = {
    "init_inputs",       "vocab",     "merges",    "tokenizer_object", "post_processor",
    "_json_truncation",  "gguf_file", "subfolder", "tokenizer_type",   "_spm_precompiled_charsmap",
    "tokenizer_padding", "config",    "revision",  "mistral_format",   "tokenizer_truncation",
    "_json_padding",
};

static pr_status check_keywords(const pr_auto_tokens *t, pr_error *err)
{
    for (size_t i = 0; i < sizeof not_followed / sizeof *not_followed; i++) {
        if (!is_set(json_object_get(t->keywords, not_followed[i]))) continue;
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "tokenizer_config.json: %s: found %s, expected nothing (it is not "
                            "built)",
                            not_followed[i],
                            pr_json_type_name(json_object_get(t->keywords, not_followed[i])));
    }
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(t->keywords, "fast_tokenizer_files"), i, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "tokenizer.json") == 0) {
            continue;
        }
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "tokenizer_config.json: fast_tokenizer_files: found %.80s, expected "
                            "tokenizer.json (files by version are not built)",
                            json_is_string(value) ? json_string_value(value)
                                                  : pr_json_type_name(value));
    }
    return PR_OK;
}

static pr_status get_bool(const pr_auto_tokens *t, const char *key, bool *out, pr_error *err)
{
    const json_t *value = json_object_get(t->keywords, key);
    if (!value) return PR_OK;
    if (!json_is_boolean(value)) {
        return pr_error_set(err, PR_E_MODEL,
                            "tokenizer_config.json: %s: found %s, expected a boolean", key,
                            pr_json_type_name(value));
    }
    *out = json_is_true(value);
    return PR_OK;
}

/* ---- the pieces of the classes ---- */

static pr_status put(json_t *root, const char *key, json_t *piece, pr_error *err)
{
    if (piece && json_object_set_new(root, key, piece) == 0) return PR_OK;
    return pr_error_nomem(err, key, 0);
}

/* The model's vocabulary with the class's own options. options: consumed. */
static pr_status put_model(json_t *root, json_t *options, pr_error *err)
{
    const json_t *model = json_object_get(root, "model");
    static const char *const kept[] = {"vocab", "merges"};
    for (size_t i = 0; options && i < 2; i++) {
        json_t *value = json_object_get(model, kept[i]);
        if (value) json_object_set(options, kept[i], value);
    }
    return put(root, "model", options, err);
}

static pr_status build_bert(pr_auto_tokenizer *a, json_t *root, pr_error *err)
{
    bool lower = true;
    bool chinese = true;
    pr_status st = get_bool(&a->tokens, "do_lower_case", &lower, err);
    if (st == PR_OK) st = get_bool(&a->tokens, "tokenize_chinese_chars", &chinese, err);
    json_t *strip = json_object_get(a->tokens.keywords, "strip_accents");
    if (st == PR_OK && strip && !json_is_null(strip) && !json_is_boolean(strip)) {
        st = pr_error_set(err, PR_E_MODEL,
                          "tokenizer_config.json: strip_accents: found %s, expected a boolean or "
                          "null",
                          pr_json_type_name(strip));
    }
    if (st != PR_OK) return st;
    a->post = POST_BERT;
    const char *unk = pr_auto_tokens_content(&a->tokens, "unk_token");
    st = put_model(root,
                   json_pack("{s:s, s:s, s:s, s:i}", "type", "WordPiece", "unk_token",
                             unk ? unk : "None", "continuing_subword_prefix", "##",
                             "max_input_chars_per_word", 100),
                   err);
    json_t *normalizer =
        json_pack("{s:s, s:b, s:b, s:b}", "type", "BertNormalizer", "clean_text", 1,
                  "handle_chinese_chars", (int)chinese, "lowercase", (int)lower);
    if (normalizer) {
        json_object_set_new(normalizer, "strip_accents", strip ? json_incref(strip) : json_null());
    }
    if (st == PR_OK) {
        st = put(root, "normalizer", normalizer, err);
    } else {
        json_decref(normalizer);
    }
    if (st != PR_OK) return st;
    return put(root, "pre_tokenizer", json_pack("{s:s}", "type", "BertPreTokenizer"), err);
}

static json_t *bpe_options(bool is_llama)
{
    return json_pack("{s:s, s:b, s:b}", "type", "BPE", "fuse_unk", (int)is_llama, "byte_fallback",
                     (int)is_llama);
}

static json_t *byte_level(bool add_prefix_space, bool use_regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                     (int)add_prefix_space, "trim_offsets", 1, "use_regex", (int)use_regex);
}

static pr_status build_roberta(pr_auto_tokenizer *a, json_t *root, pr_error *err)
{
    bool prefix = false;
    bool trim = true;
    pr_status st = get_bool(&a->tokens, "add_prefix_space", &prefix, err);
    if (st == PR_OK) st = get_bool(&a->tokens, "trim_offsets", &trim, err);
    if (st == PR_OK) st = put_model(root, bpe_options(false), err);
    if (st == PR_OK) st = put(root, "normalizer", json_null(), err);
    if (st == PR_OK) st = put(root, "pre_tokenizer", byte_level(prefix, true), err);
    a->post = POST_ROBERTA;
    return st;
}

/* A null is as if it were absent. */
static pr_status get_prefix_space(const pr_auto_tokens *t, bool if_absent, bool *out, pr_error *err)
{
    *out = if_absent;
    if (json_is_null(json_object_get(t->keywords, "add_prefix_space"))) return PR_OK;
    return get_bool(t, "add_prefix_space", out, err);
}

static const char qwen2_regex[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static pr_status build_qwen2(pr_auto_tokenizer *a, json_t *root, pr_error *err)
{
    bool prefix = false;
    pr_status st = get_prefix_space(&a->tokens, false, &prefix, err);
    if (st == PR_OK) st = put_model(root, bpe_options(false), err);
    if (st == PR_OK) st = put(root, "normalizer", json_pack("{s:s}", "type", "NFC"), err);
    if (st != PR_OK) return st;
    json_t *split = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                              qwen2_regex, "behavior", "Isolated", "invert", 0);
    return put(root, "pre_tokenizer",
               json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", split,
                         byte_level(prefix, false)),
               err);
}

static json_t *metaspace(const char *scheme, bool split)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", "\xE2\x96\x81",
                     "prepend_scheme", scheme, "split", (int)split);
}

static pr_status build_llama(pr_auto_tokenizer *a, json_t *root, pr_error *err)
{
    bool prefix = true;
    pr_status st = get_prefix_space(&a->tokens, true, &prefix, err);
    bool legacy = pr_auto_keyword_is_true(&a->tokens, "legacy", false);
    const char *scheme = !prefix ? "never" : legacy ? "always" : "first";
    if (st == PR_OK) st = put_model(root, bpe_options(true), err);
    if (st == PR_OK) st = put(root, "normalizer", json_null(), err);
    if (st == PR_OK) st = put(root, "pre_tokenizer", metaspace(scheme, false), err);
    return st;
}

/* The first Precompiled of the file's normalizer, at its top or in a Sequence; NULL: none. */
static json_t *find_charsmap(const json_t *normalizer)
{
    const char *type = json_string_value(json_object_get(normalizer, "type"));
    if (type && strcmp(type, "Precompiled") == 0) return (json_t *)(uintptr_t)normalizer;
    if (!type || strcmp(type, "Sequence") != 0) return NULL;
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(normalizer, "normalizers"), i, part)
    {
        const char *name = json_string_value(json_object_get(part, "type"));
        if (name && strcmp(name, "Precompiled") == 0) return part;
    }
    return NULL;
}

static pr_status build_xlm_roberta(pr_auto_tokenizer *a, json_t *root, pr_error *err)
{
    bool prefix = pr_auto_keyword_is_true(&a->tokens, "add_prefix_space", true);
    json_t *charsmap = find_charsmap(json_object_get(root, "normalizer"));
    pr_status st = put(root, "normalizer", charsmap ? json_incref(charsmap) : json_null(), err);
    if (st == PR_OK) {
        st = put_model(
            root, json_pack("{s:s, s:i, s:b}", "type", "Unigram", "unk_id", 3, "byte_fallback", 0),
            err);
    }
    if (st != PR_OK) return st;
    a->post = POST_XLM;
    return put(root, "pre_tokenizer",
               json_pack("{s:s, s:[{s:s}, o]}", "type", "Sequence", "pretokenizers", "type",
                         "WhitespaceSplit", metaspace(prefix ? "always" : "never", true)),
               err);
}

/* ---- the table of classes ---- */

static const pr_auto_default bert_names[] = {{"unk_token", "[UNK]"},
                                             {"sep_token", "[SEP]"},
                                             {"pad_token", "[PAD]"},
                                             {"cls_token", "[CLS]"},
                                             {"mask_token", "[MASK]"}};
static const pr_auto_default roberta_names[] = {
    {"bos_token", "<s>"},   {"eos_token", "</s>"}, {"unk_token", "<unk>"},  {"sep_token", "</s>"},
    {"pad_token", "<pad>"}, {"cls_token", "<s>"},  {"mask_token", "<mask>"}};
static const pr_auto_default qwen2_names[] = {
    {"eos_token", "<|endoftext|>"}, {"unk_token", "<|endoftext|>"}, {"pad_token", "<|endoftext|>"}};
static const pr_auto_default llama_names[] = {
    {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}};

typedef struct class_row {
    const char *model; /* the type of model that the class reads; NULL: any */
    const pr_auto_default *names;
    size_t n_names;
    pr_status (*build)(pr_auto_tokenizer *a, json_t *root, pr_error *err); /* NULL: file's own */
    bool has_no_types;
    const char *keywords[4]; /* what build reads */
} class_row;

#define NAMES(rows) (rows), sizeof(rows) / sizeof *(rows)
static const class_row classes[] = {
    [PR_AUTO_BACKEND] = {NULL, NULL, 0, NULL, true, {NULL}},
    [PR_AUTO_BERT] = {"WordPiece",
                      NAMES(bert_names),
                      build_bert,
                      false,
                      {"do_lower_case", "strip_accents", "tokenize_chinese_chars"}},
    [PR_AUTO_DISTILBERT] = {"WordPiece",
                            NAMES(bert_names),
                            build_bert,
                            true,
                            {"do_lower_case", "strip_accents", "tokenize_chinese_chars"}},
    [PR_AUTO_ROBERTA] = {"BPE", NAMES(roberta_names), build_roberta, true, {"add_prefix_space"}},
    [PR_AUTO_XLM_ROBERTA] =
        {"Unigram", NAMES(roberta_names), build_xlm_roberta, true, {"add_prefix_space"}},
    [PR_AUTO_QWEN2] = {"BPE", NAMES(qwen2_names), build_qwen2, true, {"add_prefix_space"}},
    [PR_AUTO_LLAMA] =
        {"BPE", NAMES(llama_names), build_llama, true, {"add_prefix_space", "legacy"}},
};
static_assert(sizeof classes / sizeof *classes == PR_AUTO_CLASS_COUNT, "one row per class");

/* A class that finds another kind of model makes ids of it that no model was trained with. */
static pr_status check_model(const pr_auto_tokenizer *a, const json_t *root, const char *name,
                             pr_error *err)
{
    const char *expected = classes[a->traits.is].model;
    const char *found = json_string_value(json_object_get(json_object_get(root, "model"), "type"));
    if (!expected || !found || strcmp(found, expected) == 0) return PR_OK;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: model: found type \"%.40s\", expected %s: with this model_type and "
                        "tokenizer_class transformers reads it as a %s (tokenizers of that class "
                        "over another model are not built)",
                        name, found, expected, pr_auto_class_name(a->traits.is));
}

/* ---- class and keywords ---- */

/* The code for AutoTokenizer that the configuration names; NULL: none. */
static const char *auto_map_of(const pr_tokenizer_files *files)
{
    const json_t *map = json_object_get(files->config, "auto_map");
    if (json_is_object(map)) map = json_object_get(map, "AutoTokenizer");
    if (!json_is_array(map)) return NULL;
    const char *fast = json_string_value(json_array_get(map, 1));
    return fast ? fast : json_string_value(json_array_get(map, 0));
}

static const char *class_name_of(const pr_tokenizer_files *files)
{
    const char *name = json_string_value(json_object_get(files->config, "tokenizer_class"));
    return name && *name ? name : files->model_class;
}

/* The code beside gte-Qwen2: the file as it is, with the tokens that the configuration asks for. */
static bool is_known_code(const char *code)
{
    return strcmp(code, "tokenization_qwen.Qwen2TokenizerFast") == 0 ||
           strcmp(code, "tokenization_qwen.Qwen2Tokenizer") == 0;
}

static pr_status find_class(pr_auto_tokenizer *a, const pr_tokenizer_files *files, pr_error *err)
{
    const char *code = files->ignore_auto_map ? NULL : auto_map_of(files);
    if (code && is_known_code(code)) {
        a->post = POST_BOS_EOS;
        a->add_bos = json_is_true(json_object_get(files->config, "add_bos_token"));
        a->add_eos = json_is_true(json_object_get(files->config, "add_eos_token"));
        a->traits.appends_eos = a->add_eos;
        return PR_OK;
    }
    if (code) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "tokenizer_config.json: auto_map: found %.100s, code that comes with "
                            "the model, expected none (it is not built)",
                            code);
    }
    const char *name = class_name_of(files);
    pr_status st =
        pr_auto_class_find(files->model_type, name, auto_map_of(files) != NULL, &a->traits.is, err);
    bool asks = json_is_true(json_object_get(files->config, "add_eos_token"));
    if (st == PR_OK && asks && pr_auto_class_is_llama_name(name)) {
        const json_t *bos = json_object_get(files->config, "add_bos_token");
        a->post = POST_BOS_EOS;
        a->add_bos = !bos || json_is_true(bos);
        a->add_eos = a->traits.appends_eos = true;
    }
    return st;
}

/* What a tokenizer.json's own padding and truncation say for keywords that are absent. */
static void read_sections(pr_auto_tokenizer *a, const json_t *root)
{
    json_t *keywords = a->tokens.keywords;
    json_t *pad = json_object_get(json_object_get(root, "padding"), "pad_token");
    bool has_default = false;
    for (size_t i = 0; i < classes[a->traits.is].n_names; i++) {
        const char *attribute = classes[a->traits.is].names[i].attribute;
        has_default = has_default || strcmp(attribute, "pad_token") == 0;
    }
    if (json_is_string(pad) && !has_default && !json_object_get(keywords, "pad_token")) {
        json_object_set(keywords, "pad_token", pad);
    }
    const json_t *truncation = json_object_get(root, "truncation");
    const char *side = json_string_value(json_object_get(truncation, "direction"));
    a->traits.truncates_left =
        side && strcmp(side, "Left") == 0 && !json_object_get(keywords, "truncation_side");
}

static void read_traits(pr_auto_tokenizer *a)
{
    a->traits.splits_special = pr_auto_keyword_is_true(&a->tokens, "split_special_tokens", false);
    a->traits.has_no_types = classes[a->traits.is].has_no_types;
    a->traits.is_rebuilt = classes[a->traits.is].build != NULL;
    const json_t *inputs = json_object_get(a->tokens.keywords, "model_input_names");
    if (inputs) {
        a->traits.has_no_types = true;
        size_t i;
        json_t *input;
        json_array_foreach(inputs, i, input)
        {
            const char *name = json_string_value(input);
            if (name && strcmp(name, "token_type_ids") == 0) a->traits.has_no_types = false;
        }
    }
    a->fix_regex = pr_auto_keyword_is_true(&a->tokens, "fix_mistral_regex", false);
}

static void note(pr_auto_tokenizer *a, const char *name)
{
    if (a->applied.n) pr_buffer_append_str(&a->applied, ", ");
    pr_buffer_append_str(&a->applied, name);
}

/* What was followed of the files beside tokenizer.json, by name. */
static void note_keywords(pr_auto_tokenizer *a, const pr_tokenizer_files *files)
{
    static const char *const common[] = {"added_tokens_decoder", "extra_special_tokens",
                                         "model_specific_special_tokens", "split_special_tokens",
                                         "model_input_names"};
    const json_t *keywords = a->tokens.keywords;
    const class_row *row = &classes[a->traits.is];
    for (size_t i = 0; i < sizeof row->keywords / sizeof *row->keywords && row->keywords[i]; i++) {
        if (json_object_get(keywords, row->keywords[i])) note(a, row->keywords[i]);
    }
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        if (is_set(json_object_get(keywords, common[i]))) note(a, common[i]);
    }
    if (a->traits.appends_eos) note(a, "add_eos_token (as transformers 4 did; 5 leaves it out)");
    bool reads_others = !json_object_get(keywords, "added_tokens_decoder");
    if (files->special_map && reads_others) note(a, "special_tokens_map.json");
    if (files->added && reads_others) note(a, "added_tokens.json");
    if (files->arguments) note(a, "tokenizer_args of Sentence Transformers");
    if (files->lowercase) note(a, "do_lower_case of Sentence Transformers");
}

/* bos and eos around a text where keywords ask for that, or where the file says nothing. */
static void choose_post(pr_auto_tokenizer *a, const json_t *root)
{
    const json_t *keywords = a->tokens.keywords;
    const json_t *bos = json_object_get(keywords, "add_bos_token");
    const json_t *eos = json_object_get(keywords, "add_eos_token");
    const json_t *file = json_object_get(root, "post_processor");
    if (a->post != POST_FILE || (!bos && !eos && file && !json_is_null(file))) return;
    a->post = POST_BOS_EOS;
    a->add_bos = pr_auto_keyword_is_true(&a->tokens, "add_bos_token", false);
    a->add_eos = pr_auto_keyword_is_true(&a->tokens, "add_eos_token", false);
}

static pr_status add_tokens(pr_auto_tokenizer *a, json_t *root, pr_error *err)
{
    json_t *added = json_object_get(root, "added_tokens");
    bool is_rebuilt = classes[a->traits.is].build != NULL;
    if (is_rebuilt || !json_is_array(added)) {
        pr_status st = put(root, "added_tokens", json_array(), err);
        if (st != PR_OK) return st;
        added = json_object_get(root, "added_tokens");
    }
    pr_status st = pr_auto_tokens_add(&a->tokens, added, err);
    if (st == PR_OK && a->traits.is == PR_AUTO_QWEN2) {
        st = pr_auto_tokens_add_special(&a->tokens, added, err);
    }
    return st;
}

static bool has_lowercase(const json_t *normalizer)
{
    const char *type = json_string_value(json_object_get(normalizer, "type"));
    if (!type) return false;
    if (strcmp(type, "Lowercase") == 0) return true;
    if (strcmp(type, "BertNormalizer") == 0) {
        return json_is_true(json_object_get(normalizer, "lowercase"));
    }
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(normalizer, "normalizers"), i, part)
    {
        if (has_lowercase(part)) return true;
    }
    return false;
}

/* A Lowercase normalizer in front of the others, as sentence-transformers puts it there. Special
 * tokens inside a text stay what they are. */
static pr_status put_lowercase(json_t *root, pr_error *err)
{
    json_t *old = json_object_get(root, "normalizer");
    if (has_lowercase(old)) return PR_OK;
    json_t *both =
        json_pack("{s:s, s:[{s:s}]}", "type", "Sequence", "normalizers", "type", "Lowercase");
    if (json_is_object(old)) json_array_append(json_object_get(both, "normalizers"), old);
    return put(root, "normalizer", both, err);
}

static pr_status prepare(pr_auto_tokenizer *a, const pr_tokenizer_files *files, const char *name,
                         json_t *root, pr_error *err)
{
    pr_status st = find_class(a, files, err);
    if (st == PR_OK) st = check_model(a, root, name, err);
    if (st == PR_OK) st = pr_auto_tokens_read(files, root, &a->tokens, err);
    if (st == PR_OK) st = check_keywords(&a->tokens, err);
    if (st != PR_OK) return st;
    const class_row *row = &classes[a->traits.is];
    read_sections(a, root);
    read_traits(a);
    bool is_llama_4 = a->traits.appends_eos && !row->names;
    st = pr_auto_tokens_name(&a->tokens, is_llama_4 ? llama_names : row->names,
                             is_llama_4 ? 2 : row->n_names, err);
    if (st == PR_OK && row->build) st = row->build(a, root, err);
    if (st != PR_OK) return st;
    choose_post(a, root);
    note_keywords(a, files);
    if ((st = add_tokens(a, root, err)) != PR_OK) return st;
    return files->lowercase ? put_lowercase(root, err) : PR_OK;
}

pr_status pr_auto_tokenizer_prepare(const pr_tokenizer_files *files, const char *name, json_t *root,
                                    pr_auto_tokenizer **out, pr_error *err)
{
    assert(files);
    assert(json_is_object(root));
    pr_auto_tokenizer *a = calloc(1, sizeof *a);
    if (!a) return pr_error_nomem(err, "tokenizer", sizeof *a);
    pr_status st = prepare(a, files, name, root, err);
    if (st == PR_OK) {
        *out = a;
    } else {
        pr_auto_tokenizer_free(a);
    }
    return st;
}

/* ---- post-processors ---- */

typedef struct lookup {
    pr_auto_id_of *id_of;
    const void *context;
} lookup;

/* *content, *id: of the named token; a token that nobody has gets the unknown token's id. */
static pr_status find_token(const pr_auto_tokenizer *a, const char *attribute, const lookup *ids,
                            const char **content, int32_t *id, pr_error *err)
{
    *content = pr_auto_tokens_content(&a->tokens, attribute);
    *id = *content ? ids->id_of(ids->context, *content, strlen(*content)) : -1;
    const char *unk = pr_auto_tokens_content(&a->tokens, "unk_token");
    if (*content && *id < 0 && unk) *id = ids->id_of(ids->context, unk, strlen(unk));
    if (*content && *id >= 0) return PR_OK;
    return pr_error_set(err, PR_E_MODEL,
                        "tokenizer_config.json: %s: found %s%.80s, expected a token that the "
                        "vocabulary has (%s puts it around texts)",
                        attribute, *content ? "" : "none", *content ? *content : "",
                        pr_auto_class_name(a->traits.is));
}

static json_t *special(const char *content, int type_id)
{
    return json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", content, "type_id", type_id);
}

static json_t *sequence(const char *id, int type_id)
{
    return json_pack("{s:{s:s, s:i}}", "Sequence", "id", id, "type_id", type_id);
}

static void define(json_t *specials, const char *content, int32_t id)
{
    json_object_set_new(
        specials, content,
        json_pack("{s:s, s:[i], s:[s]}", "id", content, "ids", (int)id, "tokens", content));
}

static pr_status put_template(json_t *root, json_t *single, json_t *pair, json_t *specials,
                              pr_error *err)
{
    return put(root, "post_processor",
               json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single,
                         "pair", pair, "special_tokens", specials),
               err);
}

static pr_status post_bert(const pr_auto_tokenizer *a, json_t *root, const lookup *ids,
                           pr_error *err)
{
    const char *cls = NULL;
    const char *sep = NULL;
    int32_t cls_id = -1;
    int32_t sep_id = -1;
    pr_status st = find_token(a, "cls_token", ids, &cls, &cls_id, err);
    if (st == PR_OK) st = find_token(a, "sep_token", ids, &sep, &sep_id, err);
    if (st != PR_OK) return st;
    json_t *specials = json_object();
    define(specials, cls, cls_id);
    define(specials, sep, sep_id);
    return put_template(root,
                        json_pack("[o, o, o]", special(cls, 0), sequence("A", 0), special(sep, 0)),
                        json_pack("[o, o, o, o, o]", special(cls, 0), sequence("A", 0),
                                  special(sep, 0), sequence("B", 1), special(sep, 1)),
                        specials, err);
}

static pr_status post_xlm(const pr_auto_tokenizer *a, json_t *root, const lookup *ids,
                          pr_error *err)
{
    const char *bos = NULL;
    const char *eos = NULL;
    int32_t bos_id = -1;
    int32_t eos_id = -1;
    pr_status st = find_token(a, "bos_token", ids, &bos, &bos_id, err);
    if (st == PR_OK) st = find_token(a, "eos_token", ids, &eos, &eos_id, err);
    if (st != PR_OK) return st;
    json_t *specials = json_object();
    define(specials, bos, bos_id);
    define(specials, eos, eos_id);
    return put_template(
        root, json_pack("[o, o, o]", special(bos, 0), sequence("A", 0), special(eos, 0)),
        json_pack("[o, o, o, o, o, o]", special(bos, 0), sequence("A", 0), special(eos, 0),
                  special(eos, 0), sequence("B", 0), special(eos, 0)),
        specials, err);
}

static pr_status post_roberta(const pr_auto_tokenizer *a, json_t *root, const lookup *ids,
                              pr_error *err)
{
    const char *cls = NULL;
    const char *sep = NULL;
    int32_t cls_id = -1;
    int32_t sep_id = -1;
    pr_status st = find_token(a, "cls_token", ids, &cls, &cls_id, err);
    if (st == PR_OK) st = find_token(a, "sep_token", ids, &sep, &sep_id, err);
    if (st != PR_OK) return st;
    return put(root, "post_processor",
               json_pack("{s:s, s:[s, i], s:[s, i]}", "type", "RobertaProcessing", "sep", sep,
                         (int)sep_id, "cls", cls, (int)cls_id),
               err);
}

/* [bos] A [eos], and for pairs the same once more with type 1. */
static pr_status post_bos_eos(const pr_auto_tokenizer *a, json_t *root, const lookup *ids,
                              pr_error *err)
{
    const char *content[2] = {NULL, NULL};
    const bool adds[2] = {a->add_bos, a->add_eos};
    static const char *const names[2] = {"bos_token", "eos_token"};
    json_t *specials = json_object();
    for (int i = 0; i < 2; i++) {
        int32_t id = -1;
        if (!adds[i] || !pr_auto_tokens_content(&a->tokens, names[i])) continue;
        pr_status st = find_token(a, names[i], ids, &content[i], &id, err);
        if (st != PR_OK) {
            json_decref(specials);
            return st;
        }
        define(specials, content[i], id);
    }
    json_t *templates[2] = {json_array(), json_array()};
    for (int pair = 0; pair < 2; pair++) {
        for (int type = 0; type <= pair; type++) {
            json_t *t = templates[pair];
            if (content[0]) json_array_append_new(t, special(content[0], type));
            json_array_append_new(t, sequence(type ? "B" : "A", type));
            if (content[1]) json_array_append_new(t, special(content[1], type));
        }
    }
    return put_template(root, templates[0], templates[1], specials, err);
}

enum { N_TOKENS_FIXED = 100000 }; /* transformers looks at Mistral's regular expression from here */

pr_status pr_auto_tokenizer_finish(pr_auto_tokenizer *a, json_t *root, size_t n_tokens,
                                   pr_auto_id_of *id_of, const void *context, pr_error *err)
{
    const lookup ids = {id_of, context};
    if (a->fix_regex && n_tokens > N_TOKENS_FIXED) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "tokenizer_config.json: fix_mistral_regex: found true, expected false "
                            "(it is not built)");
    }
    switch (a->post) {
    case POST_BERT:
        return post_bert(a, root, &ids, err);
    case POST_ROBERTA:
        return post_roberta(a, root, &ids, err);
    case POST_XLM:
        return post_xlm(a, root, &ids, err);
    case POST_BOS_EOS:
        return post_bos_eos(a, root, &ids, err);
    case POST_FILE:
        break;
    }
    return PR_OK;
}
