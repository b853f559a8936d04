#include "coordinator/model/prepare.h"

#include "runtime/base/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void pr_prepared_deinit(pr_prepared *p)
{
    pr_encoding_deinit(&p->parts[0]);
    pr_encoding_deinit(&p->parts[1]);
    free(p->own_pooling);
    pr_buffer_deinit(&p->rendered);
    *p = (pr_prepared){0};
}

void pr_truncate_pair(size_t n_max, size_t *n_a, size_t *n_b)
{
    if (*n_a + *n_b <= n_max) return;
    bool a_is_longer = *n_a > *n_b;
    size_t shorter = a_is_longer ? *n_b : *n_a;
    size_t longer;
    if (shorter > n_max / 2) { /* both are cut */
        shorter = n_max / 2;
        longer = shorter + n_max % 2;
    } else {
        longer = n_max - shorter;
    }
    *n_a = a_is_longer ? longer : shorter;
    *n_b = a_is_longer ? shorter : longer;
}

/* The request's limits, resolved. */
typedef struct limits {
    uint32_t n_max;
    bool truncate;
    bool left;
    bool add_special_tokens;
} limits;

static pr_status limits_resolve(const pr_model *m, const pr_prepare_defaults *defaults,
                                const pr_request *r, limits *out, pr_error *err)
{
    int32_t n = r->truncate_prompt_tokens ? r->truncate_prompt_tokens
                                          : defaults->truncate_prompt_tokens;
    if (n < -1) {
        return pr_error_set(
            err, PR_E_ARGUMENT,
            "truncate_prompt_tokens: found %d, expected -1 (the model's limit) or 1 "
            "to %u",
            n, m->n_tokens_max);
    }
    if (n > 0 && (uint32_t)n > m->n_tokens_max) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "truncate_prompt_tokens value (%d) is greater than max_model_len (%u). "
                            "Please, select a smaller truncation size.",
                            n, m->n_tokens_max);
    }
    *out = (limits){
        .n_max = n > 0 ? (uint32_t)n : m->n_tokens_max,
        .truncate = n != 0,
        .left = r->truncation_side < 0 ? m->truncate_left : r->truncation_side == 1,
        /* A chat template writes its special tokens itself. */
        .add_special_tokens = r->add_special_tokens < 0
                                  ? defaults->add_special_tokens && !r->messages
                                  : r->add_special_tokens != 0,
    };
    return PR_OK;
}

static pr_status too_long(size_t n, const limits *l, pr_error *err)
{
    return pr_error_set(err, PR_E_TOO_LONG,
                        "%zu tokens, more than the limit of %u; ask for truncation with "
                        "truncate_prompt_tokens (-1: to the limit)",
                        n, l->n_max);
}

static pr_status ids_check(const pr_model *m, const int32_t *ids, size_t n, pr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < m->spec.vocab_size) continue;
        return pr_error_set(err, PR_E_INPUT,
                            "token %zu: id %d is outside the model's vocabulary of %d", i, ids[i],
                            m->spec.vocab_size);
    }
    return PR_OK;
}

/* Types of a model without a table of them change nothing. Their greatest was compared when the
 * tokenizer was loaded; this is for what a tokenizer does with a text. */
static pr_status types_check(const pr_model *m, const uint8_t *types, size_t n, pr_error *err)
{
    for (size_t i = 0; m->spec.type_vocab_size > 0 && i < n; i++) {
        if (types[i] < m->spec.type_vocab_size) continue;
        return pr_error_set(err, PR_E_INPUT,
                            "token %zu: type id %d is outside the model's %d (type_vocab_size)", i,
                            types[i], m->spec.type_vocab_size);
    }
    return PR_OK;
}

/* Token ids as they are: cut if asked for, nothing added. */
static pr_status tokens_take(const pr_model *m, const limits *l, const pr_request *r,
                             pr_encoding *out, pr_error *err)
{
    if (r->n_tokens == 0) return pr_error_set(err, PR_E_INPUT, "no tokens");
    size_t n = r->n_tokens;
    const int32_t *ids = r->tokens;
    if (n > l->n_max) {
        if (!l->truncate) return too_long(n, l, err);
        if (l->left) ids += n - l->n_max;
        n = l->n_max;
    }
    pr_status st = ids_check(m, ids, n, err);
    if (st != PR_OK) return st;
    out->ids = malloc(n * sizeof *out->ids);
    out->type_ids = calloc(n, 1);
    if (!out->ids || !out->type_ids) return pr_error_nomem(err, "tokens", n * sizeof *out->ids);
    memcpy(out->ids, ids, n * sizeof *ids);
    out->n = n;
    return PR_OK;
}

