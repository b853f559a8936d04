/* POST /tokenize, /detokenize: vLLM's. */
#include "server/http/http_api.h"
#include "server/http/http_input.h"
#include "server/http/http_write.h"

#include "runtime/base/json.h"
#include "runtime/base/json_write.h"

#include <stdlib.h>

bool pr_http_tokenize_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_TOKENIZE)) return false;
    x->params->item.tokenize_only = true;
    bool ok = false;
    if (pr_http_messages_read(x, "prompt", &ok)) return ok;
    const json_t *prompt = pr_http_value(x, "prompt");
    if (!json_is_string(prompt)) {
        return pr_http_refuse(x, "prompt", "found %s, expected a string",
                              pr_json_type_name(prompt));
    }
    return pr_http_texts_read(x, "prompt");
}

static void strings_write(pr_buffer *b, const pr_model *model, const pr_result *r)
{
    pr_buffer_append_char(b, '[');
    for (uint32_t i = 0; i < r->n_prompt_tokens; i++) {
        size_t n = 0;
        const char *text = pr_tokenizer_id_to_token(model->tokenizer, r->tokens[i], &n);
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_str(b, text ? text : "", text ? n : 0);
    }
    pr_buffer_append_char(b, ']');
}

void pr_http_tokenize_format(pr_http_exchange *x)
{
    const pr_model *model = pr_service_model_of(x->service)->model;
    const pr_result *r = x->call.results[0];
    pr_buffer *b = pr_http_answer_begin(x);
    pr_buffer_append_str(b, "{\"count\":");
    pr_json_write_int(b, r->n_prompt_tokens);
    pr_buffer_append_str(b, ",\"max_model_len\":");
    pr_json_write_int(b, model ? model->n_tokens_max : 0);
    pr_buffer_append_str(b, ",\"tokens\":[");
    for (uint32_t i = 0; i < r->n_prompt_tokens; i++) {
        if (i > 0) pr_buffer_append_char(b, ',');
        pr_json_write_int(b, r->tokens[i]);
    }
    pr_buffer_append_str(b, "],\"token_strs\":");
    if (x->params->return_token_strs && model) {
        strings_write(b, model, r);
    } else {
        pr_buffer_append_str(b, "null");
    }
    pr_buffer_append_char(b, '}');
}

/* A call without items: it waits for the model, and the tokenizer then works where answers are
 * formatted. */
bool pr_http_detokenize_parse(pr_http_exchange *x)
{
    if (!pr_http_params_read(x, PR_HTTP_BODY_DETOKENIZE)) return false;
    const json_t *tokens = pr_http_value(x, "tokens");
    size_t n = json_array_size(tokens);
    if (!json_is_array(tokens)) {
        return pr_http_refuse(x, "tokens", "found %s, expected an array of token ids",
                              pr_json_type_name(tokens));
    }
    x->params->ids = malloc((n ? n : 1) * sizeof *x->params->ids);
    if (!x->params->ids) {
        pr_error err;
        pr_error_nomem(&err, "tokens", n * sizeof *x->params->ids);
        return pr_http_fail(x, "tokens", &err);
    }
    return pr_http_ids_read(x, "tokens", "tokens", tokens, x->params->ids);
}

void pr_http_detokenize_format(pr_http_exchange *x)
{
    const pr_model *model = pr_service_model_of(x->service)->model;
    size_t n = json_array_size(pr_http_value(x, "tokens"));
    pr_error err;
    pr_buffer text;
    pr_buffer_init(&text);
    pr_status st = model ? pr_tokenizer_decode(model->tokenizer, x->params->ids, n,
                                               x->params->skip_special_tokens, &text, &err)
                         : pr_error_set(&err, PR_E_UNAVAILABLE, "the model is being loaded");
    if (st == PR_OK) {
        pr_buffer *b = pr_http_answer_begin(x);
        pr_buffer_append_str(b, "{\"prompt\":");
        pr_json_write_str(b, text.data ? text.data : "", text.n);
        pr_buffer_append_char(b, '}');
    } else {
        pr_http_fail(x, "tokens", &err);
    }
    pr_buffer_deinit(&text);
}
