/* coordinator/model/chat.h: a model's chat templates, and a conversation as the text that one of
 * them makes of it, as transformers' apply_chat_template does.
 *
 * Owns the templates and the special tokens' texts. Opened by one thread, read-only afterwards:
 * any thread renders. Called by the model and by prepare. */
#ifndef POOLRANK_COORDINATOR_MODEL_CHAT_H
#define POOLRANK_COORDINATOR_MODEL_CHAT_H

#include "coordinator/model/tokenizer_files.h"
#include "coordinator/options/config.h"
#include "runtime/base/buffer.h"

typedef struct pr_chat pr_chat;

/* Reads, of these, the first that is there: --chat-template; chat_template.jinja with
 * additional_chat_templates/; chat_template of tokenizer_config.json, a string or a list of named
 * ones; chat_template.json. They stand beside tokenizer.json. A template that is broken, or uses
 * what is not supported, fails when it is asked for and not here: the model serves texts without
 * it. But one that --chat-template names fails here.
 * *out: owned; there too when the model has no template. source: borrowed for the call.
 * Fails PR_E_ARGUMENT, PR_E_NOT_FOUND, PR_E_MODEL, PR_E_NOMEM. */
pr_status pr_chat_open(const pr_config *config, const pr_tokenizer_source *source, pr_chat **out,
                       pr_error *err);
void pr_chat_close(pr_chat *chat); /* NULL is fine */

/* Appends the text. json: [n] bytes, a list of messages, or an object:
 *     messages                the list
 *     tools, documents        lists of objects; a template that is called tool_use is taken with
 *                             tools, else default
 *     chat_template           the name of one of the model's templates
 *     chat_template_kwargs    an object: more variables
 *     add_generation_prompt   false
 *     continue_final_message  false; true: the text ends with the last message's content
 * now_us: strftime_now's clock.
 * Fails PR_E_INPUT: not such JSON, or what the template raises; PR_E_UNSUPPORTED: the model has no
 * (such) template, or one that cannot be used; PR_E_NOMEM. */
pr_status pr_chat_render(const pr_chat *chat, const char *json, size_t n, int64_t now_us,
                         pr_buffer *text, pr_error *err);

#endif
