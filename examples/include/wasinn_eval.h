/* What `wasinn eval` asks of a guest that takes rows through its exports, version 1.
 *
 * The guest is a reactor: it exports "memory", perhaps "_initialize", and the three functions below.
 * The host calls wasinn_eval_open once, then for each batch of rows wasinn_eval_request, writes the
 * batch to where that points, and calls wasinn_eval_rows.  All numbers are little endian.
 */
#ifndef WASINN_EVAL_H
#define WASINN_EVAL_H

#include <stdint.h>

#define WASINN_EVAL_VERSION 1
#define WASINN_EVAL_EXPORT(name) __attribute__((export_name(name)))

/* What came of a row. */
enum {
  WASINN_EVAL_OK = 0,
  WASINN_EVAL_TRUNCATED = 1, /* done, but the model saw only a part of it */
  WASINN_EVAL_FAILED = 2     /* not done; its text says why */
};

/* Where a field's UTF-8 text is: bytes from the beginning of the request. */
typedef struct {
  uint32_t offset, length;
} wasinn_eval_field;

/* A batch: rows * columns fields, those of a row together. */
typedef struct {
  uint32_t rows, columns;
  wasinn_eval_field fields[];
} wasinn_eval_request_header;

/* The answer, which stays valid until the next call of any of the three.  A row has some numbers and
   some text, of which the task says what they are; they lie one row behind the other. */
typedef struct {
  uint32_t rows;           /* as many as in the request */
  const uint32_t *status;  /* [rows] WASINN_EVAL_... */
  const uint32_t *tokens;  /* [rows] tokens that the model saw; 0 where that is not known */
  const uint32_t *counts;  /* [rows] how many of the numbers are the row's */
  const float *numbers;    /* [sum of counts] */
  const uint32_t *lengths; /* [rows] bytes of the row's text */
  const char *text;        /* [sum of lengths] UTF-8 */
} wasinn_eval_answer;

#ifdef __wasm32__
_Static_assert(sizeof(wasinn_eval_answer) == 28, "the layout is part of the interface");
#endif

/* Makes the guest ready; 0, or any other number after saying on stderr why it can not be. */
WASINN_EVAL_EXPORT("wasinn_eval_open") uint32_t wasinn_eval_open(uint32_t version);

/* Room for a request of `size` bytes, at an address that 8 divides; NULL when there is none. */
WASINN_EVAL_EXPORT("wasinn_eval_request") void *wasinn_eval_request(uint32_t size);

/* Does what the request says; NULL after saying on stderr what went wrong with all of it. */
WASINN_EVAL_EXPORT("wasinn_eval_rows")
const wasinn_eval_answer *wasinn_eval_rows(const wasinn_eval_request_header *request, uint32_t size);

#endif
