//! What Rust guests for BERT-style models share: `../bert-c` once more, with nothing but the standard
//! library. A guest takes it in with `#[path = "../bert-rust/mod.rs"] pub mod bert;`.

pub mod model;
pub mod rows;
pub mod text;
pub mod unicode_tables;
pub mod wordpiece;
