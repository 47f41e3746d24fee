/* A guest that shows what the tokenizer of examples/bert-c makes of a text: for each token its id and
 * where it starts and ends, in bytes.  Tests and benchmarks compile it; --quiet leaves the numbers
 * out. */
#include "buffer.h"
#include "rows.h"
#include "text_io.h"

const char guest_name[] = "show-tokens";
uint32_t max_tokens = 65536;
static uint32_t is_quiet;
const row_option guest_options[] = {{"--quiet", &is_quiet, 0, 0}, {NULL, NULL, 0, 0}};

bool guest_rows(const wasinn_eval_request_header *request) {
  static buffer shown;
  for (uint32_t row = 0; row < request->rows; row++) {
    row_text text;
    if (!row_read(request, row, 0, SIZE_MAX, &text)) return false;
    size_t count = is_quiet ? 0 : text.count * 3;
    float *numbers = reserve(&shown, count, sizeof *numbers);
    if (numbers == NULL) return false;
    for (size_t i = 0; i < count; i += 3) {
      numbers[i] = (float)text.tokens[i / 3].id;
      numbers[i + 1] = (float)text.tokens[i / 3].start;
      numbers[i + 2] = (float)text.tokens[i / 3].end;
    }
    if (!answer_row((row_seen){(uint32_t)text.count, false}, numbers, count, NULL, 0)) return false;
  }
  return true;
}
