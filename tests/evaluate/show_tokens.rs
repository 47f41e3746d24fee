//! show_tokens.c with the tokenizer of examples/bert-rust: for each token of a text its id and where it
//! starts and ends, in bytes.

#[path = "../../examples/bert-rust/mod.rs"]
pub mod bert;

use std::sync::Mutex;

use bert::rows::{self, Guest, Request, Seen, Status};

static GUEST: Mutex<Option<Guest>> = Mutex::new(None);

#[no_mangle]
pub extern "C" fn wasinn_eval_open(version: u32) -> u32 {
    let opened = rows::open("show-tokens", version, 65536);
    let status = u32::from(opened.is_none());
    *GUEST.lock().unwrap() = opened;
    status
}

#[no_mangle]
pub extern "C" fn wasinn_eval_request(size: u32) -> *mut u64 {
    GUEST.lock().unwrap().as_mut().unwrap().room(size)
}

#[no_mangle]
pub extern "C" fn wasinn_eval_rows(_request: *const u64, size: u32) -> *const u32 {
    GUEST.lock().unwrap().as_mut().unwrap().rows(size, show)
}

fn show(guest: &mut Guest, request: &Request) -> Result<(), String> {
    let mut tokens = Vec::new();
    for row in 0..request.rows {
        guest.vocabulary.tokens(request.text(row)?, usize::MAX, &mut tokens);
        let numbers: Vec<f32> = tokens
            .iter()
            .flat_map(|token| [token.id as f32, token.span.start as f32, token.span.end as f32])
            .collect();
        guest.answer.row(Seen { status: Status::Ok, tokens: tokens.len() as u32 }, &numbers);
    }
    Ok(())
}
