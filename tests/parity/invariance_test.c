/* tests/parity/invariance_test.c: an answer's bits do not depend on its company.
 *
 *     invariance_test [--cpu-isa ISA] [--dtype float32|bfloat16] [--matmul-precision P]
 *                     [--ranks TPxPP] MODELS
 *
 * MODELS is the folder tests/parity/models.
 *
 * 50 texts (equal ones, ones that begin another, common prefixes, several scripts, one token to
 * near the limit) are answered alone, all together, shuffled, among other texts, in other batch
 * sizes and with 1, 2 and 3 threads; the bytes are compared. Without --cpu-isa, for every
 * instruction set that this processor has; without --dtype, for both. --ranks
 * (invariance_ranks_test only): over that many ranks of one thread each, for the models that can
 * be cut so. Exit: 0 equal, 1 not, 2 a wrong command line, 77 no such instruction set. */
#include "golden.h"
#include "random_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TEXTS = 50, N_OTHERS = 20, TEXT_BYTES = 512, PATH_BYTES = 512 };

/* What is run: a model (of MODELS, or a random wider one), a task, a pooler. */
typedef struct subject {
    const char *model;
    random_family random; /* in place of a committed one, unless RANDOM_NONE */
    const char *task;
    const char *pooler; /* override-pooler-config, or NULL */
    bool is_pair;
} subject;

static const subject subjects[] = {
    {.model = "bert-plain", .task = "embed", .pooler = "{\"pooling_type\":\"MEAN\"}"},
    {.model = "bert-classify-3", .task = "classify"},
    {.model = "xlmr-classify-1", .task = "score", .is_pair = true},
    {.model = "qwen2-plain", .task = "embed"},
    {.model = "qwen2-plain", .task = "embed", .pooler = "{\"pooling_type\":\"MEAN\"}"},
    {.model = "qwen2-window", .task = "embed"},
    {.model = "qwen3-window", .task = "embed"},
    {.model = "mistral-st-last", .task = "embed"},
    {.model = "llama-classify-1", .task = "reward"},
    {.model = "qwen2-reward", .task = "reward"},
    {.model = "bert-plain",
     .random = RANDOM_BERT,
     .task = "embed",
     .pooler = "{\"pooling_type\":\"MEAN\"}"},
    {.model = "qwen2-plain", .random = RANDOM_QWEN2, .task = "embed"},
    {.model = "qwen2-plain",
     .random = RANDOM_QWEN2,
     .task = "reward",
     .pooler = "{\"pooling_type\":\"ALL\"}"},
    {.model = "bert-plain",
     .random = RANDOM_BERT_12,
     .task = "embed",
     .pooler = "{\"pooling_type\":\"MEAN\"}"},
    {.model = "qwen2-plain", .random = RANDOM_QWEN2_12, .task = "embed"},
    {.model = "qwen2-plain",
     .random = RANDOM_QWEN2_12,
     .task = "reward",
     .pooler = "{\"pooling_type\":\"ALL\"}"},
};

static const char *const words[] = {
    "harbour", "каждое утро", "面包",     "tide", "ο σκύλος", "بكل",    "בוקר", "빵",
    "朝",      "x = y*2;",    "👍🏽", "the",  "\t",       "window", "1987",
};

typedef struct texts {
    char text[N_TEXTS + N_OTHERS][TEXT_BYTES];
} texts;

static uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Words at random behind a start, as long as fits into n_words. */
static void text_make(uint32_t *seed, const char *start, int n_words, char out[TEXT_BYTES])
{
    size_t n = (size_t)snprintf(out, TEXT_BYTES, "%s", start);
    for (int i = 0; i < n_words; i++) {
        const char *word = words[random_next(seed) % (sizeof words / sizeof *words)];
        if (n + strlen(word) + 2 > TEXT_BYTES) return;
        n += (size_t)snprintf(out + n, TEXT_BYTES - n, " %s", word);
    }
}

static void texts_make(texts *t)
{
    uint32_t seed = 20240601;
    static const char prefix[] =
        "When does the tide turn at the harbour, and who opens the window?";
    for (int i = 0; i < N_TEXTS + N_OTHERS; i++) {
        if (i % 5 == 0)
            text_make(&seed, prefix, i % 4, t->text[i]); /* some equal, some longer */
        else if (i % 5 == 1)
            text_make(&seed, "a", i % 3 ? 0 : 1, t->text[i]);
        else if (i % 5 == 2)
            strcpy(t->text[i], t->text[i - 1]);
        else if (i % 5 == 3)
            text_make(&seed, t->text[i - 3], 2, t->text[i]);
        else
            text_make(&seed, "I", (int)(random_next(&seed) % 14), t->text[i]);
    }
}

