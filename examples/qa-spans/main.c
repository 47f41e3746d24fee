/* Answers to questions for `wasinn eval`: a question and a context a row, and back the part of the
 * context that answers it, with its score.
 *
 * The model puts out two float32 [rows, tokens]: how well an answer starts and ends at each token.  A
 * row [CLS] question [SEP] context [SEP] that is longer than --max-tokens becomes several windows of
 * the context, each --stride tokens behind the one before.  The answer is the span of at most
 * --max-answer tokens with the greatest start + end, over all windows.  With --empty it is empty,
 * for "no answer", where [CLS] is better in one window.
 *
 * Source: Devlin et al., BERT, 2018, section 4.2, and its run_squad.py, whose numbers these are.
 */
#include <math.h>

#include "buffer.h"
#include "model.h"
#include "rows.h"
#include "text_io.h"

const char guest_name[] = "qa-spans";
uint32_t max_tokens = 384;

static uint32_t stride = 128, max_answer = 30, max_question = 64, may_be_empty = 0;

const row_option guest_options[] = {{"--stride", &stride, 1, 65536},
                                    {"--max-answer", &max_answer, 1, 65536},
                                    {"--max-question", &max_question, 1, 65536},
                                    {"--empty", &may_be_empty, 0, 0},
                                    {NULL, NULL, 0, 0}};

/* More windows than these are not given to the model at once. */
#define WINDOWS_MOST 32

typedef struct {
  const char *context;
  row_seen seen;
  bool has_span;
  float score; /* of the best span */
  uint32_t start, end; /* of it, in bytes of the context */
  float empty_score;   /* of [CLS] where it is lowest, as in run_squad.py */
} question;

/* What is needed of a window once the model has run. */
typedef struct {
  uint32_t row;
  uint32_t place;      /* of its first context token in the model's row */
  size_t first, count; /* its tokens, in `tokens` */
} window;

static buffer questions, tokens;
static size_t token_count;
static window windows[WINDOWS_MOST];

/* Looks for the best span of a window. */
static void look(question *row, const window *at, const float *starts, const float *ends) {
  float empty = starts[0] + ends[0];
  if (empty < row->empty_score) row->empty_score = empty;
  const wordpiece_token *context = (const wordpiece_token *)tokens.bytes + at->first;
  for (size_t i = 0; i < at->count; i++) {
    size_t stop = at->count - i < max_answer ? at->count : i + max_answer;
    for (size_t j = i; j < stop; j++) {
      float score = starts[at->place + i] + ends[at->place + j];
      if (row->has_span ? !(score > row->score) : !isfinite(score)) continue;
      row->has_span = true;
      row->score = score;
      row->start = context[i].start;
      row->end = context[j].end;
    }
  }
}

/* Runs the model on the windows that there are. */
static bool run_windows(void) {
  size_t count = batch_rows(), start_numbers, end_numbers;
  if (count == 0) return true;
  if (!batch_run()) return false;
  const float *starts = batch_output(0, &start_numbers);
  const float *ends = starts != NULL ? batch_output(1, &end_numbers) : NULL;
  if (ends == NULL) return false;
  size_t width = batch_width();
  if (start_numbers != width || end_numbers != width) {
    return fail("outputs 0 and 1 have %zu and %zu numbers a row: each must be [rows, %zu]",
                start_numbers, end_numbers, width);
  }
  for (size_t i = 0; i < count; i++) {
    question *row = (question *)questions.bytes + windows[i].row;
    look(row, &windows[i], starts + i * width, ends + i * width);
  }
  batch_begin();
  return true;
}

/* Adds the windows of a row; runs the model when there are enough. */
static bool add_row(const wasinn_eval_request_header *request, uint32_t number) {
  row_text asked, context;
  size_t most = max_question < max_tokens - 4 ? max_question : max_tokens - 4;
  if (!row_read(request, (size_t)number * 2, 0, most + 1, &asked)) return false;
  if (!row_read(request, (size_t)number * 2 + 1, 1, SIZE_MAX, &context)) return false;
  size_t asked_count = asked.count < most ? asked.count : most;
  size_t room = max_tokens - 3 - asked_count;
  question *row = (question *)questions.bytes + number;
  *row = (question){.context = context.text,
                    .seen = {(uint32_t)(3 + asked_count + context.count), asked.count > most},
                    .empty_score = INFINITY};
  size_t first = token_count;
  wordpiece_token *kept = reserve(&tokens, token_count + context.count, sizeof *kept);
  if (kept == NULL) return false;
  for (size_t i = 0; i < context.count; i++) kept[token_count++] = context.tokens[i];

  size_t step = stride < room ? stride : room;
  for (size_t start = 0;; start += step) {
    size_t left = context.count - start, count = left < room ? left : room;
    windows[batch_rows()] = (window){number, (uint32_t)asked_count + 2, first + start, count};
    if (!batch_add(asked.tokens, asked_count, context.tokens + start, count)) return false;
    if (batch_rows() == WINDOWS_MOST && !run_windows()) return false;
    if (count == left) return true;
  }
}

bool guest_rows(const wasinn_eval_request_header *request) {
  if (!need_columns(request, 2, 2)) return false;
  question *all = reserve(&questions, request->rows, sizeof *all);
  if (all == NULL) return false;
  token_count = 0;
  batch_begin();
  for (uint32_t i = 0; i < request->rows; i++) {
    if (!add_row(request, i)) return false;
  }
  if (!run_windows()) return false;
  for (const question *row = all; row < all + request->rows; row++) {
    /* A context without tokens has no span. */
    bool is_empty = !row->has_span || (may_be_empty && row->empty_score > row->score);
    float score = is_empty ? row->empty_score : row->score;
    size_t length = is_empty ? 0 : row->end - row->start;
    bool is_done = isfinite(score)
                       ? answer_row(row->seen, &score, 1, row->context + row->start, length)
                       : answer_failed(row->seen, "the model's logits are not finite");
    if (!is_done) return false;
  }
  return true;
}
