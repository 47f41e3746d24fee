/* A guest for tests of WASI-NN. It passes numbers through to the six functions of
 * wasi_ephemeral_nn, so that a test can call them with anything, and runs one whole inference the
 * way an application does. It uses no C library. Rebuild (from this folder):
 *
 *   python -m ziglang cc --target=wasm32-freestanding -O2 -nostdlib -Wl,--no-entry \
 *     -Wl,--strip-all -mcpu=generic probe.c -o probe.wasm
 */
#include <stddef.h>
#include <stdint.h>

#define NN(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

typedef struct { const uint8_t *data; uint32_t size; } builder;
typedef struct {
    const uint32_t *dims;
    uint32_t rank;
    uint8_t type;
    uint8_t pad[3];
    const void *data;
    uint32_t size;
} tensor;

NN(load) uint32_t nn_load(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
NN(load_by_name) uint32_t nn_load_by_name(uint32_t, uint32_t, uint32_t);
NN(init_execution_context) uint32_t nn_init(uint32_t, uint32_t);
NN(set_input) uint32_t nn_set_input(uint32_t, uint32_t, uint32_t);
NN(compute) uint32_t nn_compute(uint32_t);
NN(get_output) uint32_t nn_get_output(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);

/* Each call as it is: whatever numbers the host program passes. */
EXPORT(load) uint32_t load(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e) {
    return nn_load(a, b, c, d, e);
}
EXPORT(load_by_name) uint32_t load_by_name(uint32_t a, uint32_t b, uint32_t c) {
    return nn_load_by_name(a, b, c);
}
EXPORT(init_execution_context) uint32_t init(uint32_t a, uint32_t b) { return nn_init(a, b); }
EXPORT(set_input) uint32_t set_input(uint32_t a, uint32_t b, uint32_t c) {
    return nn_set_input(a, b, c);
}
EXPORT(compute) uint32_t compute(uint32_t a) { return nn_compute(a); }
EXPORT(get_output) uint32_t get_output(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e) {
    return nn_get_output(a, b, c, d, e);
}

static uint8_t arena[1 << 20];
static float input[4096];
static float output[4096];
static uint32_t context, written;

/* Where the test puts models and records. */
EXPORT(arena) uint8_t *get_arena(void) { return arena; }
EXPORT(input) float *get_input(void) { return input; }
EXPORT(output) float *get_output_buffer(void) { return output; }
EXPORT(written) uint32_t get_written(void) { return written; }

/* Loads the ONNX model in the arena and opens a context. The first error number, or 0. */
EXPORT(open_model) uint32_t open_model(uint32_t size) {
    builder parts[1] = {{arena, size}};
    uint32_t graph = 0;
    uint32_t error = nn_load((uint32_t)(uintptr_t)parts, 1, 1, 0, (uint32_t)(uintptr_t)&graph);
    if (error == 0) error = nn_init(graph, (uint32_t)(uintptr_t)&context);
    return error;
}

/* One inference over the input array as f32 [rows, columns], repeated. */
EXPORT(infer) uint32_t infer(uint32_t rows, uint32_t columns, uint32_t times) {
    uint32_t dims[2] = {rows, columns};
    tensor given = {dims, 2, 1, {0xaa, 0xbb, 0xcc}, input, rows * columns * sizeof(float)};
    uint32_t error = 0;
    while (times-- > 0 && error == 0) {
        error = nn_set_input(context, 0, (uint32_t)(uintptr_t)&given);
        if (error == 0) error = nn_compute(context);
        if (error == 0)
            error = nn_get_output(context, 0, (uint32_t)(uintptr_t)output, sizeof output,
                                  (uint32_t)(uintptr_t)&written);
    }
    return error;
}
