#include "program/help.h"

#include "coordinator/options/options_value.h"
#include "include/poolrank/engine.h"

#include <string.h>

/* ---- man page (man(7) macros) ---- */

/* Text with what roff would read as a command made harmless. */
static void roff_write(pr_buffer *out, const char *text)
{
    bool is_line_begin = true;
    for (; *text; text++) {
        if (is_line_begin && (*text == '.' || *text == '\'')) pr_buffer_append_str(out, "\\&");
        if (strncmp(text, "…", strlen("…")) == 0) { /* roff without preconv reads bytes */
            pr_buffer_append_str(out, "...");
            text += strlen("…") - 1;
        } else if (*text == '\\') {
            pr_buffer_append_str(out, "\\e");
        } else if (*text == '-') {
            pr_buffer_append_str(out, "\\-");
        } else {
            pr_buffer_append_char(out, *text);
        }
        is_line_begin = *text == '\n';
    }
}

static void roff_block(pr_buffer *out, const char *text)
{
    pr_buffer_append_str(out, ".nf\n");
    roff_write(out, text);
    pr_buffer_append_str(out, "\n.fi\n");
}

static void man_commands(pr_buffer *out)
{
    pr_buffer_append_str(out, ".SH COMMANDS\n");
    for (size_t i = 0; i < pr_command_count(); i++) {
        const pr_command_row *row = pr_command_at(i);
        pr_buffer_printf(out, ".SS poolrank %s\n", row->name);
        roff_write(out, row->usage);
        pr_buffer_append_str(out, "\n.PP\n");
        const char *sample = strchr(row->details, '\n');
        size_t n = sample ? (size_t)(sample - row->details) : strlen(row->details);
        pr_buffer head;
        pr_buffer_init(&head);
        pr_buffer_append(&head, row->details, n);
        const char *text = pr_buffer_str(&head);
        if (text) roff_write(out, text);
        pr_buffer_deinit(&head);
        pr_buffer_append_char(out, '\n');
        if (sample) roff_block(out, sample + 1);
    }
}

static void man_option(const pr_option_row *row, pr_buffer *out)
{
    pr_buffer spelling;
    pr_buffer_init(&spelling);
    pr_help_spelling(row, &spelling);
    pr_buffer_append_str(out, ".TP\n.B ");
    const char *text = pr_buffer_str(&spelling);
    if (text) roff_write(out, text);
    pr_buffer_deinit(&spelling);
    pr_buffer_append_char(out, '\n');
    if (row->help) roff_write(out, row->help);
    if (row->kind == PR_OPTION_CHOICE) {
        pr_buffer_append_str(out, " One of ");
        roff_write(out, row->choices);
        pr_buffer_append_char(out, '.');
    }
    if (pr_help_default(row)) {
        pr_buffer_append_str(out, " Default: ");
        roff_write(out, pr_help_default(row));
        pr_buffer_append_char(out, '.');
    }
    pr_buffer_append_char(out, '\n');
}

static void man_options(pr_buffer *out)
{
    pr_buffer_append_str(out, ".SH OPTIONS\n");
    for (int group = 0; group < PR_OPTION_GROUP_COUNT; group++) {
        if (group == PR_OPTION_GROUP_VLLM || group == PR_OPTION_GROUP_SERVER) continue;
        pr_buffer_printf(out, ".SS %s\n", pr_help_group_title((pr_option_group)group));
        const pr_option_row *row;
        for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
            if (row->group == (pr_option_group)group && (row->commands & ~PR_COMMAND_LIBRARY)) {
                man_option(row, out);
            }
        }
    }
}

