/* Vectors of texts; see vectors.h. */
#include "vectors.h"

#include "model.h"
#include "text_io.h"

const float *batch_vectors(size_t *dimensions) {
  static size_t before;
  const float *vectors = batch_output(0, dimensions);
  if (vectors == NULL) return NULL;
  if (before != 0 && before != *dimensions) {
    fail("output 0 has %zu numbers a row, before it had %zu: it must be [rows, dimensions], one "
         "vector a text",
         *dimensions, before);
    return NULL;
  }
  before = *dimensions;
  return vectors;
}

double dot(const float *a, const float *b, size_t dimensions) {
  double sum = 0;
  for (size_t i = 0; i < dimensions; i++) sum += (double)a[i] * b[i];
  return sum;
}
