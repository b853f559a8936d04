/* Preloaded into a test: the locale that PR_COMMA_LOCALE names, with decimal commas, as a program
 * has it that calls setlocale and embeds the library. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((constructor)) locale_set(void)
{
    const char *name = getenv("PR_COMMA_LOCALE");
    if (!name) return;
    if (setlocale(LC_ALL, name) && strcmp(localeconv()->decimal_point, ",") == 0) {
        setlocale(LC_MESSAGES, "C"); /* the tests know the English ones */
        return;
    }
    fprintf(stderr, "comma_locale: there is no locale %s with decimal commas\n", name);
    exit(1);
}
