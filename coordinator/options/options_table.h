/* coordinator/options/options_table.h: the rows of the option table, in three parts: what poolrank
 * has (options_table.c), what its server has (options_server.c), and vLLM's engine arguments that
 * have no meaning here (options_vllm.c).
 *
 * Constant data; read through coordinator/options/options.h, on any thread. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_OPTIONS_TABLE_H
#define POOLRANK_COORDINATOR_OPTIONS_OPTIONS_TABLE_H

#include "coordinator/options/option_row.h"

extern const pr_option_row pr_option_rows[];
extern const size_t pr_option_rows_count;

extern const pr_option_row pr_option_rows_server[];
extern const size_t pr_option_rows_server_count;

/* Every row here is ACCEPTED, REFUSED, or HONOURED for the values that poolrank does anyway. */
extern const pr_option_row pr_option_rows_vllm[];
extern const size_t pr_option_rows_vllm_count;

/* Rows of arguments that have no meaning here. `common`: initialisers that the file's rows share.
 * No effect, whatever the value: */
#define PR_OPTION_ROW_IDLE(common, a_name, a_kind, a_metavar, why)                                 \
    {common, .name = a_name, .kind = PR_OPTION_##a_kind, .effect = PR_OPTION_ACCEPTED,             \
     .metavar = a_metavar, .reason = why}
/* An error, whatever the value (a switch: unless it is off): */
#define PR_OPTION_ROW_NEVER(common, a_name, a_kind, a_metavar, why)                                \
    {common, .name = a_name, .kind = PR_OPTION_##a_kind, .effect = PR_OPTION_REFUSED,              \
     .metavar = a_metavar, .reason = why}
#define PR_OPTION_NO_GENERATION "a pooling model generates nothing"

#endif
