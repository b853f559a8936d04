/* Load for `poolrank serve`, and how it bears it. One thread, one epoll.
 *
 *     poolrank_load tcp://127.0.0.1:8000 --pid PID [--connections 64] [--seconds 5]
 *
 * Prints requests a second, latency, and requests a second of the server's processor time; with
 * --json as one object. Exit status 1 when an answer was missing, wrong or not 200, unless
 * --allow-errors. serve.py drives it. */
#include "tests/bench/load_run.h"

#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RAW_BODY_BYTES_MAX = 64 << 20, MADE_TEXTS_MAX = 1 << 20 };

typedef struct load {
    load_settings settings;
    int n_made, n_texts, n_words; /* bodies that are made: how many, texts of each, words of each */
    const char *input; /* file of texts for bodies, a line each; NULL: they are made */
    int seed;
    bool is_json, allows_errors;
} load;

typedef enum option_kind {
    TEXT, COUNT, BIG_COUNT, REAL, SWITCH, BODY, PID, PROTOCOL
} option_kind;

#define FIELD(name) offsetof(load, name)

static const struct {
    const char *name;
    option_kind kind;
    size_t field; /* in a load; what the kind writes there: see option_take */
    double max;
} option_rows[] = {
    {"protocol", PROTOCOL, 0, 0},
    {"path", TEXT, FIELD(settings.shape.path), 0},
    {"key", TEXT, FIELD(settings.shape.key), 0},
    {"format", TEXT, FIELD(settings.shape.format), 0},
    {"body", BODY, 0, 0},
    {"input", TEXT, FIELD(input), 0},
    {"bodies", COUNT, FIELD(n_made), MADE_TEXTS_MAX},
    {"texts", COUNT, FIELD(n_texts), MADE_TEXTS_MAX},
    {"words", COUNT, FIELD(n_words), 1 << 20},
    {"connections", COUNT, FIELD(settings.n_connections), 1 << 20},
    {"in-flight", COUNT, FIELD(settings.n_in_flight), LOAD_IN_FLIGHT_MAX},
    {"seconds", REAL, FIELD(settings.seconds), 1e6},
    {"requests", BIG_COUNT, FIELD(settings.n_requests), 1e12},
    {"warm-up", REAL, FIELD(settings.warm_up_s), 1e6},
    {"rate", REAL, FIELD(settings.rate), 1e9},
    {"leave", REAL, FIELD(settings.leave_share), 1},
    {"compare", SWITCH, FIELD(settings.is_compared), 0},
    {"seed", COUNT, FIELD(seed), INT32_MAX},
    {"pid", PID, 0, 0},
    {"json", SWITCH, FIELD(is_json), 0},
    {"allow-errors", SWITCH, FIELD(allows_errors), 0},
};
enum { N_OPTIONS = sizeof option_rows / sizeof *option_rows };

static void usage(void)
{
    fputs("poolrank_load ADDRESS   tcp://HOST:PORT or unix://PATH\n"
          "  --protocol http|socket   (http)\n"
          "  --path PATH              (/v1/embeddings) HTTP's\n"
          "  --key KEY                of the server\n"
          "  --format float|base64|f32|f16|int8   of the numbers\n"
          "  --body FILE              of a request, in place of texts; several are sent in turn\n"
          "  --input FILE             of texts, a line each: as many requests as they fill\n"
          "  --bodies N --texts N --words N   (1 1 6) different requests, texts of each, words\n"
          "  --connections N          (64)\n"
          "  --in-flight N            (1) requests that are open on a connection\n"
          "  --seconds S | --requests N   (5 seconds)\n"
          "  --warm-up S              (0) before, not counted\n"
          "  --rate R                 requests a second (0: as fast as they are answered)\n"
          "  --leave SHARE            of requests whose client goes away before the answer (0)\n"
          "  --compare                answers to one request must be the same to the byte\n"
          "  --seed N                 (1)\n"
          "  --pid PID                of the server, and of each rank: its processor time\n"
          "  --json                   prints one object\n"
          "  --allow-errors           exit status 0 whatever the answers were\n",
          stderr);
}

static int mistake(const char *what, const char *found)
{
    fprintf(stderr, "poolrank_load: %s: found %s\n", what, found);
    return 2;
}

static bool number(const char *text, double min, double max, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= min && *out <= max;
}

/* ---- bodies ---- */

static load_body *body_add(load_settings *s)
{
    load_body *bodies = realloc(s->bodies, (s->n_bodies + 1) * sizeof *bodies);
    if (!bodies) exit(1);
    s->bodies = bodies;
    memset(&bodies[s->n_bodies], 0, sizeof *bodies);
    return &bodies[s->n_bodies++];
}

