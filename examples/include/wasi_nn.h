/* WASI-NN for C guests: the module "wasi_ephemeral_nn".
 *
 * Six imported functions, the numbers they use, and the two structures they read from the guest's
 * memory, as wasi-nn.witx defines them; and six more that WasmEdge added.  A guest imports those it
 * calls, so one that calls none of the latter runs on hosts without them.  Header only; nothing to link.  Works with any compiler
 * for wasm32 that knows clang's import attributes, for example
 *
 *     python -m ziglang cc -target wasm32-wasi -O2 -I include app.c -o app.wasm
 *
 * One inference:
 *
 *     wasi_nn_graph graph;
 *     wasi_nn_context context;
 *     wasi_nn_load_by_name("minilm", 6, &graph);
 *     wasi_nn_init_execution_context(graph, &context);
 *     uint32_t shape[] = {1, 16};
 *     wasi_nn_tensor input = {shape, 2, WASI_NN_I64, {0}, ids, sizeof ids};
 *     wasi_nn_set_input(context, 0, &input);
 *     wasi_nn_compute(context);
 *     wasi_nn_get_output(context, 0, buffer, sizeof buffer, &written);
 *
 * Every function returns a wasi_nn_errno; 0 is success.  What a function hands back besides goes
 * through its last pointer, which is only written on success unless said otherwise.  The host
 * reads and writes the memory that the guest exports as "memory".
 */
#ifndef WASI_NN_H
#define WASI_NN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Handles.  Any value may be a valid one, 0 too; graphs and contexts are counted apart. */
typedef uint32_t wasi_nn_graph;
typedef uint32_t wasi_nn_context;

/* What a function returns. */
typedef uint32_t wasi_nn_errno;
enum {
  WASI_NN_SUCCESS = 0,
  WASI_NN_INVALID_ARGUMENT = 1,      /* a pointer, index, handle, type or shape is wrong */
  WASI_NN_INVALID_ENCODING = 2,      /* the model is not what its encoding says */
  WASI_NN_MISSING_MEMORY = 3,        /* the guest exports no memory, or the host ran out of it */
  WASI_NN_BUSY = 4,                  /* the context is computing for another thread */
  WASI_NN_RUNTIME_ERROR = 5,         /* the backend failed */
  WASI_NN_UNSUPPORTED_OPERATION = 6, /* no backend offers this encoding, target or call */
  WASI_NN_TOO_LARGE = 7,             /* the output does not fit the buffer, or a limit is hit */
  WASI_NN_NOT_FOUND = 8,             /* no model of this name */
  /* Beyond the witx file: */
  WASI_NN_END_OF_SEQUENCE = 100, /* compute_single: there is no further piece */
  WASI_NN_CONTEXT_FULL = 101,
  WASI_NN_PROMPT_TOO_LONG = 102,
  WASI_NN_MODEL_NOT_FOUND = 103 /* the host knows the name, but the model's file is missing */
};

/* Element type of a tensor: one byte in wasi_nn_tensor. */
enum {
  WASI_NN_F16 = 0,
  WASI_NN_F32 = 1,
  WASI_NN_F64 = 2,
  WASI_NN_U8 = 3,
  WASI_NN_I32 = 4,
  WASI_NN_I64 = 5
};

/* How a model is written down. */
typedef uint32_t wasi_nn_encoding;
enum {
  WASI_NN_OPENVINO = 0, /* two parts: the XML, then the weights */
  WASI_NN_ONNX = 1,
  WASI_NN_TENSORFLOW = 2,
  WASI_NN_PYTORCH = 3,
  WASI_NN_TENSORFLOWLITE = 4,
  WASI_NN_AUTODETECT = 5
};

/* Where it shall run. */
typedef uint32_t wasi_nn_target;
enum { WASI_NN_CPU = 0, WASI_NN_GPU = 1, WASI_NN_TPU = 2 };

/* One part of a model: most encodings have one, OpenVINO two.  8 bytes. */
typedef struct {
  const uint8_t *data;
  uint32_t size; /* bytes */
} wasi_nn_part;

/* An input: 20 bytes, row-major data of prod(dimensions) elements, little endian. */
typedef struct {
  const uint32_t *dimensions;
  uint32_t rank;       /* number of dimensions */
  uint8_t type;        /* WASI_NN_F16 ... WASI_NN_I64 */
  uint8_t reserved[3]; /* not read */
  const void *data;
  uint32_t size; /* bytes */
} wasi_nn_tensor;

