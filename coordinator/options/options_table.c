#include "coordinator/options/options_table.h"

#include "coordinator/options/config.h"

#include <assert.h>

enum { RANKS_MAX = 4096 };

#define FIELD(name) ((int)offsetof(pr_config, name))

/* Rows stand in the order of help, within their group. */
const pr_option_row pr_option_rows[] = {
    /* ---- model ---- */
    {.name = "model", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_SPEC | PR_COMMAND_WORKER, .metavar = "DIR|NAME", .is_vllm = true,
     .field = FIELD(model),
     .help = "Folder of the model, or a hub name that is looked up in the local Hugging Face "
             "cache; nothing is downloaded. The first argument may name it too. Of a worker: where "
             "its host has the coordinator's model, if not at the same path."},
    {.name = "revision", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_SPEC, .metavar = "REVISION", .initial_words = "main", .is_vllm = true,
     .field = FIELD(revision), .help = "Branch, tag or commit of a hub name."},
    {.name = "tokenizer", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_MODEL, .metavar = "DIR|NAME", .initial_words = "the model's",
     .is_vllm = true, .field = FIELD(tokenizer),
     .help = "Folder or hub name whose tokenizer.json is read in place of the model's."},
    {.name = "tokenizer-revision", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_MODEL, .metavar = "REVISION", .is_vllm = true,
     .field = FIELD(tokenizer_revision), .help = "Branch, tag or commit of the tokenizer's name."},
    {.name = "chat-template", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_MODEL, .metavar = "FILE|TEMPLATE", .initial_words = "the model's",
     .is_vllm = true, .field = FIELD(chat_template),
     .help = "Template that makes a text of messages, in place of the model's: a file, or the "
             "template itself."},
    {.name = "task", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_MODEL, .metavar = "TASK", .initial = "auto",
     .choices = "auto|embed|classify|score|reward", .choice_aliases = "embedding=embed",
     .choices_refused = "generate|transcription", .reason = "poolrank runs pooling models only",
     .is_vllm = true, .field = FIELD(task),
     .help = "What the model is used for; auto: what its files say. The commands embed, classify, "
             "score and reward name their task themselves."},
    {.name = "dtype", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_SPEC, .metavar = "DTYPE", .initial = "auto",
     .choices = "auto|float32|bfloat16|float16",
     .choice_aliases = "float=float32|f32=float32|bf16=bfloat16|half=float16|f16=float16",
     .is_vllm = true, .field = FIELD(dtype),
     .help = "On the CPU how weights are kept: float32, or bfloat16 for half the memory; the "
             "arithmetic is float32 in both. On a GPU what weights and activations are; sums are "
             "float32 in all. auto: float32 on the CPU, on a GPU what the checkpoint says. float16 "
             "is for GPUs only."},
    {.name = "quantization", .short_form = "-q", .kind = PR_OPTION_TEXT,
     .group = PR_OPTION_GROUP_MODEL, .commands = PR_COMMAND_MODEL, .metavar = "METHOD",
     .initial_words = "none", .choices = "none",
     .reason = "quantized weights are not built in this version; checkpoints of f32, f16 and bf16 "
               "tensors are served",
     .is_vllm = true, .field = PR_OPTION_NO_FIELD, .help = "Only none in this version."},
    {.name = "hf-overrides", .kind = PR_OPTION_JSON, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_SPEC, .metavar = "JSON", .is_vllm = true, .field = FIELD(hf_overrides),
     .help = "Object merged into the model's config.json; null removes a field."},
    {.name = "ignore-auto-map", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_SPEC, .field = FIELD(ignore_auto_map),
     .help = "Compute a model that comes with code of its own (auto_map of config.json) as the "
             "architecture that it names."},
    {.name = "load-format", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_MODEL, .metavar = "FORMAT", .initial_words = "auto",
     .choices = "auto|safetensors",
     .reason = "only safetensors is read; a pickle can run code, and no other format is built",
     .is_vllm = true, .field = PR_OPTION_NO_FIELD, .help = "auto or safetensors: both the same."},
    {.name = "download-dir", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_SPEC, .metavar = "DIR", .initial_words = "HF_HUB_CACHE, HF_HOME/hub",
     .is_vllm = true, .field = FIELD(hub.hf_hub_cache),
     .help = "Hugging Face cache in which hub names are looked up."},

    /* ---- what a result is ---- */
    {.name = "override-pooler-config", .other_name = "pooler-config", .kind = PR_OPTION_JSON,
     .group = PR_OPTION_GROUP_RESULT, .commands = PR_COMMAND_MODEL, .metavar = "JSON",
     .is_vllm = true, .field = FIELD(override_pooler_config),
     .help = "How hidden states are pooled, for instance "
             "'{\"pooling_type\":\"MEAN\",\"normalize\":false}'."},
    {.name = "dimensions", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_RESULT,
     .commands = PR_COMMAND_MODEL, .metavar = "N", .initial_words = "all", .min = 1,
     .max = INT32_MAX, .field = FIELD(dimensions),
     .help = "Keep the first N values of an embedding, cut before it is normalized."},
    {.name = "truncate-prompt-tokens", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_RESULT,
     .commands = PR_COMMAND_MODEL, .metavar = "N", .initial_words = "longer texts are errors",
     .min = -1, .max = INT32_MAX, .field = FIELD(truncate_prompt_tokens),
     .help = "Cut longer texts to N tokens, special tokens included; -1: the model's limit."},
    {.name = "truncation-side", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_RESULT,
     .commands = PR_COMMAND_MODEL, .metavar = "SIDE", .initial = "auto",
     .choices = "auto|right|left", .field = FIELD(truncation_side),
     .help = "Which end of a long text is cut; auto: the tokenizer's, else right."},
    {.name = "add-special-tokens", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_RESULT,
     .commands = PR_COMMAND_MODEL, .initial = "true", .field = FIELD(add_special_tokens),
     .help = "Whether the tokenizer adds its special tokens."},
    {.name = "messages", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_RESULT,
     .commands = PR_COMMAND_TOKENIZE, .initial = "false", .field = FIELD(messages),
     .help = "Each TEXT is a conversation as JSON; what the chat template makes of it is shown "
             "with its ids."},
    {.name = "reduce", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_RESULT,
     .commands = PR_COMMAND_REWARD | PR_COMMAND_SERVE, .metavar = "HOW", .initial = "last",
     .choices = "last|mean|min|product", .field = FIELD(reduce),
     .help = "How the steps of a process reward model become one number; a request to a server may "
             "say otherwise."},
    {.name = "return-tokens", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_RESULT,
     .commands = PR_COMMAND_REWARD, .field = FIELD(return_tokens),
     .help = "Print the values of every token or step too, as data and shape."},

    /* ---- files ---- */
    {.name = "input", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_FILES,
     .commands = PR_COMMAND_OFFLINE, .metavar = "FILE|-", .field = FIELD(input),
     .help = "One request a line: text as it stands, or a JSON object; -: standard input."},
    {.name = "output", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_FILES,
     .commands = PR_COMMAND_OFFLINE, .metavar = "FILE", .initial_words = "standard output",
     .field = FIELD(output),
     .help = "Where the answers go, one JSON object a line; the file appears when complete."},
    {.name = "max-errors", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_FILES,
     .commands = PR_COMMAND_OFFLINE, .metavar = "N", .initial = "-1", .initial_words = "no bound",
     .min = -1, .max = INT32_MAX, .field = FIELD(max_errors),
     .help = "Give up with exit status 1 when more than N lines have failed."},
    {.name = "allow-errors", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_FILES,
     .commands = PR_COMMAND_OFFLINE, .field = FIELD(allow_errors),
     .help = "Exit status 0 in place of 3 when some lines have failed."},
    {.name = "json", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_FILES,
     .commands = PR_COMMAND_INSPECT | PR_COMMAND_PLAN, .field = FIELD(json),
     .help = "Print one JSON object in place of a table."},

    {.name = "ignore-unread-tensors", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_MODEL,
     .commands = PR_COMMAND_MODEL, .field = FIELD(ignore_unread_tensors),
     .help = "Leave out tensors of the checkpoint that the architecture has no use for, such as a "
             "second head, in place of refusing the model."},
    {.name = "check-finite", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_FILES,
     .commands = PR_COMMAND_INSPECT, .field = FIELD(check_finite),
     .help = "Read all weights and name the first tensor that has not-a-number or infinity in it; "
             "exit status 1 if one has."},

    /* ---- execution ---- */
    {.name = "threads", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_SPEC | PR_COMMAND_WORKER, .metavar = "N",
     .initial_words = "all that the process may use",
     .min = 0, .max = 1024, .field = FIELD(n_threads),
     .help = "Threads that compute; 0 or unset: what processor affinity, the cgroup's quota and "
             "SLURM_CPUS_PER_TASK allow. Results do not depend on it."},
    {.name = "device", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_SPEC, .metavar = "DEVICE", .initial = "auto",
     .choices = "auto|cpu|cuda", .choices_refused = "neuron|tpu|xpu|hpu",
     .reason = "this version computes on CPUs and on NVIDIA's GPUs", .is_vllm = true,
     .field = FIELD(device),
     .help = "Where the model runs; auto: on GPUs if this host has one and poolrank was built with "
             "CUDA, else on the CPU. plan is about GPUs unless it is cpu."},
    {.name = "devices", .kind = PR_OPTION_LIST, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL | PR_COMMAND_WORKER, .metavar = "LIST",
     .initial_words = "all visible ones", .field = FIELD(devices),
     .help = "GPUs that the ranks of a host take, one each: numbers of visible devices, such as "
             "0,1,2,3. Replica groups take them in turn, each as many as it has ranks there."},
    {.name = "gpu-memory-utilization", .kind = PR_OPTION_NUMBER,
     .group = PR_OPTION_GROUP_EXECUTION, .commands = PR_COMMAND_MODEL, .metavar = "FRACTION",
     .initial = "0.9", .min = 0, .max = 1, .is_vllm = true, .field = FIELD(gpu_memory_utilization),
     .help = "Part of a GPU's memory that a rank may take; what would need more is refused before "
             "anything is loaded."},
    {.name = "allow-tf32", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL, .field = FIELD(allow_tf32),
     .help = "Whether a GPU may multiply float32 matrices in TF32: faster, with 10 bits of "
             "fraction."},
    {.name = "device-memory", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_PLAN, .metavar = "SIZE", .initial = "80GB",
     .field = FIELD(device_memory),
     .help = "Memory of each device that a plan must fit: 80GB is 80e9 bytes, 80GiB 80 * 2^30."},
    {.name = "cpu-isa", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL, .metavar = "ISA", .initial = "auto",
     .choices = "auto|c|avx2|avx512|amx|amx-c", .field = FIELD(cpu_isa),
     .help = "Instruction set of the kernels; auto: the best that the processor has. amx-c has the "
             "products of amx in plain C, on any processor, for tests."},
    {.name = "matmul-precision", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL, .metavar = "PRECISION", .initial = "auto",
     .choices = "auto|highest|high|medium", .field = FIELD(matmul_precision),
     .help = "How exact matrix products on the CPU are: highest as float32, high 16 bits of each "
             "factor, medium bfloat16. Without AMX high and medium are computed as highest. auto: "
             "the fastest that stays within 1e-5 of Hugging Face, which is highest."},
    {.name = "stream-weights", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_POOL | PR_COMMAND_LIBRARY, .metavar = "WHEN", .initial = "auto",
     .choices = "auto|on|off", .field = FIELD(stream_weights),
     .help = "on: weights are read from the files again for each batch, one layer at a time, and "
             "not kept: a quick start and little memory, for few texts. auto: on when the texts "
             "are arguments, off on a GPU, where it cannot be on. Results do not depend on it."},
    {.name = "max-model-len", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_SPEC, .metavar = "N", .initial_words = "what the model's files say",
     .min = 1, .max = INT32_MAX, .is_vllm = true, .field = FIELD(max_model_len),
     .help = "Longest request in tokens; it can only lower the model's own limit."},
    {.name = "max-num-batched-tokens", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_SPEC, .metavar = "N", .initial = "2048", .min = 1, .max = 1 << 24,
     .is_vllm = true, .field = FIELD(max_num_batched_tokens),
     .help = "Tokens of one forward pass; more need more memory."},
    {.name = "max-num-seqs", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL, .metavar = "N", .initial = "256", .min = 1, .max = 1 << 20,
     .is_vllm = true, .field = FIELD(max_num_seqs), .help = "Requests of one forward pass."},
    {.name = "enable-prefix-caching", .kind = PR_OPTION_SWITCH,
     .group = PR_OPTION_GROUP_EXECUTION, .commands = PR_COMMAND_MODEL, .initial = "true",
     .is_vllm = true, .field = FIELD(enable_prefix_caching),
     .help = "Whether what texts begin with is computed once, where a model reads from left to "
             "right: within a batch, and from one batch to the next. Results do not depend on it, "
             "to the bit on a CPU."},
    {.name = "prefix-cache-bytes", .kind = PR_OPTION_NUMBER, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL, .metavar = "BYTES", .initial = "-1",
     .initial_words = "on a CPU 1/16 of the memory, at most 2G; on GPUs 0",
     .field = FIELD(prefix_cache_bytes),
     .help = "Memory for the keys and values of earlier texts, over all ranks, for texts to come "
             "that begin alike; 4G is 4 * 2^30, 0: none."},
    {.name = "max-queued-requests", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL, .metavar = "N", .initial = "4096", .min = 1, .max = 1 << 24,
     .field = FIELD(max_queued_requests),
     .help = "Requests that may wait in the engine; a command then reads no further, a server "
             "answers 429."},
    {.name = "max-queued-tokens", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_MODEL, .metavar = "N", .initial = "16M", .min = 1, .max = INT32_MAX,
     .field = FIELD(max_queued_tokens),
     .help = "Tokens of them; a text that is not tokenized yet counts as one for each 4 bytes."},
    {.name = "block", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_EXECUTION,
     .commands = PR_COMMAND_LIBRARY, .field = FIELD(block),
     .help = "Whether a submission waits while the queue is full, or fails."},
    {.name = "tensor-parallel-size", .short_form = "-tp", .kind = PR_OPTION_INT,
     .group = PR_OPTION_GROUP_RANKS, .commands = PR_COMMAND_SPEC, .metavar = "N", .initial = "1",
     .min = 1, .max = RANKS_MAX, .is_vllm = true, .field = FIELD(tensor_parallel_size),
     .help = "Ranks that share every layer: each holds a part of its heads and of its feed-forward "
             "block. Must divide the number of heads."},
    {.name = "pipeline-parallel-size", .short_form = "-pp", .kind = PR_OPTION_INT,
     .group = PR_OPTION_GROUP_RANKS, .commands = PR_COMMAND_SPEC, .metavar = "N", .initial = "1",
     .min = 1, .max = RANKS_MAX, .is_vllm = true, .field = FIELD(pipeline_parallel_size),
     .help = "Stages of consecutive layers, each with its own ranks."},
    {.name = "data-parallel-size", .short_form = "-dp", .kind = PR_OPTION_INT,
     .group = PR_OPTION_GROUP_RANKS, .commands = PR_COMMAND_MODEL, .metavar = "N", .initial = "1",
     .min = 1, .max = RANKS_MAX, .is_vllm = true, .field = FIELD(data_parallel_size),
     .help = "Replica groups: copies of the model, each with tensor-parallel-size * "
             "pipeline-parallel-size ranks."},
    {.name = "worker-launch", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL, .metavar = "HOW", .initial = "auto",
     .choices = "auto|inproc|mpirun|srun|external|job", .field = FIELD(worker_launch),
     .help = "How the ranks start. inproc: the only rank is a thread of this process; mpirun, "
             "srun: they are started, watched and started again; external: they connect by "
             "themselves (poolrank worker); job: this program is run by the user's own mpirun or "
             "srun, once for each rank. auto: inproc for one rank, srun inside a Slurm "
             "allocation, else mpirun."},
    {.name = "hostfile", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL, .metavar = "FILE", .initial_words = "this host",
     .field = FIELD(hostfile), .help = "Hosts for mpirun, one a line."},
    {.name = "mpirun-args", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL, .metavar = "WORDS", .field = FIELD(mpirun_args),
     .help = "Further arguments for mpirun, separated by blanks; quotes as in a shell."},
    {.name = "srun-args", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL, .metavar = "WORDS", .field = FIELD(srun_args),
     .help = "Further arguments for srun, likewise."},
    {.name = "ctrl-interface", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL, .metavar = "WHERE",
     .initial_words = "a Unix socket; every interface where ranks are on other hosts",
     .field = FIELD(ctrl_interface),
     .help = "Where ranks connect: a network interface or an address, with :PORT if it is to be a "
             "certain one, or unix:PATH."},
    {.name = "cluster-key-file", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL | PR_COMMAND_WORKER, .metavar = "FILE",
     .initial_words = "a fresh key for each run", .field = FIELD(cluster_key_file),
     .help = "File of mode 0600 whose key the ranks and the coordinator prove to each other."},
    {.name = "start-timeout", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL | PR_COMMAND_WORKER, .metavar = "SECONDS", .initial = "600",
     .min = 1, .max = 1 << 20, .field = FIELD(start_timeout),
     .help = "How long a group may take to connect; loading may take longer while it goes on."},
    {.name = "hang-timeout", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL, .metavar = "SECONDS", .initial = "60", .min = 1, .max = 1 << 20,
     .field = FIELD(hang_timeout),
     .help = "A group whose rank gives no sign of life, or makes no progress, for so long is "
             "ended and started again."},
    {.name = "drain-timeout", .kind = PR_OPTION_INT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_MODEL, .metavar = "SECONDS", .initial = "60", .min = 0, .max = 1 << 20,
     .field = FIELD(drain_timeout),
     .help = "After SIGTERM, how long what was accepted may take to be finished."},
    {.name = "connect", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_WORKER, .metavar = "ADDRESS", .field = FIELD(connect),
     .help = "Where the coordinator listens: unix:PATH or tcp:HOST:PORT."},
    {.name = "group", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_RANKS,
     .commands = PR_COMMAND_WORKER, .metavar = "NAME", .initial_words = "the MPI job's own",
     .field = FIELD(group), .help = "What the ranks of one replica group have in common."},

    /* ---- messages ---- */
    {.name = "log-level", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_MESSAGES,
     .commands = PR_COMMAND_SPEC | PR_COMMAND_WORKER, .metavar = "LEVEL", .initial = "warning",
     .choices = "error|warning|info|debug", .field = FIELD(log_level),
     .help = "How much is written to standard error."},
    {.name = "log-format", .kind = PR_OPTION_CHOICE, .group = PR_OPTION_GROUP_MESSAGES,
     .commands = PR_COMMAND_SPEC | PR_COMMAND_WORKER, .metavar = "FORMAT",
     .initial = "text", .choices = "text|json",
     .field = FIELD(log_format), .help = "Log lines as text, or one JSON object each."},
    {.name = "quiet", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_MESSAGES,
     .commands = PR_COMMAND_SPEC | PR_COMMAND_WORKER, .field = FIELD(quiet),
     .help = "No progress and no warnings; errors only."},
    {.name = "config", .kind = PR_OPTION_TEXT, .group = PR_OPTION_GROUP_MESSAGES,
     .commands = PR_COMMAND_SPEC & ~(unsigned)PR_COMMAND_LIBRARY, .metavar = "FILE",
     .is_vllm = true, .field = PR_OPTION_NO_FIELD,
     .help = "JSON object whose keys are option names, for what is given neither here nor in the "
             "environment."},
    {.name = "help", .short_form = "-h", .kind = PR_OPTION_SWITCH,
     .group = PR_OPTION_GROUP_MESSAGES,
     .commands = PR_COMMAND_PROGRAM, .field = PR_OPTION_NO_FIELD,
     .help = "Print the options of a command."},
    {.name = "version", .kind = PR_OPTION_SWITCH, .group = PR_OPTION_GROUP_MESSAGES,
     .commands = PR_COMMAND_PROGRAM, .field = PR_OPTION_NO_FIELD,
     .help = "Print the version."},
};
const size_t pr_option_rows_count = sizeof pr_option_rows / sizeof *pr_option_rows;

