#include "runtime/wire/rpc_request.h"

#include "runtime/wire/frame.h"
#include "runtime/wire/msgpack_write.h"
#include "runtime/wire/rpc_rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void pr_rpc_params_init(pr_rpc_params *params)
{
    *params = (pr_rpc_params){.skip_special_tokens = true};
    pr_params_unset(&params->request);
}

/* ---- keys ---- */

typedef enum request_key {
    KEY_KIND,
    KEY_ID,
    KEY_ITEMS,
    KEY_QUERY,
    KEY_MODEL,
    KEY_REQUEST_ID,
    KEY_TASK,
    KEY_TIMEOUT,
    KEY_WAIT,
    KEY_REDUCE,
    KEY_RETURN_TOKENS,
    KEY_SKIP_SPECIAL,
    KEY_FORMAT,
    KEY_ON_ERROR,
    KEY_COUNT,
    /* from here on: the rows of runtime/wire/request_params.h */
    KEYS_AND_PARAMS = KEY_COUNT + PR_PARAM_COUNT
} request_key;

#define BIT(kind) (UINT32_C(1) << PR_RPC_##kind)
#define POOLING   (BIT(EMBED) | BIT(CLASSIFY) | BIT(SCORE) | BIT(REWARD) | BIT(ENCODE))
#define ENGINE    (POOLING | BIT(TOKENIZE))
#define ITEMS     (ENGINE | BIT(DETOKENIZE))
#define ALL       (ITEMS | BIT(INFO) | BIT(STATS) | BIT(PING) | BIT(CANCEL))

/* Which kinds have a key. */
static const struct request_key_row {
    const char *name;
    uint32_t kinds;
} keys[] = {
    [KEY_KIND] = {"kind", ALL},
    [KEY_ID] = {"id", ALL},
    [KEY_ITEMS] = {"items", ITEMS},
    [KEY_QUERY] = {"query", BIT(SCORE)},
    [KEY_MODEL] = {"model", ITEMS},
    [KEY_REQUEST_ID] = {"request_id", ITEMS},
    [KEY_TASK] = {"task", BIT(ENCODE)},
    [KEY_TIMEOUT] = {"timeout_ms", ENGINE},
    [KEY_WAIT] = {"wait_ms", ENGINE},
    [KEY_REDUCE] = {"reduce", BIT(REWARD)},
    [KEY_RETURN_TOKENS] = {"return_tokens", BIT(REWARD)},
    [KEY_SKIP_SPECIAL] = {"skip_special_tokens", BIT(DETOKENIZE)},
    [KEY_FORMAT] = {"format", BIT(EMBED) | BIT(CLASSIFY) | BIT(ENCODE)},
    [KEY_ON_ERROR] = {"on_error", ITEMS},
};
static_assert(sizeof keys / sizeof *keys == KEY_COUNT, "one row per key");
static_assert(KEYS_AND_PARAMS <= 64, "keys fit a set of bits");

/* NULL: one of keys. */
static const pr_param_row *param_of(int key)
{
    return key < KEY_COUNT ? NULL : pr_param_describe((pr_param_id)(key - KEY_COUNT));
}

static const char *key_name(int key)
{
    return key < KEY_COUNT ? keys[key].name : param_of(key)->key;
}

/* What the rows of parameters call a kind of request. */
static unsigned use_of(pr_rpc_kind kind)
{
    switch (kind) {
    case PR_RPC_EMBED:
        return PR_USE_EMBED;
    case PR_RPC_CLASSIFY:
        return PR_USE_CLASSIFY;
    case PR_RPC_SCORE:
        return PR_USE_SCORE;
    case PR_RPC_REWARD:
        return PR_USE_REWARD;
    case PR_RPC_ENCODE:
        return PR_USE_ENCODE;
    case PR_RPC_TOKENIZE:
        return PR_USE_TOKENIZE;
    default:
        return 0;
    }
}

static bool kind_has(pr_rpc_kind kind, int key)
{
    if (key < KEY_COUNT) return keys[key].kinds & pr_rpc_kind_bit(kind);
    return param_of(key)->uses & use_of(kind);
}

/* ---- packing ---- */

static void item_pack(const pr_rpc_item *item, pr_buffer *out)
{
    if (!item->text) {
        char *bytes = pr_msgpack_write_bin_space(out, item->n_tokens * sizeof *item->tokens);
        if (bytes) pr_rpc_rows_write(item->tokens, item->n_tokens, 1, PR_RPC_I32, bytes, NULL);
        return;
    }
    if (item->pair) pr_msgpack_write_array(out, 2);
    pr_msgpack_write_str(out, item->text, item->n_text);
    if (item->pair) pr_msgpack_write_str(out, item->pair, item->n_pair);
}

