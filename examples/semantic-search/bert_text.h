/* Text to words, the way an uncased BERT model wants it.
 *
 * Follows Hugging Face tokenizers' BertNormalizer (clean_text, handle_chinese_chars,
 * strip_accents, lowercase) and BertPreTokenizer, code point for code point:
 *
 *   1. control, format and private-use characters, NUL and U+FFFD vanish; white space is a space
 *   2. each CJK ideograph stands alone
 *   3. canonical decomposition (NFD), then non-spacing marks are removed: "é" becomes "e"
 *   4. lower case, character by character
 *   5. words end at spaces, and each punctuation character is a word of its own
 *
 * Input is bytes, taken as UTF-8.  Each malformed sequence (its maximal subpart, as browsers and
 * Python's errors="replace" cut it) counts as U+FFFD, and so vanishes.
 *
 * No allocation, no input length limit, constant memory: words are made one at a time.
 */
#ifndef BERT_TEXT_H
#define BERT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A word of more code points than this is an unknown word, whatever it says
   (max_input_chars_per_word in the WordPiece models of Hugging Face). */
#define BERT_WORD_MAX 100

typedef struct {
  const unsigned char *at;  /* input not read yet */
  const unsigned char *end;
  uint32_t queue[6];        /* code points that are mapped but not yet part of a word */
  unsigned queued, taken;
  /* The current word, valid after bert_words_next returned true: */
  uint32_t word[BERT_WORD_MAX];
  size_t length;            /* code points in word; at most BERT_WORD_MAX */
  bool too_long;            /* there were more: word holds only the first ones */
  /* Canonical order of the combining characters at the end of word: */
  uint8_t combining[BERT_WORD_MAX];
  size_t barrier;           /* nothing moves in front of this index */
} bert_words;

/* Starts on `length` bytes at `text`, which must stay where they are. */
void bert_words_start(bert_words *words, const char *text, size_t length);

/* Makes the next word; false at the end of the text. */
bool bert_words_next(bert_words *words);

/* Writes code point `c` as UTF-8 to `out` (room for 4 bytes); returns how many bytes it took. */
size_t bert_put_utf8(uint32_t c, char *out);

#endif