#ifdef __wasm32__
#ifdef __cplusplus
static_assert(sizeof(wasi_nn_part) == 8, "the layout is part of the interface");
static_assert(sizeof(wasi_nn_tensor) == 20, "the layout is part of the interface");
#else
_Static_assert(sizeof(wasi_nn_part) == 8, "the layout is part of the interface");
_Static_assert(sizeof(wasi_nn_tensor) == 20, "the layout is part of the interface");
#endif
#endif

#define WASI_NN_IMPORT(name) \
  __attribute__((import_module("wasi_ephemeral_nn"), import_name(name)))

/* Loads a model that the guest carries itself, from `count` parts. */
WASI_NN_IMPORT("load")
wasi_nn_errno wasi_nn_load(const wasi_nn_part *parts, uint32_t count, wasi_nn_encoding encoding,
                           wasi_nn_target target, wasi_nn_graph *graph);

/* Finds a model that the host has ready, by its name: `length` bytes of UTF-8, no NUL needed. */
WASI_NN_IMPORT("load_by_name")
wasi_nn_errno wasi_nn_load_by_name(const char *name, uint32_t length, wasi_nn_graph *graph);

/* A context holds the inputs and outputs of one inference; a graph may have many. */
WASI_NN_IMPORT("init_execution_context")
wasi_nn_errno wasi_nn_init_execution_context(wasi_nn_graph graph, wasi_nn_context *context);

/* Sets input `index`.  The host copies: the tensor may be reused as soon as this returns. */
WASI_NN_IMPORT("set_input")
wasi_nn_errno wasi_nn_set_input(wasi_nn_context context, uint32_t index,
                                const wasi_nn_tensor *tensor);

/* Runs the model on the inputs. */
WASI_NN_IMPORT("compute")
wasi_nn_errno wasi_nn_compute(wasi_nn_context context);

/* Copies output `index` into `buffer` and says how many bytes it has.  When `size` is too small
 * (WASI_NN_TOO_LARGE), some hosts write the needed size to `written`, others leave it alone: set
 * it to 0 before, and grow the buffer by guessing where it stays 0. */
WASI_NN_IMPORT("get_output")
wasi_nn_errno wasi_nn_get_output(wasi_nn_context context, uint32_t index, void *buffer,
                                 uint32_t size, uint32_t *written);

/* From here on: additions of WasmEdge, which not every host has. */

/* As load_by_name, with a configuration that the backend reads, usually JSON. */
WASI_NN_IMPORT("load_by_name_with_config")
wasi_nn_errno wasi_nn_load_by_name_with_config(const char *name, uint32_t length,
                                               const void *config, uint32_t config_size,
                                               wasi_nn_graph *graph);

/* Computes the next piece of the output, such as one token of a text. */
WASI_NN_IMPORT("compute_single")
wasi_nn_errno wasi_nn_compute_single(wasi_nn_context context);

/* The last piece of output `index`, as get_output. */
WASI_NN_IMPORT("get_output_single")
wasi_nn_errno wasi_nn_get_output_single(wasi_nn_context context, uint32_t index, void *buffer,
                                        uint32_t size, uint32_t *written);

/* Ends what compute_single began. */
WASI_NN_IMPORT("fini_single")
wasi_nn_errno wasi_nn_fini_single(wasi_nn_context context);

/* Gives a graph back.  Contexts that were made from it keep working. */
WASI_NN_IMPORT("unload")
wasi_nn_errno wasi_nn_unload(wasi_nn_graph graph);

/* Gives a context back. */
WASI_NN_IMPORT("finalize_execution_context")
wasi_nn_errno wasi_nn_finalize_execution_context(wasi_nn_context context);

/* The name of an error number, for messages. */
static inline const char *wasi_nn_errno_name(wasi_nn_errno error) {
  switch (error) {
    case WASI_NN_SUCCESS: return "success";
    case WASI_NN_INVALID_ARGUMENT: return "invalid_argument";
    case WASI_NN_INVALID_ENCODING: return "invalid_encoding";
    case WASI_NN_MISSING_MEMORY: return "missing_memory";
    case WASI_NN_BUSY: return "busy";
    case WASI_NN_RUNTIME_ERROR: return "runtime_error";
    case WASI_NN_UNSUPPORTED_OPERATION: return "unsupported_operation";
    case WASI_NN_TOO_LARGE: return "too_large";
    case WASI_NN_NOT_FOUND: return "not_found";
    case WASI_NN_END_OF_SEQUENCE: return "end_of_sequence";
    case WASI_NN_CONTEXT_FULL: return "context_full";
    case WASI_NN_PROMPT_TOO_LONG: return "prompt_too_long";
    case WASI_NN_MODEL_NOT_FOUND: return "model_not_found";
    default: return "unknown error";
  }
}

#ifdef __cplusplus
}
#endif

#endif
