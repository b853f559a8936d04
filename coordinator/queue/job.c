#include "coordinator/queue/job.h"

#include "include/poolrank/engine.h"
#include "runtime/base/clock.h"
#include "runtime/base/dtype.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Appends a copy of n bytes at *at, aligned for int32_t, and moves *at; NULL stays NULL. */
static void *input_copy(char **at, const void *src, size_t n)
{
    if (!src) return NULL;
    char *dst = *at;
    if (n) memcpy(dst, src, n);
    *at += (n + 1 + 7) & ~(size_t)7;
    return dst;
}

static void flow_init(pr_flow *flow, int32_t priority, uint32_t timeout_ms)
{
    *flow = (pr_flow){.priority = priority};
    if (timeout_ms > 0) flow->deadline_ns = pr_clock_ns() + timeout_ms * UINT64_C(1000000);
    atomic_init(&flow->n_owners, 1);
    atomic_init(&flow->is_cancelled, false);
}

pr_flow *pr_flow_create(int32_t priority, uint32_t timeout_ms)
{
    pr_flow *flow = malloc(sizeof *flow);
    if (flow) flow_init(flow, priority, timeout_ms);
    return flow;
}

void pr_flow_release(pr_flow *flow)
{
    if (flow && atomic_fetch_sub(&flow->n_owners, 1) == 1) free(flow);
}

/* About a token for each 4 bytes. */
static uint64_t n_tokens_guess(const pr_request *r)
{
    return r->n_tokens + (r->n_text + r->n_text_pair + r->n_messages) / 4 + 1;
}

pr_job *pr_job_create(const pr_request *r, pr_flow *flow)
{
    pr_job *job = calloc(1, sizeof *job);
    if (!job) return NULL;
    job->flow = flow ? flow : &job->own_flow;
    if (flow) {
        atomic_fetch_add(&flow->n_owners, 1);
    } else {
        flow_init(&job->own_flow, r->priority, r->timeout_ms);
    }
    job->n_tokens = n_tokens_guess(r);
    job->submit_ns = pr_clock_ns();
    size_t token_bytes = r->n_tokens * sizeof *r->tokens;
    size_t returned_bytes = r->n_returned_token_ids * sizeof *r->returned_token_ids;
    job->request = *r;
    job->result = calloc(1, sizeof *job->result);
    job->inputs = malloc(r->n_text + r->n_text_pair + r->n_messages + token_bytes +
                         returned_bytes + 5 * 16);
    if (!job->result || !job->inputs) {
        pr_job_free(job);
        return NULL;
    }
    char *at = job->inputs;
    job->request.text = input_copy(&at, r->text, r->n_text);
    job->request.text_pair = input_copy(&at, r->text_pair, r->n_text_pair);
    job->request.tokens = input_copy(&at, r->tokens, token_bytes);
    job->request.messages = input_copy(&at, r->messages, r->n_messages);
    job->request.returned_token_ids = input_copy(&at, r->returned_token_ids, returned_bytes);
    return job;
}

void pr_job_free(pr_job *job)
{
    if (!job) return;
    pr_prepared_deinit(&job->prepared);
    free(job->first_part);
    free(job->inputs);
    pr_result_free(job->result);
    if (job->flow != &job->own_flow) pr_flow_release(job->flow);
    free(job);
}

bool pr_job_is_over(const pr_job *job, uint64_t now_ns)
{
    const pr_flow *flow = job->flow;
    return atomic_load(&flow->is_cancelled) || (flow->deadline_ns && now_ns > flow->deadline_ns);
}

void pr_job_fail_over(pr_job *job)
{
    if (atomic_load(&job->flow->is_cancelled)) {
        pr_job_fail(job, PR_E_CANCELLED, "nobody waits for the answer any more");
    } else {
        pr_job_fail(job, PR_E_TIMEOUT, "its time had passed before a batch took it");
    }
}

