/* serve: the service over HTTP and the socket protocol. */
#include "program/command.h"

int pr_command_serve_run(const pr_command_context *context, pr_error *err)
{
    (void)context;
    return pr_command_exit(pr_error_set(err, PR_E_UNSUPPORTED, "not built"));
}