static void items_pack(const pr_rpc_request *request, pr_buffer *out)
{
    pr_msgpack_write_array(out, (uint32_t)request->n_items);
    for (size_t i = 0; i < request->n_items; i++) item_pack(&request->items[i], out);
}

static void ids_pack(const pr_param_row *row, const pr_request *r, pr_buffer *out)
{
    size_t n = 0;
    const int32_t *ids = pr_param_ids(row, r, &n);
    pr_msgpack_write_array(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) pr_msgpack_write_i64(out, ids[i]);
}

static void param_pack(const pr_param_row *row, const pr_request *r, pr_buffer *out)
{
    switch (row->type) {
    case PR_PARAM_SWITCH:
        pr_msgpack_write_bool(out, pr_param_value(row, r) == 1);
        break;
    case PR_PARAM_SIDE:
        pr_msgpack_write_text(out, pr_param_value(row, r) == 1 ? "left" : "right");
        break;
    case PR_PARAM_INT:
    case PR_PARAM_LIMIT:
        pr_msgpack_write_i64(out, pr_param_value(row, r));
        break;
    case PR_PARAM_IDS:
        ids_pack(row, r, out);
        break;
    }
}

/* Whether a request says something under this key. */
static bool key_is_set(const pr_rpc_request *q, request_key key)
{
    const pr_rpc_params *p = &q->params;
    switch (key) {
    case KEY_KIND:
    case KEY_ID:
        return true;
    case KEY_ITEMS:
        return pr_rpc_kind_has_items(q->kind);
    case KEY_QUERY:
        return q->query;
    case KEY_MODEL:
        return q->model;
    case KEY_REQUEST_ID:
        return q->request_id;
    case KEY_TASK:
        return p->task != PR_TASK_AUTO;
    case KEY_TIMEOUT:
        return p->timeout_ms > 0;
    case KEY_WAIT:
        return p->wait_ms > 0;
    case KEY_REDUCE:
        return p->reduce != PR_RPC_REDUCE_LAST;
    case KEY_RETURN_TOKENS:
        return p->return_tokens;
    case KEY_SKIP_SPECIAL:
        return !p->skip_special_tokens;
    case KEY_FORMAT:
        return p->format != PR_RPC_F32;
    case KEY_ON_ERROR:
        return p->per_item;
    case KEY_COUNT:
    case KEYS_AND_PARAMS:
        break;
    }
    return pr_param_is_set(param_of((int)key), &p->request);
}

static void value_pack(const pr_rpc_request *q, request_key key, pr_buffer *out)
{
    const pr_rpc_params *p = &q->params;
    switch (key) {
    case KEY_KIND:
        pr_msgpack_write_text(out, pr_rpc_kind_name(q->kind));
        break;
    case KEY_ID:
        pr_msgpack_write_u64(out, q->id);
        break;
    case KEY_ITEMS:
        items_pack(q, out);
        break;
    case KEY_QUERY:
        pr_msgpack_write_str(out, q->query, q->n_query);
        break;
    case KEY_MODEL:
        pr_msgpack_write_str(out, q->model, q->n_model);
        break;
    case KEY_REQUEST_ID:
        pr_msgpack_write_str(out, q->request_id, q->n_request_id);
        break;
    case KEY_TASK:
        pr_msgpack_write_text(out, pr_rpc_task_name(p->task));
        break;
    case KEY_TIMEOUT:
        pr_msgpack_write_u64(out, p->timeout_ms);
        break;
    case KEY_WAIT:
        pr_msgpack_write_u64(out, p->wait_ms);
        break;
    case KEY_REDUCE:
        pr_msgpack_write_text(out, pr_rpc_reduce_name(p->reduce));
        break;
    case KEY_RETURN_TOKENS:
        pr_msgpack_write_bool(out, true);
        break;
    case KEY_SKIP_SPECIAL:
        pr_msgpack_write_bool(out, false);
        break;
    case KEY_FORMAT:
        pr_msgpack_write_text(out, pr_rpc_format_name(p->format));
        break;
    case KEY_ON_ERROR:
        pr_msgpack_write_text(out, "per_item");
        break;
    case KEY_COUNT:
    case KEYS_AND_PARAMS:
        break;
    }
    if (key >= KEY_COUNT) param_pack(param_of((int)key), &p->request, out);
}

