/* worker: one rank. */
#include "coordinator/command.h"

int pr_command_worker_run(const pr_command_context *context, pr_error *err)
{
    (void)context;
    pr_error_set(err, PR_E_UNSUPPORTED, "ranks are not built yet");
    return PR_EXIT_MISTAKE;
}
