#include "runtime/text/tokenizer/post_processor.h"

#include "runtime/text/limits.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef enum step_kind { STEP_TEMPLATE, STEP_BERT, STEP_ROBERTA } step_kind;

/* One element of a template: a content, or special tokens. */
typedef struct piece {
    int i_content; /* 0 or 1; -1: special tokens */
    int32_t *ids;  /* [n_ids], owned */
    size_t n_ids;
    uint8_t type_id;
} piece;

typedef struct template {
    piece *pieces; /* [n] */
    size_t n;
} template;

typedef struct step {
    step_kind kind;
    template single; /* STEP_TEMPLATE */
    template pair;
    int32_t cls; /* the others */
    int32_t sep;
} step;

struct pr_post_processor {
    step *steps; /* [n], a Sequence laid out flat; without those that change no id */
    size_t n;
};

static void template_deinit(template *t)
{
    for (size_t i = 0; i < t->n; i++) free(t->pieces[i].ids);
    free(t->pieces);
    *t = (template){0};
}

void pr_post_processor_free(pr_post_processor *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) {
        template_deinit(&p->steps[i].single);
        template_deinit(&p->steps[i].pair);
    }
    free(p->steps);
    free(p);
}

static pr_status check_id(const json_t *value, int32_t n_ids, const char *where, const char *what,
                          int32_t *out, pr_error *err)
{
    if (!json_is_integer(value)) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: found %s, expected a token id", where, what,
                            pr_json_type_name(value));
    }
    if (json_integer_value(value) < 0 || json_integer_value(value) >= n_ids) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: found id %lld, expected 0 to %d", where,
                            what, (long long)json_integer_value(value), n_ids - 1);
    }
    *out = (int32_t)json_integer_value(value);
    return PR_OK;
}

/* "sep": ["[SEP]", 102] */
static pr_status parse_pair(const json_t *node, int32_t n_ids, const char *where, const char *key,
                            int32_t *out, pr_error *err)
{
    json_t *pair = NULL;
    pr_status st = pr_json_get_node(node, where, key, JSON_ARRAY, &pair, err);
    if (st != PR_OK) return st;
    return check_id(json_array_get(pair, 1), n_ids, where, key, out, err);
}

static pr_status parse_special(const json_t *node, const json_t *specials, int32_t n_ids,
                               const char *where, piece *out, pr_error *err)
{
    const char *name = NULL;
    json_t *special = NULL;
    json_t *ids = NULL;
    pr_status st = PR_OK;
    if ((st = pr_json_get_str(node, where, "id", &name, err)) != PR_OK ||
        (st = pr_json_get_node(specials, where, name, JSON_OBJECT, &special, err)) != PR_OK ||
        (st = pr_json_get_node(special, where, "ids", JSON_ARRAY, &ids, err)) != PR_OK) {
        return st;
    }
    out->i_content = -1;
    out->n_ids = json_array_size(ids);
    if (out->n_ids > PR_TEMPLATE_PIECES_MAX) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: %s: found %zu ids, expected at most %d",
                            where, name, out->n_ids, PR_TEMPLATE_PIECES_MAX);
    }
    out->ids = malloc((out->n_ids ? out->n_ids : 1) * sizeof *out->ids);
    if (!out->ids) return pr_error_nomem(err, "template", out->n_ids * sizeof *out->ids);
    for (size_t i = 0; i < out->n_ids && st == PR_OK; i++) {
        st = check_id(json_array_get(ids, i), n_ids, where, name, &out->ids[i], err);
    }
    return st;
}

static pr_status parse_content(const json_t *node, const char *where, bool is_pair, piece *out,
                               pr_error *err)
{
    const char *name = NULL;
    pr_status st = pr_json_get_str(node, where, "id", &name, err);
    if (st != PR_OK) return st;
    if (strcmp(name, "A") != 0 && strcmp(name, "B") != 0) {
        return pr_error_set(err, PR_E_MODEL, "%s: found sequence \"%s\", expected A or B", where,
                            name);
    }
    out->i_content = name[0] == 'B';
    if (out->i_content == 1 && !is_pair) {
        return pr_error_set(err, PR_E_MODEL, "%s: single: found sequence B, expected A", where);
    }
    return PR_OK;
}

