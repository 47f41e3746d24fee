/* An application in C for tests of WASI-NN: it loads a model, asks it once, and keeps the answer.
 * The Rust and AssemblyScript files beside it do the same. It speaks wasi_ephemeral_nn;
 * -DOLD_TYPES makes it number element types as it was before f64 came in, -DWASMEDGE makes it use
 * what WasmEdge adds. It uses no C library. How it is built: languages.py in tests/nn.
 */
#include "wasi_nn.h"

#define EXPORT(name) __attribute__((export_name(#name)))

#ifdef OLD_TYPES
enum { F32 = 1, U8 = 2, I32 = 3 };
#else
enum { F32 = WASI_NN_F32, U8 = WASI_NN_U8, I32 = WASI_NN_I32 };
#endif

static uint8_t arena[1 << 16];
static uint8_t result[4096];
static uint32_t written;
static union { float f32[64]; uint8_t u8[64]; int32_t i32[64]; } input;

/* Where the test puts what it gives, and finds what it gets. */
EXPORT(arena) uint8_t *get_arena(void) { return arena; }
EXPORT(result) uint8_t *get_result(void) { return result; }
EXPORT(written) uint32_t get_written(void) { return written; }

/* The numbers 1, 2, ..., count as f32 (kind 0), u8 (kind 1) or i32 (kind 2). */
static wasi_nn_tensor numbers(uint32_t kind, const uint32_t *count) {
    uint8_t type = kind == 0 ? F32 : kind == 1 ? U8 : I32;
    for (uint32_t i = 0; i < *count; i++) {
        if (kind == 0) input.f32[i] = (float)(i + 1);
        else if (kind == 1) input.u8[i] = (uint8_t)(i + 1);
        else input.i32[i] = (int32_t)(i + 1);
    }
    wasi_nn_tensor tensor = {count, 1, type, {0xaa, 0xbb, 0xcc}, &input,
                             kind == 1 ? *count : 4 * *count};
    return tensor;
}

/* Loads the ONNX model in the arena and runs it on one vector. The first error number, or 0. */
EXPORT(ask) uint32_t ask(uint32_t model_size, uint32_t kind, uint32_t count) {
    wasi_nn_part part = {arena, model_size};
    wasi_nn_tensor tensor = numbers(kind, &count);
    wasi_nn_graph graph;
    wasi_nn_context context;
    wasi_nn_errno error;
    if ((error = wasi_nn_load(&part, 1, WASI_NN_ONNX, WASI_NN_CPU, &graph))) return error;
    if ((error = wasi_nn_init_execution_context(graph, &context))) return error;
#ifdef WASMEDGE
    if ((error = wasi_nn_unload(graph))) return error; /* the context keeps it */
#endif
    if ((error = wasi_nn_set_input(context, 0, &tensor))) return error;
    if ((error = wasi_nn_compute(context))) return error;
    if ((error = wasi_nn_get_output(context, 0, result, sizeof result, &written))) return error;
#ifdef WASMEDGE
    if ((error = wasi_nn_finalize_execution_context(context))) return error;
#endif
    return 0;
}

#ifdef WASMEDGE
/* Name, configuration and prompt lie in the arena, one after the other. Completes the prompt piece
 * by piece; what ended the text, or the first error. */
EXPORT(complete)
uint32_t complete(uint32_t name_size, uint32_t config_size, uint32_t prompt_size) {
    uint8_t *config = arena + name_size;
    uint32_t one = 1, size = 0;
    wasi_nn_tensor prompt = {&one, 1, U8, {7, 7, 7}, config + config_size, prompt_size};
    wasi_nn_graph graph;
    wasi_nn_context context;
    wasi_nn_errno error, ended;
    written = 0;
    if ((error = wasi_nn_load_by_name_with_config((char *)arena, name_size, config, config_size,
                                                  &graph)))
        return error;
    if ((error = wasi_nn_init_execution_context(graph, &context))) return error;
    if ((error = wasi_nn_set_input(context, 0, &prompt))) return error;
    while (!(ended = wasi_nn_compute_single(context))) {
        if ((error = wasi_nn_get_output_single(context, 0, result + written,
                                               sizeof result - written, &size)))
            return error;
        written += size;
    }
    if ((error = wasi_nn_fini_single(context))) return error;
    if ((error = wasi_nn_finalize_execution_context(context))) return error;
    if ((error = wasi_nn_unload(graph))) return error;
    return ended;
}
#endif
