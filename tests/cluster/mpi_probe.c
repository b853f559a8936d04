/* mpi_probe: what a rank sees of its cluster, a line for each: rank, ranks, host, ranks of its
 * node, and the sum that all ranks make of their numbers. For tests of the tests' own hosts. */
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank = 0, size = 0, n_local = 0, sum = 0;
    char host[256] = "";
    MPI_Comm local;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
    MPI_Comm_size(local, &n_local);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    gethostname(host, sizeof host - 1);
    printf("%d %d %s %d %d\n", rank, size, host, n_local, sum);
    MPI_Comm_free(&local);
    MPI_Finalize();
    return 0;
}
