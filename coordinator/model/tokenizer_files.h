/* coordinator/model/tokenizer_files.h: the files of a model's tokenizer: where tokenizer.json is,
 * and what stands beside it.
 *
 * Owns what it read. Opened by one thread, read-only afterwards. Called by the model. */
#ifndef POOLRANK_COORDINATOR_MODEL_TOKENIZER_FILES_H
#define POOLRANK_COORDINATOR_MODEL_TOKENIZER_FILES_H

#include "coordinator/options/config.h"
#include "runtime/model/st_files.h"
#include "runtime/text/tokenizer/tokenizer.h"

typedef struct pr_tokenizer_source {
    char *path;                                          /* tokenizer.json */
    json_t *config, *special_map, *added, *model_config; /* NULL: not there */
    bool has_side;      /* truncation_side is given, beside tokenizer.json */
    bool truncate_left; /* and is "left" */
    int64_t length_max; /* model_max_length; 0: unset */
    bool ignore_auto_map; /* --ignore-auto-map */
} pr_tokenizer_source;

/* folder: what --model named; below: the folder of config.json. Of these and --tokenizer the first
 * that has a tokenizer.json counts, the most special first.
 * Fails PR_E_NOT_FOUND, PR_E_MODEL, PR_E_NOMEM. */
pr_status pr_tokenizer_source_open(const pr_config *config, const char *folder, const char *below,
                                   const pr_st_files *st, pr_tokenizer_source *out, pr_error *err);
void pr_tokenizer_source_close(pr_tokenizer_source *source);

/* *out: owned. Fails as pr_tokenizer_load_auto. */
pr_status pr_tokenizer_source_load(const pr_tokenizer_source *source, const pr_st_files *st,
                                   pr_tokenizer **out, pr_error *err);

#endif
