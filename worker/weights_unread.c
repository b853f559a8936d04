#include "worker/weights_unread.h"

#include "runtime/base/buffer.h"
#include "runtime/base/strmap.h"

#include <stdlib.h>
#include <string.h>

enum { NAMES_SHOWN = 4, NAME_BYTES_MAX = 256 };

/* Beginnings and endings, after the family's prefix, of what may be there and is not read. */
static const char *const harmless_beginnings[] = {
    "lm_head.",             /* the next or the masked token */
    "cls.predictions.",     /* BERT: the masked token */
    "cls.seq_relationship.", /* BERT: the next sentence */
    "predictions.",
};
static const char *const harmless_endings[] = {
    "position_ids",         "rotary_emb.inv_freq",  "token_type_ids",
    "attention.masked_bias", "attn.masked_bias",
};
/* A model without a head reads no pooler; one whose architecture names a head, but that Sentence
 * Transformers files make an encoder, leaves the head where it is. */
static const char *const without_head[] = {"pooler.", "classifier.", "score.", "qa_outputs."};

static bool begins_with(const char *name, const char *beginning)
{
    return strncmp(name, beginning, strlen(beginning)) == 0;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), n_ending = strlen(ending);
    return n >= n_ending && strcmp(name + n - n_ending, ending) == 0;
}

/* "layers.24.mlp…" of a model that is cut to fewer layers (num_hidden_layers). */
static bool is_of_a_later_layer(const char *name, const pr_model_spec *spec)
{
    const char *mark = strstr(name, "layers.");
    size_t n_mark = strlen("layers.");
    if (!mark) {
        mark = strstr(name, "layer.");
        n_mark = strlen("layer.");
    }
    if (!mark || mark[n_mark] < '0' || mark[n_mark] > '9') return false;
    return strtol(mark + n_mark, NULL, 10) >= spec->n_layers;
}

static bool is_harmless(const char *name, const pr_model_spec *spec)
{
    for (size_t i = 0; i < sizeof harmless_beginnings / sizeof *harmless_beginnings; i++) {
        if (begins_with(name, harmless_beginnings[i])) return true;
    }
    for (size_t i = 0; i < sizeof harmless_endings / sizeof *harmless_endings; i++) {
        if (ends_with(name, harmless_endings[i])) return true;
    }
    for (size_t i = 0; i < sizeof without_head / sizeof *without_head; i++) {
        bool is_pooler = i == 0; /* heads other than BERT's read no pooler either */
        if ((is_pooler || spec->head == PR_HEAD_NONE) && begins_with(name, without_head[i])) {
            return true;
        }
    }
    return is_of_a_later_layer(name, spec);
}

static bool expected_put(pr_strmap *expected, const char *prefix, const char *name)
{
    char whole[NAME_BYTES_MAX], alternative[NAME_BYTES_MAX];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    if (!pr_strmap_put(expected, whole, strlen(whole), 1)) return false;
    return !pr_weight_name_alternative(whole, alternative, sizeof alternative) ||
           pr_strmap_put(expected, alternative, strlen(alternative), 1);
}

static pr_status expected_fill(pr_strmap *expected, const pr_model_spec *spec,
                               const pr_weight_list *list, pr_error *err)
{
    static const char *const none[] = {"", NULL};
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        const char *const *prefixes = w->has_prefix ? pr_weight_prefixes(spec) : none;
        for (; *prefixes; prefixes++) {
            if (expected_put(expected, *prefixes, w->name)) continue;
            return pr_error_nomem(err, "names of tensors", NAME_BYTES_MAX);
        }
    }
    return PR_OK;
}

/* Without the family's prefix, whichever is there. */
static const char *bare_name(const char *name, const pr_model_spec *spec)
{
    for (const char *const *p = pr_weight_prefixes(spec); *p; p++) {
        if ((*p)[0] && begins_with(name, *p)) return name + strlen(*p);
    }
    return name;
}

static pr_status refuse(const pr_buffer *names, size_t n, const pr_model_spec *spec, pr_error *err)
{
    if (names->failed) return pr_error_nomem(err, "names of tensors", names->n);
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "the checkpoint has %zu tensor%s that %s does not read: %s%s; numbers "
                        "without them may not be the model's (--ignore-unread-tensors takes it as "
                        "it is)",
                        n, n == 1 ? "" : "s", spec->architecture, names->data,
                        n > NAMES_SHOWN ? ", …" : "");
}

pr_status pr_weights_unread_check(const pr_checkpoint *checkpoint, const pr_model_spec *spec,
                                  const pr_weight_list *list, pr_error *err)
{
    if (spec->ignores_unread_tensors) return PR_OK;
    size_t n_unread = 0;
    pr_buffer names;
    pr_buffer_init(&names);
    pr_strmap *expected = pr_strmap_create(2 * pr_weight_list_count(list));
    pr_status st = expected ? expected_fill(expected, spec, list, err)
                            : pr_error_nomem(err, "names of tensors", 0);
    for (size_t i = 0; st == PR_OK && i < pr_checkpoint_n_tensors(checkpoint); i++) {
        const char *name = pr_checkpoint_tensor(checkpoint, i)->name;
        if (pr_strmap_get(expected, name, strlen(name), NULL)) continue;
        if (is_harmless(bare_name(name, spec), spec) || is_harmless(name, spec)) continue;
        if (n_unread++ >= NAMES_SHOWN) continue;
        pr_buffer_printf(&names, "%s%.100s", names.n ? ", " : "", name);
    }
    if (st == PR_OK && n_unread > 0) st = refuse(&names, n_unread, spec, err);
    pr_strmap_free(expected);
    pr_buffer_deinit(&names);
    return st;
}
