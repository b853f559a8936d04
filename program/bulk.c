#include "program/bulk.h"

#include "program/progress.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The window: how many requests may be submitted and not yet answered in the output. It begins
 * small and follows the size of the results, so that rows of a large model do not pile up. */
enum {
    WINDOW_MAX = 1024,
    WINDOW_BEGIN = 64,
    WINDOW_MIN = 16,
    PLACE_TEXT_BYTES = 256 * 1024,      /* a longer text takes more than one place of the window */
    RESULTS_BYTES_MAX = 64 * 1024 * 1024,
    INTERRUPT_MS = 250
};

typedef enum pending_kind {
    PENDING_TICKET,
    PENDING_ERROR,
    PENDING_END,
    PENDING_DRAINED, /* the reading was ended by SIGTERM; index: of the first line not accepted */
    PENDING_FAILED
} pending_kind;

/* One line between the reader and the writer. */
typedef struct pending {
    pending_kind kind;
    uint64_t index;
    json_t *id;        /* owned */
    pr_ticket *ticket; /* TICKET */
    pr_status status;  /* ERROR: the line's; FAILED: why the reading ended */
    char *message;     /* owned */
    int n_places;      /* of the window */
} pending;

/* Shared by the two threads. The reader writes ring[i_in], the writer reads ring[i_out]; the
 * semaphores order the two, so that no lock is needed. */
typedef struct pipeline {
    const pr_bulk *bulk;
    pr_input_lines *input;
    pending ring[WINDOW_MAX];
    size_t i_in;
    size_t i_out;
    sem_t places; /* free ones of the window */
    sem_t filled; /* entries that the writer may take */
    int window;   /* writer's: places that exist, free and taken */
} pipeline;

bool pr_bulk_is_line_error(pr_status st)
{
    return st == PR_E_ARGUMENT || st == PR_E_INPUT || st == PR_E_TOO_LONG ||
           st == PR_E_TOO_LARGE || st == PR_E_UNSUPPORTED;
}

static void sem_take(sem_t *sem)
{
    while (sem_wait(sem) != 0) assert(errno == EINTR);
}

/* ---- one request ---- */

/* What a command cannot take although the line is well-formed. */
static pr_status kind_check(const pr_bulk *bulk, const pr_input_item *item, pr_error *err)
{
    if (item->kind == PR_INPUT_ERROR) {
        return pr_error_set(err, item->status, "%s", item->message ? item->message : "");
    }
    if (bulk->takes_pairs && item->kind != PR_INPUT_PAIR) {
        return pr_error_set(err, PR_E_INPUT,
                            "found no pair, expected {\"query\": …, \"document\": …}");
    }
    if (!bulk->takes_pairs && bulk->context->command->task == PR_TASK_EMBED &&
        item->kind == PR_INPUT_PAIR) {
        return pr_error_set(err, PR_E_INPUT, "found a pair, expected one text: {\"text\": …}");
    }
    return PR_OK;
}

static pr_status item_submit(const pr_bulk *bulk, const pr_input_item *item, pr_ticket **ticket,
                             pr_error *err)
{
    pr_status st = kind_check(bulk, item, err);
    if (st != PR_OK) return st;
    pr_request request;
    pr_request_init(&request);
    request.task = bulk->task;
    pr_input_item_apply(item, &request);
    const pr_answer *answer = bulk->answer;
    request.last_row_only = answer->kind == PR_OUTPUT_REWARD && answer->pool == PR_POOL_ALL &&
                            !answer->return_tokens;
    return pr_engine_submit(bulk->engine, &request, ticket, err);
}

static pr_status error_write(const pr_bulk *bulk, uint64_t index, const json_t *id, pr_status st,
                             const char *message, pr_error *err)
{
    pr_output_row row = {.index = index,
                         .id = id,
                         .kind = PR_OUTPUT_ERROR,
                         .status = st,
                         .message = message};
    return pr_output_lines_write(bulk->output, &row, err);
}

