#include "coordinator/options/options_table.h"

#include "coordinator/options/config.h"

#define VLLM                                                                                      \
    .group = PR_OPTION_GROUP_VLLM, .commands = PR_COMMAND_MODEL, .is_vllm = true,                 \
    .field = PR_OPTION_NO_FIELD, .min = INT32_MIN, .max = INT32_MAX

#define IDLE(...) PR_OPTION_ROW_IDLE(VLLM, __VA_ARGS__)
#define NEVER(...) PR_OPTION_ROW_NEVER(VLLM, __VA_ARGS__)

/* Only the values that poolrank does anyway. */
#define ONLY(a_name, a_choices, a_initial, why)                                                   \
    {VLLM, .name = a_name, .kind = PR_OPTION_TEXT, .choices = a_choices,                          \
     .initial_words = a_initial, .metavar = "NAME", .reason = why, .help = "Has one meaning here."}

#define NO_CODE                                                                                    \
    "poolrank runs no code from a model's folder; its own row for the architecture is used"
#define NO_OFFLOAD "weights are on the GPU as a whole, or the rank is refused"
#define NO_CACHE "--prefix-cache-bytes says what the cache of keys and values may take"
#define NO_GENERATION PR_OPTION_NO_GENERATION
#define NO_LORA "adapters are not built; merge them into the weights"
#define NO_PROMPT_ADAPTER "prompt adapters are not built"
#define NO_IMAGES "models here read text only"
#define NO_RAY "poolrank starts no Ray workers"
#define NO_PYTHON "poolrank has no Python classes that could be replaced"
#define WHOLE_PROMPTS "a request is computed whole, in one forward pass"
#define NO_GRAPHS "no CUDA graphs are used, and nothing is compiled when a model is loaded"
#define NO_TRACES "poolrank exports no traces"
#define NO_DRAFTS "a pooling model generates nothing that could be drafted"

