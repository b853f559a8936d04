#include "coordinator/fleet.h"

pr_status pr_fleet_start(const pr_fleet_config *config, pr_fleet **out, pr_error *err)
{
    (void)config, (void)out;
    return pr_error_set(err, PR_E_UNSUPPORTED, "replica groups are not built yet");
}

pr_status pr_fleet_await(pr_fleet *f, pr_worker_info *info, pr_error *err)
{
    (void)f, (void)info;
    return pr_error_set(err, PR_E_UNSUPPORTED, "replica groups are not built yet");
}

void pr_fleet_cancel(pr_fleet *f)
{
    (void)f;
}

size_t pr_fleet_ranks(pr_fleet *f, pr_fleet_rank **out)
{
    (void)f;
    *out = NULL;
    return 0;
}

void pr_fleet_stop(pr_fleet *f)
{
    (void)f;
}
