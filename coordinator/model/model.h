/* coordinator/model/model.h: a model as the coordinator knows it: where its files are, what its
 * configuration says, its tokenizer, its poolers and its limits. No weights.
 *
 * Owns all of it. Opened by one thread, read-only afterwards: any thread. */
#ifndef POOLRANK_COORDINATOR_MODEL_MODEL_H
#define POOLRANK_COORDINATOR_MODEL_MODEL_H

#include "coordinator/model/chat.h"
#include "coordinator/model/tokenizer_files.h"
#include "coordinator/options/config.h"
#include "runtime/base/log.h"
#include "runtime/model/pooling_spec.h"
#include "runtime/text/tokenizer/tokenizer.h"

typedef struct pr_model {
    char *folder;           /* what --model named, resolved */
    char *weights_folder;   /* where config.json and the checkpoint are: folder, or the Transformer
                               module's folder below it */
    pr_tokenizer_source tokenizer_source;
    pr_model_spec spec;
    pr_st_files st;
    pr_chat *chat;           /* its chat templates; may be without any */
    pr_tokenizer *tokenizer; /* NULL until pr_model_load_tokenizer */
    uint32_t n_tokens_max;     /* max_model_len */
    const char *n_tokens_max_source; /* constant text: which limit that is */
    bool has_truncation_side;  /* given beside tokenizer.json, which else may say it itself */
    bool truncate_left;        /* side that is cut when the request does not say */
    int32_t n_width;           /* values of a pooled row before `dimensions` */
    pr_task asked;             /* --task, or what the command is for */
    pr_task task;              /* not AUTO */
    bool is_served[PR_TASK_COUNT];
    pr_pooling poolings[PR_TASK_COUNT]; /* of the tasks served */
} pr_model;

/* config: borrowed for the call. The message names the model's folder or a file in it.
 * Fails PR_E_NOT_FOUND, PR_E_MODEL, PR_E_UNSUPPORTED, PR_E_ARGUMENT (limits, overrides),
 * PR_E_NOMEM. */
pr_status pr_model_open(const pr_config *config, pr_model **out, pr_error *err);

/* The same in two steps, since a large vocabulary takes as long as the weights of a small model and
 * both can be read at once: first all but tokenizer.json, then that. Between the two, and during
 * the second, other threads may read every field but the tokenizer and
 * truncate_left. */
pr_status pr_model_open_files(const pr_config *config, pr_model **out, pr_error *err);
pr_status pr_model_load_tokenizer(pr_model *model, pr_error *err);

/* Only what config.json and the Sentence Transformers files say: no tokenizer, tasks or poolers;
 * config->model may also name a config.json itself. For plans, which need no weights.
 * Fails as pr_model_open. */
pr_status pr_model_open_config(const pr_config *config, pr_model **out, pr_error *err);

/* As pr_model_open, but a folder may lack config.json: then only its tokenizer is known (the spec
 * is empty, no task is served), and a text may be as long as model_max_length. For tokenizing.
 * Fails as pr_model_open. */
pr_status pr_model_open_tokenizer(const pr_config *config, pr_model **out, pr_error *err);

void pr_model_close(pr_model *model);

/* Puts the folder in front of a message that does not name it yet; returns st. */
pr_status pr_model_error(const pr_model *model, pr_status st, pr_error *err);

/* Logs what is served although it is odd: a tokenizer with more ids than the model has. */
void pr_model_warn(const pr_model *model, const pr_log *log);

/* The pooling of a task (AUTO: the model's own); PR_E_UNSUPPORTED naming those that are served. */
pr_status pr_model_pooling(const pr_model *model, pr_task task, const pr_pooling **out,
                           pr_error *err);

/* Whether `score` is the cosine of two embeddings here, in place of a pair through a head. */
bool pr_model_scores_by_cosine(const pr_model *model);

#endif
