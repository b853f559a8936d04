#include "runtime/text/tokenizer/tokenizer.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer/added_tokens.h"
#include "runtime/text/tokenizer/auto_tokenizer.h"
#include "runtime/text/tokenizer/decoder.h"
#include "runtime/text/tokenizer/model.h"
#include "runtime/text/tokenizer/normalizer.h"
#include "runtime/text/tokenizer/post_processor.h"
#include "runtime/text/tokenizer/pretokenizer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t file_bytes_max = (size_t)256 << 20;
static const size_t text_bytes_max = (size_t)1 << 30;

struct pr_tokenizer {
    pr_token_model *model;
    const pr_vocab *vocab; /* the model's */
    pr_added_tokens *added;
    pr_normalizer *normalizer;     /* NULL: text stays as it is */
    pr_pretokenizer *pretokenizer; /* NULL: a text is one piece */
    pr_post_processor *post_processor;
    pr_decoder *decoder;
    pr_tokenizer_origin origin;
    int32_t n_ids;
};

static pr_status check_version(const json_t *root, const char *name, pr_error *err)
{
    const char *version = NULL;
    pr_status st = pr_json_get_str_opt(root, name, "version", &version, err);
    if (st == PR_OK && version && strcmp(version, "1.0") != 0) {
        st = pr_error_set(err, PR_E_UNSUPPORTED, "%s: found version \"%s\", expected \"1.0\"",
                          name, version);
    }
    return st;
}

/* *out: the section's object, NULL when it is missing or null. */
static pr_status section(const json_t *root, const char *name, const char *key, json_t **out,
                         char where[200], pr_error *err)
{
    *out = NULL;
    snprintf(where, 200, "%.150s: %s", name, key);
    return pr_json_get_node_opt(root, name, key, JSON_OBJECT, out, err);
}

static pr_status parse_before_model(pr_tokenizer *t, const json_t *root, const char *name,
                                    pr_error *err)
{
    char where[200];
    json_t *node = NULL;
    pr_status st = section(root, name, "normalizer", &node, where, err);
    if (st == PR_OK && node) st = pr_normalizer_parse(node, where, &t->normalizer, err);
    if (st != PR_OK) return st;
    st = section(root, name, "pre_tokenizer", &node, where, err);
    if (st == PR_OK && node) st = pr_pretokenizer_parse(node, where, &t->pretokenizer, err);
    return st;
}

static pr_status parse_model(pr_tokenizer *t, const json_t *root, pr_model_text *text,
                             const char *name, pr_error *err)
{
    char where[200];
    json_t *node = NULL;
    pr_status st = section(root, name, "model", &node, where, err);
    if (st != PR_OK) return st;
    if (!node) return pr_error_set(err, PR_E_MODEL, "%s: found no object, expected one", where);
    if ((st = pr_token_model_parse(node, text, where, &t->model, err)) != PR_OK) return st;
    t->vocab = pr_token_model_vocab(t->model);
    node = NULL;
    st = pr_json_get_node_opt(root, name, "added_tokens", JSON_ARRAY, &node, err);
    if (st != PR_OK) return st;
    snprintf(where, sizeof where, "%.150s: added_tokens", name);
    st = pr_added_tokens_parse(node, t->vocab, pr_token_model_n_tokens(t->model), t->normalizer,
                               t->origin.splits_special, where, &t->added, err);
    if (st != PR_OK) return st;
    size_t n_entries = 0;
    const pr_vocab_entry *entries = pr_vocab_entries(t->vocab, &n_entries);
    int32_t id_max = n_entries ? entries[n_entries - 1].id : -1;
    if (pr_added_tokens_id_max(t->added) > id_max) id_max = pr_added_tokens_id_max(t->added);
    t->n_ids = id_max + 1;
    return PR_OK;
}

static pr_status parse_after_model(pr_tokenizer *t, const json_t *root, const char *name,
                                   pr_error *err)
{
    char where[200];
    json_t *node = NULL;
    pr_status st = section(root, name, "post_processor", &node, where, err);
    if (st != PR_OK) return st;
    st = pr_post_processor_parse(node, t->n_ids, where, &t->post_processor, err);
    if (st != PR_OK) return st;
    if ((st = section(root, name, "decoder", &node, where, err)) != PR_OK) return st;
    return pr_decoder_parse(node, where, &t->decoder, err);
}

static int32_t id_of(const void *context, const char *content, size_t n)
{
    return pr_tokenizer_token_to_id(context, content, n);
}

