/* examples/score.c: how well documents fit a query: a cross-encoder's score, or the cosine of
 * embeddings.
 *
 *     cc score.c $(pkg-config --cflags --libs poolrank) -o score
 *     ./score MODEL QUERY DOCUMENT... */
#include <poolrank/engine.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    pr_error err;
    pr_engine *engine = NULL;
    if (argc < 4) {
        fprintf(stderr, "usage: score MODEL QUERY DOCUMENT...\n");
        return 2;
    }
    pr_options *options = pr_options_create();
    pr_status st = pr_options_set(options, "model", argv[1], &err);
    if (st == PR_OK) st = pr_options_set(options, "task", "score", &err);
    if (st == PR_OK) st = pr_engine_open(options, &engine, &err);
    pr_options_free(options);
    for (int i = 3; st == PR_OK && i < argc; i++) {
        pr_request request;
        pr_ticket *ticket = NULL;
        pr_result *result = NULL;
        pr_request_init(&request);
        request.text = argv[2];
        request.n_text = strlen(argv[2]);
        request.text_pair = argv[i];
        request.n_text_pair = strlen(argv[i]);
        st = pr_engine_submit(engine, &request, &ticket, &err);
        if (st == PR_OK) st = pr_engine_wait(engine, ticket, &result, &err);
        if (st != PR_OK) break;
        if (result->status != PR_OK) {
            printf("%s: error: %s\n", argv[i], result->message);
        } else {
            printf("%.6f  %s\n", result->data[0], argv[i]);
        }
        pr_result_free(result);
    }
    if (st != PR_OK) fprintf(stderr, "score: %s\n", err.message);
    if (engine) pr_engine_close(engine);
    return st == PR_OK ? 0 : 1;
}