pr_status pr_rpc_request_pack(const pr_rpc_request *request, pr_buffer *out, pr_error *err)
{
    uint32_t n_pairs = 0;
    for (int key = 0; key < KEYS_AND_PARAMS; key++) {
        n_pairs += key_is_set(request, (request_key)key);
    }
    size_t place = pr_frame_begin(out);
    pr_msgpack_write_map(out, n_pairs);
    for (int key = 0; key < KEYS_AND_PARAMS; key++) {
        if (!key_is_set(request, (request_key)key)) continue;
        pr_msgpack_write_text(out, key_name(key));
        value_pack(request, (request_key)key, out);
    }
    return pr_frame_end(out, place, err);
}

/* ---- unpacking ---- */

typedef struct unpacking {
    pr_msgpack_reader r;
    pr_rpc_request q;
    size_t n_items_max;
    size_t i_item;                 /* being read; SIZE_MAX: none */
    size_t items_at;               /* where their tokens begin in q.ids */
    size_t ids_at[PR_PARAM_COUNT]; /* of a parameter of ids: where they begin in q.ids */
} unpacking;

static int32_t *ids_room(unpacking *u, size_t n)
{
    pr_rpc_request *q = &u->q;
    if (n > q->n_ids_max - q->n_ids) {
        size_t n_max = q->n_ids_max * 2 > q->n_ids + n ? q->n_ids_max * 2 : q->n_ids + n;
        int32_t *ids = realloc(q->ids, n_max * sizeof *ids);
        if (!ids) {
            u->r.status = pr_error_nomem(u->r.err, "token ids", n_max * sizeof *ids);
            return NULL;
        }
        q->ids = ids;
        q->n_ids_max = n_max;
    }
    int32_t *room = q->ids + q->n_ids;
    q->n_ids += n;
    return room;
}

/* Elements [n] of an array of integers, whose head is taken, to the end of q.ids. */
static void ids_take(unpacking *u, const char *field, uint32_t n)
{
    int32_t *ids = n > 0 ? ids_room(u, n) : NULL;
    if (!ids) return;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)pr_msgpack_read_i64(&u->r, field, INT32_MIN, INT32_MAX);
    }
}

static void item_bin_take(unpacking *u, pr_rpc_item *item)
{
    size_t n = 0;
    const char *bytes = pr_msgpack_read_bin(&u->r, "items", 0, SIZE_MAX, &n);
    if (!bytes) return;
    if (n % sizeof(int32_t) != 0) {
        pr_msgpack_fail(&u->r, "items", "found a bin of %zu bytes, expected 4 for each token id",
                        n);
        return;
    }
    item->n_tokens = n / sizeof(int32_t);
    int32_t *ids = item->n_tokens > 0 ? ids_room(u, item->n_tokens) : NULL;
    if (ids) pr_rpc_ids_read(bytes, item->n_tokens, ids);
}

static void item_array_take(unpacking *u, pr_rpc_item *item)
{
    uint32_t n = pr_msgpack_read_array(&u->r, "items", 0, UINT32_MAX);
    if (u->r.status != PR_OK) return;
    if (n > 0 && pr_msgpack_next(&u->r) == PR_MSGPACK_STR) {
        if (n != 2) {
            pr_msgpack_fail(&u->r, "items", "found %u texts in one item, expected a pair", n);
            return;
        }
        item->text = pr_msgpack_read_str(&u->r, "items", 0, SIZE_MAX, &item->n_text);
        item->pair = pr_msgpack_read_str(&u->r, "items", 0, SIZE_MAX, &item->n_pair);
        return;
    }
    ids_take(u, "items", n);
    item->n_tokens = n;
}

static void item_take(unpacking *u, pr_rpc_item *item)
{
    switch (pr_msgpack_next(&u->r)) {
    case PR_MSGPACK_ARRAY:
        item_array_take(u, item);
        break;
    case PR_MSGPACK_BIN:
        item_bin_take(u, item);
        break;
    default:
        item->text = pr_msgpack_read_str(&u->r, "items", 0, SIZE_MAX, &item->n_text);
        break;
    }
    if (item->text && u->q.kind == PR_RPC_DETOKENIZE) {
        pr_msgpack_fail(&u->r, "items", "found a text, expected token ids");
    }
}

