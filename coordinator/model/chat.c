#include "coordinator/model/chat.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/text/template/template.h"

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPLATES_MAX = 64, VARIABLES_MAX = 256 };

typedef struct named {
    char *name;
    pr_template *parsed; /* NULL: it cannot be used */
    char *source;        /* for continue_final_message, and to be parsed */
    pr_error why;        /* where parsed is NULL */
} named;

struct pr_chat {
    named templates[TEMPLATES_MAX];
    size_t n_templates;
    json_t *special; /* an object: "bos_token": "<s>", … */
};

void pr_chat_close(pr_chat *chat)
{
    if (!chat) return;
    for (size_t i = 0; i < chat->n_templates; i++) {
        free(chat->templates[i].name);
        free(chat->templates[i].source);
        pr_template_free(chat->templates[i].parsed);
    }
    json_decref(chat->special);
    free(chat);
}

/* ---- reading ---- */

static pr_status add(pr_chat *chat, const char *name, const char *source, size_t n, pr_error *err)
{
    if (chat->n_templates == TEMPLATES_MAX) {
        return pr_error_set(err, PR_E_MODEL, "more than %d chat templates", TEMPLATES_MAX);
    }
    named *t = &chat->templates[chat->n_templates];
    *t = (named){.name = strdup(name), .source = malloc(n + 1)};
    chat->n_templates++;
    if (!t->name || !t->source) return pr_error_nomem(err, "chat template", n);
    memcpy(t->source, source, n);
    t->source[n] = '\0';
    pr_status st = pr_template_parse(source, n, &t->parsed, NULL, &t->why);
    return st == PR_E_NOMEM ? pr_error_nomem(err, "chat template", n) : PR_OK;
}

static pr_status add_file(pr_chat *chat, const char *name, const char *path, pr_error *err)
{
    char *data = NULL;
    size_t n = 0;
    pr_status st = pr_file_read(path, PR_TEMPLATE_SOURCE_BYTES_MAX, &data, &n, err);
    if (st == PR_OK) st = add(chat, name, data, n, err);
    free(data);
    return st;
}

/* --chat-template: a file, or the template itself, as vLLM takes it. */
static pr_status add_option(pr_chat *chat, const char *value, pr_error *err)
{
    bool is_text = strchr(value, '\n') || strstr(value, "{{") || strstr(value, "{%");
    pr_status st = is_text ? add(chat, "default", value, strlen(value), err)
                           : add_file(chat, "default", value, err);
    if (st == PR_OK && !chat->templates[0].parsed) {
        st = pr_error_set(err, PR_E_ARGUMENT, "%s", chat->templates[0].why.message);
    }
    return st == PR_OK ? st : pr_error_context(err, st, "--chat-template");
}

/* chat_template of tokenizer_config.json or chat_template.json. */
static pr_status add_member(pr_chat *chat, const json_t *config, pr_error *err)
{
    const json_t *value = json_object_get(config, "chat_template");
    if (json_is_string(value)) {
        return add(chat, "default", json_string_value(value), json_string_length(value), err);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        const json_t *source = json_object_get(one, "template");
        if (!name || !json_is_string(source)) {
            return pr_error_set(err, PR_E_MODEL,
                                "tokenizer_config.json: chat_template[%zu]: expected {\"name\": "
                                "string, \"template\": string}",
                                i);
        }
        pr_status st = add(chat, name, json_string_value(source), json_string_length(source), err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static pr_status add_folder(pr_chat *chat, const char *folder, pr_error *err)
{
    struct dirent **entries = NULL;
    pr_status st = PR_OK;
    int n = scandir(folder, &entries, NULL, by_name);
    for (int i = 0; i < n; i++) {
        char path[4096], name[256];
        size_t length = strlen(entries[i]->d_name);
        bool is_template = length > 6 && length < sizeof name &&
                           strcmp(entries[i]->d_name + length - 6, ".jinja") == 0;
        if (st == PR_OK && is_template) {
            snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
            snprintf(name, sizeof name, "%.*s", (int)length - 6, entries[i]->d_name);
            st = add_file(chat, name, path, err);
        }
        free(entries[i]);
    }
    free(entries);
    return st;
}

/* The files beside tokenizer.json. */
static pr_status add_files(pr_chat *chat, const pr_tokenizer_source *source, pr_error *err)
{
    char path[4096];
    const char *slash = strrchr(source->path, '/');
    int n = slash ? (int)(slash - source->path) : 1;
    const char *folder = slash ? source->path : ".";
    snprintf(path, sizeof path, "%.*s/chat_template.jinja", n, folder);
    pr_status st = pr_file_exists(path) ? add_file(chat, "default", path, err) : PR_OK;
    snprintf(path, sizeof path, "%.*s/additional_chat_templates", n, folder);
    if (st == PR_OK) st = add_folder(chat, path, err);
    if (st != PR_OK || chat->n_templates) return st;
    st = add_member(chat, source->config, err);
    if (st != PR_OK || chat->n_templates) return st;
    snprintf(path, sizeof path, "%.*s/chat_template.json", n, folder);
    if (!pr_file_exists(path)) return PR_OK;
    json_t *file = NULL;
    st = pr_json_load(path, 2 * PR_TEMPLATE_SOURCE_BYTES_MAX, &file, err);
    if (st == PR_OK) st = add_member(chat, file, err);
    json_decref(file);
    return st;
}

/* Keys that end in _token, with their text; what is known already stays. */
static bool add_special(pr_chat *chat, const json_t *config)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)config, key, value)
    {
        size_t n = strlen(key);
        if (n < 6 || strcmp(key + n - 6, "_token") != 0) continue;
        if (json_object_get(chat->special, key)) continue;
        if (json_is_object(value)) value = json_object_get(value, "content");
        if (!json_is_string(value)) continue;
        if (json_object_set(chat->special, key, value) != 0) return false;
    }
    return true;
}