static void request_make(const texts *t, int i, bool is_pair, pr_request *out)
{
    pr_request_init(out);
    out->text = t->text[i];
    out->n_text = strlen(out->text);
    out->truncate_prompt_tokens = -1;
    if (is_pair) {
        out->text_pair = t->text[(i * 7 + 3) % N_TEXTS];
        out->n_text_pair = strlen(out->text_pair);
    }
}

typedef struct answers {
    pr_result *result[N_TEXTS]; /* owned */
} answers;

static void answers_free(answers *a)
{
    for (int i = 0; i < N_TEXTS; i++) {
        pr_result_free(a->result[i]);
        a->result[i] = NULL;
    }
}

static bool is_good(const pr_result *r)
{
    if (r && r->status == PR_OK && r->n_rows > 0 && r->n_columns > 0) return true;
    printf("  no answer: %s\n", r && r->message ? r->message : "refused");
    return false;
}

static bool ask_alone(pr_engine *engine, const texts *t, bool is_pair, answers *out)
{
    for (int i = 0; i < N_TEXTS; i++) {
        pr_request request;
        request_make(t, i, is_pair, &request);
        out->result[i] = golden_ask(engine, &request);
        if (!is_good(out->result[i])) return false;
    }
    return true;
}

/* order: which text is handed over i-th, [n]; those past N_TEXTS are company and thrown away. */
static bool ask_together(pr_engine *engine, const texts *t, bool is_pair, const int *order, int n,
                         answers *out)
{
    pr_ticket *tickets[N_TEXTS + N_OTHERS] = {0};
    bool is_fine = true;
    for (int i = 0; i < n; i++) {
        pr_request request;
        pr_error error = {0};
        request_make(t, order[i], is_pair, &request);
        if (pr_engine_submit(engine, &request, &tickets[i], &error) != PR_OK) {
            printf("  not taken: %s\n", error.message);
            is_fine = false;
        }
    }
    for (int i = 0; i < n; i++) {
        pr_result *result = NULL;
        if (!tickets[i] || pr_engine_wait(engine, tickets[i], &result, NULL) != PR_OK) continue;
        if (order[i] >= N_TEXTS)
            pr_result_free(result);
        else
            out->result[order[i]] = result;
    }
    for (int i = 0; is_fine && i < N_TEXTS; i++) is_fine = is_good(out->result[i]);
    return is_fine;
}

static bool answers_compare(const answers *want, const answers *found, const char *how)
{
    for (int i = 0; i < N_TEXTS; i++) {
        const pr_result *a = want->result[i], *b = found->result[i];
        size_t n = (size_t)a->n_rows * a->n_columns;
        if (a->n_rows != b->n_rows || a->n_columns != b->n_columns) {
            printf("  %s: text %d has another shape\n", how, i);
            return false;
        }
        for (size_t k = 0; k < n; k++) {
            if (memcmp(&a->data[k], &b->data[k], sizeof *a->data) == 0) continue;
            printf("  %s: text %d: value %zu is %.9g, alone it is %.9g\n", how, i, k,
                   (double)b->data[k], (double)a->data[k]);
            return false;
        }
    }
    return true;
}

enum order_kind { ORDER_AS_THEY_ARE, ORDER_SHUFFLED, ORDER_AMONG_OTHERS };

static int order_make(enum order_kind kind, int order[N_TEXTS + N_OTHERS])
{
    int n = kind == ORDER_AMONG_OTHERS ? N_TEXTS + N_OTHERS : N_TEXTS;
    uint32_t seed = 7;
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; kind != ORDER_AS_THEY_ARE && i > 0; i--) {
        int k = (int)(random_next(&seed) % (uint32_t)(i + 1));
        int other = order[k];
        order[k] = order[i];
        order[i] = other;
    }
    return n;
}

/* One engine against what texts alone gave on one thread. */
static bool engine_check(pr_engine *engine, const subject *s, const texts *t, const answers *want,
                         const char *where)
{
    static const char *const names[] = {"all together", "shuffled", "among other texts"};
    for (int kind = ORDER_AS_THEY_ARE; kind <= ORDER_AMONG_OTHERS; kind++) {
        int order[N_TEXTS + N_OTHERS];
        int n = order_make((enum order_kind)kind, order);
        answers found = {0};
        char how[128];
        snprintf(how, sizeof how, "%s, %s", where, names[kind]);
        bool is_equal = ask_together(engine, t, s->is_pair, order, n, &found) &&
                        answers_compare(want, &found, how);
        answers_free(&found);
        if (!is_equal) return false;
    }
    return true;
}

static pr_engine *subject_open(const subject *s, const char *folder, const golden_setting *setting,
                               const char *n_tokens)
{
    json_t *options = json_object();
    json_object_set_new(options, "task", json_string(s->task));
    if (s->pooler) json_object_set_new(options, "override-pooler-config", json_string(s->pooler));
    if (n_tokens) json_object_set_new(options, "max-num-batched-tokens", json_string(n_tokens));
    pr_engine *engine = golden_engine_open(folder, options, setting);
    json_decref(options);
    return engine;
}

