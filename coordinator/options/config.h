/* coordinator/options/config.h: every setting of one run, resolved from all its sources, as plain
 * data.
 *
 * Owns its strings and JSON values (pr_config_deinit). Built once, by pr_config_build
 * (coordinator/options/config_build.h); afterwards read-only and read by the engine
 * and the commands, on any thread. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_CONFIG_H
#define POOLRANK_COORDINATOR_OPTIONS_CONFIG_H

#include "include/poolrank/types.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/base/log.h"
#include "runtime/checkpoint/hub_cache.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What weights are kept as, and on a GPU activations too. The enumerators stand in the order of the
 * option's choices. */
typedef enum pr_dtype_choice {
    PR_DTYPE_CHOICE_AUTO,     /* float32 on the CPU, the checkpoint's on a GPU */
    PR_DTYPE_CHOICE_FLOAT32,
    PR_DTYPE_CHOICE_BFLOAT16, /* on the CPU: weights in 16 bits, arithmetic in f32 */
    PR_DTYPE_CHOICE_FLOAT16,  /* on a GPU only */
    PR_DTYPE_CHOICE_COUNT
} pr_dtype_choice;

/* Whether weights are kept in memory, or read again for each batch, a layer at a time. */
typedef enum pr_stream_choice {
    PR_STREAM_CHOICE_AUTO, /* streamed on the CPU where a command's texts are its arguments */
    PR_STREAM_CHOICE_ON,
    PR_STREAM_CHOICE_OFF,
    PR_STREAM_CHOICE_COUNT
} pr_stream_choice;

typedef enum pr_device_choice {
    PR_DEVICE_CHOICE_AUTO,
    PR_DEVICE_CHOICE_CPU,
    PR_DEVICE_CHOICE_CUDA,
    PR_DEVICE_CHOICE_COUNT
} pr_device_choice;

typedef enum pr_truncation_side {
    PR_TRUNCATION_SIDE_AUTO, /* the tokenizer's (tokenizer_config.json), else right */
    PR_TRUNCATION_SIDE_RIGHT, /* cut the end */
    PR_TRUNCATION_SIDE_LEFT,
    PR_TRUNCATION_SIDE_COUNT
} pr_truncation_side;

/* How replica groups of worker ranks come to be. */
typedef enum pr_worker_launch {
    PR_WORKER_LAUNCH_AUTO,   /* inproc for one rank; srun inside a Slurm allocation; else mpirun */
    PR_WORKER_LAUNCH_INPROC, /* the worker is a thread of this process: one rank, no isolation */
    PR_WORKER_LAUNCH_MPIRUN,
    PR_WORKER_LAUNCH_SRUN,
    PR_WORKER_LAUNCH_EXTERNAL, /* groups connect by themselves: poolrank worker --connect */
    PR_WORKER_LAUNCH_JOB, /* this process is one rank of the user's own mpirun -n N or srun -n N */
    PR_WORKER_LAUNCH_COUNT
} pr_worker_launch;

/* How the steps of a process reward become one number. */
typedef enum pr_reduce {
    PR_REDUCE_LAST,
    PR_REDUCE_MEAN,
    PR_REDUCE_MIN,
    PR_REDUCE_PRODUCT,
    PR_REDUCE_COUNT
} pr_reduce;

