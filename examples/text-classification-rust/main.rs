//! Text classification for `wasinn eval`: one text a row, or two, and the model's logits back.
//!
//! `../text-classification` once more, in Rust with nothing but its standard library. The model puts
//! out float32 [rows, labels]. `../include/wasinn_eval.h` says what the exports are.

#[path = "../bert-rust/mod.rs"]
pub mod bert;

use std::sync::Mutex;

use bert::rows::{self, Guest, Request};

const MAX_TOKENS: usize = 256;

static GUEST: Mutex<Option<Guest>> = Mutex::new(None);

fn with_guest<T>(work: impl FnOnce(&mut Guest) -> T) -> T {
    let mut guest = GUEST.lock().expect("there is one thread");
    work(guest.as_mut().expect("the host opens the guest before anything else"))
}

#[no_mangle]
pub extern "C" fn wasinn_eval_open(version: u32) -> u32 {
    let opened = rows::open("text-classification-rust", version, MAX_TOKENS);
    let status = u32::from(opened.is_none());
    *GUEST.lock().expect("there is one thread") = opened;
    status
}

#[no_mangle]
pub extern "C" fn wasinn_eval_request(size: u32) -> *mut u64 {
    with_guest(|guest| guest.room(size))
}

/// The request is where wasinn_eval_request said.
#[no_mangle]
pub extern "C" fn wasinn_eval_rows(_request: *const u64, size: u32) -> *const u32 {
    with_guest(|guest| guest.rows(size, classify))
}

fn classify(guest: &mut Guest, request: &Request) -> Result<(), String> {
    if request.columns != 1 && request.columns != 2 {
        return Err(format!("a row has 1 or 2 texts here, got {}", request.columns));
    }
    let mut seen = Vec::with_capacity(request.rows);
    for row in 0..request.rows {
        seen.push(guest.add(request, row * request.columns, request.columns)?);
    }
    if seen.is_empty() {
        return Ok(());
    }
    guest.model.run(&guest.vocabulary)?;
    let (logits, labels) = guest.model.output(0)?;
    for (row, seen) in logits.chunks(labels).zip(seen) {
        guest.answer.row(seen, row);
    }
    Ok(())
}