/* Writes one result, or the error in its place. */
static pr_status result_write(const pr_bulk *bulk, uint64_t index, const json_t *id,
                              const pr_result *result, bool *is_error, pr_error *err)
{
    pr_output_row row = {.index = index, .id = id};
    pr_error why = {0};
    pr_status st = result->status;
    if (st == PR_OK) {
        st = pr_answer_fill(bulk->answer, result, &row, &why);
    } else {
        pr_error_set(&why, st, "%s", result->message ? result->message : "");
    }
    *is_error = st != PR_OK;
    if (st == PR_OK) return pr_output_lines_write(bulk->output, &row, err);
    bool is_poison = result->status == PR_E_INTERNAL; /* it ended its ranks; the others go on */
    if (!pr_bulk_is_line_error(st) && !is_poison) {
        return pr_error_set(err, st, "line %llu: %s", (unsigned long long)index + 1, why.message);
    }
    return error_write(bulk, index, id, st, why.message, err);
}

/* ---- the reader ---- */

static void push(pipeline *p, const pending *entry)
{
    p->ring[p->i_in++ % WINDOW_MAX] = *entry;
    sem_post(&p->filled);
}

/* Takes the places of a text; it is freed here, the engine has its own copy. */
static pr_status line_submit(pipeline *p, pr_input_item *item, pr_error *err)
{
    pr_status st = PR_OK;
    size_t bytes = item->n_text + item->n_text_pair + item->n_tokens * sizeof *item->tokens;
    size_t n_places = 1 + bytes / PLACE_TEXT_BYTES;
    pending entry = {.index = item->index,
                     .id = item->id,
                     .n_places = n_places < WINDOW_MIN ? (int)n_places : WINDOW_MIN};
    for (int i = 0; i < entry.n_places; i++) sem_take(&p->places);
    st = item_submit(p->bulk, item, &entry.ticket, err);
    if (st != PR_OK && !pr_bulk_is_line_error(st)) return st;
    if (st != PR_OK) {
        entry.kind = PENDING_ERROR;
        entry.status = st;
        entry.message = strdup(err->message);
        if (!entry.message) return pr_error_nomem(err, "message", strlen(err->message));
    }
    item->id = NULL;
    push(p, &entry);
    return PR_OK;
}

static void *reader_main(void *context)
{
    pipeline *p = context;
    pr_error err = {0};
    pr_status st = PR_OK;
    bool has_item = true;
    uint64_t n_lines = 0;
    const atomic_int *is_draining = p->bulk->context->is_draining;
    while (st == PR_OK && !*is_draining) {
        pr_input_item item = {0};
        st = pr_input_lines_next(p->input, &item, &has_item, &err);
        if (st == PR_OK && !has_item) break;
        if (st == PR_OK) st = line_submit(p, &item, &err);
        if (st == PR_OK) n_lines++;
        pr_input_item_deinit(&item);
    }
    /* The ring has room: it is as long as the window may be, and this place is taken too. */
    sem_take(&p->places);
    bool is_drained = *is_draining && has_item && (st == PR_OK || st == PR_E_CANCELLED);
    if (is_drained) st = PR_OK;
    pending last = {.kind = st != PR_OK   ? PENDING_FAILED
                            : is_drained ? PENDING_DRAINED
                                         : PENDING_END,
                    .index = n_lines, .status = st, .n_places = 1};
    if (st != PR_OK) last.message = strdup(err.message);
    push(p, &last);
    return NULL;
}

/* ---- the writer ---- */

/* Gives places back; the window grows and shrinks towards what the largest result allows. */
static void places_return(pipeline *p, int n_places, size_t result_bytes, size_t *result_bytes_max)
{
    if (result_bytes > *result_bytes_max) *result_bytes_max = result_bytes;
    size_t allowed = *result_bytes_max ? RESULTS_BYTES_MAX / *result_bytes_max : WINDOW_BEGIN;
    int target = allowed > WINDOW_MAX   ? WINDOW_MAX
                 : allowed < WINDOW_MIN ? WINDOW_MIN
                                        : (int)allowed;
    while (n_places > 0 && p->window > target) {
        p->window--;
        n_places--;
    }
    while (p->window < target) {
        p->window++;
        n_places++;
    }
    for (int i = 0; i < n_places; i++) sem_post(&p->places);
}