void pr_help_man(pr_buffer *out)
{
    pr_buffer_append_str(out, ".TH POOLRANK 1 \"\" \"poolrank " POOLRANK_VERSION
                              "\" \"User Commands\"\n"
                              ".SH NAME\npoolrank \\- run pooling models: embeddings, "
                              "classification, scores, rewards\n"
                              ".SH SYNOPSIS\n.B poolrank\nCOMMAND [MODEL] [OPTION...] [TEXT...]\n"
                              ".SH DESCRIPTION\n");
    roff_write(out, "poolrank runs transformers that read text and give vectors, probabilities, "
                    "scores or rewards. MODEL is a folder with config.json, model.safetensors and "
                    "tokenizer.json, or a name of the local Hugging Face cache. Nothing is "
                    "downloaded, and no code of a model is run.");
    pr_buffer_append_char(out, '\n');
    man_commands(out);
    pr_buffer_append_str(out, ".SH INPUT AND OUTPUT\n");
    roff_write(out,
               "A line of --input is one request. A line that begins with { is a JSON object with "
               "text, or query and document, or tokens; an id and parameters of the request may "
               "stand beside it. Any other line is text, as it stands. Answers are JSON Lines, in "
               "the order of the input; a line that fails is answered with an error in place of a "
               "result, and the others are computed all the same.");
    pr_buffer_append_char(out, '\n');
    man_options(out);
    pr_buffer_append_str(out, ".SH ENVIRONMENT\n");
    roff_write(out, "POOLRANK_<OPTION>, for instance POOLRANK_MAX_MODEL_LEN for --max-model-len: "
                    "taken where the command line has no such option. HF_HUB_CACHE, HF_HOME: where "
                    "names are looked up. SLURM_CPUS_PER_TASK: bounds --threads.");
    pr_buffer_append_str(out, "\n.SH EXIT STATUS\n");
    roff_block(out, "0  all done\n1  failed at run time, the output is incomplete\n"
                    "2  the caller's mistake, nothing done\n"
                    "3  every line was answered, some with an error");
    pr_buffer_append_str(out, ".SH EXAMPLES\n");
    for (size_t i = 0; i < pr_command_count(); i++) roff_block(out, pr_command_at(i)->examples);
}

/* ---- completion ---- */

static bool option_is_offered(const pr_option_row *row, unsigned command)
{
    return (row->commands & command) && row->group != PR_OPTION_GROUP_VLLM;
}

static void command_names(pr_buffer *out, const char *separator)
{
    for (size_t i = 0; i < pr_command_count(); i++) {
        pr_buffer_printf(out, "%s%s", i ? separator : "", pr_command_at(i)->name);
    }
}

static void bash_options(const pr_command_row *command, pr_buffer *out)
{
    pr_buffer_printf(out, "    %s) options='", command->name);
    const pr_option_row *row;
    const char *space = "";
    for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
        if (!option_is_offered(row, command->bit)) continue;
        bool is_off_switch = row->kind == PR_OPTION_SWITCH && row->initial != NULL;
        pr_buffer_printf(out, "%s--%s%s", space, is_off_switch ? "no-" : "", row->name);
        space = " ";
    }
    pr_buffer_append_str(out, "' ;;\n");
}

/* The values of one CHOICE as a case of the word before the cursor. */
static void bash_choices(const pr_option_row *row, pr_buffer *out)
{
    pr_buffer_printf(out, "    --%s) COMPREPLY=($(compgen -W '", row->name);
    for (const char *p = row->choices; *p; p++) pr_buffer_append_char(out, *p == '|' ? ' ' : *p);
    pr_buffer_append_str(out, "' -- \"$word\")); return ;;\n");
}

void pr_help_completion_bash(pr_buffer *out)
{
    pr_buffer_append_str(out, "# bash completion of poolrank; made from its option table\n"
                              "_poolrank()\n{\n"
                              "    local word=${COMP_WORDS[COMP_CWORD]} "
                              "before=${COMP_WORDS[COMP_CWORD-1]} options=\n"
                              "    if [ \"$COMP_CWORD\" -eq 1 ] || "
                              "[ \"${COMP_WORDS[1]}\" = help ]; then\n"
                              "        COMPREPLY=($(compgen -W '");
    command_names(out, " ");
    pr_buffer_append_str(out, " --help --version' -- \"$word\"))\n        return\n    fi\n"
                              "    case $before in\n");
    const pr_option_row *row;
    for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
        if (option_is_offered(row, PR_COMMAND_MODEL) && row->kind == PR_OPTION_CHOICE) {
            bash_choices(row, out);
        }
    }
    pr_buffer_append_str(out, "    esac\n    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < pr_command_count(); i++) bash_options(pr_command_at(i), out);
    pr_buffer_append_str(out, "    esac\n"
                              "    if [[ $word == -* ]]; then\n"
                              "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
                              "    else\n"
                              "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
                              "    fi\n}\n"
                              "complete -o filenames -F _poolrank poolrank\n");
}

