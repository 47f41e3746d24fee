/* Memory that is reused and grown. */
#ifndef BUFFER_H
#define BUFFER_H

#include <stddef.h>

/* Start with zeros. */
typedef struct {
  void *bytes;
  size_t room;
} buffer;

/* Makes room for `count` things of `size` bytes and returns where they are; what is there stays, but
   may move.  NULL, after saying so, when there is no memory. */
void *reserve(buffer *b, size_t count, size_t size);

#endif
