/* tests/fuzz/fuzz_template.c: any bytes as a chat template.
 *
 * What parses is rendered over a small conversation with tight bounds; output is then well-formed
 * UTF-8 and within its bound. */
#include "runtime/base/utf8.h"
#include "runtime/text/template/template.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static json_t *conversation(void)
{
    static const char text[] =
        "[{\"role\":\"user\",\"content\":\"\\u00e9 <b> \\u4f60\"},{\"role\":\"assistant\","
        "\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"n\":[1,2.5,-3,null,true,\"a,b\"]}]";
    return json_loads(text, 0, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const pr_template_limits limits = {
        .n_steps = 100000, .n_depth = 300, .output_bytes = 1 << 16, .memory_bytes = 16 << 20};
    pr_template *t = NULL;
    pr_error err;
    if (n > 4096 || pr_template_parse((const char *)data, n, &t, NULL, &err) != PR_OK) return 0;
    json_t *messages = conversation();
    pr_template_variable variables[] = {{"messages", messages}, {"tools", NULL}};
    pr_template_input input = {.variables = variables, .n_variables = 2, .limits = &limits};
    pr_buffer out;
    pr_buffer_init(&out);
    if (pr_template_render(t, &input, &out, NULL, &err) == PR_OK && out.n) {
        if (out.n > limits.output_bytes || pr_utf8_prefix(out.data, out.n) != out.n) abort();
    }
    pr_buffer_deinit(&out);
    json_decref(messages);
    pr_template_free(t);
    return 0;
}
