#include "server/service/metrics.h"

#include "runtime/base/utf8.h"
#include "runtime/base/number.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { CODE_MIN = 100, CODE_MAX = 599, N_CODES = CODE_MAX - CODE_MIN + 1 };

/* From a tiny model's text to a request that waits for a group's restart. */
static const double seconds_bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                        0.025,  0.05,    0.1,    0.25,  0.5,    1,     2.5,
                                        5,      10,      30,     60,    150};
enum { N_SECONDS_BOUNDS = sizeof seconds_bounds / sizeof *seconds_bounds };
static_assert((int)N_SECONDS_BOUNDS <= (int)PR_HISTOGRAM_BUCKETS_MAX, "bounds of a histogram");

static const char *const stage_names[] = {"tokenize", "queue", "run"};
static_assert(sizeof stage_names / sizeof *stage_names == PR_STAGE_COUNT, "one name per stage");

static const char *const group_states[] = {"idle", "starting", "loading", "ready"};
static const char *const service_states[] = {"loading", "ready", "restarting", "draining"};

typedef struct route_metrics {
    uint64_t codes[N_CODES]; /* answers by status, from CODE_MIN on */
    pr_histogram seconds;
    pr_histogram stages[PR_STAGE_COUNT];
} route_metrics;

struct pr_metrics {
    const char *const *names; /* [n_routes], borrowed */
    size_t n_routes;
    uint64_t n_prompt_tokens;
    uint64_t rejected[PR_STATUS_COUNT];
    pr_histogram queue_wait;
    int64_t n_connections;
    double start_s; /* Unix time */
    route_metrics routes[];
};

/* ---- counting ---- */

static pr_histogram seconds_histogram(void)
{
    return (pr_histogram){.bounds = seconds_bounds, .n_bounds = N_SECONDS_BOUNDS};
}

pr_status pr_metrics_create(const char *const *routes, size_t n_routes, pr_metrics **out,
                            pr_error *err)
{
    assert(n_routes > 0);
    size_t bytes = sizeof(pr_metrics) + n_routes * sizeof(route_metrics);
    pr_metrics *m = calloc(1, bytes);
    if (!m) return pr_error_nomem(err, "metrics", bytes);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    m->names = routes;
    m->n_routes = n_routes;
    m->queue_wait = seconds_histogram();
    m->start_s = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    for (size_t i = 0; i < n_routes; i++) {
        m->routes[i].seconds = seconds_histogram();
        for (size_t k = 0; k < PR_STAGE_COUNT; k++) m->routes[i].stages[k] = seconds_histogram();
    }
    *out = m;
    return PR_OK;
}

void pr_metrics_free(pr_metrics *m)
{
    free(m);
}

void pr_metrics_request(pr_metrics *m, size_t i_route, int code, double seconds)
{
    assert(i_route < m->n_routes);
    assert(code >= CODE_MIN);
    assert(code <= CODE_MAX);
    m->routes[i_route].codes[code - CODE_MIN]++;
    pr_histogram_add(&m->routes[i_route].seconds, seconds);
}

void pr_metrics_item(pr_metrics *m, size_t i_route, uint32_t n_prompt_tokens,
                     const double seconds[PR_STAGE_COUNT])
{
    assert(i_route < m->n_routes);
    m->n_prompt_tokens += n_prompt_tokens;
    for (size_t k = 0; k < PR_STAGE_COUNT; k++) {
        if (seconds[k] > 0) pr_histogram_add(&m->routes[i_route].stages[k], seconds[k]);
    }
    if (seconds[PR_STAGE_QUEUE] > 0) pr_histogram_add(&m->queue_wait, seconds[PR_STAGE_QUEUE]);
}

void pr_metrics_rejected(pr_metrics *m, pr_status reason)
{
    assert((unsigned)reason < PR_STATUS_COUNT);
    m->rejected[reason]++;
}

void pr_metrics_connections(pr_metrics *m, int32_t n_change)
{
    m->n_connections += n_change;
    assert(m->n_connections >= 0);
}

/* ---- the text format ---- */

