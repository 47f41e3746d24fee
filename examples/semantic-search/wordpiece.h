/* WordPiece tokens for BERT models: text to token ids.
 *
 * Same ids as Hugging Face tokenizers with BertNormalizer (uncased), BertPreTokenizer, WordPiece
 * and the template [CLS] text [SEP].  The vocabulary is a vocab.txt: one token a line, the line
 * number from 0 is the id, "##" marks a piece that continues a word.
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
} wordpiece_vocab;

/* Reads a vocabulary out of `length` bytes at `text`, which must stay where they are.
   Returns NULL, or why it can't be used: too large, no memory, or [UNK], [CLS], [SEP] or [PAD]
   is missing. */
const char *wordpiece_open(wordpiece_vocab *vocab, const char *text, size_t length);

void wordpiece_close(wordpiece_vocab *vocab);

/* Tokens of `length` bytes of `text`: [CLS], then as many as fit, then [SEP].
 *
 * ids      gets the token ids
 * limit    room in ids, 2 or more; what does not fit is cut off in front of [SEP]
 * literal  false: a special token spelled out in the text ("[SEP]") is that token, as in Hugging
 *          Face tokenizers; true: it is text like any other (encode_special_tokens there)
 *
 * Returns the number of ids, from 2 to limit. */
size_t wordpiece_encode(const wordpiece_vocab *vocab, const char *text, size_t length,
                        uint32_t *ids, size_t limit, bool literal);

#endif