static pr_status parse_piece(const json_t *node, const json_t *specials, int32_t n_ids,
                             bool is_pair, const char *where, piece *out, pr_error *err)
{
    const json_t *content = json_object_get(node, "Sequence");
    const json_t *special = json_object_get(node, "SpecialToken");
    if (json_object_size(node) != 1 || (!content && !special)) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: template: expected {\"Sequence\": …} or {\"SpecialToken\": …}",
                            where);
    }
    int64_t type_id = 0;
    pr_status st = pr_json_get_i64(content ? content : special, where, "type_id", 0, UINT32_MAX,
                                   &type_id, err);
    if (st != PR_OK) return st;
    if (type_id > 1) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: found type_id %lld, expected 0 or 1",
                            where, (long long)type_id);
    }
    out->type_id = (uint8_t)type_id;
    if (content) return parse_content(content, where, is_pair, out, err);
    return parse_special(special, specials, n_ids, where, out, err);
}

static pr_status parse_template(const json_t *node, const char *key, int32_t n_ids,
                                const char *where, template *out, pr_error *err)
{
    json_t *pieces = NULL;
    json_t *specials = NULL;
    pr_status st = PR_OK;
    if ((st = pr_json_get_node(node, where, key, JSON_ARRAY, &pieces, err)) != PR_OK ||
        (st = pr_json_get_node(node, where, "special_tokens", JSON_OBJECT, &specials, err)) !=
            PR_OK) {
        return st;
    }
    size_t n = json_array_size(pieces);
    if (n > PR_TEMPLATE_PIECES_MAX) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: %s: found %zu pieces, expected at most %d",
                            where, key, n, PR_TEMPLATE_PIECES_MAX);
    }
    out->pieces = calloc(n ? n : 1, sizeof *out->pieces);
    if (!out->pieces) return pr_error_nomem(err, "template", n * sizeof *out->pieces);
    out->n = n;
    bool is_pair = strcmp(key, "pair") == 0;
    for (size_t i = 0; i < n && st == PR_OK; i++) {
        st = parse_piece(json_array_get(pieces, i), specials, n_ids, is_pair, where,
                         &out->pieces[i], err);
    }
    return st;
}

static pr_status add_template(pr_post_processor *p, const json_t *node, int32_t n_ids,
                              const char *where, pr_error *err)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->steps[i].kind == STEP_TEMPLATE) {
            return pr_error_set(err, PR_E_UNSUPPORTED,
                                "%s: TemplateProcessing behind a TemplateProcessing", where);
        }
    }
    step *s = &p->steps[p->n++];
    *s = (step){.kind = STEP_TEMPLATE};
    pr_status st = parse_template(node, "single", n_ids, where, &s->single, err);
    if (st == PR_OK) st = parse_template(node, "pair", n_ids, where, &s->pair, err);
    return st;
}

static pr_status add_cls_sep(pr_post_processor *p, step_kind kind, const json_t *node,
                             int32_t n_ids, const char *where, pr_error *err)
{
    step *s = &p->steps[p->n++];
    *s = (step){.kind = kind};
    pr_status st = parse_pair(node, n_ids, where, "sep", &s->sep, err);
    if (st == PR_OK) st = parse_pair(node, n_ids, where, "cls", &s->cls, err);
    return st;
}

static pr_status add_step(pr_post_processor *p, const json_t *node, int32_t n_ids,
                          const char *where, pr_error *err);

static pr_status add_sequence(pr_post_processor *p, const json_t *node, int32_t n_ids,
                              const char *where, pr_error *err)
{
    json_t *steps = NULL;
    pr_status st = pr_json_get_node(node, where, "processors", JSON_ARRAY, &steps, err);
    for (size_t i = 0; st == PR_OK && i < json_array_size(steps); i++) {
        st = add_step(p, json_array_get(steps, i), n_ids, where, err);
    }
    return st;
}

