/* Writes two layers of Qwen2.5-Math-RM-72B at their real width, with weights from a fixed seed, and
 * says the sum of what it drew.
 *
 *     thin_model FOLDER       FOLDER exists; 6.1 GB */
#include "tests/large/checkpoint_72b.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_LAYERS = 2 };

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: thin_model FOLDER\n");
        return 2;
    }
    large_checkpoint *c = calloc(1, sizeof *c);
    uint64_t sum = 0;
    large_status st = LARGE_FAILED;
    if (c) {
        large_checkpoint_lay_out(c, N_LAYERS, false);
        st = large_checkpoint_write_weights(c, argv[1], &sum);
    }
    free(c);
    if (st != LARGE_OK) {
        perror(argv[1]);
        return 1;
    }
    printf("%" PRIu64 "\n", sum);
    return 0;
}