void pr_job_fail(pr_job *job, pr_status st, const char *message)
{
    pr_result *r = job->result;
    free(r->data);
    free(r->tokens);
    free(r->message);
    *r = (pr_result){.status = st, .message = strdup(message)};
}

pr_status pr_job_finish_tokens(pr_job *job, pr_error *err)
{
    const pr_encoding *e = &job->prepared.parts[0];
    pr_result *r = job->result;
    r->tokens = malloc(e->n * sizeof *r->tokens);
    if (!r->tokens) return pr_error_nomem(err, "tokens", e->n * sizeof *r->tokens);
    memcpy(r->tokens, e->ids, e->n * sizeof *r->tokens);
    r->n_prompt_tokens = (uint32_t)e->n;
    return PR_OK;
}

static double cosine(const float *a, const float *b, uint32_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    double norms = sqrt(aa) * sqrt(bb);
    return norms > 0 ? ab / norms : 0;
}

/* What the model's files say that the score of two embeddings is. */
static double similarity(pr_similarity kind, const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    switch (kind) {
    case PR_SIMILARITY_DOT:
        for (uint32_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
        return sum;
    case PR_SIMILARITY_EUCLIDEAN:
        for (uint32_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        return -sqrt(sum);
    case PR_SIMILARITY_MANHATTAN:
        for (uint32_t i = 0; i < n; i++) sum += fabs((double)a[i] - b[i]);
        return -sum;
    case PR_SIMILARITY_COSINE:
    case PR_SIMILARITY_COUNT:
        break;
    }
    return cosine(a, b, n);
}

static float *copy_of(const float *x, size_t n)
{
    float *copy = malloc(n * sizeof *copy + 1);
    if (copy && n) memcpy(copy, x, n * sizeof *copy);
    return copy;
}

/* The second part of a cosine score arrived. */
static bool cosine_finish(pr_job *job, const float *second, uint32_t n)
{
    pr_result *r = job->result;
    r->data = malloc(sizeof *r->data);
    if (!r->data) return false;
    r->data[0] = (float)similarity(job->prepared.similarity, job->first_part, second, n);
    r->n_rows = 1;
    r->n_columns = 1;
    return true;
}

static bool rows_finish(pr_job *job, const float *data, const pr_pooled_rows *rows)
{
    pr_result *r = job->result;
    const pr_pooling *p = job->prepared.pooling;
    uint32_t first = job->request.last_row_only && rows->n_rows > 1 ? rows->n_rows - 1 : 0;
    r->n_rows = rows->n_rows - first;
    r->n_columns = rows->n_columns;
    r->is_token_wise = p->type == PR_POOL_ALL || p->type == PR_POOL_STEP;
    r->data = copy_of(data + (size_t)first * rows->n_columns, (size_t)r->n_rows * r->n_columns);
    return r->data != NULL;
}

bool pr_job_take_rows(pr_job *job, int i_part, const pr_pooled *pooled, const pr_pooled_rows *rows)
{
    const float *data = pooled->data + rows->offset;
    pr_result *r = job->result;
    bool ok;
    r->n_prompt_tokens += (uint32_t)job->prepared.parts[i_part].n;
    job->n_parts_done++;
    if (!pr_f32_is_finite(data, (size_t)rows->n_rows * rows->n_columns)) {
        pr_job_fail(job, PR_E_INTERNAL,
                    "the model's numbers are not finite (not-a-number or infinity), from its "
                    "weights or an overflow: poolrank inspect --check-finite looks at the weights");
        return job->n_parts_done == job->prepared.n_parts;
    }
    if (job->prepared.n_parts == 1) {
        ok = rows_finish(job, data, rows);
    } else if (job->n_parts_done == 1) {
        assert(rows->n_rows > 0);
        job->first_part = copy_of(data, rows->n_columns);
        ok = job->first_part != NULL;
        if (ok) return false;
    } else {
        ok = cosine_finish(job, data, rows->n_columns);
    }
    if (!ok) pr_job_fail(job, PR_E_NOMEM, "no memory for the result");
    return true;
}