/* In the order of vLLM's own list (vllm/engine/arg_utils.py of 0.8.5). */
const pr_option_row pr_option_rows_vllm[] = {
    NEVER("hf-config-path", TEXT, "DIR",
          "config.json is read from the model's folder; change fields with --hf-overrides"),
    IDLE("skip-tokenizer-init", SWITCH, NULL, "the tokenizer is loaded in all cases"),
    IDLE("code-revision", TEXT, "REVISION", NO_CODE),
    ONLY("tokenizer-mode", "auto", "auto", "only tokenizer.json is read"),
    IDLE("trust-remote-code", SWITCH, NULL, NO_CODE),
    IDLE("allowed-local-media-path", TEXT, "DIR", NO_IMAGES),
    IDLE("model-loader-extra-config", TEXT, "JSON", "safetensors files need no loader settings"),
    IDLE("use-tqdm-on-load", SWITCH, NULL, "loading shows no progress bar"),
    ONLY("config-format", "auto|hf", "auto", "only Hugging Face's config.json is read"),
    IDLE("guided-decoding-backend", TEXT, "NAME", NO_GENERATION),
    IDLE("reasoning-parser", TEXT, "NAME", NO_GENERATION),
    IDLE("logits-processor-pattern", TEXT, "REGEX", NO_GENERATION),
    IDLE("model-impl", TEXT, "NAME", "poolrank has one implementation of each model"),
    IDLE("distributed-executor-backend", TEXT, "NAME", "--worker-launch says how ranks start"),
    IDLE("enable-expert-parallel", SWITCH, NULL, "no model family here has experts"),
    IDLE("max-parallel-loading-workers", INT, "N", "every rank reads its shard at once"),
    IDLE("ray-workers-use-nsight", SWITCH, NULL, NO_RAY),
    IDLE("disable-custom-all-reduce", SWITCH, NULL,
         "there is one all-reduce: on CPUs an own one with a fixed order, on GPUs NCCL's"),
    IDLE("block-size", INT, "N", NO_CACHE),
    IDLE("swap-space", NUMBER, "GIB", NO_CACHE),
    IDLE("kv-cache-dtype", TEXT, "DTYPE", NO_CACHE),
    IDLE("num-gpu-blocks-override", INT, "N", NO_CACHE),
    IDLE("prefix-caching-hash-algo", TEXT, "NAME", NO_CACHE),
    IDLE("cpu-offload-gb", NUMBER, "GIB", NO_OFFLOAD),
    IDLE("calculate-kv-scales", SWITCH, NULL, NO_CACHE),
    IDLE("disable-sliding-window", SWITCH, NULL,
         "a layer with a window keeps it; a text that fits the window is not changed by it"),
    IDLE("use-v2-block-manager", SWITCH, NULL, NO_CACHE),
    IDLE("seed", INT, "N", "nothing here is random"),
    IDLE("max-logprobs", INT, "N", NO_GENERATION),
    IDLE("disable-log-stats", SWITCH, NULL, "no statistics are logged"),
    NEVER("rope-scaling", JSON, "JSON",
          "give it as --hf-overrides '{\"rope_scaling\":{…}}' (rope_parameters in files of "
          "transformers 5), so that it is clear which field of config.json it replaces"),
    NEVER("rope-theta", NUMBER, "THETA",
          "give it as --hf-overrides '{\"rope_theta\":…}' (rope_parameters in files of "
          "transformers 5), so that it is clear which field of config.json it replaces"),
    {VLLM, .name = "hf-token", .kind = PR_OPTION_TEXT, .effect = PR_OPTION_ACCEPTED,
     .metavar = "TOKEN", .value_is_optional = true, .reason = "nothing is downloaded"},
    IDLE("enforce-eager", SWITCH, NULL, NO_GRAPHS),
    IDLE("max-seq-len-to-capture", INT, "N", NO_GRAPHS),
    IDLE("tokenizer-pool-size", INT, "N", "texts are tokenized on the engine's own threads"),
    IDLE("tokenizer-pool-type", TEXT, "NAME", "texts are tokenized on the engine's own threads"),
    IDLE("tokenizer-pool-extra-config", TEXT, "JSON",
         "texts are tokenized on the engine's own threads"),
    IDLE("limit-mm-per-prompt", TEXT, "JSON", NO_IMAGES),
    IDLE("mm-processor-kwargs", TEXT, "JSON", NO_IMAGES),
    IDLE("disable-mm-preprocessor-cache", SWITCH, NULL, NO_IMAGES),
    NEVER("enable-lora", SWITCH, NULL, NO_LORA),
    NEVER("enable-lora-bias", SWITCH, NULL, NO_LORA),
    IDLE("max-loras", INT, "N", NO_LORA),
    IDLE("max-lora-rank", INT, "N", NO_LORA),
    IDLE("lora-extra-vocab-size", INT, "N", NO_LORA),
    IDLE("lora-dtype", TEXT, "DTYPE", NO_LORA),
    IDLE("long-lora-scaling-factors", LIST, "FACTOR", NO_LORA),
    IDLE("max-cpu-loras", INT, "N", NO_LORA),
    IDLE("fully-sharded-loras", SWITCH, NULL, NO_LORA),
    NEVER("enable-prompt-adapter", SWITCH, NULL, NO_PROMPT_ADAPTER),
    IDLE("max-prompt-adapters", INT, "N", NO_PROMPT_ADAPTER),
    IDLE("max-prompt-adapter-token", INT, "N", NO_PROMPT_ADAPTER),
    NEVER("speculative-config", TEXT, "JSON", NO_DRAFTS),
    IDLE("ignore-patterns", LIST, "PATTERN", "nothing is downloaded; config.json names the files"),
    {.group = PR_OPTION_GROUP_SERVER, .commands = PR_COMMAND_MODEL, .is_vllm = true,
     .name = "served-model-name", .kind = PR_OPTION_LIST, .metavar = "NAME",
     .initial_words = "what --model says", .field = (int)offsetof(pr_config, served_model_name),
     .help = "What clients call the model: several options or commas. The first stands in answers. "
             "Without effect but in a server."},
    NEVER("qlora-adapter-name-or-path", TEXT, "DIR", NO_LORA),
    IDLE("show-hidden-metrics-for-version", TEXT, "VERSION", "no metrics are published"),
    IDLE("otlp-traces-endpoint", TEXT, "URL", NO_TRACES),
    IDLE("collect-detailed-traces", TEXT, "MODULES", NO_TRACES),
    IDLE("disable-async-output-proc", SWITCH, NULL, NO_GENERATION),
    IDLE("max-num-partial-prefills", INT, "N", WHOLE_PROMPTS),
    IDLE("max-long-partial-prefills", INT, "N", WHOLE_PROMPTS),
    IDLE("long-prefill-token-threshold", INT, "N", WHOLE_PROMPTS),
    IDLE("num-lookahead-slots", INT, "N", NO_DRAFTS),
    IDLE("scheduler-delay-factor", NUMBER, "FACTOR", "a batch starts as soon as a request waits"),
    IDLE("preemption-mode", TEXT, "MODE", "a batch that has begun is finished"),
    IDLE("num-scheduler-steps", INT, "N", NO_GENERATION),
    IDLE("multi-step-stream-outputs", SWITCH, NULL, NO_GENERATION),
    ONLY("scheduling-policy", "fcfs|priority", "fcfs",
         "a request's priority is always heeded; those of one priority are computed in the order "
         "of arrival, many texts of one request in turn with other requests"),
    IDLE("enable-chunked-prefill", SWITCH, NULL, WHOLE_PROMPTS),
    IDLE("disable-chunked-mm-input", SWITCH, NULL, NO_IMAGES),
    NEVER("scheduler-cls", TEXT, "CLASS", NO_PYTHON),
    IDLE("override-neuron-config", TEXT, "JSON", "there is no backend for Neuron devices"),
    {VLLM, .name = "compilation-config", .short_form = "-O", .kind = PR_OPTION_TEXT,
     .effect = PR_OPTION_ACCEPTED, .metavar = "LEVEL|JSON", .reason = NO_GRAPHS},
    NEVER("kv-transfer-config", TEXT, "JSON", NO_CACHE),
    ONLY("worker-cls", "auto", "auto", NO_PYTHON),
    NEVER("worker-extension-cls", TEXT, "CLASS", NO_PYTHON),
    IDLE("generation-config", TEXT, "NAME", NO_GENERATION),
    IDLE("override-generation-config", TEXT, "JSON", NO_GENERATION),
    IDLE("enable-sleep-mode", SWITCH, NULL,
         "weights stay where they are as long as the model is served"),
    IDLE("additional-config", TEXT, "JSON", "poolrank has no plug-ins that would read it"),
    IDLE("enable-reasoning", SWITCH, NULL, NO_GENERATION),
    IDLE("disable-cascade-attn", SWITCH, NULL, "attention has one way to read shared prefixes"),
    IDLE("disable-log-requests", SWITCH, NULL, "requests are never logged"),
};
const size_t pr_option_rows_vllm_count = sizeof pr_option_rows_vllm / sizeof *pr_option_rows_vllm;
