/* examples/classify.c: the probability of each label of a classification model.
 *
 *     cc classify.c $(pkg-config --cflags --libs poolrank) -o classify
 *     ./classify MODEL TEXT... */
#include <poolrank/engine.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    pr_error err;
    pr_engine *engine = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: classify MODEL TEXT...\n");
        return 2;
    }
    pr_options *options = pr_options_create();
    pr_status st = pr_options_set(options, "model", argv[1], &err);
    if (st == PR_OK) st = pr_options_set(options, "task", "classify", &err);
    if (st == PR_OK) st = pr_engine_open(options, &engine, &err);
    pr_options_free(options);
    for (int i = 2; st == PR_OK && i < argc; i++) {
        pr_request request;
        pr_ticket *ticket = NULL;
        pr_result *result = NULL;
        pr_request_init(&request);
        request.text = argv[i];
        request.n_text = strlen(argv[i]);
        st = pr_engine_submit(engine, &request, &ticket, &err);
        if (st == PR_OK) st = pr_engine_wait(engine, ticket, &result, &err);
        if (st != PR_OK) break;
        if (result->status != PR_OK) {
            printf("%s: error: %s\n", argv[i], result->message);
        } else {
            printf("%s:", argv[i]);
            for (uint32_t k = 0; k < result->n_columns; k++) printf(" %.6f", result->data[k]);
            printf("\n");
        }
        pr_result_free(result);
    }
    if (st != PR_OK) fprintf(stderr, "classify: %s\n", err.message);
    if (engine) pr_engine_close(engine);
    return st == PR_OK ? 0 : 1;
}
