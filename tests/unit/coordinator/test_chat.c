/* A conversation to a text, against what transformers 5.16's apply_chat_template gives for the same
 * template and messages. */
#include "coordinator/model/chat.h"

#include "runtime/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEMPLATE                                                                                   \
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{{ eos_token }}{% endfor %}"     \
    "{% if tools %}{{ tools | tojson }}{% endif %}{{ extra }}"                                     \
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"                                       \
    "{% if messages | length > 2 %}{{ raise_exception('too many turns') }}{% endif %}"

typedef struct fixture {
    char folder[64];
    pr_config config;
    pr_tokenizer_source source;
    pr_chat *chat;
} fixture;

static void put(const fixture *f, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void folder_make(fixture *f, const char *tokenizer_config)
{
    memset(f, 0, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/poolrank-chat-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    char path[256];
    snprintf(path, sizeof path, "%s/tokenizer.json", f->folder);
    f->source.path = strdup(path);
    pr_error err = {0};
    assert_int_equal(
        pr_json_parse(tokenizer_config, strlen(tokenizer_config), "test", &f->source.config, &err),
        PR_OK);
}

static void folder_remove(fixture *f)
{
    static const char *const names[] = {"chat_template.jinja", "chat_template.json",
                                        "additional_chat_templates/rag.jinja",
                                        "additional_chat_templates", "given.jinja"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", f->folder, names[i]);
        remove(path);
    }
    rmdir(f->folder);
    free(f->source.path);
    json_decref(f->source.config);
    pr_chat_close(f->chat);
}

static void open_chat(fixture *f)
{
    pr_error err = {0};
    pr_status st = pr_chat_open(&f->config, &f->source, &f->chat, &err);
    if (st != PR_OK) fail_msg("%s", err.message);
}

static pr_status render(const fixture *f, const char *json, pr_buffer *text, pr_error *err)
{
    pr_buffer_init(text);
    return pr_chat_render(f->chat, json, strlen(json), 0, text, err);
}

static void gives(const fixture *f, const char *json, const char *expected)
{
    pr_buffer text;
    pr_error err = {0};
    if (render(f, json, &text, &err) != PR_OK) fail_msg("%s: %s", json, err.message);
    assert_string_equal(pr_buffer_str(&text), expected);
    pr_buffer_deinit(&text);
}

static void fails(const fixture *f, const char *json, pr_status status, const char *says)
{
    pr_buffer text;
    pr_error err = {0};
    pr_status st = render(f, json, &text, &err);
    assert_int_equal(st, status);
    if (!strstr(err.message, says)) fail_msg("found %s, expected %s", err.message, says);
    pr_buffer_deinit(&text);
}

#define CONFIG(rest)                                                                               \
    "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\", \"special\": true}" rest "}"
#define USER "{\"role\":\"user\",\"content\":\" hi \"}"
#define SAID "{\"role\":\"assistant\",\"content\":\"so be it  \"}"

static void a_conversation_becomes_the_templates_text(void **state)
{
    (void)state;
    fixture f;
    folder_make(&f, CONFIG(""));
    put(&f, "chat_template.jinja", TEMPLATE);
    open_chat(&f);
    gives(&f, "[" USER "]", "<|user|>hi</s>");
    gives(&f, "{\"messages\":[" USER "],\"add_generation_prompt\":true}",
          "<|user|>hi</s><|assistant|>");
    gives(&f, "{\"messages\":[" USER "],\"chat_template_kwargs\":{\"extra\":[1]}}",
          "<|user|>hi</s>[1]");
    gives(&f, "{\"messages\":[],\"tools\":[{\"é\":1.0}]}", "[{\"é\": 1.0}]");
    gives(&f, "{\"messages\":[" USER "," SAID "],\"continue_final_message\":true}",
          "<|user|>hi</s><|assistant|>so be it");
    folder_remove(&f);
}

static void what_is_wrong_with_a_conversation_is_said(void **state)
{
    (void)state;
    fixture f;
    folder_make(&f, CONFIG(""));
    put(&f, "chat_template.jinja", TEMPLATE);
    open_chat(&f);
    fails(&f, "[" USER "," USER "," USER "]", PR_E_INPUT, "too many turns");
    fails(&f, "[1]", PR_E_INPUT, "messages[0]: found an integer, expected an object");
    fails(&f, "{\"messages\":{}}", PR_E_INPUT, "messages: found an object, expected an array");
    fails(&f, "{}", PR_E_INPUT, "messages: found nothing");
    fails(&f, "[", PR_E_INPUT, "messages: column");
    fails(&f, "{\"messages\":[],\"tools\":[1]}", PR_E_INPUT, "tools[0]: found an integer");
    fails(&f, "{\"messages\":[],\"what\":1}", PR_E_INPUT, "unknown key \"what\"");
    fails(&f, "{\"messages\":[],\"add_generation_prompt\":1}", PR_E_INPUT, "true or false");
    fails(&f, "{\"messages\":[],\"chat_template_kwargs\":{\"tools\":1}}", PR_E_INPUT,
          "tools is a member of the request itself");
    fails(&f, "{\"messages\":[],\"continue_final_message\":true}", PR_E_INPUT,
          "no \"content\" to continue");
    fails(&f,
          "{\"messages\":[" USER "],\"continue_final_message\":true,"
          "\"add_generation_prompt\":true}",
          PR_E_INPUT, "not compatible");
    fails(&f, "{\"messages\":[],\"chat_template\":\"rag\"}", PR_E_UNSUPPORTED,
          "expected one of the model's: default");
    folder_remove(&f);
}

static void templates_are_found_where_transformers_finds_them(void **state)
{
    (void)state;
    char path[256];
    fixture f;
    folder_make(&f, CONFIG(", \"chat_template\": \"config\""));
    open_chat(&f);
    gives(&f, "[]", "config");
    pr_chat_close(f.chat);
    put(&f, "chat_template.json", "{\"chat_template\": \"processor\"}");
    open_chat(&f);
    gives(&f, "[]", "config");
    pr_chat_close(f.chat);
    json_object_del(f.source.config, "chat_template");
    open_chat(&f);
    gives(&f, "[]", "processor");
    pr_chat_close(f.chat);
    put(&f, "chat_template.jinja", "file");
    snprintf(path, sizeof path, "%s/additional_chat_templates", f.folder);
    assert_int_equal(mkdir(path, 0700), 0);
    put(&f, "additional_chat_templates/rag.jinja", "rag");
    open_chat(&f);
    gives(&f, "[]", "file");
    gives(&f, "{\"messages\":[],\"chat_template\":\"rag\"}", "rag");
    pr_chat_close(f.chat);
    put(&f, "given.jinja", "given");
    snprintf(path, sizeof path, "%s/given.jinja", f.folder);
    f.config.chat_template = path;
    open_chat(&f);
    gives(&f, "[]", "given");
    folder_remove(&f);
}

static void tools_take_the_template_that_is_for_them(void **state)
{
    (void)state;
    fixture f;
    folder_make(&f, CONFIG(", \"chat_template\": [{\"name\": \"default\", \"template\": \"plain\"},"
                           "{\"name\": \"tool_use\", \"template\": \"tools\"}]"));
    open_chat(&f);
    gives(&f, "[]", "plain");
    gives(&f, "{\"messages\":[],\"tools\":[]}", "tools");
    folder_remove(&f);
}

static void a_template_that_cannot_be_used_fails_when_it_is_asked_for(void **state)
{
    (void)state;
    static char given[] = "{% include 'x' %}";
    fixture f;
    folder_make(&f, CONFIG(", \"chat_template\": \"\\n{% if %}\""));
    open_chat(&f);
    fails(&f, "[]", PR_E_UNSUPPORTED, "line 2: TemplateSyntaxError: Expected an expression");
    pr_chat_close(f.chat);
    json_object_del(f.source.config, "chat_template");
    open_chat(&f);
    fails(&f, "[]", PR_E_UNSUPPORTED, "the model has no chat template");
    pr_chat_close(f.chat);
    f.chat = NULL;
    f.config.chat_template = given;
    pr_error err = {0};
    assert_int_equal(pr_chat_open(&f.config, &f.source, &f.chat, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "the tag 'include'"));
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_becomes_the_templates_text),
        cmocka_unit_test(what_is_wrong_with_a_conversation_is_said),
        cmocka_unit_test(templates_are_found_where_transformers_finds_them),
        cmocka_unit_test(tools_take_the_template_that_is_for_them),
        cmocka_unit_test(a_template_that_cannot_be_used_fails_when_it_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
