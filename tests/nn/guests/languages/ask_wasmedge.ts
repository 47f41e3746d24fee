// The application of ask.ts with what WasmEdge adds to wasi_ephemeral_nn: a configuration along with
// a graph's name, and outputs piece by piece.

import {
  ARENA, RESULT, RESULT_SIZE, Tensor, U8, finalize_execution_context, init_execution_context,
  set_input, set_written, unload, written,
} from "./ask";

export { arena, ask, result, written } from "./ask";

@external("wasi_ephemeral_nn", "load_by_name_with_config")
declare function load_by_name_with_config(
  name: usize, name_size: u32, config: usize, config_size: u32, graph: usize): u32;
@external("wasi_ephemeral_nn", "compute_single")
declare function compute_single(context: u32): u32;
@external("wasi_ephemeral_nn", "get_output_single")
declare function get_output_single(
  context: u32, index: u32, out: usize, size: u32, written: usize): u32;
@external("wasi_ephemeral_nn", "fini_single")
declare function fini_single(context: u32): u32;

// Name, configuration and prompt lie in the arena, one after the other. Completes the prompt piece by
// piece; what ended the text, or the first error.
export function complete(name_size: u32, config_size: u32, prompt_size: u32): u32 {
  const handles = new StaticArray<u32>(3); // graph, context, bytes written
  const at = changetype<usize>(handles);
  const config = ARENA + name_size;
  const one: StaticArray<u32> = [1];
  const prompt: Tensor = {
    dimensions: changetype<usize>(one), rank: 1, type: U8, data: config + config_size,
    size: prompt_size,
  };
  let error = load_by_name_with_config(ARENA, name_size, config, config_size, at);
  if (error) return error;
  if ((error = init_execution_context(handles[0], at + 4))) return error;
  const context = handles[1];
  if ((error = set_input(context, 0, prompt))) return error;
  set_written(0);
  let ended: u32 = 0;
  while (!(ended = compute_single(context))) {
    const size = written();
    error = get_output_single(context, 0, RESULT + size, RESULT_SIZE - size, at + 8);
    if (error) return error;
    set_written(size + handles[2]);
  }
  if ((error = fini_single(context))) return error;
  if ((error = finalize_execution_context(context))) return error;
  if ((error = unload(handles[0]))) return error;
  return ended;
}
