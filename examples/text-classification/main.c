/* Text classification for `wasinn eval`: one text a row, or two, and the model's logits back.
 *
 * The model puts out float32 [rows, labels].
 */
#include "buffer.h"
#include "model.h"
#include "rows.h"
#include "text_io.h"

const char guest_name[] = "text-classification";
const row_option guest_options[] = {{NULL, NULL, 0, 0}};
uint32_t max_tokens = 256;

bool guest_rows(const wasinn_eval_request_header *request) {
  if (!need_columns(request, 1, 2)) return false;
  static buffer seen;
  row_seen *rows = reserve(&seen, request->rows, sizeof *rows);
  if (rows == NULL) return false;
  batch_begin();
  for (uint32_t row = 0; row < request->rows; row++) {
    if (!row_add(request, row * request->columns, request->columns, &rows[row])) return false;
  }
  size_t labels;
  const float *logits = batch_run() ? batch_output(0, &labels) : NULL;
  if (logits == NULL) return false;
  for (uint32_t row = 0; row < request->rows; row++) {
    if (!answer_row(rows[row], logits + row * labels, labels, NULL, 0)) return false;
  }
  return true;
}
