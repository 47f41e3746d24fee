/* A guest for tests of WAMR's legacy module wasi_nn. It passes numbers through to its six functions,
 * and runs one whole inference the way an application does. It uses no C library. Rebuild (from this
 * folder):
 *
 *   python -m ziglang cc --target=wasm32-freestanding -O2 -nostdlib -Wl,--no-entry \
 *     -Wl,--strip-all -mcpu=generic legacy.c -o legacy.wasm
 */
#include <stdint.h>

#define NN(name) __attribute__((import_module("wasi_nn"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

typedef struct { const uint8_t *data; uint32_t size; } part;
typedef struct { const part *parts; uint32_t count; } part_array;
typedef struct { const uint32_t *sizes; uint32_t rank; } dimensions;
typedef struct { const dimensions *dims; uint8_t type; uint8_t pad[3]; const void *data; } tensor;

NN(load) uint32_t nn_load(const part_array *, uint32_t, uint32_t, uint32_t *);
NN(load_by_name) uint32_t nn_load_by_name(const char *, uint32_t, uint32_t *);
NN(init_execution_context) uint32_t nn_init(uint32_t, uint32_t *);
NN(set_input) uint32_t nn_set_input(uint32_t, uint32_t, const tensor *);
NN(compute) uint32_t nn_compute(uint32_t);
NN(get_output) uint32_t nn_get_output(uint32_t, uint32_t, void *, uint32_t *);

/* Each call as it is: whatever numbers the host program passes. */
EXPORT(load) uint32_t load(part_array *a, uint32_t b, uint32_t c, uint32_t *d) {
    return nn_load(a, b, c, d);
}
EXPORT(load_by_name) uint32_t by_name(char *a, uint32_t b, uint32_t *c) {
    return nn_load_by_name(a, b, c);
}
EXPORT(init_execution_context) uint32_t init(uint32_t a, uint32_t *b) { return nn_init(a, b); }
EXPORT(set_input) uint32_t set_input(uint32_t a, uint32_t b, tensor *c) {
    return nn_set_input(a, b, c);
}
EXPORT(compute) uint32_t compute(uint32_t a) { return nn_compute(a); }
EXPORT(get_output) uint32_t get_output(uint32_t a, uint32_t b, void *c, uint32_t *d) {
    return nn_get_output(a, b, c, d);
}

static uint8_t arena[1 << 16];
static float input[4096];
static float output[4096];
static uint32_t context, elements;

/* Where the test puts models and records. */
EXPORT(arena) uint8_t *get_arena(void) { return arena; }
EXPORT(input) float *get_input(void) { return input; }
EXPORT(output) float *get_output_buffer(void) { return output; }
EXPORT(elements) uint32_t get_elements(void) { return elements; }

/* Loads the ONNX model in the arena and opens a context. The first error number, or 0. */
EXPORT(open_model) uint32_t open_model(uint32_t size) {
    part parts[1] = {{arena, size}};
    part_array all = {parts, 1};
    uint32_t graph = 0;
    uint32_t error = nn_load(&all, 1, 0, &graph);
    return error ? error : nn_init(graph, &context);
}

/* One inference over the input array, as f32 [rows, columns], with a buffer of some elements. */
EXPORT(infer) uint32_t infer(uint32_t rows, uint32_t columns, uint32_t room) {
    uint32_t sizes[2] = {rows, columns};
    dimensions dims = {sizes, 2};
    tensor given = {&dims, 1, {0xaa, 0xbb, 0xcc}, input};
    uint32_t error = nn_set_input(context, 0, &given);
    if (!error) error = nn_compute(context);
    elements = room;
    return error ? error : nn_get_output(context, 0, output, &elements);
}
