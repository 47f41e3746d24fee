/* Labels of words for `wasinn eval`: one text a row, its words with a space between two of them, and
 * for each word the index of its label back.
 *
 * The model puts out float32 [rows, tokens, labels].  A word's label is that of its first token.
 */
#include <math.h>
#include <string.h>

#include "buffer.h"
#include "model.h"
#include "rows.h"
#include "text_io.h"

const char guest_name[] = "token-classification";
uint32_t max_tokens = 256;

/* The label of words without tokens, such as those of control characters only. */
static uint32_t outside = 0;

const row_option guest_options[] = {{"--outside", &outside, 0, 65535}, {NULL, NULL, 0, 0}};

/* A row, and where the places of its words begin. */
typedef struct {
  row_seen seen;
  size_t first, count;
} labelled_row;

#define NO_PLACE UINT32_MAX
static buffer rows, places;
static size_t place_count;

/* Finds each word's first token: its place in the row, with [CLS] at 0; NO_PLACE where a word has
   none.  Words that begin where the row is cut, and those behind them, are left out.  False when
   there is no memory. */
static bool place_words(const row_text *text, size_t fitting) {
  size_t token = 0;
  for (size_t start = 0; start <= text->length && text->length > 0;) {
    const char *space = memchr(text->text + start, ' ', text->length - start);
    size_t end = space != NULL ? (size_t)(space - text->text) : text->length;
    while (token < text->count && text->tokens[token].start < start) token++;
    bool has_token = token < text->count && text->tokens[token].start < end;
    if (token >= fitting && fitting < text->count) return true;
    uint32_t *all = reserve(&places, place_count + 1, sizeof *all);
    if (all == NULL) return false;
    all[place_count++] = has_token ? (uint32_t)token + 1 : NO_PLACE;
    start = end + 1;
  }
  return true;
}

static bool add_row(const wasinn_eval_request_header *request, uint32_t number,
                    labelled_row *row) {
  row_text text;
  size_t room = max_tokens - 2;
  if (!row_read(request, number, 0, room + 1, &text)) return false;
  size_t fitting = text.count < room ? text.count : room;
  row->seen = (row_seen){(uint32_t)fitting + 2, text.count > room};
  row->first = place_count;
  if (!place_words(&text, fitting)) return false;
  row->count = place_count - row->first;
  return batch_add(text.tokens, fitting, NULL, 0);
}

/* The index of the greatest of a token's logits; -1 when they are not finite. */
static float best(const float *logits, size_t labels) {
  size_t at = 0;
  for (size_t i = 0; i < labels; i++) {
    if (!isfinite(logits[i])) return -1;
    if (logits[i] > logits[at]) at = i;
  }
  return (float)at;
}

static bool answer_labels(const labelled_row *row, const float *logits, size_t labels) {
  static buffer found;
  float *indices = reserve(&found, row->count, sizeof *indices);
  if (indices == NULL) return false;
  for (size_t word = 0; word < row->count; word++) {
    uint32_t place = ((const uint32_t *)places.bytes)[row->first + word];
    indices[word] = place == NO_PLACE ? (float)outside : best(logits + place * labels, labels);
    if (indices[word] < 0) return answer_failed(row->seen, "the model's logits are not finite");
  }
  return answer_row(row->seen, indices, row->count, NULL, 0);
}

bool guest_rows(const wasinn_eval_request_header *request) {
  if (!need_columns(request, 1, 1)) return false;
  labelled_row *all = reserve(&rows, request->rows, sizeof *all);
  if (all == NULL) return false;
  place_count = 0;
  batch_begin();
  for (uint32_t i = 0; i < request->rows; i++) {
    if (!add_row(request, i, &all[i])) return false;
  }
  size_t row_numbers;
  const float *logits = batch_run() ? batch_output(0, &row_numbers) : NULL;
  if (logits == NULL) return false;
  size_t labels = row_numbers / batch_width();
  if (labels * batch_width() != row_numbers) {
    return fail("output 0 has %zu numbers a row: it must be [rows, %zu, labels]", row_numbers,
                batch_width());
  }
  for (uint32_t i = 0; i < request->rows; i++, logits += row_numbers) {
    if (!answer_labels(&all[i], logits, labels)) return false;
  }
  return true;
}
