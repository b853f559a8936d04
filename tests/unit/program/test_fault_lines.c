/* Bulk input and output with any one allocation failing: PR_E_NOMEM, and nothing is leaked. */
#define _GNU_SOURCE
#include "program/input_lines.h"
#include "program/output_lines.h"
#include "tests/unit/fault_alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

static pr_status read_all(void *context)
{
    int fd = *(int *)context;
    if (lseek(fd, 0, SEEK_SET) != 0) return PR_E_IO;
    pr_input_lines *in = NULL;
    pr_status st = pr_input_lines_create(fd, "test", 0, &in, NULL);
    bool has_item = true;
    while (st == PR_OK && has_item) {
        pr_input_item item = {0};
        st = pr_input_lines_next(in, &item, &has_item, NULL);
        pr_input_item_deinit(&item);
    }
    pr_input_lines_close(in);
    return st;
}

static void input_lines_survive_any_failing_allocation(void **state)
{
    (void)state;
    static const char lines[] = "text\n"
                                "{\"text\":\"b\",\"id\":\"x\",\"returned_token_ids\":[1,2]}\n"
                                "{\"query\":\"q\",\"document\":\"d\"}\n"
                                "{\"tokens\":[1,2,3]}\n"
                                "{\"text\":\"b\",\"tokens\":[1]}\n"
                                "{\"text\":\"b\",\"normalize\":1,\"id\":7}\n"
                                "\xFF\n";
    int fd = memfd_create("lines", MFD_CLOEXEC);
    assert_int_equal(write(fd, lines, sizeof lines - 1), sizeof lines - 1);
    char *long_line = malloc(200000); /* so that the read buffer grows */
    memset(long_line, 'x', 200000);
    assert_int_equal(write(fd, long_line, 200000), 200000);
    free(long_line);
    pr_status wrong = PR_OK;
    long n = fault_every_allocation(read_all, &fd, &wrong);
    if (n < 10) fail_msg("%ld allocations, status %d", n, (int)wrong);
    close(fd);
}

static pr_status write_some(void *context)
{
    pr_output_lines *out = NULL;
    pr_status st = pr_output_lines_open("/dev/null", &out, NULL);
    pr_output_row row = {.kind = PR_OUTPUT_ERROR, .status = PR_E_INPUT, .message = context};
    for (int i = 0; i < 3 && st == PR_OK; i++) {
        row.index = (uint64_t)i;
        st = pr_output_lines_write(out, &row, NULL);
    }
    if (st == PR_OK) st = pr_output_lines_finish(out, NULL);
    pr_output_lines_close(out);
    return st;
}

static void output_lines_survive_any_failing_allocation(void **state)
{
    (void)state;
    char *message = malloc(300000); /* larger than the buffer, which has to grow for it */
    memset(message, 'x', 299999);
    message[299999] = '\0';
    pr_status wrong = PR_OK;
    long n = fault_every_allocation(write_some, message, &wrong);
    if (n < 3) fail_msg("%ld allocations, status %d", n, (int)wrong);
    free(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input_lines_survive_any_failing_allocation),
        cmocka_unit_test(output_lines_survive_any_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
