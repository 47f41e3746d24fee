/* Memory that is reused and grown; see buffer.h. */
#include "buffer.h"

#include <stdint.h>
#include <stdlib.h>

#include "text_io.h"

void *reserve(buffer *b, size_t count, size_t size) {
  if (b->bytes != NULL && count <= b->room / size) return b->bytes;
  size_t wanted = count > SIZE_MAX / size ? SIZE_MAX : count * size;
  /* Doubled, so that what grows row by row is not copied for each. */
  if (wanted < b->room * 2 && b->room <= SIZE_MAX / 2) wanted = b->room * 2;
  if (wanted < 64) wanted = 64;
  void *grown = wanted == SIZE_MAX ? NULL : realloc(b->bytes, wanted);
  if (grown == NULL) {
    fail("no memory for %zu bytes; try smaller batches", wanted);
    return NULL;
  }
  b->bytes = grown;
  b->room = wanted;
  return grown;
}