pr_status pr_chat_open(const pr_config *config, const pr_tokenizer_source *source, pr_chat **out,
                       pr_error *err)
{
    pr_chat *chat = calloc(1, sizeof *chat);
    if (!chat) return pr_error_nomem(err, "chat templates", sizeof *chat);
    chat->special = json_object();
    bool ok = chat->special && add_special(chat, source->config) &&
              add_special(chat, json_object_get(source->config, "extra_special_tokens")) &&
              add_special(chat, source->special_map);
    pr_status st = ok ? PR_OK : pr_error_nomem(err, "special tokens", 0);
    if (st == PR_OK) {
        st = config->chat_template ? add_option(chat, config->chat_template, err)
                                   : add_files(chat, source, err);
    }
    if (st == PR_OK)
        *out = chat;
    else
        pr_chat_close(chat);
    return st;
}

/* ---- a conversation ---- */

/* What a request says, borrowed from its JSON but for `messages`. */
typedef struct talk {
    json_t *messages; /* owned */
    const json_t *tools, *documents, *kwargs, *name;
    bool generation, continues;
} talk;

static pr_status wrong(const char *key, const json_t *found, const char *expected, pr_error *err)
{
    return pr_error_set(err, PR_E_INPUT, "%s: found %s, expected %s", key,
                        found ? pr_json_type_name(found) : "nothing", expected);
}

static pr_status objects_check(const char *key, const json_t *list, pr_error *err)
{
    if (!list) return PR_OK;
    if (!json_is_array(list)) return wrong(key, list, "an array of objects", err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        char where[64];
        snprintf(where, sizeof where, "%s[%zu]", key, i);
        if (!json_is_object(one)) return wrong(where, one, "an object", err);
    }
    return PR_OK;
}

static pr_status switch_read(const json_t *o, const char *key, bool *out, pr_error *err)
{
    const json_t *value = json_object_get(o, key);
    if (!value || json_is_null(value)) return PR_OK;
    if (!json_is_boolean(value)) return wrong(key, value, "true or false", err);
    *out = json_is_true(value);
    return PR_OK;
}

static const json_t *member(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    return json_is_null(value) ? NULL : value;
}

static pr_status keys_check(const json_t *o, pr_error *err)
{
    static const char *const known[] = {"messages",
                                        "tools",
                                        "documents",
                                        "chat_template_kwargs",
                                        "chat_template",
                                        "add_generation_prompt",
                                        "continue_final_message"};
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)o, key, value)
    {
        size_t i = 0, n = sizeof known / sizeof *known;
        while (i < n && strcmp(key, known[i]) != 0) i++;
        if (i == n) return pr_error_set(err, PR_E_INPUT, "messages: unknown key \"%.100s\"", key);
    }
    return PR_OK;
}

