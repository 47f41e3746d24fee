// A TFLite delegate that adds floats, for tests: it takes ADD of equal shapes and nothing else, and
// adds the option "bias" to each sum, by which its work can be told from the CPU's.
//
// The structures are those parts of TFLite's C interface (tflite/core/c/common.h) that it needs.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int size; int data[]; } IntArray;

typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data;
} Node;

typedef struct {
  int type;
  float *data;
  IntArray *dims;
  int64_t params, allocation_type;
  size_t bytes;
  void *allocation, *name, *delegate;
  int64_t handle_and_flags, quantization[2];
  void *sparsity, *signature;
} Tensor;

typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *external;
  void *async_kernel;
  uint64_t inplace_operator;
} Registration;

struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_buffer;
  int64_t flags;
  void *opaque;
};

typedef struct {
  Delegate *delegate;
  IntArray *nodes, *inputs, *outputs;
} DelegateParams;

struct Context {
  size_t tensors_size;
  int (*execution_plan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  int (*resize)(Context *, Tensor *, IntArray *);
  void (*report)(Context *, const char *, ...);
  int (*add_tensors)(Context *, int, int *);
  int (*node)(Context *, int, Node **, Registration **);
  int (*replace)(Context *, Registration, const IntArray *, Delegate *);
};

enum { FLOAT32 = 1, ADD = 0, OK = 0, ALLOW_DYNAMIC_TENSORS = 1, MOST = 64 };

typedef struct {
  int count, left[MOST], right[MOST], sum[MOST];
  float *own[MOST];  // memory for sums that only later sums read: TFLite gives them none
  float bias;
} Sums;

static void *start(Context *context, const char *buffer, size_t size) {
  const DelegateParams *params = (const DelegateParams *)buffer;
  Sums *sums = calloc(1, sizeof *sums);
  sums->bias = *(float *)params->delegate->data;
  for (int i = 0; i < params->nodes->size && i < MOST; i++) {
    Node *node;
    Registration *registration;
    context->node(context, params->nodes->data[i], &node, &registration);
    sums->left[i] = node->inputs->data[0];
    sums->right[i] = node->inputs->data[1];
    sums->sum[i] = node->outputs->data[0];
    sums->count = i + 1;
  }
  return sums;
}

static void stop(Context *context, void *data) {
  Sums *sums = data;
  for (int i = 0; i < sums->count; i++) free(sums->own[i]);
  free(sums);
}

static long elements(const Tensor *tensor) {
  long count = 1;
  for (int d = 0; d < tensor->dims->size; d++) count *= tensor->dims->data[d];
  return count;
}

static float *memory(Context *context, const Sums *sums, int tensor) {
  float *data = context->tensors[tensor].data;
  for (int i = 0; !data && i < sums->count; i++)
    if (sums->sum[i] == tensor) data = sums->own[i];
  return data;
}

static int resize(Context *context, Node *node) {
  Sums *sums = node->user_data;
  for (int i = 0; i < sums->count; i++) {
    const IntArray *dims = context->tensors[sums->left[i]].dims;
    size_t bytes = sizeof(int) * (1 + (size_t)dims->size);
    IntArray *copy = malloc(bytes);  // the context frees it
    memcpy(copy, dims, bytes);
    if (context->resize(context, &context->tensors[sums->sum[i]], copy) != OK) return 1;
    free(sums->own[i]);
    sums->own[i] = malloc(sizeof(float) * (1 + (size_t)elements(&context->tensors[sums->sum[i]])));
  }
  return OK;
}

static int run(Context *context, Node *node) {
  const Sums *sums = node->user_data;
  for (int i = 0; i < sums->count; i++) {
    const float *left = memory(context, sums, sums->left[i]);
    const float *right = memory(context, sums, sums->right[i]);
    float *sum = memory(context, sums, sums->sum[i]);
    long count = elements(&context->tensors[sums->sum[i]]);
    for (long at = 0; at < count; at++) sum[at] = left[at] + right[at] + sums->bias;
  }
  return OK;
}

static int prepare(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->execution_plan(context, &plan) != OK) return 1;
  IntArray *taken = malloc(sizeof(int) * (1 + (size_t)plan->size));
  taken->size = 0;
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Registration *registration;
    context->node(context, plan->data[i], &node, &registration);
    if (registration->builtin_code == ADD &&
        context->tensors[node->inputs->data[0]].type == FLOAT32)
      taken->data[taken->size++] = plan->data[i];
  }
  Registration adder = {.init = start, .free = stop, .prepare = resize, .invoke = run,
                        .custom_name = "Adder", .version = 1};
  int status = context->replace(context, adder, taken, delegate);
  free(taken);
  return status;
}

__attribute__((visibility("default"))) Delegate *tflite_plugin_create_delegate(
    char **keys, char **values, size_t count, void (*report)(const char *)) {
  float bias = 0;
  for (size_t i = 0; i < count; i++) {
    if (!strcmp(keys[i], "refuse")) {
      report("the adder was told to refuse");
      return NULL;
    }
    if (!strcmp(keys[i], "bias")) bias = (float)atof(values[i]);
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  float *kept = malloc(sizeof *kept);
  *kept = bias;
  delegate->data = kept;
  delegate->prepare = prepare;
  delegate->flags = ALLOW_DYNAMIC_TENSORS;
  return delegate;
}

__attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(Delegate *delegate) {
  if (delegate) free(delegate->data);
  free(delegate);
}
