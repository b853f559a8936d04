/* coordinator/options/options.h: the one table of options, and the values that were given for them.
 *
 * A pr_options handle owns the values that were set, each with the source that it came from; the
 * table is constant data. The command line, the environment, a --config file and the C library all
 * set values here, and pr_config_build resolves them. One thread at a time.
 *
 * Precedence: OPTION, then ENVIRONMENT, then FILE, then the table's default; the order in which the
 * sources are read does not matter. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_OPTIONS_H
#define POOLRANK_COORDINATOR_OPTIONS_OPTIONS_H

#include "coordinator/options/config.h"
#include "include/poolrank/engine.h"
#include "runtime/base/status.h"

#include <stddef.h>

typedef enum pr_option_source {
    PR_OPTION_SOURCE_FILE,
    PR_OPTION_SOURCE_ENVIRONMENT,
    PR_OPTION_SOURCE_OPTION,
    PR_OPTION_SOURCE_COUNT
} pr_option_source;

typedef enum pr_option_kind {
    PR_OPTION_SWITCH,  /* bool; --name, --no-name, --name=true|false */
    PR_OPTION_INT,     /* int32_t between min and max; 1k is 1000, 1K is 1024 */
    PR_OPTION_NUMBER,  /* double: a finite number, between min and max where they differ */
    PR_OPTION_TEXT,    /* char * */
    PR_OPTION_LIST,    /* char *: text that may be given several times, then joined by commas */
    PR_OPTION_CHOICE,  /* an enum whose enumerators stand in the order of `choices` */
    PR_OPTION_JSON,    /* json_t *, an object */
    PR_OPTION_KIND_COUNT
} pr_option_kind;

typedef enum pr_option_effect {
    PR_OPTION_HONOURED,
    PR_OPTION_ACCEPTED, /* taken, without effect: one warning says why */
    PR_OPTION_REFUSED   /* an error says why */
} pr_option_effect;

typedef enum pr_option_group {
    PR_OPTION_GROUP_MODEL,
    PR_OPTION_GROUP_RESULT,
    PR_OPTION_GROUP_FILES,
    PR_OPTION_GROUP_EXECUTION,
    PR_OPTION_GROUP_RANKS,
    PR_OPTION_GROUP_MESSAGES,
    PR_OPTION_GROUP_VLLM,   /* vLLM's that have no effect or are refused */
    PR_OPTION_GROUP_SERVER,
    PR_OPTION_GROUP_COUNT
} pr_option_group;

/* Bits of a set of commands. */
enum {
    PR_COMMAND_ENCODE = 1 << 0,
    PR_COMMAND_EMBED = 1 << 1,
    PR_COMMAND_CLASSIFY = 1 << 2,
    PR_COMMAND_REWARD = 1 << 3,
    PR_COMMAND_SCORE = 1 << 4,
    PR_COMMAND_TOKENIZE = 1 << 5,
    PR_COMMAND_INSPECT = 1 << 6,
    PR_COMMAND_LIBRARY = 1 << 7, /* pr_options_set of the C library */
    PR_COMMAND_WORKER = 1 << 8,
    PR_COMMAND_SERVE = 1 << 9,
    PR_COMMAND_PLAN = 1 << 10,
    PR_COMMAND_MODEL = ((1 << 8) - 1) | PR_COMMAND_SERVE, /* whatever opens a model */
    PR_COMMAND_SPEC = PR_COMMAND_MODEL | PR_COMMAND_PLAN, /* whatever reads config.json */
    PR_COMMAND_OFFLINE = (1 << 6) - 1, /* reads lines, writes lines */
    PR_COMMAND_POOL = (1 << 5) - 1, /* runs the model */
    PR_COMMAND_PROGRAM = (1 << 11) - 1 - (1 << 7) /* every command, not the library */
};

enum { PR_OPTION_NO_FIELD = -1 };

/* One option. Strings may be NULL where nothing applies. */
typedef struct pr_option_row {
    const char *name;          /* "max-model-len" */
    const char *other_name;    /* another long name */
    const char *short_form;    /* "-tp", dash included */
    pr_option_kind kind;
    pr_option_effect effect;
    pr_option_group group;
    unsigned commands;         /* which commands take it */
    const char *metavar;       /* "N" */
    const char *initial;       /* default, as a value; NULL: zero, NULL or off */
    const char *initial_words; /* default in words, for help, where `initial` does not say it */
    const char *choices;       /* CHOICE: "auto|cpu"; other kinds: the only values that are taken */
    const char *choice_aliases; /* "float=float32|f32=float32" */
    const char *choices_refused; /* values that are known, and refused with `reason` */
    const char *reason;        /* why it is refused or has no effect */
    int32_t min, max;          /* INT, NUMBER */
    bool value_is_optional;    /* --name alone is fine */
    bool is_vllm;              /* an engine argument of vLLM 0.8.5 */
    int field;                 /* offset in pr_config, or PR_OPTION_NO_FIELD */
    const char *help;          /* one or two sentences */
} pr_option_row;

size_t pr_option_count(void);
const pr_option_row *pr_option_at(size_t i); /* NULL past the end */

/* By long name (either spelling of dashes; other_name too) or short form; NULL when unknown.
 * *is_negated: the name was "no-" in front of a switch. */
const pr_option_row *pr_option_find(const char *name, bool *is_negated);

/* The known name that is spelled most like `name`; NULL when none comes close. */
const char *pr_option_nearest(const char *name);

/* command: the bit of the command whose options apply: others are refused as options and left out
 * when the environment or a file gives them. pr_options_create() is this with PR_COMMAND_LIBRARY
 * and the process's environment (HF_HOME and the like; no POOLRANK_…). NULL: no memory. */
pr_options *pr_options_create_for(unsigned command);

/* Sets a value from a source. value NULL: a switch, or an option whose value is optional.
 * Fails as pr_options_set; the message begins with the option as that source spells it. */
pr_status pr_options_set_from(pr_options *options, pr_option_source source, const char *name,
                              const char *value, pr_error *err);

/* Takes what the environment says: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME,
 * SLURM_CPUS_PER_TASK, and with take_options POOLRANK_<NAME> of every option (MAX_MODEL_LEN for
 * max-model-len). env: "NAME=value" strings, NULL-terminated; copied. */
pr_status pr_options_read_environment(pr_options *options, char *const *env, bool take_options,
                                      pr_error *err);

/* A JSON object whose keys are option names. Fails PR_E_ARGUMENT with the key, PR_E_NOT_FOUND. */
pr_status pr_options_read_file(pr_options *options, const char *path, pr_error *err);

bool pr_options_is_given(const pr_options *options, const char *name); /* by any source */

/* The value of the source that wins, NULL when none gives it; borrowed until the handle changes.
 * name: an option of the table. */
const char *pr_options_text(const pr_options *options, const char *name);

/* The same of what the command line or the library's caller gave, other sources left out. */
const char *pr_options_word(const pr_options *options, const char *name);

/* One line for each option that was given and has no effect (or was ignored); NULL past the end.
 * Borrowed until the handle changes. */
const char *pr_options_warning(const pr_options *options, size_t i);

/* Resolves all values. *out: owned (pr_config_deinit).
 * Fails PR_E_ARGUMENT (values that do not go together), PR_E_NOMEM. */
pr_status pr_config_build(const pr_options *options, pr_config *out, pr_error *err);

#endif