static bool body_read(load_settings *s, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    load_body *body = body_add(s);
    body->raw = malloc(RAW_BODY_BYTES_MAX);
    body->n_raw = body->raw ? fread(body->raw, 1, RAW_BODY_BYTES_MAX, f) : 0;
    bool is_read = body->raw && !ferror(f) && body->n_raw < RAW_BODY_BYTES_MAX;
    fclose(f);
    return is_read;
}

static char *text_make(unsigned *random, int n_words)
{
    static const char *const words[] = {"the", "river", "runs", "below", "old", "houses", "and",
                                        "a", "bridge", "of", "stone", "keeps", "its", "name"};
    pr_buffer b;
    pr_buffer_init(&b);
    for (int i = 0; i < n_words; i++) {
        if (i > 0) pr_buffer_append_char(&b, ' ');
        pr_buffer_append_str(&b, words[(size_t)rand_r(random) % (sizeof words / sizeof *words)]);
    }
    if (!pr_buffer_str(&b)) exit(1);
    return b.data;
}

static void bodies_make(load *l)
{
    unsigned random = (unsigned)l->seed;
    for (int i = 0; i < l->n_made; i++) {
        load_body *body = body_add(&l->settings);
        body->n_texts = (size_t)l->n_texts;
        body->texts = calloc(body->n_texts, sizeof *body->texts);
        if (!body->texts) exit(1);
        for (size_t k = 0; k < body->n_texts; k++) body->texts[k] = text_make(&random, l->n_words);
    }
}

static void text_add(load_body *body, char *text)
{
    char **texts = realloc(body->texts, (body->n_texts + 1) * sizeof *texts);
    if (!texts) exit(1);
    body->texts = texts;
    texts[body->n_texts++] = text;
}

/* n_texts lines for each request, the last one takes the rest. */
static bool bodies_read(load *l)
{
    FILE *f = fopen(l->input, "rb");
    if (!f) return false;
    char *line = NULL;
    size_t n_max = 0, n_lines = 0;
    ssize_t n;
    while ((n = getline(&line, &n_max, f)) >= 0) {
        if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
        load_settings *s = &l->settings;
        load_body *body = n_lines++ % (size_t)l->n_texts == 0 ? body_add(s)
                                                              : &s->bodies[s->n_bodies - 1];
        text_add(body, line);
        line = NULL;
        n_max = 0;
    }
    free(line);
    bool is_read = !ferror(f) && n_lines > 0;
    fclose(f);
    return is_read;
}

static void bodies_free(load_settings *s)
{
    for (size_t i = 0; i < s->n_bodies; i++) {
        load_body *body = &s->bodies[i];
        for (size_t k = 0; k < body->n_texts; k++) free(body->texts[k]);
        free(body->texts);
        free(body->raw);
        pr_buffer_deinit(&body->request);
        pr_buffer_deinit(&body->first);
    }
    free(s->bodies);
}

/* ---- options ---- */

static bool pid_add(load_settings *s, const char *value)
{
    double v;
    if (!number(value, 1, INT32_MAX, &v) || s->n_pids == LOAD_PIDS_MAX) return false;
    s->pids[s->n_pids++] = (pid_t)v;
    return true;
}

static bool protocol_take(load_settings *s, const char *value)
{
    bool is_http = strcmp(value, "http") == 0;
    s->protocol = is_http ? &load_http : &load_socket;
    return is_http || strcmp(value, "socket") == 0;
}

/* False: the value is none for this option. */
static bool option_take(load *l, int i, const char *value)
{
    void *field = (char *)l + option_rows[i].field;
    double v = 0;
    bool is_number = value && number(value, 0, option_rows[i].max, &v);
    switch (option_rows[i].kind) {
    case TEXT:
        *(const char **)field = value;
        return true;
    case SWITCH:
        *(bool *)field = true;
        return true;
    case COUNT:
        *(int *)field = (int)v;
        return is_number;
    case BIG_COUNT:
        *(uint64_t *)field = (uint64_t)v;
        return is_number;
    case REAL:
        *(double *)field = v;
        return is_number;
    case BODY:
        return body_read(&l->settings, value);
    case PID:
        return pid_add(&l->settings, value);
    case PROTOCOL:
        return protocol_take(&l->settings, value);
    }
    return false;
}

