// An application in AssemblyScript for tests of WASI-NN: it loads a model, asks it once, and keeps
// the answer. The C and Rust files beside it do the same. It speaks wasi_ephemeral_nn; the constant
// OLD_TYPES makes it number element types as it was before f64 came in, WASMEDGE makes it use what
// WasmEdge adds. What it exports is said by ask_witx.ts and ask_wasmedge.ts. It uses no packages. How
// it is built: languages.py in tests/nn.

@external("wasi_ephemeral_nn", "load")
declare function load_graph(
  parts: usize, count: u32, encoding: u32, target: u32, graph: usize): u32;
@external("wasi_ephemeral_nn", "init_execution_context")
export declare function init_execution_context(graph: u32, context: usize): u32;
@external("wasi_ephemeral_nn", "set_input")
export declare function set_input(context: u32, index: u32, tensor: Tensor): u32;
@external("wasi_ephemeral_nn", "compute")
declare function compute(context: u32): u32;
@external("wasi_ephemeral_nn", "get_output")
declare function get_output(
  context: u32, index: u32, out: usize, size: u32, written: usize): u32;
@external("wasi_ephemeral_nn", "unload")
export declare function unload(graph: u32): u32;
@external("wasi_ephemeral_nn", "finalize_execution_context")
export declare function finalize_execution_context(context: u32): u32;

const ONNX: u32 = 1;
const CPU: u32 = 0;
const F32: u8 = 1;
export const U8: u8 = OLD_TYPES ? 2 : 3;
const I32: u8 = OLD_TYPES ? 3 : 4;

// The layouts are those of the interface: fields in their order, each at its natural alignment.
@unmanaged
class Part {
  data: usize;
  size: u32;
}

@unmanaged
export class Tensor {
  dimensions: usize;
  rank: u32;
  type: u8;
  data: usize;
  size: u32;
}

export const ARENA = memory.data(1 << 16);
export const RESULT = memory.data(4096);
export const RESULT_SIZE: u32 = 4096;
let bytes: u32 = 0;

export function arena(): usize { return ARENA; }
export function result(): usize { return RESULT; }
export function written(): u32 { return bytes; }
export function set_written(size: u32): void { bytes = size; }

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

// Loads the ONNX model in the arena and runs it on one vector. The first error number, or 0.
export function ask(model_size: u32, kind: u32, count: u32): u32 {
  const handles = new StaticArray<u32>(3); // graph, context, bytes written
  const at = changetype<usize>(handles);
  const part: Part = { data: ARENA, size: model_size };
  const data = numbers(kind, count);
  const dimensions: StaticArray<u32> = [count];
  const tensor: Tensor = {
    dimensions: changetype<usize>(dimensions),
    rank: 1,
    type: kind == 0 ? F32 : kind == 1 ? U8 : I32,
    data: data.dataStart,
    size: data.byteLength,
  };
  let error = load_graph(changetype<usize>(part), 1, ONNX, CPU, at);
  if (!error) error = init_execution_context(handles[0], at + 4);
  const context = handles[1];
  if (WASMEDGE && !error) error = unload(handles[0]); // the context keeps it
  if (!error) error = set_input(context, 0, tensor);
  if (!error) error = compute(context);
  if (!error) error = get_output(context, 0, RESULT, RESULT_SIZE, at + 8);
  if (!error) bytes = handles[2];
  if (WASMEDGE && !error) error = finalize_execution_context(context);
  return error;
}