/* root: an array of messages or an object. */
static pr_status talk_read(json_t *root, talk *t, pr_error *err)
{
    bool list = json_is_array(root);
    json_t *messages = list ? root : json_object_get(root, "messages");
    *t = (talk){0};
    if (!list && !json_is_object(root)) return wrong("messages", root, "an array of objects", err);
    pr_status st = list ? PR_OK : keys_check(root, err);
    if (st != PR_OK) return st;
    if (!messages) return wrong("messages", NULL, "an array of objects", err);
    if ((st = objects_check("messages", messages, err)) != PR_OK) return st;
    if (!list) {
        t->tools = member(root, "tools");
        t->documents = member(root, "documents");
        t->kwargs = member(root, "chat_template_kwargs");
        t->name = member(root, "chat_template");
        if ((st = objects_check("tools", t->tools, err)) != PR_OK ||
            (st = objects_check("documents", t->documents, err)) != PR_OK ||
            (st = switch_read(root, "add_generation_prompt", &t->generation, err)) != PR_OK ||
            (st = switch_read(root, "continue_final_message", &t->continues, err)) != PR_OK) {
            return st;
        }
    }
    if (t->kwargs && !json_is_object(t->kwargs)) {
        return wrong("chat_template_kwargs", t->kwargs, "an object", err);
    }
    if (t->name && !json_is_string(t->name)) {
        return wrong("chat_template", t->name, "the name of one of the model's templates", err);
    }
    if (t->continues && t->generation) {
        return pr_error_set(err, PR_E_INPUT,
                            "continue_final_message and add_generation_prompt are not compatible");
    }
    t->messages = json_incref(messages);
    return PR_OK;
}

static const named *find(const pr_chat *chat, const char *name)
{
    for (size_t i = 0; i < chat->n_templates; i++) {
        if (strcmp(chat->templates[i].name, name) == 0) return &chat->templates[i];
    }
    return NULL;
}

static pr_status choose(const pr_chat *chat, const talk *t, const named **out, pr_error *err)
{
    const char *wanted = t->name ? json_string_value(t->name) : "default";
    const named *found = NULL;
    if (!t->name && t->tools) found = find(chat, "tool_use");
    if (!found) found = find(chat, wanted);
    if (!found && chat->n_templates == 0) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "messages: the model has no chat template (tokenizer_config.json, "
                            "chat_template.jinja); give one with --chat-template FILE");
    }
    if (!found) {
        char names[512];
        size_t n = 0;
        for (size_t i = 0; i < chat->n_templates && n < sizeof names; i++) {
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
                                  chat->templates[i].name);
        }
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "chat_template: found \"%.100s\", expected one of the model's: %s",
                            wanted, names);
    }
    if (!found->parsed) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "chat template \"%s\": %s", found->name,
                            found->why.message);
    }
    *out = found;
    return PR_OK;
}

/* ---- continue_final_message, as transformers does it ---- */

static const char tag[] = "CONTINUE_FINAL_MESSAGE_TAG ";
enum { TAG_BYTES = sizeof tag - 1, TAG_BARE_BYTES = TAG_BYTES - 1 };

static json_t *with_tag(const json_t *text)
{
    pr_buffer b;
    pr_buffer_init(&b);
    pr_buffer_append(&b, json_string_value(text), json_string_length(text));
    pr_buffer_append(&b, tag, TAG_BYTES);
    json_t *both = b.failed ? NULL : json_stringn(b.data, b.n);
    pr_buffer_deinit(&b);
    return both;
}

/* The place of the text that is continued: of the last message's content, or of its last part that
 * has one. *holder: whose member *key it is, borrowed. */
static pr_status final_text(json_t *messages, json_t **holder, const char **key, pr_error *err)
{
    size_t n = json_array_size(messages);
    json_t *last = n ? json_array_get(messages, n - 1) : NULL;
    json_t *content = json_object_get(last, "content");
    *holder = last;
    *key = "content";
    if (json_is_string(content)) return PR_OK;
    for (size_t i = json_array_size(content); i > 0; i--) {
        *holder = json_array_get(content, i - 1);
        *key = "text";
        if (json_is_string(json_object_get(*holder, "text"))) return PR_OK;
    }
    return pr_error_set(err, PR_E_INPUT,
                        "continue_final_message is set but the final message has no \"content\" "
                        "to continue!");
}

