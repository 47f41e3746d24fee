/* What all guests share that take rows for `wasinn eval`: the exports of wasinn_eval.h, program
 * arguments, the vocabulary, texts to tokens, and the answer.
 *
 * A guest defines guest_name (text_io.h), guest_options and guest_rows.  Its options are those that
 * it names and these:
 *
 *     --max-tokens N   tokens of a row, [CLS] and [SEP] among them
 *     --cased          the model tells capitals and accents apart
 *     --literal        "[SEP]" and the like in a text are text, not special tokens
 */
#ifndef ROWS_H
#define ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wasinn_eval.h"
#include "wordpiece.h"

/* A program argument: `--name N` from low to high sets `value`; where both are 0, `--name` alone
   makes it 1. */
typedef struct {
  const char *name;
  uint32_t *value;
  uint32_t low, high;
} row_option;

/* The guest's own options; the last one has no name. */
extern const row_option guest_options[];

/* Tokens that a row may have; a guest sets what it is without --max-tokens. */
extern uint32_t max_tokens;

/* Answers a batch of one row or more with answer_row for each, in order.  False, after saying what
   went wrong with all of it; so do the others here. */
bool guest_rows(const wasinn_eval_request_header *request);

/* Whether the rows have from `least` to `most` texts. */
bool need_columns(const wasinn_eval_request_header *request, uint32_t least, uint32_t most);

/* A text and its tokens, without [CLS] and [SEP]. */
typedef struct {
  const char *text;
  size_t length;
  const wordpiece_token *tokens;
  size_t count;
} row_text;

/* Tokenizes a field of the request.
 *
 * slot   less than ROW_SLOTS; the tokens stay until another text is read into the same one
 * most   further tokens are not looked for; SIZE_MAX for all */
#define ROW_SLOTS 2
bool row_read(const wasinn_eval_request_header *request, size_t field, unsigned slot, size_t most,
              row_text *text);

/* Cuts two texts to `most` tokens together: the longer one first, then both by turns, as Hugging
   Face tokenizers do it (strategy longest_first). */
void cut_longest_first(size_t *a, size_t *b, size_t most);

/* What the model sees of a row. */
typedef struct {
  uint32_t tokens; /* with [CLS] and [SEP] */
  bool is_cut;
} row_seen;

/* Adds a row of `columns` fields, one or two, to the model's batch, cut to max_tokens. */
bool row_add(const wasinn_eval_request_header *request, size_t field, size_t columns,
             row_seen *seen);

/* Answers the next row; what is pointed to is copied. */
bool answer_row(row_seen seen, const float *numbers, size_t count, const char *text, size_t length);

/* Says of the next row that it failed, and why. */
bool answer_failed(row_seen seen, const char *why);

#endif
