//! An application in Rust for tests of WASI-NN: it loads a model, asks it once, and keeps the
//! answer. The C and AssemblyScript files beside it do the same. It speaks wasi_ephemeral_nn;
//! `--cfg old_types` makes it number element types as guest crates up to 0.5 did, `--cfg wasmedge`
//! makes it use what WasmEdge adds. It uses no crates. How it is built: languages.py in tests/nn.
#![crate_type = "cdylib"]

use std::ptr::addr_of_mut;

#[repr(C)]
struct Part {
    data: *const u8,
    size: u32,
}

/// The three bytes after `kind` are never written, as in all Rust guests.
#[repr(C)]
struct Tensor {
    dimensions: *const u32,
    rank: u32,
    kind: u8,
    data: *const u8,
    size: u32,
}

#[link(wasm_import_module = "wasi_ephemeral_nn")]
extern "C" {
    fn load(parts: *const Part, count: u32, encoding: u32, target: u32, graph: *mut u32) -> u32;
    fn init_execution_context(graph: u32, context: *mut u32) -> u32;
    fn set_input(context: u32, index: u32, tensor: *const Tensor) -> u32;
    fn compute(context: u32) -> u32;
    fn get_output(context: u32, index: u32, out: *mut u8, size: u32, written: *mut u32) -> u32;
}

#[cfg(wasmedge)]
#[link(wasm_import_module = "wasi_ephemeral_nn")]
extern "C" {
    fn load_by_name_with_config(
        name: *const u8,
        name_size: u32,
        config: *const u8,
        config_size: u32,
        graph: *mut u32,
    ) -> u32;
    fn compute_single(context: u32) -> u32;
    fn get_output_single(
        context: u32,
        index: u32,
        out: *mut u8,
        size: u32,
        written: *mut u32,
    ) -> u32;
    fn fini_single(context: u32) -> u32;
    fn unload(graph: u32) -> u32;
    fn finalize_execution_context(context: u32) -> u32;
}

const ONNX: u32 = 1;
const CPU: u32 = 0;
const F32: u8 = 1;
#[cfg(not(old_types))]
const U8: u8 = 3;
#[cfg(not(old_types))]
const I32: u8 = 4;
#[cfg(old_types)]
const U8: u8 = 2;
#[cfg(old_types)]
const I32: u8 = 3;

static mut ARENA: [u8; 1 << 16] = [0; 1 << 16];
static mut RESULT: [u8; 4096] = [0; 4096];
static mut WRITTEN: u32 = 0;

#[export_name = "arena"]
pub extern "C" fn arena() -> *mut u8 {
    unsafe { addr_of_mut!(ARENA) as *mut u8 }
}

#[export_name = "result"]
pub extern "C" fn result() -> *mut u8 {
    unsafe { addr_of_mut!(RESULT) as *mut u8 }
}

#[export_name = "written"]
pub extern "C" fn written() -> u32 {
    unsafe { WRITTEN }
}

/// An error number as an error, so that `?` ends at the first one.
fn done(errno: u32) -> Result<(), u32> {
    if errno == 0 {
        Ok(())
    } else {
        Err(errno)
    }
}

/// The numbers 1, 2, ..., count as f32 (kind 0), u8 (kind 1) or i32 (kind 2).
fn numbers(kind: u32, count: u32) -> (u8, Vec<u8>) {
    let all = 1..=count;
    match kind {
        0 => (F32, all.flat_map(|n| (n as f32).to_le_bytes()).collect()),
        1 => (U8, all.map(|n| n as u8).collect()),
        _ => (I32, all.flat_map(|n| (n as i32).to_le_bytes()).collect()),
    }
}

unsafe fn infer(model_size: u32, kind: u32, count: u32) -> Result<(), u32> {
    let part = Part { data: arena(), size: model_size };
    let (mut graph, mut context, mut size) = (0, 0, 0);
    done(load(&part, 1, ONNX, CPU, &mut graph))?;
    done(init_execution_context(graph, &mut context))?;
    #[cfg(wasmedge)]
    done(unload(graph))?; // the context keeps it
    let (element, data) = numbers(kind, count);
    let tensor = Tensor {
        dimensions: &count,
        rank: 1,
        kind: element,
        data: data.as_ptr(),
        size: data.len() as u32,
    };
    done(set_input(context, 0, &tensor))?;
    drop(data); // the host has a copy
    done(compute(context))?;
    done(get_output(context, 0, result(), 4096, &mut size))?;
    WRITTEN = size;
    #[cfg(wasmedge)]
    done(finalize_execution_context(context))?;
    Ok(())
}

/// Loads the ONNX model in the arena and runs it on one vector. The first error number, or 0.
#[export_name = "ask"]
pub extern "C" fn ask(model_size: u32, kind: u32, count: u32) -> u32 {
    unsafe { infer(model_size, kind, count) }.err().unwrap_or(0)
}

#[cfg(wasmedge)]
unsafe fn spell(name_size: u32, config_size: u32, prompt_size: u32) -> Result<u32, u32> {
    let config = arena().add(name_size as usize);
    let (mut graph, mut context, mut size) = (0, 0, 0);
    done(load_by_name_with_config(arena(), name_size, config, config_size, &mut graph))?;
    done(init_execution_context(graph, &mut context))?;
    let prompt = Tensor {
        dimensions: &1,
        rank: 1,
        kind: U8,
        data: config.add(config_size as usize),
        size: prompt_size,
    };
    done(set_input(context, 0, &prompt))?;
    WRITTEN = 0;
    let ended = loop {
        let ended = compute_single(context);
        if ended != 0 {
            break ended;
        }
        let rest = result().add(WRITTEN as usize);
        done(get_output_single(context, 0, rest, 4096 - WRITTEN, &mut size))?;
        WRITTEN += size;
    };
    done(fini_single(context))?;
    done(finalize_execution_context(context))?;
    done(unload(graph))?;
    Ok(ended)
}

/// Name, configuration and prompt lie in the arena, one after the other. Completes the prompt piece
/// by piece; what ended the text, or the first error.
#[cfg(wasmedge)]
#[export_name = "complete"]
pub extern "C" fn complete(name_size: u32, config_size: u32, prompt_size: u32) -> u32 {
    unsafe { spell(name_size, config_size, prompt_size) }.unwrap_or_else(|errno| errno)
}