/* Recursion is bounded by the JSON's nesting (PR_JSON_DEPTH_MAX). */
static pr_status add_step(pr_post_processor *p, const json_t *node, int32_t n_ids,
                          const char *where, pr_error *err)
{
    if (!json_is_object(node)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", where,
                            pr_json_type_name(node));
    }
    const char *type = NULL;
    pr_status st = pr_json_get_str(node, where, "type", &type, err);
    if (st != PR_OK) return st;
    if (strcmp(type, "Sequence") == 0) return add_sequence(p, node, n_ids, where, err);
    if (strcmp(type, "ByteLevel") == 0) return PR_OK; /* it moves offsets only */
    if (p->n == PR_STEPS_MAX) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: more than %d post-processors", where,
                            PR_STEPS_MAX);
    }
    step *grown = realloc(p->steps, (p->n + 1) * sizeof *grown);
    if (!grown) return pr_error_nomem(err, "post-processor", (p->n + 1) * sizeof *grown);
    p->steps = grown;
    if (strcmp(type, "TemplateProcessing") == 0) return add_template(p, node, n_ids, where, err);
    if (strcmp(type, "BertProcessing") == 0) {
        return add_cls_sep(p, STEP_BERT, node, n_ids, where, err);
    }
    if (strcmp(type, "RobertaProcessing") == 0) {
        return add_cls_sep(p, STEP_ROBERTA, node, n_ids, where, err);
    }
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: found type \"%s\", expected TemplateProcessing, BertProcessing, "
                        "RobertaProcessing, ByteLevel or Sequence",
                        where, type);
}

pr_status pr_post_processor_parse(const json_t *node, int32_t n_ids, const char *where,
                                  pr_post_processor **out, pr_error *err)
{
    assert(out);
    pr_post_processor *p = calloc(1, sizeof *p);
    if (!p) return pr_error_nomem(err, "post-processor", sizeof *p);
    pr_status st = node ? add_step(p, node, n_ids, where, err) : PR_OK;
    if (st != PR_OK) {
        pr_post_processor_free(p);
        return st;
    }
    *out = p;
    return PR_OK;
}

/* Ids with types, cut into parts: what tokenizers passes from step to step as a list of
 * encodings. */
typedef struct stream {
    pr_encoding e;
    size_t n_max;
    size_t *ends; /* [n_parts] */
    size_t n_parts;
    size_t n_parts_max;
    bool failed; /* no memory */
} stream;

static void stream_deinit(stream *s)
{
    pr_encoding_deinit(&s->e);
    free(s->ends);
    *s = (stream){0};
}

static bool stream_reserve(stream *s, size_t n_more)
{
    if (n_more <= s->n_max - s->e.n) return true;
    size_t n_max = s->e.n + n_more + s->n_max / 2 + 16;
    int32_t *ids = realloc(s->e.ids, n_max * sizeof *ids);
    if (ids) s->e.ids = ids;
    uint8_t *type_ids = realloc(s->e.type_ids, n_max);
    if (type_ids) s->e.type_ids = type_ids;
    if (!ids || !type_ids) {
        s->failed = true;
        return false;
    }
    s->n_max = n_max;
    return true;
}

/* types NULL: all of them are type_id. */
static void stream_put(stream *s, const int32_t *ids, const uint8_t *types, uint8_t type_id,
                       size_t n)
{
    if (n == 0 || s->failed || !stream_reserve(s, n)) return;
    memcpy(s->e.ids + s->e.n, ids, n * sizeof *ids);
    if (types) {
        memcpy(s->e.type_ids + s->e.n, types, n);
    } else {
        memset(s->e.type_ids + s->e.n, type_id, n);
    }
    s->e.n += n;
}

