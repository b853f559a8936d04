#define _GNU_SOURCE
#include "program/input_lines.h"

#include "runtime/base/json.h"
#include "runtime/base/utf8.h"
#include "runtime/wire/request_params.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, INTERRUPT_MS = 250 };

/* ---- items ---- */

void pr_input_item_deinit(pr_input_item *item)
{
    free(item->message);
    json_decref(item->id);
    free(item->text);
    free(item->text_pair);
    free(item->tokens);
    free(item->ids);
    free(item->messages);
    *item = (pr_input_item){0};
}

static void item_init(pr_input_item *item)
{
    *item = (pr_input_item){0};
    pr_params_unset(&item->params);
}

void pr_input_item_apply(const pr_input_item *item, pr_request *request)
{
    assert(item->kind != PR_INPUT_ERROR);
    request->text = item->text;
    request->n_text = item->n_text;
    request->text_pair = item->text_pair;
    request->n_text_pair = item->n_text_pair;
    request->messages = item->messages;
    request->n_messages = item->n_messages;
    request->tokens = item->tokens;
    request->n_tokens = item->n_tokens;
    pr_params_apply(&item->params, request);
}

/* Drops what was read of the line, keeps its id, and takes the error's message. */
static pr_status item_fail(pr_input_item *item, pr_status st, const char *message, pr_error *err)
{
    json_t *id = item->id;
    item->id = NULL;
    pr_input_item_deinit(item);
    item_init(item);
    item->kind = PR_INPUT_ERROR;
    item->status = st;
    item->id = id;
    item->message = strdup(message);
    if (item->message) return PR_OK;
    pr_input_item_deinit(item);
    return pr_error_nomem(err, "input line's error", strlen(message));
}

/* ---- the members of a JSON line ---- */

/* How one member's value is read into the item. Values are not null. */
typedef pr_status (*member_reader)(const json_t *value, const char *key, pr_input_item *item,
                                   pr_error *err);

static pr_status wrong(const json_t *value, const char *key, const char *expected, pr_error *err)
{
    return pr_error_set(err, PR_E_INPUT, "%s: found %s, expected %s", key, pr_json_type_name(value),
                        expected);
}

static pr_status string_copy(const json_t *value, const char *key, char **out, size_t *n,
                             pr_error *err)
{
    if (!json_is_string(value)) return wrong(value, key, "a string", err);
    size_t n_bytes = json_string_length(value);
    char *copy = malloc(n_bytes + 1);
    if (!copy) return pr_error_nomem(err, key, n_bytes + 1);
    memcpy(copy, json_string_value(value), n_bytes + 1);
    *out = copy;
    *n = n_bytes;
    return PR_OK;
}

static pr_status integer(const json_t *value, const char *key, int32_t min, int32_t *out,
                         pr_error *err)
{
    json_int_t i = json_integer_value(value);
    if (!json_is_integer(value)) return wrong(value, key, "an integer", err);
    if (i < min || i > INT32_MAX) {
        return pr_error_set(err, PR_E_INPUT, "%s: found %lld, expected %d to %d", key, (long long)i,
                            min, INT32_MAX);
    }
    *out = (int32_t)i;
    return PR_OK;
}

static pr_status token_ids(const json_t *value, const char *key, int32_t **out, size_t *n,
                           pr_error *err)
{
    size_t n_ids = json_array_size(value);
    if (!json_is_array(value)) return wrong(value, key, "an array of token ids", err);
    if (n_ids == 0) {
        return pr_error_set(err, PR_E_INPUT, "%s: found no token id, expected at least one", key);
    }
    int32_t *ids = malloc(n_ids * sizeof *ids);
    if (!ids) return pr_error_nomem(err, key, n_ids * sizeof *ids);
    for (size_t i = 0; i < n_ids; i++) {
        const json_t *id = json_array_get(value, i);
        if (integer(id, key, 0, &ids[i], NULL) == PR_OK) continue;
        char where[64];
        snprintf(where, sizeof where, "%s[%zu]", key, i);
        free(ids);
        int32_t none;
        return integer(id, where, 0, &none, err);
    }
    *out = ids;
    *n = n_ids;
    return PR_OK;
}

