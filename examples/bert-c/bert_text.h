/* Text to words, the way a BERT model wants it.
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
 * Cased models do without steps 3 and 4.
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

/* Where something came from: bytes from the beginning of the text. */
typedef struct {
  uint32_t start, end;
} bert_span;

typedef struct {
  const unsigned char *text; /* offsets count from here */
  const unsigned char *at;   /* input not read yet */
  const unsigned char *end;
  bool cased;
  uint32_t queue[6];    /* code points that are mapped but not yet part of a word */
  bert_span queue_span; /* all of them came from here */
  unsigned queued, taken;

  /* The current word, valid after bert_words_next returned true: */
  size_t length;                   /* code points, at most BERT_WORD_MAX */
  bool too_long;                   /* there were more: the word holds only the first ones */
  bert_span span;                  /* of the whole word, also of one that is too long */
  char bytes[BERT_WORD_MAX * 4];   /* UTF-8 */
  const uint16_t *edges;           /* [length + 1] where in bytes each code point begins, the end */
  const bert_span *spans;          /* [length] of each code point; NULL: a byte each, in order */

  /* Where it is when it is not plain ASCII: */
  uint32_t points[BERT_WORD_MAX];
  uint8_t combining[BERT_WORD_MAX]; /* canonical order of combining characters at the word's end */
  size_t barrier;                   /* nothing moves in front of this index */
  bert_span point_spans[BERT_WORD_MAX];
  uint16_t point_edges[BERT_WORD_MAX + 1];
} bert_words;

/* Starts on the bytes of `text` that `part` says, which must stay where they are. */
void bert_words_start(bert_words *words, const char *text, bert_span part, bool cased);

/* Makes the next word; false at the end of the text. */
bool bert_words_next(bert_words *words);

/* Where code points `first` to `last` of the current word came from. */
bert_span bert_words_span(const bert_words *words, size_t first, size_t last);

#endif
