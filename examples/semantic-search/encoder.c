/* Sentence vectors through WASI-NN; see encoder.h. */
#include "encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text_io.h"

/* A first guess for the width of the hidden states; any other width costs one more call. */
#define LIKELY_HIDDEN 384
/* A batch whose answer is larger than this is refused rather than fetched. */
#define STATE_BYTES_MAX ((uint64_t)1 << 28)

static const char *const INPUT_NAMES[3] = {"input_ids", "attention_mask", "token_type_ids"};

static bool nn_failed(const encoder *e, const char *doing, wasi_nn_errno error) {
  return fail("model '%s': %s: %s (wasi-nn error %u)", e->model, doing, wasi_nn_errno_name(error),
              (unsigned)error);
}

/* A buffer with room for `count` things of `size` bytes: `old` if that has it, else a new one,
   without the contents.  NULL, after saying so, if there is no memory. */
static void *reserve(const encoder *e, void *old, size_t *room, size_t count, size_t size) {
  if (*room >= count) return old;
  free(old);
  void *buffer = count > SIZE_MAX / size ? NULL : malloc(count * size);
  *room = buffer == NULL ? 0 : count;
  if (buffer == NULL) fail("model '%s': no memory for a batch; try a smaller --batch", e->model);
  return buffer;
}

bool encoder_open(encoder *e, const char *model, uint32_t pad_id) {
  *e = (encoder){.model = model, .pad_id = pad_id};
  wasi_nn_graph graph;
  wasi_nn_errno error = wasi_nn_load_by_name(model, (uint32_t)strlen(model), &graph);
  if (error == WASI_NN_NOT_FOUND) {
    return fail("model '%s': the host has no model of this name (wasi-nn error 8)", model);
  }
  if (error) return nn_failed(e, "loading it", error);
  error = wasi_nn_init_execution_context(graph, &e->context);
  return !error || nn_failed(e, "making an execution context", error);
}

void encoder_close(encoder *e) {
  free(e->inputs);
  free(e->states);
  free(e->vectors);
}

static bool set_inputs(encoder *e, const token_row *rows, size_t count, size_t width) {
  size_t cells = count * width;
  e->inputs = reserve(e, e->inputs, &e->input_room, cells * 3, sizeof *e->inputs);
  if (e->inputs == NULL) return false;
  int64_t *ids = e->inputs, *mask = ids + cells, *types = mask + cells;
  for (size_t row = 0; row < count; row++) {
    for (size_t i = 0; i < width; i++) {
      bool real = i < rows[row].count;
      ids[row * width + i] = real ? rows[row].ids[i] : e->pad_id;
      mask[row * width + i] = real;
    }
  }
  memset(types, 0, cells * sizeof *types);

  uint32_t shape[2] = {(uint32_t)count, (uint32_t)width};
  for (uint32_t i = 0; i < 3; i++) {
    wasi_nn_tensor tensor = {
        .dimensions = shape,
        .rank = 2,
        .type = WASI_NN_I64,
        .data = e->inputs + i * cells,
        .size = (uint32_t)(cells * sizeof *e->inputs),
    };
    wasi_nn_errno error = wasi_nn_set_input(e->context, i, &tensor);
    if (error) {
      fail("input %u (%s) of shape [%zu, %zu] was refused", (unsigned)i, INPUT_NAMES[i], count,
           width);
      return nn_failed(e, "setting an input", error);
    }
  }
  return true;
}

/* Fetches output 0 whatever its width is, and learns the width from its size. */
static bool get_states(encoder *e, size_t count, size_t width) {
  size_t cells = count * width;
  uint64_t room = (uint64_t)cells * (e->hidden > 0 ? e->hidden : LIKELY_HIDDEN);
  uint32_t written;
  for (;;) {
    if (room > STATE_BYTES_MAX / sizeof(float)) {
      return fail("model '%s': its output is larger than %u MiB; try a smaller --batch", e->model,
                  (unsigned)(STATE_BYTES_MAX >> 20));
    }
    e->states = reserve(e, e->states, &e->state_room, (size_t)room, sizeof *e->states);
    if (e->states == NULL) return false;
    written = 0;
    wasi_nn_errno error = wasi_nn_get_output(e->context, 0, e->states,
                                             (uint32_t)(e->state_room * sizeof(float)), &written);
    if (!error) break;
    if (error != WASI_NN_TOO_LARGE) return nn_failed(e, "getting output 0", error);
    uint64_t needed = ((uint64_t)written + sizeof(float) - 1) / sizeof(float);
    room = needed > e->state_room ? needed : (uint64_t)e->state_room * 2;
  }
  size_t hidden = written / (cells * sizeof(float));
  if (hidden == 0 || written != hidden * cells * sizeof(float) ||
      (e->hidden > 0 && hidden != e->hidden)) {
    return fail("model '%s': output 0 has %u bytes, which is no float32 [%zu, %zu, hidden]",
                e->model, (unsigned)written, count, width);
  }
  e->hidden = hidden;
  return true;
}

/* The mean over a row's tokens, scaled to length 1. */
static bool pool(const encoder *e, const float *states, size_t tokens, float *vector) {
  memset(vector, 0, e->hidden * sizeof *vector);
  for (size_t t = 0; t < tokens; t++) {
    const float *state = states + t * e->hidden;
    for (size_t i = 0; i < e->hidden; i++) vector[i] += state[i];
  }
  double squares = 0;
  for (size_t i = 0; i < e->hidden; i++) squares += (double)vector[i] * vector[i];
  if (!isfinite(squares)) {
    return fail("model '%s': output 0 holds numbers that are not finite", e->model);
  }
  /* The division by the number of tokens cancels out; a zero vector stays one. */
  float scale = squares > 0 ? (float)(1 / sqrt(squares)) : 0;
  for (size_t i = 0; i < e->hidden; i++) vector[i] *= scale;
  return true;
}

bool encoder_run(encoder *e, const token_row *rows, size_t count) {
  size_t width = 1;
  for (size_t i = 0; i < count; i++) {
    if (rows[i].count > width) width = rows[i].count;
  }
  if (!set_inputs(e, rows, count, width)) return false;
  wasi_nn_errno error = wasi_nn_compute(e->context);
  if (error) return nn_failed(e, "computing", error);
  if (!get_states(e, count, width)) return false;
  e->vectors = reserve(e, e->vectors, &e->vector_room, count * e->hidden, sizeof *e->vectors);
  if (e->vectors == NULL) return false;
  for (size_t i = 0; i < count; i++) {
    const float *states = e->states + i * width * e->hidden;
    if (!pool(e, states, rows[i].count, e->vectors + i * e->hidden)) return false;
  }
  return true;
}