/* Puts the tag behind the last message; t->messages becomes a copy. *final: owned, the text. */
static pr_status continue_begin(talk *t, json_t **final, pr_error *err)
{
    json_t *copy = json_deep_copy(t->messages), *holder = NULL;
    const char *key = NULL;
    if (!copy) return pr_error_nomem(err, "messages", 0);
    json_decref(t->messages);
    t->messages = copy;
    pr_status st = final_text(copy, &holder, &key, err);
    if (st != PR_OK) return st;
    *final = json_incref(json_object_get(holder, key));
    if (json_object_set_new(holder, key, with_tag(*final)) != 0) {
        return pr_error_nomem(err, "messages", 0);
    }
    return PR_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

static const char *find_last(const char *s, const char *what)
{
    const char *found = NULL;
    for (const char *at = s; (at = strstr(at, what)); at++) found = at;
    return found;
}

/* Cuts the text behind the last message's content. */
static pr_status continue_end(const json_t *final, pr_buffer *text, pr_error *err)
{
    char bare[TAG_BARE_BYTES + 1];
    memcpy(bare, tag, TAG_BARE_BYTES);
    bare[TAG_BARE_BYTES] = '\0';
    const char *s = pr_buffer_str(text);
    if (!s) return pr_error_nomem(err, "rendered text", text->n);
    const char *at = find_last(s, bare);
    const char *begin = json_string_value(final);
    size_t n = json_string_length(final);
    while (n && is_space(*begin)) begin++, n--;
    while (n && is_space(begin[n - 1])) n--;
    char *stripped = strndup(begin, n);
    bool found = stripped && strstr(s, stripped);
    free(stripped);
    if (!at || !found) {
        return pr_error_set(err, PR_E_INPUT,
                            "continue_final_message is set but the final message does not appear "
                            "in the chat after applying the chat template!");
    }
    bool whole = strncmp(at, tag, TAG_BYTES) == 0;
    text->n = (size_t)(at - s);
    while (!whole && text->n && is_space(text->data[text->n - 1])) text->n--;
    return PR_OK;
}

/* ---- rendering ---- */

typedef struct variables {
    pr_template_variable items[VARIABLES_MAX];
    size_t n;
} variables;

static pr_status set(variables *v, const char *name, const json_t *value, pr_error *err)
{
    if (v->n == VARIABLES_MAX) {
        return pr_error_set(err, PR_E_INPUT, "chat_template_kwargs: more than %d variables",
                            VARIABLES_MAX);
    }
    v->items[v->n++] = (pr_template_variable){.name = name, .value = value};
    return PR_OK;
}

static pr_status set_all(variables *v, const json_t *from, bool kwargs, pr_error *err)
{
    static const char *const own[] = {"messages", "tools", "documents", "add_generation_prompt"};
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)from, key, value)
    {
        for (size_t i = 0; kwargs && i < sizeof own / sizeof *own; i++) {
            if (strcmp(key, own[i]) != 0) continue;
            return pr_error_set(err, PR_E_INPUT,
                                "chat_template_kwargs: %s is a member of the request itself", key);
        }
        pr_status st = set(v, key, value, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static pr_status render(const pr_chat *chat, const named *chosen, const talk *t, int64_t now_us,
                        pr_buffer *text, pr_error *err)
{
    variables v = {.n = 0};
    json_t *generation = t->generation ? json_true() : json_false();
    pr_status st = set_all(&v, chat->special, false, err);
    if (st == PR_OK) st = set_all(&v, t->kwargs, true, err);
    if (st == PR_OK) st = set(&v, "messages", t->messages, err);
    if (st == PR_OK) st = set(&v, "tools", t->tools, err);
    if (st == PR_OK) st = set(&v, "documents", t->documents, err);
    if (st == PR_OK) st = set(&v, "add_generation_prompt", generation, err);
    pr_template_input input = {.variables = v.items, .n_variables = v.n, .now_us = now_us};
    if (st == PR_OK) st = pr_template_render(chosen->parsed, &input, text, NULL, err);
    return st == PR_OK ? st : pr_error_context(err, st, "chat template");
}

static pr_status render_talk(const pr_chat *chat, talk *t, int64_t now_us, pr_buffer *text,
                             pr_error *err)
{
    const named *chosen = NULL;
    json_t *final = NULL;
    pr_status st = choose(chat, t, &chosen, err);
    if (st == PR_OK && t->continues) st = continue_begin(t, &final, err);
    if (st == PR_OK) st = render(chat, chosen, t, now_us, text, err);
    if (st == PR_OK && t->continues) st = continue_end(final, text, err);
    json_decref(final);
    return st;
}

pr_status pr_chat_render(const pr_chat *chat, const char *json, size_t n, int64_t now_us,
                         pr_buffer *text, pr_error *err)
{
    assert(chat);
    json_t *root = NULL;
    talk t = {0};
    pr_error why = {0};
    pr_status st = pr_json_parse(json, n, "messages", &root, &why);
    if (st != PR_OK) {
        return pr_error_set(err, st == PR_E_MODEL ? PR_E_INPUT : st, "%s", why.message);
    }
    st = talk_read(root, &t, err);
    if (st == PR_OK) st = render_talk(chat, &t, now_us, text, err);
    json_decref(t.messages);
    json_decref(root);
    return st;
}
