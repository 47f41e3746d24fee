/* A BERT model that is asked through WASI-NN; see model.h. */
#include "model.h"

#include "buffer.h"
#include "text_io.h"
#include "wasi_nn.h"

/* A first guess for the numbers of a row; any other costs one more call. */
#define LIKELY_NUMBERS 1024
/* An output that is larger than this is refused rather than fetched. */
#define OUTPUT_BYTES_MAX ((size_t)1 << 30)

static const char *const INPUT_NAMES[3] = {"input_ids", "attention_mask", "token_type_ids"};

typedef struct {
  size_t start; /* in the batch's ids */
  uint32_t count, first_count; /* tokens, and those of them that have type 0 */
} batch_row;

static const wordpiece_vocab *vocabulary;
static wasi_nn_context context;
static buffer ids, rows, inputs, outputs[MODEL_OUTPUTS];
static size_t id_count, row_count, width;

static bool nn_failed(const char *doing, wasi_nn_errno error) {
  return fail("%s: %s (wasi-nn error %u)", doing, wasi_nn_errno_name(error), (unsigned)error);
}

bool model_open(const wordpiece_vocab *vocab) {
  vocabulary = vocab;
  wasi_nn_graph graph;
  wasi_nn_errno error = wasi_nn_load_by_name("model", 5, &graph);
  if (error == WASI_NN_NOT_FOUND) return fail("the host has no model of the name 'model'");
  if (error) return nn_failed("loading the model", error);
  error = wasi_nn_init_execution_context(graph, &context);
  return !error || nn_failed("making an execution context", error);
}

void batch_begin(void) { id_count = row_count = width = 0; }

size_t batch_rows(void) { return row_count; }

size_t batch_width(void) { return width; }

bool batch_add(const wordpiece_token *a, size_t a_count, const wordpiece_token *b,
               size_t b_count) {
  size_t count = a_count + 2 + (b != NULL ? b_count + 1 : 0);
  uint32_t *all = reserve(&ids, id_count + count, sizeof *all);
  batch_row *row = reserve(&rows, row_count + 1, sizeof *row);
  if (all == NULL || row == NULL) return false;
  row[row_count++] = (batch_row){id_count, (uint32_t)count, (uint32_t)a_count + 2};
  uint32_t *to = all + id_count;
  *to++ = vocabulary->special[WORDPIECE_CLS];
  for (size_t i = 0; i < a_count; i++) *to++ = a[i].id;
  *to++ = vocabulary->special[WORDPIECE_SEP];
  if (b != NULL) {
    for (size_t i = 0; i < b_count; i++) *to++ = b[i].id;
    *to++ = vocabulary->special[WORDPIECE_SEP];
  }
  id_count += count;
  if (count > width) width = count;
  return true;
}

bool batch_run(void) {
  size_t cells = row_count * width;
  int64_t *all = reserve(&inputs, cells * 3, sizeof *all);
  if (all == NULL) return false;
  int64_t *to = all, *mask = all + cells, *types = mask + cells;
  int64_t pad = vocabulary->special[WORDPIECE_PAD];
  for (size_t r = 0; r < row_count; r++) {
    const batch_row *row = (const batch_row *)rows.bytes + r;
    const uint32_t *from = (const uint32_t *)ids.bytes + row->start;
    for (size_t i = 0; i < width; i++) {
      bool is_real = i < row->count;
      *to++ = is_real ? from[i] : pad;
      *mask++ = is_real;
      *types++ = is_real && i >= row->first_count;
    }
  }
  uint32_t shape[2] = {(uint32_t)row_count, (uint32_t)width};
  for (uint32_t i = 0; i < 3; i++) {
    wasi_nn_tensor tensor = {.dimensions = shape,
                             .rank = 2,
                             .type = WASI_NN_I64,
                             .data = all + i * cells,
                             .size = (uint32_t)(cells * sizeof *all)};
    wasi_nn_errno error = wasi_nn_set_input(context, i, &tensor);
    if (error) {
      return fail("setting input %u (%s) of shape [%zu, %zu]: %s (wasi-nn error %u)", (unsigned)i,
                  INPUT_NAMES[i], row_count, width, wasi_nn_errno_name(error), (unsigned)error);
    }
  }
  wasi_nn_errno error = wasi_nn_compute(context);
  if (!error) return true;
  return fail("computing rows [%zu, %zu]: %s (wasi-nn error %u); does the model take as many tokens?",
              row_count, width, wasi_nn_errno_name(error), (unsigned)error);
}

const float *batch_output(uint32_t index, size_t *row_numbers) {
  buffer *output = &outputs[index];
  size_t wanted = row_count * LIKELY_NUMBERS * sizeof(float);
  for (;;) {
    if (wanted > OUTPUT_BYTES_MAX) {
      fail("output %u is larger than %zu MiB; try smaller batches", (unsigned)index,
           OUTPUT_BYTES_MAX >> 20);
      return NULL;
    }
    if (reserve(output, wanted, 1) == NULL) return NULL;
    uint32_t written = 0;
    wasi_nn_errno error = wasi_nn_get_output(context, index, output->bytes, (uint32_t)output->room,
                                             &written);
    if (!error) {
      *row_numbers = written / (row_count * sizeof(float));
      if (*row_numbers > 0 && *row_numbers * row_count * sizeof(float) == written) {
        return output->bytes;
      }
      fail("output %u has %u bytes, which is no float32 [%zu, ...]", (unsigned)index,
           (unsigned)written, row_count);
      return NULL;
    }
    if (error != WASI_NN_TOO_LARGE) {
      fail("getting output %u: %s (wasi-nn error %u)", (unsigned)index, wasi_nn_errno_name(error),
           (unsigned)error);
      return NULL;
    }
    /* Hosts need not say how much it is. */
    wanted = written > output->room ? written : output->room * 2;
  }
}