static void items_take(unpacking *u)
{
    uint32_t n = pr_msgpack_read_array(&u->r, "items", 1, UINT32_MAX);
    if (u->r.status != PR_OK) return;
    if (n > u->n_items_max) {
        u->r.status = pr_error_set(u->r.err, PR_E_TOO_LARGE,
                                   "%s: items: found %u, expected at most %zu "
                                   "(--max-client-batch-size)",
                                   u->r.message, n, u->n_items_max);
        return;
    }
    u->q.items = calloc(n, sizeof *u->q.items);
    if (!u->q.items) {
        u->r.status = pr_error_nomem(u->r.err, "items", n * sizeof *u->q.items);
        return;
    }
    u->q.n_items = n;
    u->items_at = u->q.n_ids;
    for (uint32_t i = 0; i < n && u->r.status == PR_OK; i++) {
        u->i_item = i;
        item_take(u, &u->q.items[i]);
    }
    if (u->r.status == PR_OK) u->i_item = SIZE_MAX;
}

/* A string that is one of a table's names. */
static const char *name_take(unpacking *u, request_key key, size_t *n)
{
    return pr_msgpack_read_str(&u->r, keys[key].name, 1, 64, n);
}

static void name_refuse(unpacking *u, request_key key, const char *expected)
{
    pr_msgpack_fail(&u->r, keys[key].name, "found another word, expected %s", expected);
}

static void word_take(unpacking *u, request_key key)
{
    size_t n = 0;
    pr_rpc_params *p = &u->q.params;
    const char *s = name_take(u, key, &n);
    if (!s) return;
    if (key == KEY_TASK) {
        if (!pr_rpc_task_parse(s, n, &p->task)) {
            name_refuse(u, key, "auto, embed, classify, score or reward");
        }
    } else if (key == KEY_REDUCE) {
        if (!pr_rpc_reduce_parse(s, n, &p->reduce)) {
            name_refuse(u, key, "last, mean, min or product");
        }
    } else if (key == KEY_FORMAT) {
        if (!pr_rpc_format_parse(s, n, &p->format) || p->format == PR_RPC_I32) {
            name_refuse(u, key, "f32, f16 or int8");
        }
    } else if (key == KEY_ON_ERROR) {
        p->per_item = pr_rpc_text_is(s, n, "per_item");
        if (!p->per_item && !pr_rpc_text_is(s, n, "all")) name_refuse(u, key, "all or per_item");
    }
}

static int32_t side_take(unpacking *u, const pr_param_row *row)
{
    size_t n = 0;
    const char *s = pr_msgpack_read_str(&u->r, row->key, 1, 64, &n);
    if (!s || pr_rpc_text_is(s, n, "right")) return 0;
    if (pr_rpc_text_is(s, n, "left")) return 1;
    pr_msgpack_fail(&u->r, row->key, "found another word, expected left or right");
    return 0;
}

static void param_take(unpacking *u, pr_param_id id)
{
    const pr_param_row *row = pr_param_describe(id);
    pr_request *request = &u->q.params.request;
    int32_t value = 0;
    uint32_t n = 0;
    switch (row->type) {
    case PR_PARAM_SWITCH:
        value = pr_msgpack_read_bool(&u->r, row->key);
        break;
    case PR_PARAM_SIDE:
        value = side_take(u, row);
        break;
    case PR_PARAM_INT:
    case PR_PARAM_LIMIT: /* its 0 is "not given" */
        value = (int32_t)pr_msgpack_read_i64(
            &u->r, row->key, row->type == PR_PARAM_LIMIT ? -1 : row->min, INT32_MAX);
        break;
    case PR_PARAM_IDS:
        n = pr_msgpack_read_array(&u->r, row->key, 1, PR_PARAM_IDS_MAX);
        u->ids_at[id] = u->q.n_ids;
        ids_take(u, row->key, n);
        pr_param_ids_set(row, NULL, n, request);
        return;
    }
    if (u->r.status == PR_OK) pr_param_set(row, value, request);
}

static uint32_t time_take(unpacking *u, request_key key)
{
    return (uint32_t)pr_msgpack_read_u64(&u->r, keys[key].name, 0, PR_RPC_TIME_MS_MAX);
}

static int8_t switch_take(unpacking *u, request_key key)
{
    return pr_msgpack_read_bool(&u->r, keys[key].name);
}

