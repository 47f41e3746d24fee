// The application of ask.ts for WAMR's legacy module wasi_nn: `load` takes one pointer to all parts, a
// tensor's dimensions are one pointer further away, and sizes of outputs count elements of four
// bytes. It uses no packages. How it is built: languages.py in tests/nn.

@external("wasi_nn", "load")
declare function load_graph(parts: Sized, encoding: u32, target: u32, graph: usize): u32;
@external("wasi_nn", "init_execution_context")
declare function init_execution_context(graph: u32, context: usize): u32;
@external("wasi_nn", "set_input")
declare function set_input(context: u32, index: u32, tensor: Tensor): u32;
@external("wasi_nn", "compute")
declare function compute(context: u32): u32;
@external("wasi_nn", "get_output")
declare function get_output(context: u32, index: u32, out: usize, elements: usize): u32;

const ONNX: u32 = 1;
const CPU: u32 = 0;
const F32: u8 = 1;
const U8: u8 = 2;
const I32: u8 = 3;

// A pointer and a number of what is there: bytes, parts or dimensions.
@unmanaged
class Sized {
  data: usize;
  size: u32;
}

@unmanaged
class Tensor {
  dimensions: Sized;
  type: u8;
  data: usize;
}

const ARENA = memory.data(1 << 16);
const RESULT = memory.data(4096);
let elements: u32 = 0;

export function arena(): usize { return ARENA; }
export function result(): usize { return RESULT; }
export function written(): u32 { return elements; }

// The numbers 1, 2, ..., count as f32 (kind 0), u8 (kind 1) or i32 (kind 2).
function numbers(kind: u32, count: u32): Uint8Array {
  const size = <i32>(kind == 1 ? count : 4 * count);
  const data = new Uint8Array(size);
  for (let i: u32 = 0; i < count; i++) {
    if (kind == 0) store<f32>(data.dataStart + 4 * i, <f32>(i + 1));
    else if (kind == 1) store<u8>(data.dataStart + i, <u8>(i + 1));
    else store<i32>(data.dataStart + 4 * i, i + 1);
  }
  return data;
}

// Loads the ONNX model in the arena and runs it on one vector. The first error number, or 0;
// `written` counts elements of four bytes.
export function ask(model_size: u32, kind: u32, count: u32): u32 {
  const handles = new StaticArray<u32>(3); // graph, context, elements of the output
  const at = changetype<usize>(handles);
  const part: Sized = { data: ARENA, size: model_size };
  const parts: Sized = { data: changetype<usize>(part), size: 1 };
  const data = numbers(kind, count);
  const sizes: StaticArray<u32> = [count];
  const dimensions: Sized = { data: changetype<usize>(sizes), size: 1 };
  const tensor: Tensor = {
    dimensions: dimensions, type: kind == 0 ? F32 : kind == 1 ? U8 : I32, data: data.dataStart,
  };
  let error = load_graph(parts, ONNX, CPU, at);
  if (!error) error = init_execution_context(handles[0], at + 4);
  const context = handles[1];
  if (!error) error = set_input(context, 0, tensor);
  if (!error) error = compute(context);
  handles[2] = 4096 / 4;
  if (!error) error = get_output(context, 0, RESULT, at + 8);
  if (!error) elements = handles[2];
  return error;
}
