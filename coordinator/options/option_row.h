/* coordinator/options/option_row.h: what an option is: one row of the option table, and the sources
 * that give values.
 *
 * Plain data. The rows stand in coordinator/options/options_table.h. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_OPTION_ROW_H
#define POOLRANK_COORDINATOR_OPTIONS_OPTION_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum pr_option_source {
    PR_OPTION_SOURCE_FILE,
    PR_OPTION_SOURCE_ENVIRONMENT,
    PR_OPTION_SOURCE_OPTION,
    PR_OPTION_SOURCE_COUNT
} pr_option_source;

typedef enum pr_option_kind {
    PR_OPTION_SWITCH,  /* bool; --name, --no-name, --name=true|false */
    PR_OPTION_INT,     /* int32_t between min and max; 1k is 1000, 1K is 1024 */
    PR_OPTION_NUMBER,  /* double: a finite number, between min and max where they differ; suffixes
                          as for INT */
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

#endif