typedef struct pr_config {
    /* model */
    char *model;              /* folder or hub name; NULL: not given */
    char *revision;           /* of a hub name; NULL: main */
    char *tokenizer;          /* folder or hub name; NULL: the model's */
    char *chat_template;      /* a file, or the template itself; NULL: the model's */
    char *tokenizer_revision; /* NULL: as revision when tokenizer is NULL, else main */
    pr_task task;
    bool needs_reward_head;   /* of the command `reward`: another model is refused at once */
    pr_hub_env hub;           /* where hub names are looked up; strings owned by the config */
    json_t *hf_overrides;     /* object merged into config.json; NULL: none */
    bool ignore_auto_map;     /* auto_map of config.json is not looked at */
    json_t *override_pooler_config; /* object; NULL: none */

    /* arithmetic and where it runs */
    pr_dtype_choice dtype;
    pr_device_choice device;       /* AUTO: until coordinator/fleet/placement.h has looked */
    char *devices;                 /* "0,1,2,3": the GPUs that ranks of a host take; NULL: all */
    double gpu_memory_utilization; /* part of a GPU's memory that a rank may take, > 0, <= 1 */
    bool allow_tf32;               /* f32 products on a GPU in TF32 */
    pr_cpu_isa cpu_isa;
    pr_matmul_precision matmul_precision; /* of products on the CPU */
    pr_stream_choice stream_weights;
    bool has_few_texts;             /* what AUTO of stream_weights goes by */
    int32_t n_threads;              /* >= 1, resolved */
    bool has_n_threads;             /* the user said how many; else ranks find out for themselves */
    int32_t tensor_parallel_size;   /* 1 */
    int32_t pipeline_parallel_size; /* 1 */
    int32_t data_parallel_size;     /* 1 */

    /* ranks; tensor_parallel_size * pipeline_parallel_size of them make one replica group */
    pr_worker_launch worker_launch;
    bool is_in_allocation;  /* the environment says that this runs inside a Slurm allocation */
    int32_t launcher_size;  /* processes that a launcher started beside this one; 0: none did */
    char *hostfile;         /* of mpirun; NULL: this host, or the allocation's */
    char *mpirun_args;      /* words put behind mpirun's own; NULL: none */
    char *srun_args;        /* likewise */
    char *ctrl_interface;   /* where the coordinator listens for ranks: an interface, an address,
                               with or without :port, or unix:PATH; NULL: a Unix socket where all
                               ranks are on this host, else every interface */
    char *cluster_key_file; /* NULL: a fresh key for each run, in the run folder */
    char *connect;          /* worker: where the coordinator listens, unix:PATH or tcp:HOST:PORT */
    char *group;            /* worker: what names its group; NULL: the MPI job's own name */
    bool job_leaves_host;   /* job: some of its processes are on other hosts */
    int job_fd;             /* job: > 0: where rank 0 waits for the address and the key's file, two
                               strings each with its NUL; written and closed by the engine */
    int32_t start_timeout;  /* seconds that a group may take to start and load */
    int32_t hang_timeout;   /* seconds without progress or sign of life that end a group */
    int32_t drain_timeout;  /* seconds to finish what was accepted after SIGTERM */

    /* limits */
    int32_t max_model_len;          /* 0: what the model's files say */
    int32_t max_num_batched_tokens; /* token budget of one forward pass */
    int32_t max_num_seqs;           /* sequences of one forward pass */
    bool enable_prefix_caching;     /* shared beginnings are computed once */
    double prefix_cache_bytes;      /* of what is kept between batches; below 0: not said */
    int32_t max_queued_requests;    /* bound of the engine's queue */
    int32_t max_queued_tokens;      /* likewise */
    bool block;                     /* submit waits while the queue is full; else OVERLOADED */

    /* what a request means unless it says otherwise */
    int32_t truncate_prompt_tokens; /* 0: unset, -1: the model's limit, else that many at most */
    pr_truncation_side truncation_side;
    bool add_special_tokens;
    bool messages; /* tokenize: a text is a conversation as JSON */
    int32_t dimensions;             /* 0: all */

    /* messages */
    pr_log_level log_level;
    pr_log_format log_format;
    bool quiet; /* no progress, no notes; log_level is then ERROR unless it was given */

    /* server only */
    char *host;              /* never NULL */
    int32_t port;            /* 0: any */
    char *uds;               /* NULL: TCP */
    char *port_file;         /* NULL: none */
    char *socket;            /* address of the socket protocol; NULL: none */
    int32_t metrics_port;    /* -1: none */
    char *metrics_host;
    char *served_model_name; /* names with commas; NULL: as model */
    char *api_key;           /* NULL: none */
    bool api_key_is_seen;    /* it was given as an option: ps shows it */
    char *api_key_file;      /* NULL: none */
    char *ssl_certfile, *ssl_keyfile; /* both or neither */
    bool insecure_socket;
    char *allowed_origins;   /* with commas; NULL: none */
    bool allow_token_input;
    int32_t max_client_batch_size;
    int32_t max_body_bytes, max_response_bytes;
    int32_t max_connections;
    int32_t read_timeout, idle_timeout; /* seconds */
    int32_t request_timeout; /* seconds; 0: none */
    int32_t queue_timeout, drain_delay; /* seconds */

    /* offline commands only */
    char *input;         /* file, "-": standard input; NULL: texts are arguments */
    char *output;        /* file; NULL: standard output */
    int32_t max_errors;  /* -1: no bound */
    bool allow_errors;   /* exit status 0 in place of 3 */
    bool return_tokens;  /* reward: the values of every token too */
    pr_reduce reduce;
    bool json;           /* inspect, plan: raw JSON */
    bool check_finite;   /* inspect: look for weights that are not finite */
    bool ignore_unread_tensors; /* of the checkpoint, that the model as understood has no use for */
    char *device_memory; /* plan: a size, "80GB"; never NULL */
} pr_config;

/* How matrices are kept, and on a GPU activations: what --dtype says, for auto f32 on the CPU and
 * the checkpoint's on a GPU. *source (may be NULL): who says so, constant. */
pr_dtype pr_dtype_choose(pr_dtype_choice choice, bool is_cuda, pr_dtype checkpoint_dtype,
                         const char **source);
/* The same for the config's choice and device; one that is still AUTO counts as the CPU. */
pr_dtype pr_config_dtype(const pr_config *config, pr_dtype checkpoint_dtype);

const char *pr_device_choice_name(pr_device_choice device); /* "cuda" */

void pr_config_deinit(pr_config *config); /* safe on a zeroed struct, and twice */

#endif
