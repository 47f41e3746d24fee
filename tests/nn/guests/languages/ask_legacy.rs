//! The application of ask.rs for WAMR's legacy module wasi_nn: `load` takes one pointer to all
//! parts, a tensor's dimensions are one pointer further away, and sizes of outputs count elements
//! of four bytes. It uses no crates. How it is built: languages.py in tests/nn.
#![crate_type = "cdylib"]

use std::ptr::addr_of_mut;

#[repr(C)]
struct Part {
    data: *const u8,
    size: u32,
}

#[repr(C)]
struct Parts {
    parts: *const Part,
    count: u32,
}

#[repr(C)]
struct Dimensions {
    sizes: *const u32,
    rank: u32,
}

#[repr(C)]
struct Tensor {
    dimensions: *const Dimensions,
    kind: u8,
    data: *const u8,
}

#[link(wasm_import_module = "wasi_nn")]
extern "C" {
    fn load(parts: *const Parts, encoding: u32, target: u32, graph: *mut u32) -> u32;
    fn init_execution_context(graph: u32, context: *mut u32) -> u32;
    fn set_input(context: u32, index: u32, tensor: *const Tensor) -> u32;
    fn compute(context: u32) -> u32;
    fn get_output(context: u32, index: u32, out: *mut u8, elements: *mut u32) -> u32;
}

const ONNX: u32 = 1;
const CPU: u32 = 0;
const F32: u8 = 1;
const U8: u8 = 2;
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
    let parts = Parts { parts: &Part { data: arena(), size: model_size }, count: 1 };
    let (mut graph, mut context) = (0, 0);
    done(load(&parts, ONNX, CPU, &mut graph))?;
    done(init_execution_context(graph, &mut context))?;
    let (kind, data) = numbers(kind, count);
    let dimensions = Dimensions { sizes: &count, rank: 1 };
    let tensor = Tensor { dimensions: &dimensions, kind, data: data.as_ptr() };
    done(set_input(context, 0, &tensor))?;
    drop(data); // the host has a copy
    done(compute(context))?;
    let mut elements = 4096 / 4;
    done(get_output(context, 0, result(), &mut elements))?;
    WRITTEN = elements;
    Ok(())
}

/// Loads the ONNX model in the arena and runs it on one vector. The first error number, or 0;
/// `written` counts elements of four bytes.
#[export_name = "ask"]
pub extern "C" fn ask(model_size: u32, kind: u32, count: u32) -> u32 {
    unsafe { infer(model_size, kind, count) }.err().unwrap_or(0)
}
