/* runtime/text/template/tests.h: the table of tests, `x is NAME`. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_TESTS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_TESTS_H

#include "runtime/text/template/functions.h"

extern const pr_function pr_tests[];
extern const size_t pr_n_tests;

#endif