static void value_take(unpacking *u, request_key key)
{
    pr_rpc_request *q = &u->q;
    pr_rpc_params *p = &q->params;
    switch (key) {
    case KEY_KIND:
        pr_msgpack_skip(&u->r, "kind");
        break;
    case KEY_ID:
        q->id = pr_msgpack_read_u64(&u->r, "id", 0, UINT64_MAX);
        break;
    case KEY_ITEMS:
        items_take(u);
        break;
    case KEY_QUERY:
        q->query = pr_msgpack_read_str(&u->r, "query", 0, SIZE_MAX, &q->n_query);
        break;
    case KEY_MODEL:
        q->model = pr_msgpack_read_str(&u->r, "model", 1, PR_RPC_NAME_BYTES_MAX, &q->n_model);
        break;
    case KEY_REQUEST_ID:
        q->request_id = pr_msgpack_read_str(&u->r, "request_id", 0, 4096, &q->n_request_id);
        break;
    case KEY_TASK:
    case KEY_REDUCE:
    case KEY_FORMAT:
    case KEY_ON_ERROR:
        word_take(u, key);
        break;
    case KEY_TIMEOUT:
        p->timeout_ms = time_take(u, key);
        break;
    case KEY_WAIT:
        p->wait_ms = time_take(u, key);
        break;
    case KEY_RETURN_TOKENS:
        p->return_tokens = switch_take(u, key);
        break;
    case KEY_SKIP_SPECIAL:
        p->skip_special_tokens = switch_take(u, key);
        break;
    case KEY_COUNT:
    case KEYS_AND_PARAMS:
        break;
    }
    if (key >= KEY_COUNT) param_take(u, (pr_param_id)(key - KEY_COUNT));
}

static void pair_take(unpacking *u, uint64_t *seen)
{
    size_t n = 0;
    const char *name = pr_rpc_key_read(&u->r, &n);
    if (!name) return;
    int key = 0;
    while (key < KEYS_AND_PARAMS && !pr_rpc_text_is(name, n, key_name(key))) key++;
    if (key == KEYS_AND_PARAMS) {
        pr_rpc_key_refuse(&u->r, name, n, "there is no such key");
    } else if (!kind_has(u->q.kind, key)) {
        pr_rpc_key_refuse(&u->r, name, n, "this kind of request does not have it");
    } else if (*seen & UINT64_C(1) << key) {
        pr_rpc_key_refuse(&u->r, name, n, "found it twice");
    } else {
        *seen |= UINT64_C(1) << key;
        if (pr_msgpack_next(&u->r) == PR_MSGPACK_NIL && key > KEY_ITEMS) {
            pr_msgpack_skip(&u->r, key_name(key)); /* nil: not given */
        } else {
            value_take(u, (request_key)key);
        }
    }
}

/* The items are documents: each becomes a pair with the query in front. */
static void query_apply(unpacking *u)
{
    pr_rpc_request *q = &u->q;
    if (!q->query) return;
    for (size_t i = 0; i < q->n_items && u->r.status == PR_OK; i++) {
        pr_rpc_item *item = &q->items[i];
        if (!item->text || item->pair) {
            u->i_item = i;
            pr_msgpack_fail(&u->r, "items", "found %s, expected a text beside \"query\"",
                            item->text ? "a pair" : "token ids");
        }
        item->pair = item->text;
        item->n_pair = item->n_text;
        item->text = q->query;
        item->n_text = q->n_query;
    }
    q->query = NULL;
    q->n_query = 0;
}

/* Lists of ids have come to rest: items and parameters may point into them. */
static void ids_apply(unpacking *u)
{
    static const int32_t nothing[1];
    pr_rpc_request *q = &u->q;
    for (int i = 0; i < PR_PARAM_COUNT; i++) {
        const pr_param_row *row = pr_param_describe((pr_param_id)i);
        size_t n = 0;
        if (row->type == PR_PARAM_IDS) (void)pr_param_ids(row, &q->params.request, &n);
        if (n > 0) pr_param_ids_set(row, q->ids + u->ids_at[i], n, &q->params.request);
    }
    size_t at = u->items_at;
    for (size_t i = 0; i < q->n_items; i++) {
        pr_rpc_item *item = &q->items[i];
        if (item->text) continue;
        item->tokens = item->n_tokens > 0 ? q->ids + at : nothing;
        at += item->n_tokens;
    }
}

