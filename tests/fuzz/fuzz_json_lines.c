/* Any bytes as bulk input: every line becomes one item, in order, whatever is in it. The first byte
 * chooses the limit on a line's length. */
#define _GNU_SOURCE
#include "program/input_lines.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int ok)
{
    if (!ok) abort();
}

static size_t count_lines(const uint8_t *data, size_t n)
{
    size_t lines = 0;
    for (size_t i = 0; i < n; i++) lines += data[i] == '\n';
    return lines + (n > 0 && data[n - 1] != '\n');
}

static void check_item(const pr_input_item *item, size_t line_bytes_max)
{
    if (item->kind == PR_INPUT_ERROR) {
        check(item->status != PR_OK && item->message != NULL && item->message[0] != '\0');
        check(item->text == NULL && item->text_pair == NULL && item->tokens == NULL);
        check(item->messages == NULL);
        return;
    }
    check(item->status == PR_OK && item->message == NULL);
    check((item->kind == PR_INPUT_TOKENS) == (item->tokens != NULL));
    check((item->kind == PR_INPUT_PAIR) == (item->text_pair != NULL));
    check((item->kind == PR_INPUT_MESSAGES) == (item->messages != NULL));
    bool is_text = item->kind != PR_INPUT_TOKENS && item->kind != PR_INPUT_MESSAGES;
    check((item->text != NULL) == is_text);
    if (item->messages) check(item->messages[item->n_messages] == '\0');
    check(item->n_text <= line_bytes_max);
    if (item->text) check(item->text[item->n_text] == '\0');
    for (size_t i = 0; i < item->n_tokens; i++) check(item->tokens[i] >= 0);
    pr_request request = {0};
    pr_input_item_apply(item, &request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) return 0;
    size_t line_bytes_max = data[0] < 128 ? (size_t)data[0] + 1 : PR_INPUT_LINE_BYTES_MAX;
    data++;
    n--;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0 && write(fd, data, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0);
    pr_input_lines *in = NULL;
    if (pr_input_lines_create(fd, "fuzz", line_bytes_max, &in, NULL) != PR_OK) abort();
    uint64_t n_items = 0;
    for (;;) {
        pr_input_item item = {0};
        bool has_item = false;
        pr_error err = {0};
        check(pr_input_lines_next(in, &item, &has_item, &err) == PR_OK);
        if (!has_item) break;
        check(item.index == n_items++);
        check_item(&item, line_bytes_max);
        pr_input_item_deinit(&item);
    }
    check(n_items == count_lines(data, n));
    pr_input_lines_close(in);
    close(fd);
    return 0;
}
