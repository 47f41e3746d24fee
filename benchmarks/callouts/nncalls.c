/* Gives a tensor of bytes to the model "echo" and takes it back, many times. */
#include <stdint.h>

#define NN(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(#name)))
#define MOST (16 << 20)

typedef struct {
  const uint32_t *dimensions;
  uint32_t rank;
  uint8_t type;
  const void *data;
  uint32_t size;
} tensor;

NN(load_by_name) uint32_t load_by_name(const char *, uint32_t, uint32_t *);
NN(init_execution_context) uint32_t init_execution_context(uint32_t, uint32_t *);
NN(set_input) uint32_t set_input(uint32_t, uint32_t, const tensor *);
NN(compute) uint32_t compute(uint32_t);
NN(get_output) uint32_t get_output(uint32_t, uint32_t, void *, uint32_t, uint32_t *);

static uint8_t input[MOST], output[MOST];
static uint32_t context;

/* 0, or the first error number. */
__attribute__((export_name("open"))) int32_t open_model(void) {
  uint32_t graph;
  uint32_t error = load_by_name("echo", 4, &graph);
  return error ? error : init_execution_context(graph, &context);
}

/* 0, or the first error number; -1 if not all came back. */
__attribute__((export_name("run"))) int32_t run(int32_t times, int32_t bytes) {
  uint32_t shape = bytes;
  tensor given = {&shape, 1, 3, input, bytes};
  while (times-- > 0) {
    uint32_t written = 0;
    uint32_t error = set_input(context, 0, &given);
    if (!error) error = compute(context);
    if (!error) error = get_output(context, 0, output, bytes, &written);
    if (error) return error;
    if (written != (uint32_t)bytes) return -1;
  }
  return 0;
}
