/* examples/embed.c: the embedding of each text: its first numbers and its width.
 *
 *     cc embed.c $(pkg-config --cflags --libs poolrank) -o embed && ./embed MODEL TEXT... */
#include <poolrank/engine.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    pr_error err;
    pr_engine *engine = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: embed MODEL TEXT...\n");
        return 2;
    }
    pr_options *options = pr_options_create();
    pr_status st = pr_options_set(options, "model", argv[1], &err);
    if (st == PR_OK) st = pr_options_set(options, "task", "embed", &err);
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
            printf("%s: %u numbers, %.6f %.6f ...\n", argv[i], result->n_columns, result->data[0],
                   result->data[1]);
        }
        pr_result_free(result);
    }
    if (st != PR_OK) fprintf(stderr, "embed: %s\n", err.message);
    if (engine) pr_engine_close(engine);
    return st == PR_OK ? 0 : 1;
}
