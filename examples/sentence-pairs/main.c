/* Similarity of two texts for `wasinn eval`: the cosine of their vectors is the row's number.
 *
 * The model puts out float32 [rows, dimensions]: a vector for each text, pooled, of any length.
 */
#include <math.h>

#include "buffer.h"
#include "model.h"
#include "rows.h"
#include "text_io.h"
#include "vectors.h"

const char guest_name[] = "sentence-pairs";
const row_option guest_options[] = {{NULL, NULL, 0, 0}};
uint32_t max_tokens = 256;

bool guest_rows(const wasinn_eval_request_header *request) {
  if (!need_columns(request, 2, 2)) return false;
  static buffer seen;
  size_t texts = (size_t)request->rows * 2;
  row_seen *all = reserve(&seen, texts, sizeof *all);
  if (all == NULL) return false;
  batch_begin();
  for (size_t i = 0; i < texts; i++) {
    if (!row_add(request, i, 1, &all[i])) return false;
  }
  size_t width;
  const float *a = batch_run() ? batch_vectors(&width) : NULL;
  if (a == NULL) return false;
  for (size_t i = 0; i < texts; i += 2, a += 2 * width) {
    const float *b = a + width;
    double lengths = sqrt(dot(a, a, width)) * sqrt(dot(b, b, width));
    /* A vector of zeros is like no other. */
    float score = lengths > 0 ? (float)(dot(a, b, width) / lengths) : 0;
    row_seen both = {all[i].tokens + all[i + 1].tokens, all[i].is_cut || all[i + 1].is_cut};
    if (!answer_row(both, &score, 1, NULL, 0)) return false;
  }
  return true;
}
