/* npu-plugin: gives a row of bytes to a named model, and prints the bytes that come back.
 *
 *     npu-plugin MODEL BYTE...
 *
 * Exit status: 0; 1 when the model could not be asked; 2 for wrong use.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasi_nn.h"

#define MOST 256

static int failed(const char *doing, wasi_nn_errno error) {
  fprintf(stderr, "npu-plugin: %s: %s\n", doing, wasi_nn_errno_name(error));
  return 1;
}

int main(int argc, char **argv) {
  uint8_t input[MOST], output[MOST];
  bool asked = argc == 2 && strcmp(argv[1], "--help") == 0;
  if (argc < 3 || argc - 2 > MOST) {
    fprintf(asked ? stdout : stderr, "usage: npu-plugin MODEL BYTE... (at most %d)\n", MOST);
    return asked ? 0 : 2;
  }
  for (int i = 2; i < argc; i++) {
    char *end;
    unsigned long value = strtoul(argv[i], &end, 10);
    if (end == argv[i] || *end != 0 || value > 255) {
      fprintf(stderr, "npu-plugin: expected a number from 0 to 255, got '%s'\n", argv[i]);
      return 2;
    }
    input[i - 2] = (uint8_t)value;
  }

  wasi_nn_graph graph;
  wasi_nn_context context;
  wasi_nn_errno error = wasi_nn_load_by_name(argv[1], strlen(argv[1]), &graph);
  if (error != WASI_NN_SUCCESS) return failed(argv[1], error);
  error = wasi_nn_init_execution_context(graph, &context);
  if (error != WASI_NN_SUCCESS) return failed("init_execution_context", error);

  uint32_t size = (uint32_t)argc - 2;
  uint32_t shape[] = {1, size};
  wasi_nn_tensor tensor = {shape, 2, WASI_NN_U8, {0}, input, size};
  error = wasi_nn_set_input(context, 0, &tensor);
  if (error != WASI_NN_SUCCESS) return failed("set_input", error);
  error = wasi_nn_compute(context);
  if (error != WASI_NN_SUCCESS) return failed("compute", error);
  uint32_t written = 0;
  error = wasi_nn_get_output(context, 0, output, sizeof output, &written);
  if (error != WASI_NN_SUCCESS) return failed("get_output", error);

  for (uint32_t i = 0; i < written; i++) printf("%s%d", i > 0 ? " " : "", output[i]);
  putchar('\n');
  return 0;
}
