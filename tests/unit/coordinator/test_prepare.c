/* How a pair shares the room that there is. The expected numbers are those of the Python package
 * tokenizers 0.23.3 (truncation strategy longest_first, special tokens left out). */
#include "coordinator/model/prepare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void a_pair_is_cut_on_the_longer_side_first(void **state)
{
    (void)state;
    static const struct {
        size_t n_max, n_a, n_b, left_a, left_b;
    } cases[] = {
        {10, 3, 4, 3, 4},   {10, 5, 5, 5, 5},  {10, 20, 3, 7, 3}, {10, 3, 20, 3, 7},
        {10, 20, 20, 5, 5}, {11, 20, 20, 5, 6}, {11, 30, 20, 6, 5}, {11, 20, 30, 5, 6},
        {10, 6, 5, 5, 5},   {10, 5, 6, 5, 5},  {9, 5, 5, 4, 5},   {3, 0, 9, 0, 3},
        {1, 4, 4, 0, 1},    {1, 5, 4, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n_a = cases[i].n_a, n_b = cases[i].n_b;
        pr_truncate_pair(cases[i].n_max, &n_a, &n_b);
        assert_int_equal(n_a, cases[i].left_a);
        assert_int_equal(n_b, cases[i].left_b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_pair_is_cut_on_the_longer_side_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
