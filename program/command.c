#include "program/command.h"

#include "coordinator/options/options.h"

#include <string.h>

#define MODEL_AND_TEXTS "[MODEL] [OPTION…] [TEXT… | --input FILE|-] [--output FILE]"

static const pr_command_row rows[] = {
    {.name = "embed", .bit = PR_COMMAND_EMBED, .task = PR_TASK_EMBED, .usage = MODEL_AND_TEXTS,
     .summary = "a vector for each text",
     .details = "Each text becomes one vector, of length 1 unless the model or "
                "--override-pooler-config says otherwise:\n"
                "{\"index\":0,\"prompt_tokens\":5,\"embedding\":[…]}",
     .examples = "poolrank embed --model DIR \"What is pooling?\" \"A swimming pool.\"\n"
                 "poolrank embed DIR --input texts.txt --output vectors.jsonl",
     .run = pr_command_pool_run},
    {.name = "classify", .bit = PR_COMMAND_CLASSIFY, .task = PR_TASK_CLASSIFY,
     .usage = MODEL_AND_TEXTS, .summary = "the probability of each label for each text",
     .details = "A model with a classification head is needed. The order is that of id2label in "
                "its config.json:\n"
                "{\"index\":0,\"prompt_tokens\":5,\"probs\":[…]}",
     .examples = "poolrank classify --model DIR \"What a lovely day.\"",
     .run = pr_command_pool_run},
    {.name = "score", .bit = PR_COMMAND_SCORE, .task = PR_TASK_SCORE,
     .usage = "[MODEL] [OPTION…] [QUERY DOCUMENT… | --input FILE|-] [--output FILE]",
     .summary = "how well documents answer a query",
     .details = "A cross-encoder reads the pair of query and document; an embedding model gives "
                "the cosine of their vectors. Arguments are one query and its documents; a line of "
                "--input is one pair, {\"query\":…,\"document\":…}:\n"
                "{\"index\":0,\"prompt_tokens\":9,\"score\":0.97}",
     .examples = "poolrank score --model DIR \"how do bees find home?\" \"Bees use the sun.\" "
                 "\"Bread is baked.\"\n"
                 "poolrank score DIR --input pairs.jsonl",
     .run = pr_command_pool_run},
    {.name = "reward", .bit = PR_COMMAND_REWARD, .task = PR_TASK_REWARD, .usage = MODEL_AND_TEXTS,
     .summary = "one number for each text: how good it is",
     .details = "A reward model is needed. The reward is the last token's value; of a process "
                "reward model the last step's, beside step_rewards (--reduce for another one):\n"
                "{\"index\":0,\"prompt_tokens\":5,\"reward\":1.25}",
     .examples = "poolrank reward --model DIR --input answers.jsonl",
     .run = pr_command_pool_run},
    {.name = "encode", .bit = PR_COMMAND_ENCODE, .usage = MODEL_AND_TEXTS,
     .summary = "what the model's own pooler yields",
     .details = "The rows as they are, with their shape; a vector for a model that pools a text "
                "into one:\n"
                "{\"index\":0,\"prompt_tokens\":2,\"data\":[[…],[…]],\"shape\":[2,1]}",
     .examples = "poolrank encode --model DIR --task reward \"a text\"",
     .run = pr_command_pool_run},
    {.name = "serve", .bit = PR_COMMAND_SERVE, .usage = "[MODEL] [OPTION…]",
     .summary = "answers over HTTP and a socket",
     .details = "Speaks the HTTP of OpenAI, vLLM, Cohere and RLHF trainers, and poolrank's own "
                "socket protocol. The port opens before the model is loaded; /readyz is 200 once "
                "it is. SIGTERM: finishes what was accepted; SIGHUP: reads keys and certificates "
                "again.",
     .examples = "poolrank serve --model DIR --port 8000\n"
                 "poolrank serve DIR -tp 2 --api-key-file keys --socket unix:///run/poolrank.sock",
     .run = pr_command_serve_run},
    {.name = "tokenize", .bit = PR_COMMAND_TOKENIZE,
     .usage = "[MODEL] [OPTION…] [TEXT… | --input FILE|-] [--output FILE]",
     .summary = "the token ids of each text",
     .details = "Only the tokenizer is read, no weights:\n"
                "{\"index\":0,\"tokens\":[101,7592,102]}",
     .examples = "poolrank tokenize --model DIR --input -",
     .run = pr_command_tokenize_run},
    {.name = "inspect", .bit = PR_COMMAND_INSPECT, .usage = "[MODEL] [OPTION…] [--json]",
     .summary = "what is understood of a model",
     .details = "Family, shapes, memory, limits, and the resolved pooler with the source of each "
                "of its fields. No weights are read.",
     .examples = "poolrank inspect --model DIR", .run = pr_command_inspect_run},
    {.name = "plan", .bit = PR_COMMAND_PLAN,
     .usage = "[MODEL|config.json] [OPTION…] [--device-memory 80GB] [--json]",
     .summary = "what a model would need on so many devices",
     .details = "Memory of each rank, traffic between ranks, the token budget that fits, and the "
                "speed that the data sheets of GPUs allow. No weights are needed: a config.json is "
                "enough. Without --device cpu the ranks are GPUs and --dtype auto is the "
                "checkpoint's; the exit status is 0 also when it does not fit.",
     .examples = "poolrank plan --model config.json --tensor-parallel-size 8\n"
                 "poolrank plan DIR -tp 8 -pp 2 --device-memory 141GB --json",
     .run = pr_command_plan_run},
    {.name = "worker", .bit = PR_COMMAND_WORKER, .usage = "--connect ADDRESS [OPTION…]",
     .summary = "one rank of a replica group to a coordinator",
     .details = "Started by the coordinator, or by hand under mpirun or srun to join a coordinator "
                "that was started with --worker-launch external. What is loaded, and in how many "
                "parts, the coordinator says.",
     .examples = "mpirun -n 2 poolrank worker --connect tcp:node1:7000 --cluster-key-file KEY",
     .run = pr_command_worker_run},
};

size_t pr_command_count(void)
{
    return sizeof rows / sizeof *rows;
}

const pr_command_row *pr_command_at(size_t i)
{
    return i < pr_command_count() ? &rows[i] : NULL;
}

const pr_command_row *pr_command_find(const char *name)
{
    for (size_t i = 0; i < pr_command_count(); i++) {
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    }
    return NULL;
}

int pr_command_exit(pr_status st)
{
    return pr_status_describe(st)->exit_status;
}
