/* coordinator/options/options.h: the one table of options, and the values that were given for them.
 *
 * A pr_options handle owns the values that were set, each with the source that it came from; the
 * table is constant data. The command line, the environment, a --config file and the C library all
 * set values here, and pr_config_build (config_build.h) resolves them. One thread at a time.
 *
 * Precedence: OPTION, then ENVIRONMENT, then FILE, then the table's default; the order in which the
 * sources are read does not matter. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_OPTIONS_H
#define POOLRANK_COORDINATOR_OPTIONS_OPTIONS_H

#include "coordinator/options/option_row.h"
#include "include/poolrank/engine.h"
#include "runtime/base/status.h"

size_t pr_option_count(void);
const pr_option_row *pr_option_at(size_t i); /* NULL past the end */

/* By long name (either spelling of dashes; other_name too) or short form; NULL when unknown.
 * *is_negated: the name was "no-" in front of a switch. */
const pr_option_row *pr_option_find(const char *name, bool *is_negated);

/* The known name that is spelled most like `name`; NULL when none comes close. */
const char *pr_option_nearest(const char *name);
/* How many characters must be added, dropped or changed to make b, one of the program's words, of
 * a. */
size_t pr_word_distance(const char *a, const char *b);

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

#endif