/* Contents a and b (b empty when !is_pair), cut and assembled. */
static pr_status contents_assemble(const pr_model *m, const limits *l, const pr_ids *a,
                                   const pr_ids *b, bool is_pair, pr_encoding *out, pr_error *err)
{
    size_t n_added = l->add_special_tokens ? pr_tokenizer_n_added(m->tokenizer, is_pair) : 0;
    size_t n_a = a->n, n_b = b->n;
    if (n_a + n_b + n_added > l->n_max) {
        if (!l->truncate) return too_long(n_a + n_b + n_added, l, err);
        if (n_added >= l->n_max) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "truncate_prompt_tokens %u: the %zu special tokens leave no room",
                                l->n_max, n_added);
        }
        size_t n_max = l->n_max - n_added;
        if (is_pair) {
            pr_truncate_pair(n_max, &n_a, &n_b);
        } else {
            n_a = n_max;
        }
    }
    const int32_t *ids_a = l->left ? a->ids + (a->n - n_a) : a->ids;
    const int32_t *ids_b = l->left ? b->ids + (b->n - n_b) : b->ids;
    static const int32_t nothing[1] = {0};
    pr_status st = pr_tokenizer_assemble(m->tokenizer, ids_a ? ids_a : nothing, n_a,
                                         is_pair ? (ids_b ? ids_b : nothing) : NULL, n_b,
                                         l->add_special_tokens, out, err);
    if (st == PR_OK && out->n == 0) st = pr_error_set(err, PR_E_INPUT, "the text yields no token");
    if (st == PR_OK) st = ids_check(m, out->ids, out->n, err);
    if (st == PR_OK) st = types_check(m, out->type_ids, out->n, err);
    return st;
}

/* One content; the default prompt of a Sentence Transformers folder stands in front of it. */
static pr_status content_encode(const pr_model *m, const char *text, size_t n, pr_ids *out,
                                pr_error *err)
{
    const char *prompt = m->spec.head == PR_HEAD_NONE ? m->st.default_prompt : NULL;
    if (!prompt || !prompt[0]) return pr_tokenizer_encode(m->tokenizer, text, n, out, err);
    pr_buffer both;
    pr_buffer_init(&both);
    pr_buffer_append_str(&both, prompt);
    pr_buffer_append(&both, text, n);
    pr_status st = both.failed ? pr_error_nomem(err, "text with prompt", n)
                               : pr_tokenizer_encode(m->tokenizer, both.data, both.n, out, err);
    pr_buffer_deinit(&both);
    return st;
}

static pr_status text_encode(const pr_model *m, const limits *l, const char *text, size_t n_text,
                             const char *pair, size_t n_pair, pr_encoding *out, pr_error *err)
{
    pr_ids a = {0}, b = {0};
    pr_status st = content_encode(m, text, n_text, &a, err);
    if (st == PR_OK && pair) {
        st = content_encode(m, pair, n_pair, &b, err);
        if (st != PR_OK) pr_error_context(err, st, "second text");
    }
    if (st == PR_OK) st = contents_assemble(m, l, &a, &b, pair != NULL, out, err);
    pr_ids_deinit(&a);
    pr_ids_deinit(&b);
    return st;
}

/* The template's text begins with BOS, and the tokenizer puts another in front of it. */
static pr_status doubled_check(const pr_model *m, const pr_encoding *e, pr_error *err)
{
    bool doubled = e->n >= 2 && e->ids[0] == e->ids[1];
    if (!doubled || !pr_tokenizer_id_is_special(m->tokenizer, e->ids[0])) {
        return PR_OK;
    }
    size_t n = 0;
    const char *token = pr_tokenizer_id_to_token(m->tokenizer, e->ids[0], &n);
    return pr_error_set(err, PR_E_ARGUMENT,
                        "add_special_tokens: the chat template begins the text with %.*s already",
                        (int)n, token ? token : "");
}