/* HELP and TYPE; samples follow. */
static void family(pr_buffer *out, const char *name, const char *type, const char *help)
{
    pr_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void number(pr_buffer *out, double value)
{
    char text[32];
    pr_number_format(text, sizeof text, 'g', 15, value);
    pr_buffer_printf(out, " %s\n", text);
}

static void single(pr_buffer *out, const char *name, const char *type, const char *help,
                   double value)
{
    family(out, name, type, help);
    pr_buffer_append_str(out, name);
    number(out, value);
}

/* A label's value between its quotes; bytes that are no UTF-8 (of a path) become '?'. */
static void label_value(pr_buffer *out, const char *value)
{
    for (size_t n = strlen(value), at = 0; at < n;) {
        size_t n_good = pr_utf8_prefix(value + at, n - at);
        for (size_t i = at; i < at + n_good; i++) {
            if (value[i] == '\n') {
                pr_buffer_append_str(out, "\\n");
            } else {
                if (value[i] == '\\' || value[i] == '"') pr_buffer_append_char(out, '\\');
                pr_buffer_append_char(out, value[i]);
            }
        }
        at += n_good;
        if (at++ < n) pr_buffer_append_char(out, '?');
    }
}

/* labels: without braces, "" for none. */
static void histogram(pr_buffer *out, const char *name, const char *labels, const pr_histogram *h)
{
    const char *comma = *labels ? "," : "";
    uint64_t n = 0;
    for (size_t i = 0; i < h->n_bounds; i++) {
        char bound[32];
        n += h->counts[i];
        pr_number_format(bound, sizeof bound, 'g', 15, h->bounds[i]);
        pr_buffer_printf(out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, comma,
                         bound, n);
    }
    pr_buffer_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, h->n);
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    pr_buffer_printf(out, "%s_sum%s%s%s", name, open, labels, close);
    number(out, h->sum);
    pr_buffer_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, h->n);
}

/* One sample for each state, 1 for the one that is. labels: in front of it, with their comma. */
static void states(pr_buffer *out, const char *name, const char *labels, const char *const *known,
                   size_t n, const char *state)
{
    for (size_t i = 0; i < n; i++) {
        pr_buffer_printf(out, "%s{%sstate=\"%s\"} %d\n", name, labels, known[i],
                         strcmp(known[i], state) == 0);
    }
}

/* ---- families ---- */

/* Routes that were never asked have their 0 with 200 only, so that the first request is a rise. */
static void render_requests(const pr_metrics *m, pr_buffer *out)
{
    family(out, "poolrank_requests_total", "counter",
           "Requests that were answered, by route and HTTP status.");
    for (size_t i = 0; i < m->n_routes; i++) {
        for (int code = CODE_MIN; code <= CODE_MAX; code++) {
            uint64_t n = m->routes[i].codes[code - CODE_MIN];
            if (n == 0 && code != 200) continue;
            pr_buffer_printf(out, "poolrank_requests_total{route=\"%s\",code=\"%d\"} %" PRIu64 "\n",
                             m->names[i], code, n);
        }
    }
}

static void render_latencies(const pr_metrics *m, pr_buffer *out)
{
    char labels[128];
    family(out, "poolrank_request_seconds", "histogram",
           "From a request's first line to its answer.");
    for (size_t i = 0; i < m->n_routes; i++) {
        snprintf(labels, sizeof labels, "route=\"%s\"", m->names[i]);
        if (m->routes[i].seconds.n == 0) continue;
        histogram(out, "poolrank_request_seconds", labels, &m->routes[i].seconds);
    }
    family(out, "poolrank_request_stage_seconds", "histogram",
           "Time of one text in each stage of its way through the engine.");
    for (size_t i = 0; i < m->n_routes; i++) {
        for (size_t k = 0; k < PR_STAGE_COUNT; k++) {
            if (m->routes[i].stages[k].n == 0) continue;
            snprintf(labels, sizeof labels, "route=\"%s\",stage=\"%s\"", m->names[i],
                     stage_names[k]);
            histogram(out, "poolrank_request_stage_seconds", labels, &m->routes[i].stages[k]);
        }
    }
}

static void render_rejected(const pr_metrics *m, pr_buffer *out)
{
    family(out, "poolrank_rejected_total", "counter",
           "Requests that the engine refused or gave up as a whole, by reason.");
    for (int st = PR_OK + 1; st < PR_STATUS_COUNT; st++) {
        pr_buffer_printf(out, "poolrank_rejected_total{reason=\"%s\"} %" PRIu64 "\n",
                         pr_status_describe((pr_status)st)->name, m->rejected[st]);
    }
}

static void render_queue(const pr_metrics *m, const pr_engine_stats *e, pr_buffer *out)
{
    single(out, "poolrank_queue_requests", "gauge", "Texts that no batch has taken yet.",
           e->n_queued);
    single(out, "poolrank_running_requests", "gauge", "Texts that are in a batch.",
           e->n_requests > e->n_queued ? e->n_requests - e->n_queued : 0);
    single(out, "poolrank_queue_tokens", "gauge",
           "Tokens of all texts that were accepted and are not answered.", (double)e->n_tokens);
    family(out, "poolrank_queue_wait_seconds", "histogram",
           "From a text being tokenized until a batch took it.");
    histogram(out, "poolrank_queue_wait_seconds", "", &m->queue_wait);
}