/* files: NULL: the file alone. */
static pr_status build(pr_tokenizer *t, json_t *root, pr_model_text *text, const char *name,
                       const pr_tokenizer_files *files, pr_error *err)
{
    pr_auto_tokenizer *as = NULL;
    pr_status st = PR_OK;
    if ((st = check_version(root, name, err)) != PR_OK) return st;
    if (files) {
        if ((st = pr_auto_tokenizer_prepare(files, name, root, &as, err)) != PR_OK) return st;
        const pr_auto_traits *traits = pr_auto_tokenizer_traits(as);
        t->origin = (pr_tokenizer_origin){.class_name = pr_auto_class_name(traits->is),
                                          .applied = pr_auto_tokenizer_applied(as),
                                          .is_rebuilt = traits->is_rebuilt,
                                          .appends_eos = traits->appends_eos,
                                          .truncates_left = traits->truncates_left,
                                          .splits_special = traits->splits_special,
                                          .has_no_types = traits->has_no_types};
    }
    if ((st = parse_before_model(t, root, name, err)) != PR_OK) goto cleanup;
    if ((st = parse_model(t, root, text, name, err)) != PR_OK) goto cleanup;
    if (as) {
        size_t n_tokens = pr_token_model_n_tokens(t->model);
        st = pr_auto_tokenizer_finish(as, root, n_tokens, id_of, t, err);
        if (st != PR_OK) goto cleanup;
    }
    st = parse_after_model(t, root, name, err);
cleanup:
    pr_auto_tokenizer_free(as);
    return st;
}

/* json: all of the file, or all but what text has (NULL: nothing). */
static pr_status parse_rest(const char *json, size_t n, pr_model_text *text, const char *name,
                            const pr_tokenizer_files *files, pr_tokenizer **out, pr_error *err)
{
    json_t *root = NULL;
    pr_status st = pr_json_parse(json, n, name, &root, err);
    if (st != PR_OK) {
        if (text) text->is_odd = true; /* places are those of the whole file */
        return st;
    }
    pr_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        st = pr_error_nomem(err, "tokenizer", sizeof *t);
        goto cleanup;
    }
    if (!json_is_object(root)) {
        st = pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", name,
                          pr_json_type_name(root));
        goto cleanup;
    }
    if ((st = build(t, root, text, name, files, err)) != PR_OK) goto cleanup;
    *out = t;
    t = NULL;
cleanup:
    pr_tokenizer_free(t);
    json_decref(root);
    return st;
}

static pr_status parse(const char *json, size_t n, const char *name,
                       const pr_tokenizer_files *files, pr_tokenizer **out, pr_error *err)
{
    pr_model_text text = {0};
    pr_buffer rest = {0};
    pr_status st = PR_E_MODEL;
    bool is_plain = pr_model_text_find(json, n, &text, &rest);
    if (is_plain) st = parse_rest(rest.data, rest.n, &text, name, files, out, err);
    pr_buffer_deinit(&rest);
    if (is_plain && !text.is_odd) return st;
    return parse_rest(json, n, NULL, name, files, out, err);
}

pr_status pr_tokenizer_parse(const char *json, size_t n, const char *name, pr_tokenizer **out,
                             pr_error *err)
{
    assert(out);
    return parse(json, n, name, NULL, out, err);
}

pr_status pr_tokenizer_parse_auto(const char *json, size_t n, const char *name,
                                  const pr_tokenizer_files *files, pr_tokenizer **out,
                                  pr_error *err)
{
    assert(files);
    assert(out);
    return parse(json, n, name, files, out, err);
}

static pr_status load(const char *path, const pr_tokenizer_files *files, pr_tokenizer **out,
                      pr_error *err)
{
    char *data = NULL;
    size_t n = 0;
    pr_status st = pr_file_read(path, file_bytes_max, &data, &n, err);
    if (st == PR_OK) st = parse(data, n, path, files, out, err);
    free(data);
    return st;
}

pr_status pr_tokenizer_load(const char *path, pr_tokenizer **out, pr_error *err)
{
    assert(out);
    return load(path, NULL, out, err);
}

pr_status pr_tokenizer_load_auto(const char *path, const pr_tokenizer_files *files,
                                 pr_tokenizer **out, pr_error *err)
{
    assert(files);
    assert(out);
    return load(path, files, out, err);
}

const pr_tokenizer_origin *pr_tokenizer_origin_of(const pr_tokenizer *t)
{
    return &t->origin;
}

void pr_tokenizer_free(pr_tokenizer *t)
{
    if (!t) return;
    free(t->origin.applied);
    pr_decoder_free(t->decoder);
    pr_post_processor_free(t->post_processor);
    pr_added_tokens_free(t->added);
    pr_token_model_free(t->model);
    pr_pretokenizer_free(t->pretokenizer);
    pr_normalizer_free(t->normalizer);
    free(t);
}

/* What one encode call works in. */
typedef struct work {
    const pr_tokenizer *t;
    pr_ids *out;
    pr_buffer normalized;
    pr_pieces pieces;
    pr_model_scratch scratch;
} work;

static pr_status tokenize_text(work *w, const char *text, size_t n, bool is_first, pr_error *err)
{
    const pr_tokenizer *t = w->t;
    if (!t->pretokenizer) {
        return pr_token_model_tokenize(t->model, text, n, &w->scratch, w->out, err);
    }
    pr_status st = pr_pretokenizer_split(t->pretokenizer, text, n, is_first, &w->pieces, err);
    for (size_t i = 0; st == PR_OK && i < w->pieces.n; i++) {
        const pr_piece *piece = &w->pieces.pieces[i];
        st = pr_token_model_tokenize(t->model, w->pieces.text.data + piece->begin, piece->n,
                                     &w->scratch, w->out, err);
    }
    return st;
}