/* The enums that CHOICE rows write: enumerators in the order of the choices. */
static_assert(PR_TASK_EMBED == 1 && PR_TASK_CLASSIFY == 2 && PR_TASK_SCORE == 3 &&
                  PR_TASK_REWARD == 4 && PR_TASK_COUNT == 5,
              "order of task");
static_assert(PR_DTYPE_CHOICE_FLOAT32 == 1 && PR_DTYPE_CHOICE_BFLOAT16 == 2 &&
                  PR_DTYPE_CHOICE_FLOAT16 == 3 && PR_DTYPE_CHOICE_COUNT == 4,
              "order of dtype");
static_assert(PR_DEVICE_CHOICE_AUTO == 0 && PR_DEVICE_CHOICE_CPU == 1 &&
                  PR_DEVICE_CHOICE_CUDA == 2 && PR_DEVICE_CHOICE_COUNT == 3,
              "order of device");
static_assert(PR_CPU_ISA_C == 1 && PR_CPU_ISA_AVX2 == 2 && PR_CPU_ISA_AVX512 == 3 &&
                  PR_CPU_ISA_AMX == 4 && PR_CPU_ISA_AMX_C == 5 && PR_CPU_ISA_COUNT == 6,
              "order of cpu-isa");
static_assert(PR_MATMUL_AUTO == 0 && PR_MATMUL_HIGHEST == 1 && PR_MATMUL_HIGH == 2 &&
                  PR_MATMUL_MEDIUM == 3 && PR_MATMUL_COUNT == 4,
              "order of matmul-precision");
static_assert(PR_LOG_ERROR == 0 && PR_LOG_WARNING == 1 && PR_LOG_INFO == 2 && PR_LOG_DEBUG == 3,
              "order of log-level");
static_assert(PR_WORKER_LAUNCH_AUTO == 0 && PR_WORKER_LAUNCH_INPROC == 1 &&
                  PR_WORKER_LAUNCH_MPIRUN == 2 && PR_WORKER_LAUNCH_SRUN == 3 &&
                  PR_WORKER_LAUNCH_EXTERNAL == 4 && PR_WORKER_LAUNCH_JOB == 5 &&
                  PR_WORKER_LAUNCH_COUNT == 6,
              "order of worker-launch");
static_assert(PR_LOG_TEXT == 0 && PR_LOG_JSON == 1, "order of log-format");
