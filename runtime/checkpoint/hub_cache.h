/* runtime/checkpoint/hub_cache.h: from what the user named (`--model`) to a folder on disk.
 *
 * Pure but for looking at the file system; nothing is downloaded. Called at start, any thread. */
#ifndef POOLRANK_RUNTIME_CHECKPOINT_HUB_CACHE_H
#define POOLRANK_RUNTIME_CHECKPOINT_HUB_CACHE_H

#include "runtime/base/status.h"

/* Where to look; read from the environment once by the program. Each may be NULL. */
typedef struct pr_hub_env {
    const char *hf_hub_cache;   /* HF_HUB_CACHE (or the older HUGGINGFACE_HUB_CACHE) */
    const char *hf_home;        /* HF_HOME; its `hub` */
    const char *xdg_cache_home; /* XDG_CACHE_HOME; its `huggingface/hub` */
    const char *home;           /* HOME; its `.cache/huggingface/hub` */
} pr_hub_env;

/* model: a folder (taken as it is), or "name" / "org/name" of the hub; revision: branch, tag or
 * commit, NULL for "main". *folder: owned (free).
 * Fails PR_E_NOT_FOUND, saying where it looked and `hf download org/name` with the revision;
 * PR_E_ARGUMENT for a name that the hub would refuse. */
pr_status pr_hub_cache_find(const pr_hub_env *env, const char *model, const char *revision,
                            char **folder, pr_error *err);

#endif