/* A conversation; a default prompt of Sentence Transformers is no part of it. */
static pr_status messages_encode(const pr_model *m, const limits *l, const pr_request *r,
                                 pr_prepared *p, pr_error *err)
{
    pr_ids ids = {0}, none = {0};
    pr_status st = pr_chat_render(m->chat, r->messages, r->n_messages,
                                  pr_clock_wall_us(), &p->rendered, err);
    const char *text = p->rendered.n ? p->rendered.data : "";
    if (st == PR_OK) st = pr_tokenizer_encode(m->tokenizer, text, p->rendered.n, &ids, err);
    if (st == PR_OK) st = contents_assemble(m, l, &ids, &none, false, &p->parts[0], err);
    if (st == PR_OK && l->add_special_tokens) st = doubled_check(m, &p->parts[0], err);
    pr_ids_deinit(&ids);
    return st;
}

static bool has_pooling_parameters(const pr_request *r)
{
    return r->normalize >= 0 || r->softmax >= 0 || r->use_activation >= 0 || r->dimensions > 0 ||
           r->step_tag_id >= 0 || r->returned_token_ids;
}

static pr_status pooling_prepare(const pr_model *m, const pr_request *r, pr_prepared *p,
                                 pr_error *err)
{
    const pr_pooling *base = NULL;
    pr_status st = pr_model_pooling(m, r->task, &base, err);
    if (st != PR_OK) return st;
    if (base->task == PR_TASK_EMBED && r->text_pair) {
        return pr_error_set(err, PR_E_INPUT, "embed: found a pair, expected one text");
    }
    p->pooling = base;
    bool to_last = r->last_row_only && base->type == PR_POOL_ALL;
    if (!has_pooling_parameters(r) && !to_last) return PR_OK;
    p->own_pooling = malloc(sizeof *p->own_pooling);
    if (!p->own_pooling) return pr_error_nomem(err, "pooling", sizeof *p->own_pooling);
    const pr_pooling_request request = {
        .normalize = r->normalize, .softmax = r->softmax, .use_activation = r->use_activation,
        .dimensions = r->dimensions, .step_tag_id = r->step_tag_id,
        .returned_tokens = r->returned_token_ids,
        .n_returned_tokens = (int32_t)r->n_returned_token_ids,
    };
    st = pr_pooling_apply(&m->spec, base, m->n_width, &request, p->own_pooling, err);
    if (st == PR_OK && to_last) p->own_pooling->type = PR_POOL_LAST;
    p->pooling = p->own_pooling;
    return st;
}

/* Whether the request's answer is the cosine of two embeddings. A head scores what it reads at
 * once: a pair, or one text that a template made of both. */
static bool is_cosine(const pr_model *m, const pr_request *r)
{
    return !r->tokenize_only && pr_model_scores_by_cosine(m) &&
           (r->task == PR_TASK_AUTO ? m->task : r->task) == PR_TASK_SCORE;
}

pr_status pr_prepare(const pr_model *m, const pr_prepare_defaults *defaults, const pr_request *r,
                     pr_prepared *out, pr_error *err)
{
    assert(r->text || r->tokens || r->messages);
    pr_prepared p = {.n_parts = 1, .similarity = m->st.similarity};
    limits l;
    pr_status st = limits_resolve(m, defaults, r, &l, err);
    if (st == PR_OK && !r->tokenize_only) st = pooling_prepare(m, r, &p, err);
    if (st == PR_OK && is_cosine(m, r) && !r->text_pair) {
        st = pr_error_set(err, PR_E_ARGUMENT,
                          "score: found %s, expected two texts (the score of this model is the "
                          "cosine of two embeddings)",
                          r->tokens ? "tokens" : r->messages ? "messages" : "one text");
    }
    if (st != PR_OK) goto cleanup;
    if (r->tokens) {
        st = tokens_take(m, &l, r, &p.parts[0], err);
    } else if (r->messages) {
        st = messages_encode(m, &l, r, &p, err);
    } else if (is_cosine(m, r)) {
        p.n_parts = 2;
        st = text_encode(m, &l, r->text, r->n_text, NULL, 0, &p.parts[0], err);
        if (st == PR_OK) {
            st = text_encode(m, &l, r->text_pair, r->n_text_pair, NULL, 0, &p.parts[1], err);
            if (st != PR_OK) pr_error_context(err, st, "second text");
        }
    } else {
        st = text_encode(m, &l, r->text, r->n_text, r->text_pair, r->n_text_pair, &p.parts[0], err);
    }
    if (st != PR_OK) goto cleanup;
    *out = p;
    p = (pr_prepared){0};
cleanup:
    pr_prepared_deinit(&p);
    return st;
}
