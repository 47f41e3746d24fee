/* The application of ask.c for WAMR's legacy module wasi_nn: `load` takes one pointer to all parts,
 * a tensor's dimensions are one pointer further away, and sizes of outputs count elements of four
 * bytes. It uses no C library. How it is built: languages.py in tests/nn.
 */
#include <stdint.h>

#define NN(name) __attribute__((import_module("wasi_nn"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

enum { ONNX = 1, CPU = 0 };
enum { F32 = 1, U8 = 2, I32 = 3 };

typedef struct { const uint8_t *data; uint32_t size; } part;
typedef struct { const part *parts; uint32_t count; } part_array;
typedef struct { const uint32_t *sizes; uint32_t rank; } dimensions;
typedef struct { const dimensions *dims; uint8_t type; uint8_t pad[3]; const void *data; } tensor;

NN(load) uint32_t nn_load(const part_array *, uint32_t, uint32_t, uint32_t *);
NN(init_execution_context) uint32_t nn_init(uint32_t, uint32_t *);
NN(set_input) uint32_t nn_set_input(uint32_t, uint32_t, const tensor *);
NN(compute) uint32_t nn_compute(uint32_t);
NN(get_output) uint32_t nn_get_output(uint32_t, uint32_t, void *, uint32_t *);

static uint8_t arena[1 << 16];
static uint8_t result[4096];
static uint32_t written;
static union { float f32[64]; uint8_t u8[64]; int32_t i32[64]; } input;

EXPORT(arena) uint8_t *get_arena(void) { return arena; }
EXPORT(result) uint8_t *get_result(void) { return result; }
EXPORT(written) uint32_t get_written(void) { return written; }

/* Loads the ONNX model in the arena and runs it on 1, 2, ..., count as f32 (kind 0), u8 (kind 1) or
 * i32 (kind 2). The first error number, or 0; `written` counts elements of four bytes. */
EXPORT(ask) uint32_t ask(uint32_t model_size, uint32_t kind, uint32_t count) {
    part parts[1] = {{arena, model_size}};
    part_array all = {parts, 1};
    dimensions dims = {&count, 1};
    tensor given = {&dims, kind == 0 ? F32 : kind == 1 ? U8 : I32, {0xaa, 0xbb, 0xcc}, &input};
    uint32_t graph, context, error;
    for (uint32_t i = 0; i < count; i++) {
        if (kind == 0) input.f32[i] = (float)(i + 1);
        else if (kind == 1) input.u8[i] = (uint8_t)(i + 1);
        else input.i32[i] = (int32_t)(i + 1);
    }
    if ((error = nn_load(&all, ONNX, CPU, &graph))) return error;
    if ((error = nn_init(graph, &context))) return error;
    if ((error = nn_set_input(context, 0, &given))) return error;
    if ((error = nn_compute(context))) return error;
    written = sizeof result / 4;
    return nn_get_output(context, 0, result, &written);
}