static pr_status entry_write(const pr_bulk *bulk, pending *entry, bool *is_error,
                             size_t *result_bytes, pr_error *err)
{
    if (entry->kind == PENDING_ERROR) {
        *is_error = true;
        return error_write(bulk, entry->index, entry->id, entry->status, entry->message, err);
    }
    pr_result *result = NULL;
    pr_status st = pr_engine_wait(bulk->engine, entry->ticket, &result, err);
    entry->ticket = NULL;
    if (st != PR_OK) return st;
    *result_bytes = (size_t)result->n_rows * result->n_columns * sizeof(float);
    st = result_write(bulk, entry->index, entry->id, result, is_error, err);
    pr_result_free(result);
    return st;
}

/* Waits for an entry; false when interrupted. The wait ends now and then by itself: a signal that
 * comes just before it, or to another thread, would not end it. (By CLOCK_REALTIME: the thread
 * sanitizer of gcc 12 does not know sem_clockwait, and sees a race where there is none.) */
static bool filled_await(pipeline *p)
{
    const atomic_int *is_interrupted = p->bulk->context->is_interrupted;
    while (!*is_interrupted) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += INTERRUPT_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        if (sem_timedwait(&p->filled, &until) == 0) return !*is_interrupted;
    }
    return false;
}

/* The end after SIGTERM: all is well where what was not read was not accepted. */
static pr_status drained(const pipeline *p, uint64_t n_lines, pr_error *err)
{
    if (!pr_input_lines_is_file(p->input)) {
        pr_log_line(p->bulk->context->log, PR_LOG_INFO,
                    "SIGTERM: no more input was read; all of its %llu lines so far are answered",
                    (unsigned long long)n_lines);
        return PR_OK;
    }
    return pr_error_set(err, PR_E_CANCELLED,
                        "ended by SIGTERM: the first %llu lines were accepted and are answered, "
                        "the rest of the input was not read",
                        (unsigned long long)n_lines);
}

/* Takes entries until the end. Returns PR_OK when every line was answered. */
static pr_status writer_run(pipeline *p, pr_progress *progress, uint64_t *n_errors, pr_error *err)
{
    const pr_bulk *bulk = p->bulk;
    const pr_config *config = bulk->context->config;
    size_t result_bytes_max = 0;
    for (;;) {
        if (!filled_await(p)) return pr_error_set(err, PR_E_CANCELLED, "interrupted");
        pending *entry = &p->ring[p->i_out++ % WINDOW_MAX];
        if (entry->kind == PENDING_END) return PR_OK;
        if (entry->kind == PENDING_DRAINED) return drained(p, entry->index, err);
        if (entry->kind == PENDING_FAILED) {
            pr_error_set(err, entry->status, "%s", entry->message ? entry->message : "no memory");
            free(entry->message);
            return entry->status;
        }
        bool is_error = false;
        size_t result_bytes = 0;
        pr_status st = entry_write(bulk, entry, &is_error, &result_bytes, err);
        int n_places = entry->n_places;
        json_decref(entry->id);
        free(entry->message);
        places_return(p, n_places, result_bytes, &result_bytes_max);
        if (st == PR_OK && !config->output) st = pr_output_lines_flush(bulk->output, err);
        if (st != PR_OK) return st;
        *n_errors += is_error;
        pr_progress_count(progress, is_error);
        if (config->max_errors >= 0 && *n_errors > (uint64_t)config->max_errors) {
            return pr_error_set(err, PR_E_INPUT, "gave up at line %llu: more than %d errors "
                                                 "(--max-errors)",
                                (unsigned long long)progress->n_lines, (int)config->max_errors);
        }
    }
}

static pr_status pipeline_start(pipeline *p, pthread_t *reader, pr_error *err)
{
    p->window = WINDOW_BEGIN;
    if (sem_init(&p->places, 0, WINDOW_BEGIN) != 0) {
        return pr_error_errno(err, errno, "semaphore");
    }
    if (sem_init(&p->filled, 0, 0) != 0) return pr_error_errno(err, errno, "semaphore");
    int errnum = pthread_create(reader, NULL, reader_main, p);
    return errnum == 0 ? PR_OK : pr_error_errno(err, errnum, "start the reader thread");
}

