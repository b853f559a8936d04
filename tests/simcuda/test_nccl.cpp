/* test_nccl.cpp: the simulated NCCL between processes: sums, exchanges, splits, and what happens
 * when a rank is not there.
 *
 * The test forks its ranks; a rank says what was wrong and exits with 1. */
#include "tests/simcuda/check.h"

#include <nccl.h>

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const pr_sim_config forward = {90, PR_SIM_FORWARD, PR_SIM_DEFERRED, 1};

/* What a rank stands on. */
typedef struct member {
    int rank, n_ranks;
    ncclUniqueId id;
    ncclComm_t comm; /* of all ranks, where member_join was called */
    cudaStream_t stream;
} member;

/* In a rank: a mistake ends it. */
#define need(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition,                    \
                    ncclGetLastError(NULL));                                                       \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void member_begin(member *m)
{
    pr_sim_reset(&forward);
    pr_sim_devices_set(m->n_ranks, 64 << 20);
    need(cudaSetDevice(m->rank) == cudaSuccess);
    need(cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking) == cudaSuccess);
}

static void member_join(member *m)
{
    member_begin(m);
    need(ncclCommInitRank(&m->comm, m->n_ranks, m->id, m->rank) == ncclSuccess);
}

static void member_sync(const member *m)
{
    ncclResult_t state = ncclInProgress;
    need(cudaStreamSynchronize(m->stream) == cudaSuccess);
    need(ncclCommGetAsyncError(m->comm, &state) == ncclSuccess);
    need(state == ncclSuccess);
}

static int n_descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder)) n++;
    closedir(folder);
    return n;
}

/* Forks n ranks that each do `run`, and returns a bit for each that did not exit with 0. */
static unsigned ranks_run(int n, void (*run)(member *))
{
    member m = {0, n, {}, NULL, NULL};
    pid_t pids[16];
    unsigned failed = 0;
    pr_sim_reset(&forward);
    assert_int_equal(ncclGetUniqueId(&m.id), ncclSuccess);
    for (m.rank = 0; m.rank < n; m.rank++) {
        pids[m.rank] = fork();
        if (pids[m.rank] == 0) {
            run(&m);
            _exit(0);
        }
    }
    for (int r = 0; r < n; r++) {
        int status = -1;
        assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
        if (status != 0) failed |= 1u << r;
    }
    return failed;
}

/* ---- values: small whole numbers, whose sums are exact in any order ---- */

static float value(int rank, uint64_t i)
{
    return (float)((int)((i * 7 + (uint64_t)rank * 3) % 13) - 6);
}

static pr_dtype dtype_of(ncclDataType_t type)
{
    return type == ncclFloat32 ? PR_DTYPE_F32 : type == ncclBfloat16 ? PR_DTYPE_BF16 : PR_DTYPE_F16;
}

static unsigned char *device_make(uint64_t n_bytes)
{
    void *p = NULL;
    need(cudaMalloc(&p, n_bytes) == cudaSuccess);
    return (unsigned char *)p;
}

/* The rank's part of n numbers, on the device. */
static unsigned char *part_make(ncclDataType_t type, int rank, uint64_t n)
{
    const pr_dtype t = dtype_of(type);
    unsigned char *host = (unsigned char *)calloc(n, check_bytes(t));
    unsigned char *p = device_make(n * check_bytes(t));
    for (uint64_t i = 0; i < n; i++) check_set(host, t, (int64_t)i, value(rank, i));
    need(cudaMemcpy(p, host, n * check_bytes(t), cudaMemcpyHostToDevice) == cudaSuccess);
    free(host);
    return p;
}

static float sum_at(int n_ranks, uint64_t i)
{
    float sum = 0;
    for (int r = 0; r < n_ranks; r++) sum += value(r, i);
    return sum;
}

static bool is_sum(const unsigned char *p, ncclDataType_t type, int n_ranks, uint64_t n)
{
    const pr_dtype t = dtype_of(type);
    unsigned char *host = (unsigned char *)calloc(n, check_bytes(t));
    need(cudaMemcpy(host, p, n * check_bytes(t), cudaMemcpyDeviceToHost) == cudaSuccess);
    uint64_t i = 0;
    while (i < n && check_get(host, t, (int64_t)i) == sum_at(n_ranks, i)) i++;
    free(host);
    return i == n;
}

/* ---- collectives ---- */

