#define _GNU_SOURCE
#include "worker/mpi/mpi_share.h"

#include "worker/mpi/mpi_error.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the first rank of a node keeps the region. */
typedef struct region_place {
    int64_t pid, fd;        /* -1: it has none */
    uint64_t device, inode; /* of the memfd: another file at that place is not taken for it */
} region_place;

static region_place place_of(const pr_shm_region *region)
{
    region_place p = {.pid = -1, .fd = -1};
    struct stat s;
    if (!region || fstat(pr_shm_region_fd(region), &s) != 0) return p;
    return (region_place){.pid = getpid(), .fd = pr_shm_region_fd(region), .device = s.st_dev,
                          .inode = s.st_ino};
}

/* NULL: it cannot be had here. */
static pr_shm_region *region_open(const region_place *place, int tp_size, int n_stages)
{
    char path[64];
    struct stat s;
    pr_shm_region *region = NULL;
    if (place->pid < 0) return NULL;
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)place->pid,
             (long long)place->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return NULL;
    bool is_it = fstat(fd, &s) == 0 && s.st_dev == place->device && s.st_ino == place->inode;
    if (!is_it || pr_shm_region_attach(fd, tp_size, n_stages, &region, NULL) != PR_OK) {
        region = NULL;
    }
    close(fd);
    return region;
}

/* All ranks of the node have the region, or none keeps one. */
static pr_status node_share(MPI_Comm node, int tp_size, int n_stages, bool is_wanted,
                            pr_shm_region **region, pr_error *err)
{
    int rank = 0, n_ranks = 0;
    pr_shm_region *r = NULL;
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, &n_ranks);
    if (rank == 0 && n_ranks > 1 && is_wanted &&
        pr_shm_region_create(tp_size, n_stages, &r, NULL) != PR_OK) {
        r = NULL;
    }
    region_place place = place_of(r);
    pr_status st = pr_mpi_status(MPI_Bcast(&place, sizeof place, MPI_BYTE, 0, node),
                                 "exchange of the shared memory's place", err);
    if (st == PR_OK && rank > 0 && is_wanted) r = region_open(&place, tp_size, n_stages);
    int has_region = r != NULL;
    if (st == PR_OK) {
        st = pr_mpi_status(MPI_Allreduce(MPI_IN_PLACE, &has_region, 1, MPI_INT, MPI_MIN, node),
                           "agreement on shared memory", err);
    }
    if (st != PR_OK || !has_region) {
        pr_shm_region_close(r);
        r = NULL;
    }
    *region = r;
    return st;
}

pr_status pr_mpi_share(MPI_Comm group, int tp_size, int n_stages, bool is_wanted, int *nodes,
                       pr_shm_region **region, pr_error *err)
{
    MPI_Comm node = MPI_COMM_NULL;
    pr_shm_region *r = NULL;
    int group_rank = 0;
    MPI_Comm_rank(group, &group_rank);
    pr_status st = pr_mpi_status(MPI_Comm_split_type(group, MPI_COMM_TYPE_SHARED, group_rank,
                                                     MPI_INFO_NULL, &node),
                                 "MPI_Comm_split_type", err);
    if (st == PR_OK) st = node_share(node, tp_size, n_stages, is_wanted, &r, err);
    /* The node's number: its first rank's in the group. */
    int first = group_rank;
    if (st == PR_OK) st = pr_mpi_status(MPI_Bcast(&first, 1, MPI_INT, 0, node), "MPI_Bcast", err);
    int own = r ? first : -1;
    if (st == PR_OK) {
        st = pr_mpi_status(MPI_Allgather(&own, 1, MPI_INT, nodes, 1, MPI_INT, group),
                           "MPI_Allgather", err);
    }
    if (node != MPI_COMM_NULL) MPI_Comm_free(&node);
    if (st != PR_OK) {
        pr_shm_region_close(r);
        return st;
    }
    *region = r;
    return PR_OK;
}