static pr_status read_id(const json_t *value, pr_input_item *item, pr_error *err)
{
    if (!json_is_string(value) && !json_is_integer(value)) {
        return wrong(value, "id", "a string or an integer", err);
    }
    item->id = json_incref((json_t *)value);
    return PR_OK;
}

static pr_status read_text(const json_t *value, const char *key, pr_input_item *item, pr_error *err)
{
    return string_copy(value, key, &item->text, &item->n_text, err);
}

static pr_status read_text_pair(const json_t *value, const char *key, pr_input_item *item,
                                pr_error *err)
{
    return string_copy(value, key, &item->text_pair, &item->n_text_pair, err);
}

static pr_status read_tokens(const json_t *value, const char *key, pr_input_item *item,
                             pr_error *err)
{
    return token_ids(value, key, &item->tokens, &item->n_tokens, err);
}

/* Which members make up the input, as bits, so that a line's set can be looked up. */
enum {
    HAS_TEXT = 1,
    HAS_TEXT_PAIR = 2,
    HAS_QUERY = 4,
    HAS_DOCUMENT = 8,
    HAS_TOKENS = 16,
    HAS_MESSAGES = 32,
    HAS_CHAT = 64 /* what belongs to messages */
};

typedef struct member {
    const char *key;
    member_reader read; /* NULL: looked at before the others */
    unsigned input_bit; /* 0: no part of the input */
} member;

static const member members[] = {
    {"id", NULL, 0},
    {"text", read_text, HAS_TEXT},
    {"text_pair", read_text_pair, HAS_TEXT_PAIR},
    {"query", read_text, HAS_QUERY},
    {"document", read_text_pair, HAS_DOCUMENT},
    {"tokens", read_tokens, HAS_TOKENS},
    {"messages", NULL, HAS_MESSAGES},
    {"tools", NULL, HAS_CHAT},
    {"documents", NULL, HAS_CHAT},
    {"chat_template", NULL, HAS_CHAT},
    {"chat_template_kwargs", NULL, HAS_CHAT},
    {"add_generation_prompt", NULL, HAS_CHAT},
    {"continue_final_message", NULL, HAS_CHAT},
};
enum { N_MEMBERS = sizeof members / sizeof *members };

/* ", "-separated; cut where it is longer than out. */
static void params_list(char *out, size_t n_out)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < PR_PARAM_COUNT; i++) {
        const pr_param_row *row = pr_param_describe((pr_param_id)i);
        if (!(row->uses & PR_USE_LINE)) continue;
        int more = snprintf(out + n, n_out - n, "%s%s", n ? ", " : "", row->key);
        if (more < 0 || (size_t)more >= n_out - n) break;
        n += (size_t)more;
    }
}

static pr_status refuse_unknown_keys(const json_t *line, pr_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)line, key, value)
    {
        size_t i = 0;
        while (i < N_MEMBERS && strcmp(key, members[i].key) != 0) i++;
        if (i < N_MEMBERS || pr_param_find(key, strlen(key), PR_USE_LINE)) continue;
        char params[512];
        params_list(params, sizeof params);
        return pr_error_set(err, PR_E_INPUT,
                            "unknown key \"%.100s\", expected text, text_pair, query, document, "
                            "tokens, messages, id, or a parameter (%s)",
                            key, params);
    }
    return PR_OK;
}

static pr_status kind_of(unsigned inputs, pr_input_kind *out, pr_error *err)
{
    if (inputs & HAS_MESSAGES) inputs &= ~(unsigned)HAS_CHAT;
    switch (inputs) {
    case HAS_TEXT:
        *out = PR_INPUT_TEXT;
        return PR_OK;
    case HAS_TEXT | HAS_TEXT_PAIR:
    case HAS_QUERY | HAS_DOCUMENT:
        *out = PR_INPUT_PAIR;
        return PR_OK;
    case HAS_TOKENS:
        *out = PR_INPUT_TOKENS;
        return PR_OK;
    case HAS_MESSAGES:
        *out = PR_INPUT_MESSAGES;
        return PR_OK;
    default:
        break;
    }
    return pr_error_set(err, PR_E_INPUT,
                        "expected one input: {\"text\"}, {\"text\", \"text_pair\"}, {\"query\", "
                        "\"document\"}, {\"tokens\"} or {\"messages\"}");
}

