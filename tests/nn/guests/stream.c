/* A guest for tests of what WasmEdge adds to wasi_ephemeral_nn. It passes numbers through to those
 * six functions, and completes a prompt piece by piece the way an application does. It uses no C
 * library. Rebuild (from this folder):
 *
 *   python -m ziglang cc --target=wasm32-freestanding -O2 -nostdlib -Wl,--no-entry \
 *     -Wl,--strip-all -mcpu=generic -I ../../../examples/include stream.c -o stream.wasm
 */
#include "wasi_nn.h"

#define EXPORT(name) __attribute__((export_name(#name)))

static uint8_t arena[1 << 16];
static uint8_t text[256];
static uint32_t text_size;

EXPORT(arena) uint8_t *get_arena(void) { return arena; }
EXPORT(text) uint8_t *get_text(void) { return text; }
EXPORT(text_size) uint32_t get_text_size(void) { return text_size; }

/* Each call as it is: whatever numbers the host program passes. */
EXPORT(load_by_name_with_config)
uint32_t load(char *name, uint32_t size, void *config, uint32_t config_size, uint32_t *graph) {
    return wasi_nn_load_by_name_with_config(name, size, config, config_size, graph);
}
EXPORT(init_execution_context) uint32_t init(uint32_t graph, uint32_t *context) {
    return wasi_nn_init_execution_context(graph, context);
}
EXPORT(compute_single) uint32_t compute(uint32_t context) {
    return wasi_nn_compute_single(context);
}
EXPORT(get_output_single)
uint32_t output(uint32_t context, uint32_t index, void *out, uint32_t size, uint32_t *written) {
    return wasi_nn_get_output_single(context, index, out, size, written);
}
EXPORT(fini_single) uint32_t fini(uint32_t context) { return wasi_nn_fini_single(context); }
EXPORT(unload) uint32_t unload(uint32_t graph) { return wasi_nn_unload(graph); }
EXPORT(finalize_execution_context) uint32_t finalize(uint32_t context) {
    return wasi_nn_finalize_execution_context(context);
}

/* The name, the configuration and the prompt lie in the arena, one after the other. Gives what
 * ended the text, 100 if it is whole, or the first error. The graph is unloaded early: its context
 * keeps it. */
EXPORT(complete)
uint32_t complete(uint32_t name_size, uint32_t config_size, uint32_t prompt_size) {
    uint8_t *config = arena + name_size;
    uint32_t one = 1, written = 0;
    wasi_nn_graph graph;
    wasi_nn_context context;
    wasi_nn_tensor prompt = {&one, 1, WASI_NN_U8, {7, 7, 7}, config + config_size, prompt_size};
    uint32_t error = wasi_nn_load_by_name_with_config((char *)arena, name_size, config,
                                                      config_size, &graph);
    if (error) return error;
    if ((error = wasi_nn_init_execution_context(graph, &context))) return error;
    if ((error = wasi_nn_unload(graph))) return error;
    if ((error = wasi_nn_set_input(context, 0, &prompt))) return error;
    text_size = 0;
    while (!(error = wasi_nn_compute_single(context))) {
        if ((error = wasi_nn_get_output_single(context, 0, text + text_size,
                                               sizeof text - text_size, &written)))
            return error;
        text_size += written;
    }
    uint32_t ended = wasi_nn_fini_single(context);
    if (!ended) ended = wasi_nn_finalize_execution_context(context);
    return ended ? ended : error;
}
