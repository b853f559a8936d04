/* examples/reward.c: the reward of each text: the value of its last token or step.
 *
 *     cc reward.c $(pkg-config --cflags --libs poolrank) -o reward && ./reward MODEL TEXT... */
#include <poolrank/engine.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    pr_error err;
    pr_engine *engine = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: reward MODEL TEXT...\n");
        return 2;
    }
    pr_options *options = pr_options_create();
    pr_status st = pr_options_set(options, "model", argv[1], &err);
    if (st == PR_OK) st = pr_options_set(options, "task", "reward", &err);
    if (st == PR_OK) st = pr_engine_open(options, &engine, &err);
    pr_options_free(options);
    for (int i = 2; st == PR_OK && i < argc; i++) {
        pr_request request;
        pr_ticket *ticket = NULL;
        pr_result *result = NULL;
        pr_request_init(&request);
        request.text = argv[i];
        request.n_text = strlen(argv[i]);
        request.last_row_only = true;
        st = pr_engine_submit(engine, &request, &ticket, &err);
        if (st == PR_OK) st = pr_engine_wait(engine, ticket, &result, &err);
        if (st != PR_OK) break;
        if (result->status != PR_OK) {
            printf("%s: error: %s\n", argv[i], result->message);
        } else {
            /* A process reward's row is [bad, good]; a scalar reward has one value. A text without
             * a step tag has no row. */
            if (result->n_rows == 0) {
                printf("no step  %s\n", argv[i]);
            } else {
                printf("%.6f  %s\n", result->data[result->n_columns - 1], argv[i]);
            }
        }
        pr_result_free(result);
    }
    if (st != PR_OK) fprintf(stderr, "reward: %s\n", err.message);
    if (engine) pr_engine_close(engine);
    return st == PR_OK ? 0 : 1;
}
