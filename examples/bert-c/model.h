/* A BERT model that is asked through WASI-NN, a batch of rows at a time.
 *
 * It is the one that the host calls "model".  Inputs 0, 1, 2: input_ids, attention_mask,
 * token_type_ids, int64 [rows, width], where the width is that of the longest row.  Outputs are
 * float32, and their first dimension is [rows].
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wordpiece.h"

#define MODEL_OUTPUTS 2

/* Finds the model.  This and the others say what went wrong and return false if something did. */
bool model_open(const wordpiece_vocab *vocab);

/* Begins a batch without rows. */
void batch_begin(void);

/* Adds a row: [CLS] a [SEP], or, with `b`, [CLS] a [SEP] b [SEP], where b and the [SEP] behind it
   have type 1. */
bool batch_add(const wordpiece_token *a, size_t a_count, const wordpiece_token *b, size_t b_count);

/* How many rows there are, and how many tokens the longest has. */
size_t batch_rows(void);
size_t batch_width(void);

/* Runs the model. */
bool batch_run(void);

/* Output `index`, less than MODEL_OUTPUTS, of the last run, and how many numbers of it each row
   has.  It stays until the next time that it is asked for; NULL after saying what went wrong. */
const float *batch_output(uint32_t index, size_t *row_numbers);

#endif
