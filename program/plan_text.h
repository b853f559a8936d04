/* program/plan_text.h: the answer of `plan` as tables for a terminal.
 *
 * Pure but for memory; called by the command, on the main thread. */
#ifndef POOLRANK_PROGRAM_PLAN_TEXT_H
#define POOLRANK_PROGRAM_PLAN_TEXT_H

#include "runtime/base/buffer.h"

#include <jansson.h>

/* answer: the object that `plan --json` prints (docs/scaling.md). out: appended to; failed is set
 * when there is no memory. */
void pr_plan_text_write(const json_t *answer, pr_buffer *out);

#endif