/* One text inside '…[…]' of zsh's _arguments: quotes and brackets escaped. */
static void zsh_text(pr_buffer *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'') {
            pr_buffer_append_str(out, "'\\''");
        } else {
            if (strchr("[]:\\", *text)) pr_buffer_append_char(out, '\\');
            pr_buffer_append_char(out, *text);
        }
    }
}

static void zsh_option(const pr_option_row *row, pr_buffer *out)
{
    bool is_off_switch = row->kind == PR_OPTION_SWITCH && row->initial != NULL;
    pr_buffer_printf(out, "        '--%s%s[", is_off_switch ? "no-" : "", row->name);
    zsh_text(out, row->help);
    pr_buffer_append_char(out, ']');
    if (row->kind == PR_OPTION_CHOICE) {
        pr_buffer_append_str(out, ":value:(");
        for (const char *p = row->choices; *p; p++) {
            pr_buffer_append_char(out, *p == '|' ? ' ' : *p);
        }
        pr_buffer_append_char(out, ')');
    } else if (row->kind != PR_OPTION_SWITCH) {
        pr_buffer_append_str(out, row->kind == PR_OPTION_TEXT ? ":value:_files" : ":value:");
    }
    pr_buffer_append_str(out, "' \\\n");
}

void pr_help_completion_zsh(pr_buffer *out)
{
    pr_buffer_append_str(out, "#compdef poolrank\n# zsh completion; made from the option table\n"
                              "_poolrank()\n{\n    if (( CURRENT == 2 )); then\n"
                              "        local -a commands=(");
    for (size_t i = 0; i < pr_command_count(); i++) {
        pr_buffer_printf(out, "\n            '%s:", pr_command_at(i)->name);
        zsh_text(out, pr_command_at(i)->summary);
        pr_buffer_append_char(out, '\'');
    }
    pr_buffer_append_str(out, "\n        )\n        _describe command commands\n        return\n"
                              "    fi\n    case ${words[2]} in\n");
    for (size_t i = 0; i < pr_command_count(); i++) {
        const pr_command_row *command = pr_command_at(i);
        pr_buffer_printf(out, "    %s) _arguments \\\n", command->name);
        const pr_option_row *row;
        for (size_t j = 0; (row = pr_option_at(j)) != NULL; j++) {
            if (option_is_offered(row, command->bit)) zsh_option(row, out);
        }
        pr_buffer_append_str(out, "        '*:file:_files' ;;\n");
    }
    pr_buffer_append_str(out, "    esac\n}\n_poolrank \"$@\"\n");
}

/* ---- docs/engine-arguments.md ---- */

static const char *effect_words(const pr_option_row *row)
{
    if (row->effect == PR_OPTION_ACCEPTED) return "accepted, no effect";
    if (row->effect == PR_OPTION_REFUSED) return "refused";
    return row->choices_refused || (row->choices && row->kind != PR_OPTION_CHOICE)
               ? "honoured for some values"
               : "honoured";
}

/* Text in a cell of a Markdown table. */
static void cell_write(pr_buffer *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') pr_buffer_append_char(out, '\\');
        pr_buffer_append_char(out, *text);
    }
}

