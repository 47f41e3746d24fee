/* Vectors of texts, from models that pool the vectors of tokens themselves. */
#ifndef VECTORS_H
#define VECTORS_H

#include <stddef.h>

/* Output 0 of the last run as float32 [rows, dimensions]: a vector of each row.  NULL after saying
   what went wrong; that the dimensions differ from those of the run before, too, for then they are
   vectors of tokens. */
const float *batch_vectors(size_t *dimensions);

/* The sum of the products of two vectors' numbers. */
double dot(const float *a, const float *b, size_t dimensions);

#endif