/* Threads and token budgets; a budget of a few texts makes other batches than the default. */
static const struct {
    const char *threads, *n_tokens, *where;
} engines[] = {
    {"1", NULL, "1 thread"},
    {"2", NULL, "2 threads"},
    {"3", NULL, "3 threads"},
    {"2", "200", "2 threads, batches of 200 tokens"},
};

static bool subject_check(const subject *s, const char *folder, const texts *t,
                          const golden_setting *setting)
{
    answers alone = {0};
    bool is_fine = true;
    if (!golden_ranks_fit(folder, setting)) return true;
    for (size_t i = 0; is_fine && i < sizeof engines / sizeof *engines; i++) {
        golden_setting with = *setting;
        with.threads = setting->ranks ? "1" : engines[i].threads;
        if (setting->ranks && i > 0 && !engines[i].n_tokens) continue;
        pr_engine *engine = subject_open(s, folder, &with, engines[i].n_tokens);
        is_fine = engine && (i > 0 || ask_alone(engine, t, s->is_pair, &alone)) &&
                  engine_check(engine, s, t, &alone, engines[i].where);
        pr_engine_close(engine);
    }
    answers_free(&alone);
    printf("%s %s%s %s%s, %s, %s%s%s\n", is_fine ? "ok  " : "FAIL", s->model,
           s->random == RANDOM_NONE ? "" : " (random, wider)", s->task, s->pooler ? s->pooler : "",
           setting->cpu_isa, setting->dtype, setting->ranks ? ", ranks " : "",
           setting->ranks ? setting->ranks : "");
    fflush(stdout);
    return is_fine;
}

/* Every subject with one instruction set, in one dtype or (NULL) in both. */
static bool isa_check(const char *models, const char *isa, const golden_setting *asked,
                      const texts *t)
{
    static const char *const dtypes[] = {"float32", "bfloat16"};
    bool is_fine = true;
    for (size_t i = 0; i < 2 * (sizeof subjects / sizeof *subjects); i++) {
        if (asked->dtype && strcmp(asked->dtype, dtypes[i % 2]) != 0) continue;
        const subject *s = &subjects[i / 2];
        char committed[PATH_BYTES], temporary[PATH_BYTES];
        snprintf(committed, sizeof committed, "%s/%s", models, s->model);
        golden_setting setting = {.cpu_isa = isa, .dtype = dtypes[i % 2], .ranks = asked->ranks,
                                  .precision = asked->precision};
        if (s->random == RANDOM_NONE) {
            is_fine = subject_check(s, committed, t, &setting) && is_fine;
            continue;
        }
        if (!random_model_write(s->random, committed, temporary, sizeof temporary)) return false;
        is_fine = subject_check(s, temporary, t, &setting) && is_fine;
        random_model_remove(temporary);
    }
    return is_fine;
}

static bool arguments_parse(int argc, char **argv, golden_setting *out)
{
    int i = 1;
    for (; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--cpu-isa") == 0)
            out->cpu_isa = argv[i + 1];
        else if (strcmp(argv[i], "--dtype") == 0)
            out->dtype = argv[i + 1];
        else if (strcmp(argv[i], "--matmul-precision") == 0)
            out->precision = argv[i + 1];
#ifdef GOLDEN_HAS_RANKS
        else if (strcmp(argv[i], "--ranks") == 0)
            out->ranks = argv[i + 1];
#endif
        else
            return false;
    }
    const char *dtype = out->dtype;
    return i + 1 == argc &&
           (!dtype || strcmp(dtype, "float32") == 0 || strcmp(dtype, "bfloat16") == 0);
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"c", "avx2", "avx512", "amx", "amx-c"};
    golden_setting asked = {0};
    if (!arguments_parse(argc, argv, &asked)) {
        printf("usage: invariance_test [--cpu-isa ISA] [--dtype float32|bfloat16] "
               "[--matmul-precision P] [--ranks TPxPP] MODELS\n");
        return 2;
    }
    if (asked.cpu_isa && !golden_isa_runs_here(asked.cpu_isa)) {
        printf("SKIPPED: this processor has no %s\n", asked.cpu_isa);
        return GOLDEN_SKIPPED;
    }
    texts *t = calloc(1, sizeof *t);
    if (!t) return 2;
    texts_make(t);
    bool is_fine = true;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (asked.cpu_isa && strcmp(asked.cpu_isa, all[i]) != 0) continue;
        if (golden_isa_runs_here(all[i]))
            is_fine = isa_check(argv[argc - 1], all[i], &asked, t) && is_fine;
        else
            printf("SKIPPED: this processor has no %s\n", all[i]);
    }
    free(t);
    return is_fine ? 0 : 1;
}