/* A member that is null is one that was not given. */
static const json_t *member_get(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_null(value) ? NULL : value;
}

static pr_status params_read(const json_t *line, pr_input_item *item, pr_error *err)
{
    pr_status st = PR_OK;
    for (int i = 0; i < PR_PARAM_COUNT && st == PR_OK; i++) {
        const pr_param_row *row = pr_param_describe((pr_param_id)i);
        const json_t *value = row->uses & PR_USE_LINE ? member_get(line, row->key) : NULL;
        if (value) st = pr_param_json_read(row, value, &item->params, &item->ids, err);
    }
    return st;
}

/* The line's conversation with what belongs to it, as JSON of its own. */
static pr_status messages_read(const json_t *line, pr_input_item *item, pr_error *err)
{
    json_t *chat = json_object();
    for (size_t i = 0; chat && i < N_MEMBERS; i++) {
        json_t *value = json_object_get(line, members[i].key);
        if (!value || !(members[i].input_bit & (HAS_MESSAGES | HAS_CHAT))) continue;
        if (json_object_set(chat, members[i].key, value) != 0) break;
    }
    item->messages = chat ? json_dumps(chat, JSON_COMPACT) : NULL;
    json_decref(chat);
    if (!item->messages) return pr_error_nomem(err, "messages", 0);
    item->n_messages = strlen(item->messages);
    return PR_OK;
}

static pr_status members_read(const json_t *line, pr_input_item *item, pr_error *err)
{
    const json_t *id = member_get(line, "id");
    pr_status st = id ? read_id(id, item, err) : PR_OK; /* first: later errors carry it */
    if (st == PR_OK) st = refuse_unknown_keys(line, err);
    if (st != PR_OK) return st;
    if (member_get(line, "documents") && !member_get(line, "messages")) {
        return pr_error_set(err, PR_E_INPUT,
                            "documents: a line is one pair, expected {\"query\": …, "
                            "\"document\": …}, one line for each document");
    }
    unsigned inputs = 0;
    for (size_t i = 0; i < N_MEMBERS; i++) {
        if (member_get(line, members[i].key)) inputs |= members[i].input_bit;
    }
    if ((st = kind_of(inputs, &item->kind, err)) != PR_OK) return st;
    for (size_t i = 0; i < N_MEMBERS; i++) {
        const json_t *value = member_get(line, members[i].key);
        if (!value || !members[i].read) continue;
        if ((st = members[i].read(value, members[i].key, item, err)) != PR_OK) return st;
    }
    st = params_read(line, item, err);
    if (st != PR_OK || item->kind != PR_INPUT_MESSAGES) return st;
    return messages_read(line, item, err);
}

/* ---- one line ---- */

static pr_status parse_json(const char *line, size_t n, pr_input_item *item, pr_error *err)
{
    json_t *root = NULL;
    pr_status st = pr_json_parse_unique(line, n, "JSON input", &root, err);
    if (st != PR_OK) return st == PR_E_NOMEM ? st : PR_E_INPUT;
    st = members_read(root, item, err);
    json_decref(root);
    return st;
}

static pr_status parse_text(const char *line, size_t n, pr_input_item *item, pr_error *err)
{
    item->kind = PR_INPUT_TEXT;
    item->text = malloc(n + 1);
    if (!item->text) return pr_error_nomem(err, "input line", n + 1);
    if (n > 0) memcpy(item->text, line, n);
    item->text[n] = '\0';
    item->n_text = n;
    return PR_OK;
}

pr_status pr_input_line_parse(const char *line, size_t n, pr_input_item *item, pr_error *err)
{
    assert(item);
    pr_error why = {0};
    item_init(item);
    pr_status st;
    size_t n_valid = pr_utf8_prefix(line, n);
    if (n_valid < n) {
        st = pr_error_set(&why, PR_E_INPUT, "invalid UTF-8 at byte %zu of the line", n_valid);
    } else if (n > 0 && line[0] == '{') {
        st = parse_json(line, n, item, &why);
    } else {
        st = parse_text(line, n, item, &why);
    }
    if (st == PR_OK) return PR_OK;
    if (st != PR_E_NOMEM) return item_fail(item, st, why.message, err);
    pr_input_item_deinit(item);
    return pr_error_set(err, st, "%s", why.message);
}