static int options_take(load *l, int argc, char **argv)
{
    struct option options[N_OPTIONS + 1] = {0};
    for (int i = 0; i < N_OPTIONS; i++) {
        bool has_value = option_rows[i].kind != SWITCH;
        options[i] = (struct option){option_rows[i].name, has_value, NULL, i};
    }
    int i;
    while ((i = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (i != '?' && !option_take(l, i, optarg)) return mistake(option_rows[i].name, optarg);
        if (i == '?') break;
    }
    if (i == -1 && optind == argc - 1) {
        l->settings.address = argv[optind];
        return 0;
    }
    usage();
    return 2;
}

static int load_check(load *l)
{
    load_settings *s = &l->settings;
    if (s->seconds <= 0 && s->n_requests == 0) s->seconds = 5;
    if (s->n_requests > 0) s->seconds = s->warm_up_s = 0;
    if (s->n_connections < 1 || s->n_in_flight < 1 || l->n_words < 1 || l->n_made < 1 ||
        l->n_texts < 1 || (int64_t)l->n_made * l->n_texts > MADE_TEXTS_MAX) {
        return mistake("a count", "0, or too many texts");
    }
    s->seed = (unsigned)l->seed;
    if (l->input && !bodies_read(l)) return mistake("input", l->input);
    if (s->n_bodies == 0) bodies_make(l);
    for (size_t i = 0; i < s->n_bodies; i++) {
        if (!s->protocol->prepare(&s->shape, &s->bodies[i])) {
            return mistake("body", "one that this protocol does not have");
        }
    }
    return 0;
}

/* ---- what came of it ---- */

static bool is_good(const load_numbers *n)
{
    return n->n_answered == n->by_status[200] && n->n_differing == 0 && n->n_lost == 0 &&
           n->n_unanswered == 0;
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static double ms_at(const load_numbers *n, double at)
{
    return (double)load_latency_at(&n->latency, at) / 1e6;
}

static void statuses_print(const load_numbers *n, const char *form)
{
    const char *between = "";
    for (int i = 0; i < LOAD_STATUS_MAX; i++) {
        if (n->by_status[i] == 0) continue;
        printf(form, between, i, n->by_status[i]);
        between = ", ";
    }
}

static void json_print(const load_numbers *n)
{
    printf("{\"seconds\": %.6f, \"answered\": %" PRIu64 ", \"texts\": %" PRIu64 ", \"statuses\": {",
           n->seconds, n->n_answered, n->n_texts);
    statuses_print(n, "%s\"%d\": %" PRIu64);
    printf("}, \"differing\": %" PRIu64 ", \"left\": %" PRIu64 ", \"lost\": %" PRIu64
           ", \"unanswered\": %" PRIu64 ", \"bytes\": %" PRIu64,
           n->n_differing, n->n_left, n->n_lost, n->n_unanswered, n->bytes_in);
    printf(", \"own_cpu_s\": %.6f, \"server_cpu_s\": %.6f", n->own_cpu_s, n->server_cpu_s);
    printf(", \"p50_ms\": %.4f, \"p90_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f}\n",
           ms_at(n, 0.5), ms_at(n, 0.9), ms_at(n, 0.99), (double)n->latency.max / 1e6);
}

static void lines_print(const load_numbers *n, const load_settings *s)
{
    printf("%" PRIu64 " answers in %.2f s: %.0f requests/s, %.0f texts/s, %.1f MB/s\n",
           n->n_answered, n->seconds, share((double)n->n_answered, n->seconds),
           share((double)n->n_texts, n->seconds), share((double)n->bytes_in / 1e6, n->seconds));
    printf("latency: p50 %.3f ms, p90 %.3f, p99 %.3f, max %.3f\n", ms_at(n, 0.5), ms_at(n, 0.9),
           ms_at(n, 0.99), (double)n->latency.max / 1e6);
    printf("processor: this program %.0f %% of a core", 100 * share(n->own_cpu_s, n->seconds));
    if (s->n_pids > 0) {
        printf(", the server %.0f %%: %.0f texts per second of server core",
               100 * share(n->server_cpu_s, n->seconds),
               share((double)n->n_texts, n->server_cpu_s));
    }
    printf("\nstatuses: ");
    statuses_print(n, "%s%d: %" PRIu64);
    printf("; %" PRIu64 " differing, %" PRIu64 " given up by the client, %" PRIu64
           " lost with their connection, %" PRIu64 " unanswered\n",
           n->n_differing, n->n_left, n->n_lost, n->n_unanswered);
}

static int load_main(load *l)
{
    pr_error err;
    load_numbers *numbers = calloc(1, sizeof *numbers);
    if (!numbers) return 1;
    pr_status st = load_run(&l->settings, numbers, &err);
    bool is_fine = st == PR_OK && (l->allows_errors || is_good(numbers));
    if (st != PR_OK) {
        fprintf(stderr, "poolrank_load: %s\n", err.message);
    } else if (l->is_json) {
        json_print(numbers);
    } else {
        lines_print(numbers, &l->settings);
    }
    free(numbers);
    return is_fine ? 0 : 1;
}

int main(int argc, char **argv)
{
    load l = {.settings = {.protocol = &load_http, .n_connections = 64, .n_in_flight = 1,
                           .shape = {.host = "localhost", .path = "/v1/embeddings"}},
              .n_made = 1, .n_texts = 1, .n_words = 6, .seed = 1};
    int rc = options_take(&l, argc, argv);
    if (rc == 0) rc = load_check(&l);
    if (rc == 0) rc = load_main(&l);
    bodies_free(&l.settings);
    return rc;
}
