/* Text classification for `wasinn eval`: one text a row, the model's logits back.
 *
 * The model is the one that the host calls "model": a BERT that puts out float32 [rows, labels].
 * Its vocabulary is /model/vocab.txt.  A row is cut to MODEL_TOKENS tokens.
 */
#include "wasinn_eval.h"

#include <stdlib.h>
#include <string.h>

#include "text_io.h"
#include "wasi_nn.h"
#include "wordpiece.h"

#define MODEL_TOKENS 256
#define LABELS_MAX 4096

static wordpiece_vocab vocab;
static wasi_nn_context context;
static wasinn_eval_answer answer;
static uint32_t labels = 2; /* a first guess */

/* Memory that is reused and grown; its contents do not survive growing. */
typedef struct {
  void *bytes;
  size_t room;
} buffer;
static buffer request, ids, inputs, status, tokens, counts, lengths, numbers;

static void *reserve(buffer *b, size_t size) {
  if (b->room < size) {
    free(b->bytes);
    b->bytes = malloc(size);
    b->room = b->bytes == NULL ? 0 : size;
    if (b->bytes == NULL) fail("no memory for a batch; try a smaller one");
  }
  return b->bytes;
}

static bool nn_failed(const char *doing, wasi_nn_errno error) {
  return fail("%s: %s (wasi-nn error %u)", doing, wasi_nn_errno_name(error), (unsigned)error);
}

uint32_t wasinn_eval_open(uint32_t version) {
  if (version != WASINN_EVAL_VERSION) return fail("the host asks for another version"), 1;
  static text words;
  if (!read_file("/model/vocab.txt", &words)) return 1;
  const char *why = wordpiece_open(&vocab, words.bytes, words.length);
  if (why != NULL) return fail("/model/vocab.txt: %s", why), 1;
  wasi_nn_graph graph;
  wasi_nn_errno error = wasi_nn_load_by_name("model", 5, &graph);
  if (error) return nn_failed("loading the model", error), 1;
  error = wasi_nn_init_execution_context(graph, &context);
  return error ? (nn_failed("making an execution context", error), 1) : 0;
}

void *wasinn_eval_request(uint32_t size) { return reserve(&request, size); }

static bool set_inputs(uint32_t rows, uint32_t width) {
  size_t cells = (size_t)rows * width;
  int64_t *in = reserve(&inputs, 3 * cells * sizeof *in);
  if (in == NULL) return false;
  const uint32_t *row_ids = ids.bytes, *row_tokens = tokens.bytes;
  int64_t pad = vocab.special[WORDPIECE_PAD];
  for (uint32_t row = 0; row < rows; row++, row_ids += MODEL_TOKENS) {
    int64_t *to = in + (size_t)row * width;
    uint32_t count = row_tokens[row];
    for (uint32_t i = 0; i < count; i++) to[i] = row_ids[i], to[cells + i] = 1;
    for (uint32_t i = count; i < width; i++) to[i] = pad, to[cells + i] = 0;
  }
  memset(in + 2 * cells, 0, cells * sizeof *in);
  uint32_t shape[2] = {rows, width};
  for (uint32_t i = 0; i < 3; i++) {
    wasi_nn_tensor tensor = {.dimensions = shape,
                             .rank = 2,
                             .type = WASI_NN_I64,
                             .data = in + i * cells,
                             .size = (uint32_t)(cells * sizeof *in)};
    wasi_nn_errno error = wasi_nn_set_input(context, i, &tensor);
    if (error) return nn_failed("setting an input", error);
  }
  return true;
}

static bool get_logits(uint32_t rows) {
  for (;;) {
    uint32_t written = 0, room = rows * labels * (uint32_t)sizeof(float);
    if (reserve(&numbers, room) == NULL) return false;
    wasi_nn_errno error = wasi_nn_get_output(context, 0, numbers.bytes, room, &written);
    if (!error) {
      if (written == 0 || written % (rows * sizeof(float)) != 0) {
        return fail("output 0 has %u bytes, which is no float32 [%u, labels]", (unsigned)written,
                    (unsigned)rows);
      }
      labels = written / (rows * (uint32_t)sizeof(float));
      return true;
    }
    if (error != WASI_NN_TOO_LARGE || labels >= LABELS_MAX) {
      return nn_failed("getting output 0", error);
    }
    labels = written > room ? written / (rows * (uint32_t)sizeof(float)) : labels * 2;
  }
}

const wasinn_eval_answer *wasinn_eval_rows(const wasinn_eval_request_header *in, uint32_t size) {
  (void)size;
  uint32_t rows = in->rows, width = 1;
  uint32_t *row_ids = reserve(&ids, (size_t)rows * MODEL_TOKENS * sizeof *row_ids);
  answer.rows = rows;
  uint32_t *row_status = reserve(&status, rows * sizeof(uint32_t));
  uint32_t *row_tokens = reserve(&tokens, rows * sizeof(uint32_t));
  uint32_t *row_counts = reserve(&counts, rows * sizeof(uint32_t));
  uint32_t *row_lengths = reserve(&lengths, rows * sizeof(uint32_t));
  if (!row_ids || !row_status || !row_tokens || !row_counts || !row_lengths) return NULL;
  if (in->columns != 1) return fail("a row has one text, got %u", (unsigned)in->columns), NULL;
  for (uint32_t row = 0; row < rows; row++) {
    wasinn_eval_field field = in->fields[row];
    uint32_t count = (uint32_t)wordpiece_encode(&vocab, (const char *)in + field.offset,
                                                field.length, row_ids + (size_t)row * MODEL_TOKENS,
                                                MODEL_TOKENS, false);
    row_tokens[row] = count;
    row_status[row] = count == MODEL_TOKENS ? WASINN_EVAL_TRUNCATED : WASINN_EVAL_OK;
    row_lengths[row] = 0;
    if (count > width) width = count;
  }
  if (!set_inputs(rows, width)) return NULL;
  wasi_nn_errno error = wasi_nn_compute(context);
  if (error) return nn_failed("computing", error), NULL;
  if (!get_logits(rows)) return NULL;
  for (uint32_t row = 0; row < rows; row++) row_counts[row] = labels;
  answer = (wasinn_eval_answer){rows,         row_status,  row_tokens, row_counts,
                                numbers.bytes, row_lengths, ""};
  return &answer;
}
