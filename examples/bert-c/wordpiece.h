/* WordPiece tokens for BERT models: text to token ids.
 *
 * Same ids and offsets as Hugging Face tokenizers with BertNormalizer, BertPreTokenizer and
 * WordPiece.  The vocabulary is a vocab.txt: one token a line, the line number from 0 is the id,
 * "##" marks a piece that continues a word.
 */
#ifndef WORDPIECE_H
#define WORDPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The special tokens that a vocabulary may have, in the order of wordpiece_vocab.special. */
enum { WORDPIECE_PAD, WORDPIECE_UNK, WORDPIECE_CLS, WORDPIECE_SEP, WORDPIECE_MASK };
#define WORDPIECE_SPECIALS 5
#define WORDPIECE_NO_ID UINT32_MAX

struct wordpiece_slot; /* one place of the hash table */

typedef struct {
  const char *text;             /* the vocabulary as given; tokens are found in it by offset */
  struct wordpiece_slot *slots;
  uint32_t mask;                /* number of slots, a power of two, minus 1 */
  uint32_t count;               /* ids run from 0 to count - 1 */
  uint32_t longest;             /* code points in the longest token, without "##" */
  uint32_t special[WORDPIECE_SPECIALS]; /* ids, WORDPIECE_NO_ID where there is none */
  /* To be set after opening: */
  bool cased;   /* capitals and accents tell words apart */
  bool literal; /* a special token spelled out in a text ("[SEP]") is text like any other, and not
                   that token, as it is in Hugging Face tokenizers (encode_special_tokens there) */
} wordpiece_vocab;

/* Reads a vocabulary out of `length` bytes at `text`, which must stay where they are.
   Returns NULL, or why it can't be used: too large, no memory, or [UNK], [CLS], [SEP] or [PAD]
   is missing. */
const char *wordpiece_open(wordpiece_vocab *vocab, const char *text, size_t length);

void wordpiece_close(wordpiece_vocab *vocab);

/* A token, and the bytes of the text that it came from.  Where canonical order moves a combining
   character that is kept (rare ones, such as tone marks of Hangul), they may be its neighbour's. */
typedef struct {
  uint32_t id, start, end;
} wordpiece_token;

/* Tokens of `length` bytes of `text`, without [CLS] and [SEP] around them.
 *
 * tokens   gets them
 * room     in tokens; with `length` or more, all fit
 *
 * Returns the number of tokens; when it is `room`, there may have been more. */
size_t wordpiece_tokens(const wordpiece_vocab *vocab, const char *text, size_t length,
                        wordpiece_token *tokens, size_t room);

#endif
