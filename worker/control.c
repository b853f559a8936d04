#include "worker/control.h"

#include "worker/control_fields.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *pr_control_kind_name(pr_control_kind kind)
{
    static const char *const names[PR_CONTROL_KIND_COUNT] = {
        [PR_CONTROL_HELLO] = "HELLO",   [PR_CONTROL_CHALLENGE] = "CHALLENGE",
        [PR_CONTROL_PROOF] = "PROOF",   [PR_CONTROL_REFUSE] = "REFUSE",
        [PR_CONTROL_LOAD] = "LOAD",     [PR_CONTROL_READY] = "READY",
        [PR_CONTROL_FAILED] = "FAILED", [PR_CONTROL_BATCH] = "BATCH",
        [PR_CONTROL_RESULT] = "RESULT", [PR_CONTROL_DONE] = "DONE",
        [PR_CONTROL_PING] = "PING",     [PR_CONTROL_PONG] = "PONG",
        [PR_CONTROL_ABORT] = "ABORT",   [PR_CONTROL_SHUTDOWN] = "SHUTDOWN",
        [PR_CONTROL_COMM_ID] = "COMM_ID",
    };
    assert((unsigned)kind < PR_CONTROL_KIND_COUNT);
    return names[kind];
}

/* What the message owns it owns alone: unpacking made it, the const is for readers. */
static void batch_deinit(pr_control_batch *b)
{
    pr_batch_plan_free((pr_batch_plan *)b->plan);
    free((void *)b->poolings); /* the pointers and, behind them, what they point to */
}

static void load_deinit(pr_control_load *l)
{
    for (uint32_t i = 0; i < l->n_options; i++) {
        free(l->options[i].name);
        free(l->options[i].value);
    }
    free(l->options);
}

void pr_control_message_deinit(pr_control_message *message)
{
    switch (message->kind) {
    case PR_CONTROL_LOAD: load_deinit(&message->load); break;
    case PR_CONTROL_BATCH: batch_deinit(&message->batch); break;
    case PR_CONTROL_DONE: free((void *)message->done.shapes); break;
    default: break;
    }
    *message = (pr_control_message){.kind = PR_CONTROL_KIND_COUNT};
}

/* ---- plan hash ---- */

/* Each step maps hashes one to one for a given word and words one to one for a given hash, so two
 * plans that differ in one word never agree. Not against an adversary: both ends have the key. */
static uint64_t hash_word(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 32);
}

static uint64_t hash_pair(uint64_t h, uint32_t low, uint32_t high)
{
    return hash_word(h, (uint64_t)high << 32 | low);
}

static uint64_t hash_tokens(uint64_t h, const int32_t *tokens, uint32_t n)
{
    h = hash_word(h, n);
    for (uint32_t i = 0; i < n; i += 2) {
        h = hash_pair(h, (uint32_t)tokens[i], i + 1 < n ? (uint32_t)tokens[i + 1] : 0);
    }
    return h;
}

static uint64_t hash_types(uint64_t h, const uint8_t *types, uint32_t n)
{
    h = hash_word(h, types ? 1 : 0);
    if (!types) return h;
    for (uint32_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        for (uint32_t j = 0; j < 8 && i + j < n; j++) word |= (uint64_t)types[i + j] << (8 * j);
        h = hash_word(h, word);
    }
    return h;
}

uint64_t pr_control_pooling_hash(const pr_pooling *p)
{
    uint64_t h = hash_pair(0, (uint32_t)p->task, (uint32_t)p->type);
    uint32_t flags = (uint32_t)p->skips_pad | (uint32_t)p->normalize << 1 |
                     (uint32_t)p->softmax << 2;
    h = hash_pair(h, flags, (uint32_t)p->activation);
    h = hash_pair(h, (uint32_t)p->pad_token_id, (uint32_t)p->step_tag_id);
    h = hash_pair(h, (uint32_t)p->dimensions, 0);
    return hash_tokens(h, p->returned_tokens, (uint32_t)p->n_returned_tokens);
}

bool pr_control_pooling_equal(const pr_pooling *a, const pr_pooling *b)
{
    return a == b ||
           (a->task == b->task && a->type == b->type && a->skips_pad == b->skips_pad &&
            a->pad_token_id == b->pad_token_id && a->normalize == b->normalize &&
            a->activation == b->activation && a->softmax == b->softmax &&
            a->dimensions == b->dimensions && a->step_tag_id == b->step_tag_id &&
            a->n_returned_tokens == b->n_returned_tokens &&
            memcmp(a->returned_tokens, b->returned_tokens,
                   (size_t)a->n_returned_tokens * sizeof *a->returned_tokens) == 0);
}