static void stream_end_part(stream *s)
{
    if (s->n_parts == s->n_parts_max) {
        size_t n_max = s->n_parts_max * 2 + 4;
        size_t *grown = realloc(s->ends, n_max * sizeof *grown);
        if (!grown) {
            s->failed = true;
            return;
        }
        s->ends = grown;
        s->n_parts_max = n_max;
    }
    s->ends[s->n_parts++] = s->e.n;
}

/* Copies a part; type_id < 0 keeps its types. */
static void stream_copy_part(stream *s, const stream *from, size_t i_part, int type_id)
{
    size_t begin = i_part ? from->ends[i_part - 1] : 0;
    size_t n = from->ends[i_part] - begin;
    if (n == 0) return;
    stream_put(s, from->e.ids + begin, type_id < 0 ? from->e.type_ids + begin : NULL,
               (uint8_t)(type_id < 0 ? 0 : type_id), n);
}

static void apply_template(const step *st, const stream *in, bool add_special, stream *out)
{
    const template *t = in->n_parts == 2 ? &st->pair : &st->single;
    for (size_t i = 0; i < t->n; i++) {
        const piece *p = &t->pieces[i];
        if (p->i_content >= 0) {
            stream_copy_part(out, in, (size_t)p->i_content, p->type_id);
        } else if (add_special) {
            stream_put(out, p->ids, NULL, p->type_id, p->n_ids);
        } else {
            continue;
        }
        stream_end_part(out);
    }
}

/* BERT: cls A sep, B sep with type 1. RoBERTa: cls A sep, sep B sep, all types 0. */
static void apply_cls_sep(const step *st, const stream *in, bool add_special, stream *out)
{
    bool is_bert = st->kind == STEP_BERT;
    for (size_t i = 0; i < in->n_parts; i++) {
        uint8_t type_id = is_bert && i > 0;
        if (add_special && i == 0) stream_put(out, &st->cls, NULL, 0, 1);
        if (add_special && i > 0 && !is_bert) stream_put(out, &st->sep, NULL, 0, 1);
        stream_copy_part(out, in, i, is_bert ? -1 : 0);
        if (add_special) stream_put(out, &st->sep, NULL, type_id, 1);
        stream_end_part(out);
    }
}

pr_status pr_post_processor_apply(const pr_post_processor *p, const int32_t *a, size_t n_a,
                                  const int32_t *b, size_t n_b, bool add_special_tokens,
                                  pr_encoding *out, pr_error *err)
{
    stream in = {0};
    stream_reserve(&in, n_a + n_b + 1);
    stream_put(&in, a, NULL, 0, n_a);
    stream_end_part(&in);
    if (b) {
        stream_put(&in, b, NULL, 1, n_b);
        stream_end_part(&in);
    }
    for (size_t i = 0; i < p->n && !in.failed; i++) {
        stream next = {0};
        stream_reserve(&next, in.e.n + pr_post_processor_n_added(p, b != NULL) + 1);
        if (p->steps[i].kind == STEP_TEMPLATE) {
            apply_template(&p->steps[i], &in, add_special_tokens, &next);
        } else {
            apply_cls_sep(&p->steps[i], &in, add_special_tokens, &next);
        }
        stream_deinit(&in);
        in = next;
    }
    if (in.failed) {
        stream_deinit(&in);
        return pr_error_nomem(err, "token ids", (n_a + n_b) * sizeof *a);
    }
    *out = in.e;
    in.e = (pr_encoding){0};
    stream_deinit(&in);
    return PR_OK;
}

static size_t template_n_added(const template *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) n += t->pieces[i].n_ids;
    return n;
}

size_t pr_post_processor_n_added(const pr_post_processor *p, bool is_pair)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        const step *s = &p->steps[i];
        switch (s->kind) {
        case STEP_TEMPLATE: n += template_n_added(is_pair ? &s->pair : &s->single); break;
        case STEP_BERT: n += is_pair ? 3 : 2; break;
        case STEP_ROBERTA: n += is_pair ? 4 : 2; break;
        }
    }
    return n;
}