pr_status pr_rpc_request_unpack(const char *payload, size_t n, pr_rpc_kind kind, size_t n_items_max,
                                pr_rpc_request *out, pr_error *err)
{
    assert(ALL & pr_rpc_kind_bit(kind));
    unpacking u = {.q = {.kind = kind}, .n_items_max = n_items_max, .i_item = SIZE_MAX};
    uint64_t seen = 0;
    pr_rpc_params_init(&u.q.params);
    pr_msgpack_reader_init(&u.r, pr_rpc_kind_name(kind), payload, n, err);
    uint32_t n_pairs = pr_msgpack_read_map(&u.r, "map", 0, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && u.r.status == PR_OK; i++) pair_take(&u, &seen);
    if (!(seen & 1u << KEY_ID)) pr_msgpack_fail(&u.r, "id", "found none");
    if (pr_rpc_kind_has_items(kind) && !(seen & 1u << KEY_ITEMS)) {
        pr_msgpack_fail(&u.r, "items", "found none");
    }
    query_apply(&u);
    pr_status st = pr_msgpack_read_end(&u.r);
    if (st != PR_OK) {
        pr_rpc_request_deinit(&u.q);
        return u.i_item == SIZE_MAX ? st : pr_error_context(err, st, "item %zu", u.i_item);
    }
    ids_apply(&u);
    *out = u.q;
    return PR_OK;
}

void pr_rpc_request_deinit(pr_rpc_request *request)
{
    free(request->items);
    free(request->ids);
    request->items = NULL;
    request->ids = NULL;
}

/* ---- the first message ---- */

pr_status pr_rpc_hello_pack(const pr_rpc_hello *hello, pr_buffer *out, pr_error *err)
{
    size_t place = pr_frame_begin(out);
    pr_msgpack_write_map(out, 2 + (hello->key != NULL) + (hello->client != NULL));
    pr_msgpack_write_text(out, "kind");
    pr_msgpack_write_text(out, "hello");
    pr_msgpack_write_text(out, "version");
    pr_msgpack_write_u64(out, PR_RPC_VERSION);
    if (hello->key) {
        pr_msgpack_write_text(out, "key");
        pr_msgpack_write_str(out, hello->key, hello->n_key);
    }
    if (hello->client) {
        pr_msgpack_write_text(out, "client");
        pr_msgpack_write_str(out, hello->client, hello->n_client);
    }
    return pr_frame_end(out, place, err);
}

/* A text that may be nil; *out stays NULL then. */
static void optional_take(pr_msgpack_reader *r, const char *field, size_t n_max, const char **out,
                          size_t *n)
{
    if (*out) {
        pr_msgpack_fail(r, field, "found it twice");
    } else if (pr_msgpack_next(r) == PR_MSGPACK_NIL) {
        pr_msgpack_skip(r, field);
    } else {
        *out = pr_msgpack_read_str(r, field, 0, n_max, n);
    }
}

pr_status pr_rpc_hello_unpack(const char *payload, size_t n, pr_rpc_hello *out, pr_error *err)
{
    pr_msgpack_reader r;
    pr_rpc_hello hello = {0};
    uint64_t version = 0;
    pr_msgpack_reader_init(&r, "hello", payload, n, err);
    uint32_t n_pairs = pr_msgpack_read_map(&r, "map", 1, UINT32_MAX);
    for (uint32_t i = 0; i < n_pairs && r.status == PR_OK; i++) {
        size_t n_name = 0;
        const char *name = pr_rpc_key_read(&r, &n_name);
        if (!name) break;
        if (pr_rpc_text_is(name, n_name, "kind")) {
            pr_msgpack_skip(&r, "kind");
        } else if (pr_rpc_text_is(name, n_name, "version")) {
            version = pr_msgpack_read_u64(&r, "version", 1, UINT64_MAX);
        } else if (pr_rpc_text_is(name, n_name, "key")) {
            optional_take(&r, "key", PR_RPC_KEY_BYTES_MAX, &hello.key, &hello.n_key);
        } else if (pr_rpc_text_is(name, n_name, "client")) {
            optional_take(&r, "client", PR_RPC_NAME_BYTES_MAX, &hello.client, &hello.n_client);
        } else {
            pr_rpc_key_refuse(&r, name, n_name, "there is no such key");
        }
    }
    if (r.status == PR_OK && version == 0) pr_msgpack_fail(&r, "version", "found none");
    pr_status st = pr_msgpack_read_end(&r);
    if (st == PR_OK && version != PR_RPC_VERSION) {
        st = pr_error_set(err, PR_E_UNSUPPORTED, "hello: version: found %llu, expected %d",
                          (unsigned long long)version, (int)PR_RPC_VERSION);
    }
    if (st == PR_OK) *out = hello;
    return st;
}