static const ncclDataType_t float_types[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
static const uint64_t counts[] = {1, 1000, 300001}; /* the last takes several chunks */

static void sums(member *m)
{
    member_join(m);
    for (ncclDataType_t type : float_types) {
        for (uint64_t n : counts) {
            unsigned char *x = part_make(type, m->rank, n);
            unsigned char *y = part_make(type, m->rank, n);
            need(ncclAllReduce(x, x, n, type, ncclSum, m->comm, m->stream) == ncclSuccess);
            need(n == 1 || m->n_ranks == 1 || !is_sum(x, type, m->n_ranks, n)); /* nobody waited */
            need(ncclReduce(y, y, n, type, ncclSum, m->n_ranks - 1, m->comm, m->stream) ==
                 ncclSuccess);
            member_sync(m);
            need(is_sum(x, type, m->n_ranks, n));
            need(is_sum(y, type, m->n_ranks, n) == (m->rank == m->n_ranks - 1));
            need(cudaFree(x) == cudaSuccess && cudaFree(y) == cudaSuccess);
        }
    }
    need(ncclCommDestroy(m->comm) == ncclSuccess);
    need(pr_sim_bytes_in_use() == 0);
}

static void sums_are_those_of_all_ranks(void **)
{
    for (int n = 1; n <= 4; n++) assert_int_equal(ranks_run(n, sums), 0);
}

static void copies(member *m)
{
    member_join(m);
    const uint64_t n = 70000;
    uint64_t *host = (uint64_t *)calloc(n * 4, 8);
    for (uint64_t i = 0; i < n; i++) host[i] = i * 10 + (uint64_t)m->rank;
    const uint64_t all_bytes = n * 8 * (uint64_t)m->n_ranks;
    unsigned char *x = device_make(n * 8), *all = device_make(all_bytes);
    need(cudaMemcpy(x, host, n * 8, cudaMemcpyHostToDevice) == cudaSuccess);
    need(ncclAllGather(x, all, n, ncclUint64, m->comm, m->stream) == ncclSuccess);
    need(ncclBroadcast(x, x, n, ncclUint64, 1, m->comm, m->stream) == ncclSuccess);
    member_sync(m);
    need(cudaMemcpy(host, all, all_bytes, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (uint64_t r = 0; r < (uint64_t)m->n_ranks; r++)
        for (uint64_t i = 0; i < n; i++) need(host[r * n + i] == i * 10 + r);
    need(cudaMemcpy(host, x, n * 8, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (uint64_t i = 0; i < n; i++) need(host[i] == i * 10 + 1);
}

static void what_is_gathered_or_broadcast_is_what_was_sent(void **)
{
    assert_int_equal(ranks_run(2, copies), 0);
    assert_int_equal(ranks_run(3, copies), 0);
}

/* Rank 1 has a number that swallows the others where it comes first, and not where it is last. */
static void ring(member *m)
{
    setenv("POOLRANK_SIM_NCCL_RING", "1", 1);
    member_join(m);
    const float own[4] = {0.25f, 4194304.0f, 0.25f, 0.25f};
    float host[8];
    for (float &x : host) x = own[m->rank];
    unsigned char *x = device_make(sizeof host);
    need(cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice) == cudaSuccess);
    need(ncclAllReduce(x, x, 8, ncclFloat32, ncclSum, m->comm, m->stream) == ncclSuccess);
    member_sync(m);
    need(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost) == cudaSuccess);
    need(host[0] != host[2]); /* the same numbers, in another part of the ring */
    need(fabs(host[0] - 4194304.75) <= 0.75 && fabs(host[2] - 4194304.75) <= 0.75);
}

static void a_ring_adds_in_an_order_that_depends_on_the_place(void **)
{
    assert_int_equal(ranks_run(4, ring), 0);
}

static void splits(member *m)
{
    member_join(m);
    ncclComm_t pair, none;
    /* {0, 1} and {2, 3}, the higher rank first */
    need(ncclCommSplit(m->comm, m->rank / 2, -m->rank, &pair, NULL) == ncclSuccess);
    need(ncclCommSplit(m->comm, m->rank == 3 ? 7 : NCCL_SPLIT_NOCOLOR, 0, &none, NULL) ==
         ncclSuccess);
    int rank = -1, count = -1;
    need(ncclCommUserRank(pair, &rank) == ncclSuccess && rank == 1 - m->rank % 2);
    need(ncclCommCount(pair, &count) == ncclSuccess && count == 2);
    need((none != NULL) == (m->rank == 3));
    float x = (float)(1 << m->rank);
    unsigned char *p = device_make(4);
    need(cudaMemcpy(p, &x, 4, cudaMemcpyHostToDevice) == cudaSuccess);
    need(ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, pair, m->stream) == ncclSuccess);
    need(cudaStreamSynchronize(m->stream) == cudaSuccess);
    need(cudaMemcpy(&x, p, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
    need(x == (m->rank < 2 ? 3.0f : 12.0f));
    need(ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, m->comm, m->stream) == ncclSuccess);
    member_sync(m);
    need(cudaMemcpy(&x, p, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
    need(x == 30.0f);
    need(ncclCommDestroy(pair) == ncclSuccess && ncclCommDestroy(m->comm) == ncclSuccess);
}

static void a_communicator_is_split(void **)
{
    assert_int_equal(ranks_run(4, splits), 0);
}

/* ---- sends ---- */

static void passes(member *m)
{
    member_join(m);
    const uint64_t n = 100000;
    const int next = (m->rank + 1) % m->n_ranks, before = (m->rank + m->n_ranks - 1) % m->n_ranks;
    unsigned char *x = part_make(ncclBfloat16, m->rank, n), *y = device_make(n * 2);
    need(ncclGroupStart() == ncclSuccess);
    need(ncclSend(x, n, ncclBfloat16, next, m->comm, m->stream) == ncclSuccess);
    need(ncclRecv(y, n, ncclBfloat16, before, m->comm, m->stream) == ncclSuccess);
    need(ncclGroupEnd() == ncclSuccess);
    member_sync(m);
    __nv_bfloat16 *host = (__nv_bfloat16 *)calloc(n, 2);
    need(cudaMemcpy(host, y, n * 2, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (uint64_t i = 0; i < n; i++) need(__bfloat162float(host[i]) == value(before, i));
    /* and one after the other, down the line */
    if (m->rank > 0)
        need(ncclRecv(y, n, ncclBfloat16, m->rank - 1, m->comm, m->stream) == ncclSuccess);
    if (m->rank + 1 < m->n_ranks)
        need(ncclSend(m->rank ? y : x, n, ncclBfloat16, next, m->comm, m->stream) == ncclSuccess);
    member_sync(m);
    need(cudaMemcpy(host, y, n * 2, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (uint64_t i = 0; m->rank && i < n; i++) need(__bfloat162float(host[i]) == value(0, i));
}

static void a_send_arrives_with_its_receiver(void **)
{
    assert_int_equal(ranks_run(2, passes), 0);
    assert_int_equal(ranks_run(4, passes), 0);
}

/* ---- a communicator that does not block ---- */

static ncclResult_t state_after(ncclComm_t c, int *n_polls)
{
    ncclResult_t state = ncclInProgress;
    const struct timespec moment = {0, 100000};
    for (*n_polls = 0; state == ncclInProgress && *n_polls < 50000; (*n_polls)++) {
        need(ncclCommGetAsyncError(c, &state) == ncclSuccess);
        if (state == ncclInProgress) nanosleep(&moment, NULL);
    }
    return state;
}

static void in_progress(member *m)
{
    member_begin(m);
    int n_polls;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    need(ncclCommInitRankConfig(&m->comm, m->n_ranks, m->id, m->rank, &config) == ncclInProgress);
    unsigned char *x = part_make(ncclFloat32, m->rank, 100);
    need(state_after(m->comm, &n_polls) == ncclSuccess);
    ncclComm_t pair = NULL;
    need(ncclCommSplit(m->comm, 0, m->rank, &pair, NULL) == ncclInProgress);
    need(state_after(m->comm, &n_polls) == ncclSuccess && pair != NULL);
    need(ncclAllReduce(x, x, 100, ncclFloat32, ncclSum, pair, m->stream) == ncclInProgress);
    need(cudaStreamSynchronize(m->stream) == cudaSuccess); /* it is not there yet */
    need(!is_sum(x, ncclFloat32, m->n_ranks, 100));
    need(ncclAllReduce(x, x, 100, ncclFloat32, ncclSum, pair, m->stream) == ncclInvalidArgument);
    need(state_after(pair, &n_polls) == ncclSuccess && n_polls > 1);
    need(cudaStreamSynchronize(m->stream) == cudaSuccess);
    need(is_sum(x, ncclFloat32, m->n_ranks, 100));
    need(ncclCommFinalize(pair) == ncclInProgress);
    need(state_after(pair, &n_polls) == ncclSuccess);
    need(ncclCommDestroy(pair) == ncclSuccess && ncclCommDestroy(m->comm) == ncclSuccess);
}

static void work_in_progress_is_not_in_the_stream(void **)
{
    assert_int_equal(ranks_run(2, in_progress), 0);
}

/* ---- ranks that are not there ---- */

static void survive(member *m)
{
    float x[16];
    unsigned char *p = part_make(ncclFloat32, m->rank, 16);
    need(ncclAllReduce(p, p, 16, ncclFloat32, ncclSum, m->comm, m->stream) == ncclSuccess);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    need(cudaStreamSynchronize(m->stream) == cudaSuccess);
    clock_gettime(CLOCK_MONOTONIC, &end);
    need(end.tv_sec - begin.tv_sec < 20);
    ncclResult_t state = ncclSuccess;
    need(ncclCommGetAsyncError(m->comm, &state) == ncclSuccess && state == ncclRemoteError);
    need(strstr(ncclGetLastError(m->comm), "all-reduce: rank 1") != NULL);
    need(cudaMemcpy(x, p, sizeof x, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (float one : x) need(isnan(one));
    need(ncclAllReduce(p, p, 16, ncclFloat32, ncclSum, m->comm, m->stream) == ncclRemoteError);
    need(ncclCommAbort(m->comm) == ncclSuccess);
}

static void one_is_killed(member *m)
{
    member_join(m);
    if (m->rank == 1) kill(getpid(), SIGKILL);
    survive(m);
}

static void one_is_killed_in_the_middle(member *m)
{
    member_join(m);
    const uint64_t n = 4 << 20;
    unsigned char *p = device_make(n * 4);
    if (m->rank == 1) alarm(1); /* a signal that ends it */
    for (int i = 0; i < 1000000 && m->rank == 1; i++) {
        need(ncclAllReduce(p, p, n, ncclFloat32, ncclSum, m->comm, m->stream) == ncclSuccess);
        need(cudaStreamSynchronize(m->stream) == cudaSuccess);
    }
    ncclResult_t state = ncclSuccess;
    while (state == ncclSuccess) {
        need(ncclAllReduce(p, p, n, ncclFloat32, ncclSum, m->comm, m->stream) == ncclSuccess);
        need(cudaStreamSynchronize(m->stream) == cudaSuccess);
        need(ncclCommGetAsyncError(m->comm, &state) == ncclSuccess);
    }
    need(state == ncclRemoteError);
}

static void one_aborts(member *m)
{
    member_join(m);
    if (m->rank == 1) {
        unsigned char *p = part_make(ncclFloat32, m->rank, 16);
        need(ncclAllReduce(p, p, 16, ncclFloat32, ncclSum, m->comm, m->stream) == ncclSuccess);
        need(ncclCommAbort(m->comm) == ncclSuccess);
        need(cudaStreamSynchronize(m->stream) == cudaSuccess); /* what was queued ends */
        sleep(1);
        return;
    }
    survive(m);
}

static void one_does_not_come(member *m)
{
    setenv("POOLRANK_SIM_NCCL_TIMEOUT_MS", "300", 1);
    member_join(m);
    if (m->rank == 1) {
        sleep(2);
        return;
    }
    survive(m);
}

static void one_never_joins(member *m)
{
    setenv("POOLRANK_SIM_NCCL_TIMEOUT_MS", "300", 1);
    member_begin(m);
    if (m->rank == 1) return;
    need(ncclCommInitRank(&m->comm, m->n_ranks, m->id, m->rank) == ncclRemoteError);
}

static void a_rank_that_is_missed_is_an_error_of_the_others(void **)
{
    const int n_before = n_descriptors();
    assert_int_equal(ranks_run(2, one_is_killed), 2); /* the killed one's exit status */
    assert_int_equal(ranks_run(3, one_is_killed), 2);
    assert_int_equal(ranks_run(2, one_is_killed_in_the_middle), 2);
    assert_int_equal(ranks_run(3, one_aborts), 0);
    assert_int_equal(ranks_run(2, one_does_not_come), 0);
    assert_int_equal(ranks_run(2, one_never_joins), 0);
    assert_int_equal(n_descriptors(), n_before + 6); /* an id's file is its maker's until it ends */
}

/* ---- mistakes ---- */

static void different_calls(member *m)
{
    member_join(m);
    unsigned char *x = part_make(ncclFloat32, m->rank, 100);
    const uint64_t n = m->rank ? 100 : 99;
    need(ncclAllReduce(x, x, n, ncclFloat32, ncclSum, m->comm, m->stream) == ncclSuccess);
    need(cudaStreamSynchronize(m->stream) != cudaSuccess);
    need(strstr(pr_sim_fault(), "all-reduce of 99 elements") != NULL ||
         strstr(pr_sim_fault(), "all-reduce of 100 elements") != NULL);
}

static void one_device_for_two(member *m)
{
    member_begin(m);
    need(cudaSetDevice(0) == cudaSuccess);
    need(ncclCommInitRank(&m->comm, m->n_ranks, m->id, m->rank) == ncclInvalidUsage);
}

static void refusals(member *m)
{
    member_join(m);
    float host[4];
    unsigned char *x = part_make(ncclFloat32, 0, 4);
    need(ncclAllReduce(host, host, 4, ncclFloat32, ncclSum, m->comm, m->stream) ==
         ncclInvalidArgument);
    need(ncclAllReduce(x, x, 5, ncclFloat32, ncclSum, m->comm, m->stream) == ncclInvalidArgument);
    need(ncclAllReduce(x, x, 4, ncclFloat32, ncclAvg, m->comm, m->stream) == ncclInvalidArgument);
    need(ncclReduce(x, x, 4, ncclFloat32, ncclSum, 1, m->comm, m->stream) == ncclInvalidArgument);
    need(ncclAllReduce(x, x, 4, ncclFloat32, ncclSum, m->comm, NULL) == ncclInvalidArgument);
    need(ncclGroupEnd() == ncclInvalidUsage);
    ncclConfig_t config = {};
    ncclComm_t other;
    need(ncclCommInitRankConfig(&other, 1, m->id, 0, &config) == ncclInvalidArgument);
    need(ncclCommInitRank(&other, 1, m->id, 0) != ncclSuccess); /* an id serves once */
    need(ncclCommDestroy(m->comm) == ncclSuccess);
    need(ncclCommCount(NULL, NULL) == ncclInvalidArgument);
}

static void mistakes_are_reported(void **)
{
    assert_int_equal(ranks_run(2, different_calls), 0);
    assert_int_equal(ranks_run(2, one_device_for_two), 0);
    assert_int_equal(ranks_run(1, refusals), 0);
}

/* ---- threads ---- */

static void *thread_rank(void *context)
{
    member *m = (member *)context;
    need(cudaSetDevice(m->rank) == cudaSuccess);
    need(cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking) == cudaSuccess);
    need(ncclCommInitRank(&m->comm, m->n_ranks, m->id, m->rank) == ncclSuccess);
    unsigned char *x = part_make(ncclFloat16, m->rank, 200000);
    for (int i = 0; i < 3; i++) {
        unsigned char *y = device_make(400000);
        need(ncclAllReduce(x, y, 200000, ncclFloat16, ncclSum, m->comm, m->stream) == ncclSuccess);
        member_sync(m);
        need(is_sum(y, ncclFloat16, m->n_ranks, 200000));
        need(cudaFree(y) == cudaSuccess);
    }
    need(cudaFree(x) == cudaSuccess && ncclCommDestroy(m->comm) == ncclSuccess);
    return NULL;
}

static void ranks_may_be_threads(void **)
{
    pr_sim_reset(&forward);
    pr_sim_devices_set(3, 64 << 20);
    const int n_before = n_descriptors();
    member members[3];
    pthread_t threads[3];
    ncclUniqueId id;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    for (int r = 0; r < 3; r++) {
        members[r] = member{r, 3, id, NULL, NULL};
        assert_int_equal(pthread_create(&threads[r], NULL, thread_rank, &members[r]), 0);
    }
    for (int r = 0; r < 3; r++) assert_int_equal(pthread_join(threads[r], NULL), 0);
    assert_int_equal(pr_sim_bytes_in_use(), 0);
    assert_int_equal(n_descriptors(), n_before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_all_ranks),
        cmocka_unit_test(what_is_gathered_or_broadcast_is_what_was_sent),
        cmocka_unit_test(a_ring_adds_in_an_order_that_depends_on_the_place),
        cmocka_unit_test(a_communicator_is_split),
        cmocka_unit_test(a_send_arrives_with_its_receiver),
        cmocka_unit_test(work_in_progress_is_not_in_the_stream),
        cmocka_unit_test(a_rank_that_is_missed_is_an_error_of_the_others),
        cmocka_unit_test(mistakes_are_reported),
        cmocka_unit_test(ranks_may_be_threads),
    };
    return cmocka_run_group_tests_name("nccl", tests, NULL, NULL);
}
