/* Sentence vectors from a BERT-style encoder, asked through WASI-NN. */
#ifndef ENCODER_H
#define ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wasi_nn.h"

/* Token ids of one text. */
typedef struct {
  uint32_t *ids;
  size_t count;
} token_row;

/* A model and the buffers for its tensors.
   Inputs 0, 1, 2: input_ids, attention_mask, token_type_ids, int64 [rows, width].
   Output 0: the last hidden state, float32 [rows, width, hidden]. */
typedef struct {
  const char *model;
  wasi_nn_context context;
  uint32_t pad_id;
  size_t hidden;    /* numbers in a vector; 0 before the first run */
  int64_t *inputs;  /* the three of them, one behind the other */
  size_t input_room;
  float *states;    /* output 0 */
  size_t state_room;
  float *vectors;   /* [rows, hidden], of the last run */
  size_t vector_room;
} encoder;

/* Finds the model that the host knows by this name. */
bool encoder_open(encoder *encoder, const char *model, uint32_t pad_id);

/* Makes the vectors of `count` rows in one batch, padded to the longest: the mean of the hidden
   states of a row's tokens, scaled to length 1.  They are in encoder->vectors until the next call.
   Says what went wrong and returns false if it did. */
bool encoder_run(encoder *encoder, const token_row *rows, size_t count);

void encoder_close(encoder *encoder);

#endif