/* ---- reading ---- */

struct pr_input_lines {
    int fd;
    bool owns_fd;
    char *name;
    size_t line_bytes_max;
    uint64_t index; /* of the next line */
    char *data;     /* [n_max]; the unread bytes are [begin, end) */
    size_t n_max;
    size_t begin;
    size_t end;
    size_t n_searched;                /* of the unread bytes, known to hold no newline */
    bool is_skipping;                 /* inside a line that was too long and has been reported */
    bool is_at_end;                   /* read returned 0 */
    const atomic_int *is_interrupted; /* borrowed; NULL: nobody interrupts */
};

pr_status pr_input_lines_create(int fd, const char *name, size_t line_bytes_max,
                                pr_input_lines **out, pr_error *err)
{
    assert(out);
    assert(name);
    pr_input_lines *in = calloc(1, sizeof *in);
    if (!in) return pr_error_nomem(err, name, sizeof *in);
    in->fd = fd;
    in->line_bytes_max = line_bytes_max ? line_bytes_max : PR_INPUT_LINE_BYTES_MAX;
    in->name = strdup(name);
    in->data = malloc(READ_BYTES);
    in->n_max = READ_BYTES;
    if (!in->name || !in->data) {
        pr_input_lines_close(in);
        return pr_error_nomem(err, name, READ_BYTES);
    }
    *out = in;
    return PR_OK;
}