static uint64_t hash_cache(uint64_t h, const pr_batch_plan *plan)
{
    h = hash_pair(h, plan->n_cached, plan->n_stores);
    for (uint32_t i = 0; i < plan->n_cached; i++) {
        h = hash_pair(h, plan->cached_rows[i], (uint32_t)plan->tokens[plan->n_tokens + i]);
    }
    for (uint32_t i = 0; i < plan->n_stores; i++) {
        const pr_cache_store *s = &plan->stores[i];
        h = hash_pair(h, s->block, s->has_hidden);
        for (int j = 0; j < PR_CACHE_BLOCK_TOKENS; j += 2) {
            h = hash_pair(h, s->rows[j], s->rows[j + 1]);
        }
    }
    return h;
}

uint64_t pr_control_plan_hash(const pr_batch_plan *plan, const pr_pooling *const *poolings)
{
    uint64_t h = hash_tokens(0, plan->tokens, plan->n_tokens);
    if (plan->n_cached > 0 || plan->n_stores > 0) h = hash_cache(h, plan);
    h = hash_types(h, plan->type_ids, plan->n_tokens);
    h = hash_pair(h, plan->n_segments, plan->n_sequences);
    for (uint32_t i = 0; i < plan->n_segments; i++) {
        const pr_segment *s = &plan->segments[i];
        h = hash_pair(h, s->token_begin, s->token_count);
        h = hash_pair(h, s->position_begin, (uint32_t)s->parent);
    }
    uint64_t h_pooling = 0;
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        const pr_sequence *q = &plan->sequences[i];
        h = hash_pair(h, q->leaf_segment, q->n_tokens);
        if (i == 0 || poolings[i] != poolings[i - 1]) {
            h_pooling = pr_control_pooling_hash(poolings[i]);
        }
        h = hash_word(h, h_pooling);
    }
    return h;
}

/* ---- hello ---- */

static size_t put_number(char *out, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = (char)(v >> (8 * i) & 0xFF);
    return n;
}

static size_t put_name(char *out, const char name[PR_CONTROL_NAME_BYTES])
{
    size_t n = strnlen(name, PR_CONTROL_NAME_BYTES - 1);
    size_t at = put_number(out, n, 4);
    memcpy(out + at, name, n);
    return at + n;
}

/* Names are preceded by their lengths, so that no two hellos have the same bytes. */
size_t pr_control_identity(const pr_control_hello *hello, char *identity)
{
    static const char purpose[] = "poolrank control"; /* of this protocol and no other */
    static_assert(sizeof purpose + 4 + 3 * (4 + PR_CONTROL_NAME_BYTES) + 4 + 4 + 8 <=
                      PR_CONTROL_IDENTITY_BYTES, "an identity fits");
    memcpy(identity, purpose, sizeof purpose);
    size_t n = sizeof purpose;
    n += put_number(identity + n, hello->protocol, 4);
    n += put_name(identity + n, hello->version);
    n += put_name(identity + n, hello->group);
    n += put_number(identity + n, hello->rank, 4);
    n += put_number(identity + n, hello->n_ranks, 4);
    n += put_name(identity + n, hello->host);
    n += put_number(identity + n, (uint64_t)hello->pid, 8);
    return n;
}

pr_status pr_control_hello_check(const pr_control_hello *hello, const char *version, pr_error *err)
{
    if (hello->protocol != PR_CONTROL_PROTOCOL) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "a rank of poolrank %s: control protocol %u, expected %d (poolrank %s)",
                            hello->version, hello->protocol, (int)PR_CONTROL_PROTOCOL, version);
    }
    if (hello->group[0] == '\0') {
        return pr_error_set(err, PR_E_ARGUMENT, "rank %u on %s: no name of a group", hello->rank,
                            hello->host);
    }
    if (strcmp(hello->version, version) != 0) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "rank %u of group %s: poolrank %s, expected %s",
                            hello->rank, hello->group, hello->version, version);
    }
    if (hello->n_ranks == 0 || hello->n_ranks > PR_CONTROL_RANKS_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "rank %u of group %s: found %u ranks, expected 1 to %d",
                            hello->rank, hello->group, hello->n_ranks, (int)PR_CONTROL_RANKS_MAX);
    }
    if (hello->rank >= hello->n_ranks) {
        return pr_error_set(err, PR_E_ARGUMENT, "rank %u of group %s: expected a rank below %u",
                            hello->rank, hello->group, hello->n_ranks);
    }
    return PR_OK;
}