int pr_bulk_run_lines(const pr_bulk *bulk, pr_input_lines *input, bool *is_abandoned,
                      pr_error *err)
{
    const pr_config *config = bulk->context->config;
    uint64_t n_errors = 0;
    pr_progress progress;
    pthread_t reader;
    *is_abandoned = false;
    pipeline *p = calloc(1, sizeof *p);
    if (!p) {
        pr_error_nomem(err, "window", sizeof *p);
        return PR_EXIT_FAILED;
    }
    p->bulk = bulk;
    p->input = input;
    if (pipeline_start(p, &reader, err) != PR_OK) {
        free(p);
        return PR_EXIT_FAILED;
    }
    pr_progress_start(&progress, config);
    pr_status st = writer_run(p, &progress, &n_errors, err);
    pr_progress_end(&progress);
    if (st != PR_OK) {
        /* The reader may wait for input or for places, and still has p. */
        pthread_detach(reader);
        *is_abandoned = true;
        (void)pr_output_lines_flush(bulk->output, NULL);
        return PR_EXIT_FAILED;
    }
    pthread_join(reader, NULL);
    sem_destroy(&p->places);
    sem_destroy(&p->filled);
    free(p);
    if (pr_output_lines_finish(bulk->output, err) != PR_OK) return PR_EXIT_FAILED;
    return n_errors > 0 && !config->allow_errors ? PR_EXIT_ERRORS : PR_EXIT_DONE;
}

/* ---- requests of the command line ---- */

/* Waits for the answer of argument i. Its own fault is the caller's mistake. */
static int argument_wait(const pr_bulk *bulk, size_t i, pr_ticket *ticket, pr_result **out,
                         pr_error *err)
{
    pr_output_row row = {0};
    pr_status st = pr_engine_wait(bulk->engine, ticket, out, err);
    if (st == PR_OK && (*out)->status != PR_OK) {
        st = pr_error_set(err, (*out)->status, "%s", (*out)->message ? (*out)->message : "");
    } else if (st == PR_OK) {
        st = pr_answer_fill(bulk->answer, *out, &row, err);
    }
    if (st == PR_OK) return PR_EXIT_DONE;
    pr_error_context(err, st, bulk->takes_pairs ? "document %zu" : "text %zu", i + 1);
    return pr_bulk_is_line_error(st) ? PR_EXIT_MISTAKE : PR_EXIT_FAILED;
}

static pr_status results_write(const pr_bulk *bulk, pr_result *const *results, size_t n,
                               pr_error *err)
{
    bool is_error;
    for (size_t i = 0; i < n; i++) {
        pr_status st = result_write(bulk, i, NULL, results[i], &is_error, err);
        if (st != PR_OK) return st;
    }
    return pr_output_lines_finish(bulk->output, err);
}

int pr_bulk_run_items(const pr_bulk *bulk, pr_input_item *items, size_t n, pr_error *err)
{
    int exit_status = PR_EXIT_DONE;
    pr_ticket **tickets = calloc(n, sizeof *tickets);
    pr_result **results = calloc(n, sizeof *results);
    if (!tickets || !results) {
        pr_error_nomem(err, "arguments", n * sizeof *results);
        exit_status = PR_EXIT_FAILED;
    }
    for (size_t i = 0; exit_status == PR_EXIT_DONE && i < n; i++) {
        pr_status st = item_submit(bulk, &items[i], &tickets[i], err);
        if (st == PR_OK) continue;
        pr_error_context(err, st, "text %zu", i + 1);
        exit_status = pr_bulk_is_line_error(st) ? PR_EXIT_MISTAKE : PR_EXIT_FAILED;
    }
    for (size_t i = 0; results && tickets && i < n; i++) {
        if (!tickets[i]) continue;
        pr_error later;
        bool is_first = exit_status == PR_EXIT_DONE;
        int verdict = argument_wait(bulk, i, tickets[i], &results[i], is_first ? err : &later);
        if (is_first) exit_status = verdict;
    }
    if (exit_status == PR_EXIT_DONE && *bulk->context->is_interrupted) {
        pr_error_set(err, PR_E_CANCELLED, "interrupted");
        exit_status = PR_EXIT_FAILED;
    }
    if (exit_status == PR_EXIT_DONE && results_write(bulk, results, n, err) != PR_OK) {
        exit_status = PR_EXIT_FAILED;
    }
    for (size_t i = 0; i < n; i++) {
        if (results) pr_result_free(results[i]);
        pr_input_item_deinit(&items[i]);
    }
    free(tickets);
    free(results);
    return exit_status;
}
