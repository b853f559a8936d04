/* program/mpi_plugin.h: finds and loads libpoolrank-mpi.so, the part of poolrank that is linked
 * with Open MPI (worker/mpi/plugin.h).
 *
 * Called by `poolrank worker` alone, once, when its group has more than one rank. What is loaded
 * stays loaded: MPI cannot be unloaded. */
#ifndef POOLRANK_PROGRAM_MPI_PLUGIN_H
#define POOLRANK_PROGRAM_MPI_PLUGIN_H

#include "worker/mpi/plugin.h"

/* named ($POOLRANK_MPI_PLUGIN; NULL: unset): a path, used instead of looking beside the program
 * (the build's folder) and in ../lib/poolrank of it (an installed tree). Fails PR_E_NOT_FOUND:
 * there is none, with how to get it; PR_E_UNSUPPORTED: it cannot be loaded, with the loader's
 * words, or is of another version. */
pr_status pr_mpi_plugin_load(const char *named, const pr_mpi_plugin **out, pr_error *err);

#endif
