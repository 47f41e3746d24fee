/* A guest that learns what a named model wants, and computes with tensors that it made accordingly:
 * ones of every input's type, with 2 for each size that is open. It uses no C library. Rebuild (from
 * this folder):
 *
 *   python -m ziglang cc --target=wasm32-freestanding -O2 -nostdlib -Wl,--no-entry \
 *     -Wl,--strip-all -mcpu=generic describe.c -o describe.wasm
 */
#include <stdint.h>

#define NN(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(#name)))
#define OURS(name) __attribute__((import_module("wasinn_nn"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

typedef struct {
    uint32_t *dims;
    uint32_t rank;
    uint8_t type;
    uint8_t pad[3];
    const char *name;
    uint32_t name_len;
} description;
typedef struct {
    uint32_t *dims;
    uint32_t rank;
    uint8_t type;
    uint8_t pad[3];
    const void *data;
    uint32_t size;
} tensor;

NN(load_by_name) uint32_t nn_load_by_name(const char *, uint32_t, uint32_t *);
NN(init_execution_context) uint32_t nn_init(uint32_t, uint32_t *);
NN(set_input) uint32_t nn_set_input(uint32_t, uint32_t, const tensor *);
NN(compute) uint32_t nn_compute(uint32_t);
OURS(input_count) uint32_t input_count(uint32_t, uint32_t *);
OURS(output_count) uint32_t output_count(uint32_t, uint32_t *);
OURS(describe_input)
uint32_t describe_input(uint32_t, uint32_t, description *, void *, uint32_t, uint32_t *);
OURS(describe_output)
uint32_t describe_output(uint32_t, uint32_t, description *, void *, uint32_t, uint32_t *);

static char name[64];
static uint32_t needed, graph, count, elements;
static uint32_t buffer[64];
static description told;

EXPORT(name) char *get_name(void) { return name; }
EXPORT(told) description *get_told(void) { return &told; }
EXPORT(needed) uint32_t get_needed(void) { return needed; }
EXPORT(open) uint32_t open_model(uint32_t len) { return nn_load_by_name(name, len, &graph); }

/* The number of inputs or outputs; negative for an error. */
EXPORT(count) int32_t get_count(uint32_t outputs) {
    uint32_t error = outputs ? output_count(graph, &count) : input_count(graph, &count);
    return error ? -(int32_t)error : (int32_t)count;
}

EXPORT(describe) uint32_t describe(uint32_t outputs, uint32_t index, uint32_t max) {
    return outputs ? describe_output(graph, index, &told, buffer, max, &needed)
                   : describe_input(graph, index, &told, buffer, max, &needed);
}

static const float float_ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const int64_t int_ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

EXPORT(run) uint32_t run(void) {
    uint32_t context, error, i, d;
    if ((error = nn_init(graph, &context)) || (error = input_count(graph, &count))) return error;
    for (i = 0; i < count; i++) {
        if ((error = describe_input(graph, i, &told, buffer, sizeof buffer, &needed))) return error;
        elements = 1;
        for (d = 0; d < told.rank; d++) {
            if (told.dims[d] == 0xffffffff) told.dims[d] = 2;
            elements *= told.dims[d];
        }
        if (elements > 16 || (told.type != 1 && told.type != 5)) return 1000 + told.type;
        tensor t = {told.dims, told.rank, told.type, {0}, float_ones, 4 * elements};
        if (told.type == 5) { t.data = int_ones; t.size = 8 * elements; }
        if ((error = nn_set_input(context, i, &t))) return error;
    }
    return nn_compute(context);
}