pr_status pr_input_lines_open(const char *path, size_t line_bytes_max, pr_input_lines **out,
                              pr_error *err)
{
    if (!path || strcmp(path, "-") == 0) {
        return pr_input_lines_create(STDIN_FILENO, "standard input", line_bytes_max, out, err);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return pr_error_errno(err, errno, "%s", path);
    struct stat sb;
    pr_status st;
    if (fstat(fd, &sb) == 0 && S_ISDIR(sb.st_mode)) {
        st = pr_error_set(err, PR_E_ARGUMENT, "%s: found a folder, expected a file of lines", path);
    } else {
        st = pr_input_lines_create(fd, path, line_bytes_max, out, err);
    }
    if (st != PR_OK) {
        close(fd);
        return st;
    }
    (*out)->owns_fd = true;
    return PR_OK;
}

void pr_input_lines_close(pr_input_lines *in)
{
    if (!in) return;
    if (in->owns_fd) close(in->fd);
    free(in->name);
    free(in->data);
    free(in);
}

/* Room for more bytes behind the unread ones: by moving them to the front, then by growing. The
 * unread bytes are at most one line and its end, so that the buffer is bounded. */
static pr_status room_make(pr_input_lines *in, pr_error *err)
{
    if (in->end < in->n_max) return PR_OK;
    if (in->begin > 0) {
        memmove(in->data, in->data + in->begin, in->end - in->begin);
        in->end -= in->begin;
        in->begin = 0;
        return PR_OK;
    }
    char *data = realloc(in->data, in->n_max * 2);
    if (!data) return pr_error_nomem(err, in->name, in->n_max * 2);
    in->data = data;
    in->n_max *= 2;
    return PR_OK;
}

void pr_input_lines_watch(pr_input_lines *in, const atomic_int *is_interrupted)
{
    in->is_interrupted = is_interrupted;
}

bool pr_input_lines_is_file(const pr_input_lines *in)
{
    struct stat about;
    return fstat(in->fd, &about) == 0 && S_ISREG(about.st_mode);
}

/* Waits for bytes, and looks at the flag now and then: a signal that comes just before the wait
 * does not end it. */
static pr_status bytes_await(const pr_input_lines *in, pr_error *err)
{
    while (in->is_interrupted) {
        if (*in->is_interrupted) return pr_error_set(err, PR_E_CANCELLED, "interrupted");
        struct pollfd p = {.fd = in->fd, .events = POLLIN};
        int n = poll(&p, 1, INTERRUPT_MS);
        if (n > 0 || (n < 0 && errno != EINTR)) break;
    }
    return PR_OK;
}

static pr_status fill(pr_input_lines *in, pr_error *err)
{
    pr_status st = room_make(in, err);
    if (st != PR_OK) return st;
    for (;;) {
        if ((st = bytes_await(in, err)) != PR_OK) return st;
        ssize_t got = read(in->fd, in->data + in->end, in->n_max - in->end);
        if (got > 0) in->end += (size_t)got;
        if (got == 0) in->is_at_end = true;
        if (got >= 0) return PR_OK;
        if (errno == EAGAIN || errno == EWOULDBLOCK) { /* someone made the shared pipe so */
            struct pollfd p = {.fd = in->fd, .events = POLLIN};
            (void)poll(&p, 1, -1);
        } else if (errno != EINTR) {
            return pr_error_errno(err, errno, "read %s", in->name);
        }
    }
}

/* What the unread bytes begin with. */
typedef enum found { FOUND_LINE, FOUND_TOO_LONG, FOUND_END, FOUND_NEED_MORE } found;

/* n: the line's bytes without its end; n_used: with it. */
static found line_find(pr_input_lines *in, size_t *n, size_t *n_used)
{
    char *start = in->data + in->begin;
    size_t n_unread = in->end - in->begin;
    char *newline = memchr(start + in->n_searched, '\n', n_unread - in->n_searched);
    in->n_searched = n_unread;
    if (newline) {
        *n = (size_t)(newline - start);
        *n_used = *n + 1;
        if (*n > 0 && newline[-1] == '\r') --*n;
    } else if (in->is_at_end) {
        *n = *n_used = n_unread;
        if (n_unread == 0 && !in->is_skipping) return FOUND_END;
    } else if (n_unread > in->line_bytes_max + 1) { /* one more may be the \r before a newline */
        *n = *n_used = n_unread;
        return FOUND_TOO_LONG;
    } else {
        return FOUND_NEED_MORE;
    }
    return *n > in->line_bytes_max && !in->is_skipping ? FOUND_TOO_LONG : FOUND_LINE;
}

static void consume(pr_input_lines *in, size_t n)
{
    in->begin += n;
    in->n_searched = 0;
    if (in->begin == in->end) in->begin = in->end = 0;
}

static pr_status too_long(const pr_input_lines *in, pr_input_item *item, pr_error *err)
{
    char message[96];
    snprintf(message, sizeof message, "line longer than %zu bytes", in->line_bytes_max);
    item_init(item);
    return item_fail(item, PR_E_TOO_LARGE, message, err);
}

/* The first line behind a byte order mark would silently be text although it looks like JSON. */
static pr_status line_item(const pr_input_lines *in, const char *line, size_t n,
                           pr_input_item *item, pr_error *err)
{
    if (in->index == 0 && n > 3 && memcmp(line, "\xEF\xBB\xBF{", 4) == 0) {
        item_init(item);
        return item_fail(item, PR_E_INPUT,
                         "the input begins with a byte order mark (EF BB BF) before {: save it as "
                         "UTF-8 without one",
                         err);
    }
    return pr_input_line_parse(line, n, item, err);
}

pr_status pr_input_lines_next(pr_input_lines *in, pr_input_item *item, bool *has_item,
                              pr_error *err)
{
    assert(item);
    assert(has_item);
    for (;;) {
        size_t n = 0, n_used = 0;
        pr_status st = PR_OK;
        pr_input_item next;
        found what = line_find(in, &n, &n_used);
        if (what == FOUND_END) {
            *has_item = false;
            return PR_OK;
        }
        if (what == FOUND_NEED_MORE) {
            if ((st = fill(in, err)) != PR_OK) return st;
            continue;
        }
        if (in->is_skipping) { /* more of a line that was reported, or its end */
            in->is_skipping = what == FOUND_TOO_LONG;
            consume(in, n_used);
            continue;
        }
        if (what == FOUND_LINE) {
            st = line_item(in, in->data + in->begin, n, &next, err);
        } else {
            st = too_long(in, &next, err);
            in->is_skipping = in->data[in->begin + n_used - 1] != '\n';
        }
        consume(in, n_used);
        if (st != PR_OK)
            return pr_error_context(err, st, "%s: line %llu", in->name,
                                    (unsigned long long)in->index + 1);
        next.index = in->index++;
        *item = next;
        *has_item = true;
        return PR_OK;
    }
}
