/* Text embedding for `wasinn eval`: one text a row, and its vector of length 1 back.
 *
 * The model puts out float32 [rows, dimensions]: a vector for each text, pooled, of any length.
 */
#include <math.h>

#include "buffer.h"
#include "model.h"
#include "rows.h"
#include "text_io.h"
#include "vectors.h"

const char guest_name[] = "text-embedding";
const row_option guest_options[] = {{NULL, NULL, 0, 0}};
uint32_t max_tokens = 256;

bool guest_rows(const wasinn_eval_request_header *request) {
  if (!need_columns(request, 1, 1)) return false;
  static buffer seen, scaled;
  row_seen *rows = reserve(&seen, request->rows, sizeof *rows);
  if (rows == NULL) return false;
  batch_begin();
  for (uint32_t row = 0; row < request->rows; row++) {
    if (!row_add(request, row, 1, &rows[row])) return false;
  }
  size_t width;
  const float *vectors = batch_run() ? batch_vectors(&width) : NULL;
  if (vectors == NULL) return false;
  float *vector = reserve(&scaled, width, sizeof *vector);
  if (vector == NULL) return false;
  for (uint32_t row = 0; row < request->rows; row++, vectors += width) {
    double squares = dot(vectors, vectors, width);
    /* A vector of zeros stays one. */
    double scale = squares > 0 ? 1 / sqrt(squares) : 0;
    for (size_t i = 0; i < width; i++) vector[i] = (float)(vectors[i] * scale);
    if (!answer_row(rows[row], vector, width, NULL, 0)) return false;
  }
  return true;
}