static void choices_cell(pr_buffer *out, const char *choices)
{
    const char *word;
    size_t n;
    for (size_t i = 0; pr_option_word(choices, i, &word, &n); i++) {
        pr_buffer_append_str(out, i ? ", `" : "`");
        pr_buffer_append(out, word, n);
        pr_buffer_append_char(out, '`');
    }
}

static void document_row(const pr_option_row *row, pr_buffer *out)
{
    pr_buffer spelling;
    pr_buffer_init(&spelling);
    pr_help_spelling(row, &spelling);
    pr_buffer_append_str(out, "| `");
    const char *text = pr_buffer_str(&spelling);
    if (text) cell_write(out, text);
    pr_buffer_deinit(&spelling);
    pr_buffer_printf(out, "` | %s | %s | ", row->is_vllm ? "yes" : "", effect_words(row));
    if (row->help) cell_write(out, row->help);
    if (row->kind == PR_OPTION_CHOICE) {
        pr_buffer_append_str(out, " One of ");
        choices_cell(out, row->choices);
        pr_buffer_append_char(out, '.');
    }
    if (row->choices_refused) {
        pr_buffer_append_str(out, " Refused: ");
        choices_cell(out, row->choices_refused);
        pr_buffer_append_str(out, ": ");
        cell_write(out, row->reason);
        pr_buffer_append_char(out, '.');
    } else if (row->reason) {
        pr_buffer_append_str(out, row->help ? " " : "");
        if (row->choices) {
            pr_buffer_append_str(out, "Taken: ");
            choices_cell(out, row->choices);
            pr_buffer_append_str(out, ". ");
        }
        pr_buffer_append_str(out, "Why: ");
        cell_write(out, row->reason);
        pr_buffer_append_char(out, '.');
    }
    pr_buffer_append_str(out, " | ");
    const char *initial = row->group == PR_OPTION_GROUP_VLLM ? row->initial_words
                                                             : pr_help_default(row);
    if (initial) cell_write(out, initial);
    pr_buffer_append_str(out, " |\n");
}

void pr_help_engine_arguments(pr_buffer *out)
{
    pr_buffer_append_str(
        out,
        "# Options and engine arguments\n\n"
        "<!-- Made by `poolrank generate engine-arguments` from the option table "
        "(coordinator/options/options_table.c, options_vllm.c); a test compares the two. -->\n\n"
        "The same names are options of the command line (`--max-model-len 512`), keys of the "
        "`--config` file (`{\"max-model-len\": 512}`), variables of the environment "
        "(`POOLRANK_MAX_MODEL_LEN=512`) and names for `pr_options_set` of the C library. "
        "An option wins over the environment, the environment over the file, the file over the "
        "default. Underscores may stand for dashes; a switch is turned off by `--no-…`; whole "
        "numbers may end in `k`, `m`, `g`, `t` (thousands) or `K`, `M`, `G`, `T` (1024s).\n\n"
        "Every engine argument of vLLM 0.8.5 is here (column *vLLM*), so that a command line "
        "written for it can be used: it is honoured, or accepted without effect (one warning says "
        "why), or refused with the reason.\n");
    for (int group = 0; group < PR_OPTION_GROUP_COUNT; group++) {
        pr_buffer_printf(out, "\n## %s\n\n| option | vLLM | effect | meaning | default |\n"
                              "| --- | --- | --- | --- | --- |\n",
                         pr_help_group_title((pr_option_group)group));
        const pr_option_row *row;
        for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
            if (row->group == (pr_option_group)group) document_row(row, out);
        }
    }
}

void (*pr_help_generator(const char *kind))(pr_buffer *out)
{
    static const struct {
        const char *kind;
        void (*generate)(pr_buffer *out);
    } generators[] = {
        {"man", pr_help_man},
        {"completion-bash", pr_help_completion_bash},
        {"completion-zsh", pr_help_completion_zsh},
        {"engine-arguments", pr_help_engine_arguments},
    };
    for (size_t i = 0; i < sizeof generators / sizeof *generators; i++) {
        if (strcmp(generators[i].kind, kind) == 0) return generators[i].generate;
    }
    return NULL;
}
