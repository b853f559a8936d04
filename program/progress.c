#include "program/progress.h"

#include "runtime/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { INTERVAL_MS = 200 };

void pr_progress_start(pr_progress *progress, const pr_config *config)
{
    bool is_seen = isatty(STDERR_FILENO) && (config->output || !isatty(STDOUT_FILENO));
    *progress = (pr_progress){.is_shown = is_seen && !config->quiet, .begin_ms = pr_clock_ms()};
}

void pr_progress_count(pr_progress *progress, bool is_error)
{
    progress->n_lines++;
    progress->n_errors += is_error;
    if (!progress->is_shown) return;
    int64_t now = pr_clock_ms();
    if (now - progress->shown_ms < INTERVAL_MS) return;
    progress->shown_ms = now;
    double seconds = (double)(now - progress->begin_ms) / 1000.0;
    char rate[32] = "";
    if (seconds > 0) snprintf(rate, sizeof rate, ", %.1f/s", (double)progress->n_lines / seconds);
    dprintf(STDERR_FILENO, "\r\033[K%" PRIu64 " lines%s", progress->n_lines, rate);
    if (progress->n_errors) dprintf(STDERR_FILENO, ", %" PRIu64 " errors", progress->n_errors);
}

void pr_progress_end(pr_progress *progress)
{
    if (progress->is_shown && progress->shown_ms) dprintf(STDERR_FILENO, "\r\033[K");
}
