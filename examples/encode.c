/* examples/encode.c: whatever the model's own pooler yields, with its shape.
 *
 *     cc encode.c $(pkg-config --cflags --libs poolrank) -o encode && ./encode MODEL TEXT... */
#include <poolrank/engine.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    pr_error err;
    pr_engine *engine = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: encode MODEL TEXT...\n");
        return 2;
    }
    pr_options *options = pr_options_create();
    pr_status st = pr_options_set(options, "model", argv[1], &err);
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
            printf("%s: [%u, %u]%s\n", argv[i], result->n_rows, result->n_columns,
                   result->is_token_wise ? ", a row for each token" : "");
        }
        pr_result_free(result);
    }
    if (st != PR_OK) fprintf(stderr, "encode: %s\n", err.message);
    if (engine) pr_engine_close(engine);
    return st == PR_OK ? 0 : 1;
}