static void render_batches(const pr_metrics *m, const pr_engine_stats *e, pr_buffer *out)
{
    single(out, "poolrank_batches_total", "counter", "Batches that were run.",
           (double)e->n_batches);
    family(out, "poolrank_batch_tokens", "histogram", "Tokens of a batch.");
    /* Without bounds nothing is loaded yet. */
    if (e->batch_tokens.n_bounds > 0) histogram(out, "poolrank_batch_tokens", "", &e->batch_tokens);
    single(out, "poolrank_prompt_tokens_total", "counter",
           "Tokens of the texts that were answered.", (double)m->n_prompt_tokens);
    single(out, "poolrank_prefix_saved_tokens_total", "counter",
           "Tokens of texts that were not computed for them: other texts begin with them too.",
           (double)e->n_tokens_saved);
    single(out, "poolrank_prefix_cache_hit_tokens_total", "counter",
           "Tokens whose keys and values batches took from the prefix cache.",
           (double)e->n_tokens_cached);
    single(out, "poolrank_prefix_cache_bytes", "gauge",
           "What the prefix cache may take; 0: there is none.", (double)e->prefix_cache_bytes);
    single(out, "poolrank_tokens_per_second", "gauge",
           "Tokens a second, measured while the model was at work; 0: it was not yet.",
           e->tokens_per_s);
}

static void render_groups(const pr_engine_stats *e, pr_buffer *out)
{
    char labels[32];
    family(out, "poolrank_group_state", "gauge", "1 for the state that a replica group is in.");
    for (uint32_t i = 0; i < e->n_groups && i < PR_ENGINE_GROUPS_MAX; i++) {
        snprintf(labels, sizeof labels, "group=\"%" PRIu32 "\",", e->groups[i].index);
        states(out, "poolrank_group_state", labels, group_states,
               sizeof group_states / sizeof *group_states, e->groups[i].state);
    }
    single(out, "poolrank_groups_ready", "gauge", "Replica groups that are ready.",
           e->n_groups_ready);
    single(out, "poolrank_group_restarts_total", "counter",
           "Starts of replica groups after the first of each.", (double)e->n_restarts);
}

static void render_service(const pr_metrics *m, const pr_metrics_now *now, pr_buffer *out)
{
    single(out, "poolrank_connections", "gauge", "Open connections of clients.",
           (double)m->n_connections);
    single(out, "poolrank_open_requests", "gauge",
           "Requests of clients that were accepted and are not answered.", (double)now->n_calls);
    family(out, "poolrank_state", "gauge", "1 for the state that the service is in.");
    states(out, "poolrank_state", "", service_states,
           sizeof service_states / sizeof *service_states, now->state);
    single(out, "poolrank_uptime_seconds", "gauge", "Since the start.", now->uptime_s);
    family(out, "poolrank_build_info", "gauge", "Always 1; what is running.");
    const struct {
        const char *name, *value;
    } labels[] = {{"version", now->version},
                  {"model", now->model},
                  {"device", now->device},
                  {"isa", now->isa},
                  {"dtype", now->dtype}};
    pr_buffer_append_str(out, "poolrank_build_info{");
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        pr_buffer_printf(out, "%s%s=\"", i ? "," : "", labels[i].name);
        label_value(out, labels[i].value ? labels[i].value : "");
        pr_buffer_append_char(out, '"');
    }
    pr_buffer_append_str(out, "} 1\n");
}

/* ---- of the process ---- */

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

/* Pages in all and in memory; false: /proc is not there. */
static bool pages_read(unsigned long *n_all, unsigned long *n_resident)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = '\0';
    return sscanf(text, "%lu %lu", n_all, n_resident) == 2;
}

/* Without the one that counts. -1: /proc is not there. */
static long fds_count(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d) return -1;
    long n = -1;
    for (const struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] != '.') n++;
    }
    closedir(d);
    return n;
}

/* Names that Prometheus' own client libraries have. */
static void render_process(const pr_metrics *m, pr_buffer *out)
{
    struct rusage usage;
    struct rlimit limit;
    unsigned long n_all, n_resident;
    long page_bytes = sysconf(_SC_PAGESIZE), n_fds = fds_count();
    if (pages_read(&n_all, &n_resident)) {
        single(out, "process_resident_memory_bytes", "gauge", "Resident memory of this process.",
               (double)n_resident * (double)page_bytes);
        single(out, "process_virtual_memory_bytes", "gauge", "Virtual memory of this process.",
               (double)n_all * (double)page_bytes);
    }
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        single(out, "process_cpu_seconds_total", "counter",
               "Processor time of this process, user and system.",
               seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    }
    if (n_fds >= 0) {
        single(out, "process_open_fds", "gauge", "Open file descriptors.", (double)n_fds);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        single(out, "process_max_fds", "gauge", "Most file descriptors that may be open.",
               (double)limit.rlim_cur);
    }
    single(out, "process_start_time_seconds", "gauge", "Start of this process, in Unix time.",
           m->start_s);
}

void pr_metrics_render(const pr_metrics *m, const pr_metrics_now *now, pr_buffer *out)
{
    render_requests(m, out);
    render_latencies(m, out);
    render_rejected(m, out);
    render_queue(m, now->engine, out);
    render_batches(m, now->engine, out);
    render_groups(now->engine, out);
    render_service(m, now, out);
    render_process(m, out);
}
