/* runtime/text/unicode/unicode.h: properties of characters, each as the part of Hugging Face
 * `tokenizers` that uses it sees it.
 *
 * That library mixes several versions of Unicode (Rust's own tables, crates of different age,
 * Oniguruma); where they disagree, the functions here say whose view they give. Pure functions on
 * constant tables, any thread. A character is a code point from 0 to U+10FFFF. */
#ifndef POOLRANK_RUNTIME_TEXT_UNICODE_UNICODE_H
#define POOLRANK_RUNTIME_TEXT_UNICODE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rust's char::is_whitespace: Unicode White_Space. */
bool pr_char_is_whitespace(uint32_t c);
/* Rust's char::is_numeric: Nd, Nl, No. */
bool pr_char_is_numeric(uint32_t c);
/* BertNormalizer's control characters: Cc, Cf, Cn, Co, without tab, line feed, carriage return. */
bool pr_char_is_bert_control(uint32_t c);
/* BertNormalizer's ideographs: the eight CJK blocks that BERT puts spaces around. */
bool pr_char_is_cjk(uint32_t c);
/* BertPreTokenizer's and Punctuation's: ASCII punctuation and symbols, or general category P*. */
bool pr_char_is_punctuation(uint32_t c);
/* Mn, for BertNormalizer's strip_accents. */
bool pr_char_is_mark_nonspacing(uint32_t c);
/* Mn, Mc, Me, for StripAccents. */
bool pr_char_is_mark(uint32_t c);
/* \w of the Whitespace pre-tokenizer. */
bool pr_char_is_word(uint32_t c);

/* Rust's char::to_lowercase: writes 1 or 2 characters ("İ" gives two) and returns how many. */
size_t pr_char_lower(uint32_t c, uint32_t out[2]);

/* GPT-2's bytes_to_unicode: each byte as a printable character, U+0021 to U+0143. */
uint32_t pr_byte_to_char(uint8_t byte);

/* The byte that a character stands for, -1 when it stands for none. */
int pr_byte_of_char(uint32_t c);

#endif