/* The text between added tokens: normalized, then cut at the tokens that are looked for there. */
static pr_status encode_text(work *w, const char *text, size_t n, bool is_first, pr_error *err)
{
    if (w->t->normalizer) {
        pr_buffer_clear(&w->normalized);
        pr_status st = pr_normalizer_apply(w->t->normalizer, text, n, &w->normalized, err);
        if (st != PR_OK) return st;
        if (w->normalized.failed) return pr_error_nomem(err, "normalized text", n);
        text = w->normalized.data;
        n = w->normalized.n;
    }
    pr_added_scan scan;
    pr_added_span span;
    pr_added_scan_init(&scan, w->t->added, true, text, n);
    while (pr_added_scan_next(&scan, &span)) {
        pr_status st = PR_OK;
        if (span.id >= 0) {
            if (!pr_ids_append(w->out, span.id)) st = pr_error_nomem(err, "token ids", n);
        } else {
            st = tokenize_text(w, text + span.begin, span.end - span.begin,
                               is_first && span.begin == 0, err);
        }
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

pr_status pr_tokenizer_encode(const pr_tokenizer *t, const char *text, size_t n, pr_ids *out,
                              pr_error *err)
{
    assert(t);
    assert(out);
    if (n > text_bytes_max) {
        return pr_error_set(err, PR_E_TOO_LARGE, "text: found %zu bytes, expected at most %zu", n,
                            text_bytes_max);
    }
    size_t n_valid = pr_utf8_prefix(text, n);
    if (n_valid < n) {
        return pr_error_set(err, PR_E_INPUT, "text: not UTF-8 at byte %zu", n_valid);
    }
    pr_status st = PR_OK;
    work w = {.t = t, .out = out};
    pr_pieces_init(&w.pieces);
    pr_added_scan scan;
    pr_added_span span;
    pr_added_scan_init(&scan, t->added, false, text, n);
    while (st == PR_OK && pr_added_scan_next(&scan, &span)) {
        if (span.id >= 0) {
            if (!pr_ids_append(out, span.id)) st = pr_error_nomem(err, "token ids", n);
        } else {
            st = encode_text(&w, text + span.begin, span.end - span.begin, span.begin == 0, err);
        }
    }
    pr_model_scratch_deinit(&w.scratch);
    pr_pieces_deinit(&w.pieces);
    pr_buffer_deinit(&w.normalized);
    return st;
}

pr_status pr_tokenizer_assemble(const pr_tokenizer *t, const int32_t *a, size_t n_a,
                                const int32_t *b, size_t n_b, bool add_special_tokens,
                                pr_encoding *out, pr_error *err)
{
    assert(t);
    assert(a || n_a == 0);
    pr_status st =
        pr_post_processor_apply(t->post_processor, a, n_a, b, n_b, add_special_tokens, out, err);
    if (st == PR_OK && t->origin.has_no_types && out->n) memset(out->type_ids, 0, out->n);
    return st;
}

size_t pr_tokenizer_n_added(const pr_tokenizer *t, bool is_pair)
{
    return pr_post_processor_n_added(t->post_processor, is_pair);
}

pr_status pr_tokenizer_decode(const pr_tokenizer *t, const int32_t *ids, size_t n,
                              bool skip_special_tokens, pr_buffer *out, pr_error *err)
{
    pr_status st = PR_OK;
    pr_text_list tokens = {0};
    for (size_t i = 0; i < n; i++) {
        size_t n_token = 0;
        const char *token = pr_tokenizer_id_to_token(t, ids[i], &n_token);
        if (!token) continue;
        if (skip_special_tokens && pr_added_tokens_is_special(t->added, token, n_token)) continue;
        pr_buffer_append(&tokens.text, token, n_token);
        if (!pr_text_list_end(&tokens)) {
            st = pr_error_nomem(err, "tokens", tokens.text.n);
            goto cleanup;
        }
    }
    st = pr_decoder_apply(t->decoder, &tokens, out, err);
cleanup:
    pr_text_list_deinit(&tokens);
    return st;
}

int32_t pr_tokenizer_token_to_id(const pr_tokenizer *t, const char *token, size_t n)
{
    int32_t id = pr_added_tokens_id(t->added, token, n);
    return id >= 0 ? id : pr_vocab_id(t->vocab, token, n);
}

const char *pr_tokenizer_id_to_token(const pr_tokenizer *t, int32_t id, size_t *n)
{
    const char *token = pr_added_tokens_text(t->added, id, n);
    return token ? token : pr_vocab_token(t->vocab, id, n);
}

bool pr_tokenizer_id_is_special(const pr_tokenizer *t, int32_t id)
{
    size_t n = 0;
    const char *token = pr_tokenizer_id_to_token(t, id, &n);
    return token && pr_added_tokens_is_special(t->added, token, n);
}

int32_t pr_tokenizer_n_ids(const pr_tokenizer *t)
{
    return t->n_ids;
}
