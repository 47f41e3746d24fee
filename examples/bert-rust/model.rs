//! A BERT model that is asked through WASI-NN, a batch of rows at a time.
//!
//! It is the one that the host calls "model". Inputs 0, 1, 2: input_ids, attention_mask,
//! token_type_ids, int64 [rows, width], where the width is that of the longest row. Outputs are
//! float32, and their first dimension is [rows].

use super::wordpiece::{Token, Vocabulary};

/// A first guess for the numbers of a row; any other costs one more call.
const LIKELY_NUMBERS: usize = 1024;
/// An output that is larger than this is refused rather than fetched.
const OUTPUT_BYTES_MAX: usize = 1 << 30;
const INPUT_NAMES: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
const I64: u8 = 5;
const TOO_LARGE: u32 = 7;

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
    fn load_by_name(name: *const u8, length: u32, graph: *mut u32) -> u32;
    fn init_execution_context(graph: u32, context: *mut u32) -> u32;
    fn set_input(context: u32, index: u32, tensor: *const Tensor) -> u32;
    fn compute(context: u32) -> u32;
    fn get_output(context: u32, index: u32, to: *mut u8, size: u32, written: *mut u32) -> u32;
}

/// What went wrong, by WASI-NN's number.
fn checked(error: u32, doing: impl FnOnce() -> String) -> Result<(), String> {
    const NAMES: [&str; 9] = [
        "success",
        "invalid_argument",
        "invalid_encoding",
        "missing_memory",
        "busy",
        "runtime_error",
        "unsupported_operation",
        "too_large",
        "not_found",
    ];
    if error == 0 {
        return Ok(());
    }
    let name = NAMES.get(error as usize).unwrap_or(&"unknown error");
    Err(format!("{}: {} (wasi-nn error {})", doing(), name, error))
}

struct Row {
    start: usize, // in the batch's ids
    count: usize,
    first_count: usize, // those that have type 0
}

/// The model and a batch of rows for it.
pub struct Model {
    context: u32,
    ids: Vec<u32>,
    rows: Vec<Row>,
    width: usize,
    inputs: Vec<i64>,
    output: Vec<f32>,
}

impl Model {
    pub fn open() -> Result<Model, String> {
        let name = "model";
        let (mut graph, mut context) = (0, 0);
        let error = unsafe { load_by_name(name.as_ptr(), name.len() as u32, &mut graph) };
        checked(error, || "loading the model".into())?;
        let error = unsafe { init_execution_context(graph, &mut context) };
        checked(error, || "making an execution context".into())?;
        Ok(Model {
            context,
            ids: Vec::new(),
            rows: Vec::new(),
            width: 0,
            inputs: Vec::new(),
            output: Vec::new(),
        })
    }

    /// Begins a batch without rows.
    pub fn begin(&mut self) {
        self.ids.clear();
        self.rows.clear();
        self.width = 0;
    }

    /// Adds a row: [CLS] a [SEP], or [CLS] a [SEP] b [SEP], where b and the [SEP] behind it have
    /// type 1.
    pub fn add(&mut self, vocabulary: &Vocabulary, a: &[Token], b: Option<&[Token]>) {
        let start = self.ids.len();
        self.ids.push(vocabulary.cls);
        self.ids.extend(a.iter().map(|token| token.id));
        self.ids.push(vocabulary.sep);
        if let Some(tokens) = b {
            self.ids.extend(tokens.iter().map(|token| token.id));
            self.ids.push(vocabulary.sep);
        }
        let count = self.ids.len() - start;
        self.rows.push(Row { start, count, first_count: a.len() + 2 });
        self.width = self.width.max(count);
    }

    /// Runs the model.
    pub fn run(&mut self, vocabulary: &Vocabulary) -> Result<(), String> {
        let cells = self.rows.len() * self.width;
        self.inputs.clear();
        self.inputs.resize(cells * 3, 0);
        self.inputs[..cells].fill(i64::from(vocabulary.pad));
        for (number, row) in self.rows.iter().enumerate() {
            let at = number * self.width;
            for place in 0..row.count {
                self.inputs[at + place] = i64::from(self.ids[row.start + place]);
                self.inputs[cells + at + place] = 1;
                self.inputs[2 * cells + at + place] = i64::from(place >= row.first_count);
            }
        }
        let shape = [self.rows.len() as u32, self.width as u32];
        for (index, name) in INPUT_NAMES.iter().enumerate() {
            let data = &self.inputs[index * cells..(index + 1) * cells];
            let tensor = Tensor {
                dimensions: shape.as_ptr(),
                rank: 2,
                kind: I64,
                data: data.as_ptr().cast(),
                size: (cells * 8) as u32,
            };
            let error = unsafe { set_input(self.context, index as u32, &tensor) };
            checked(error, || format!("setting input {} ({}) of shape {:?}", index, name, shape))?;
        }
        let error = unsafe { compute(self.context) };
        checked(error, || format!("computing rows {:?}", shape))
            .map_err(|why| format!("{}; does the model take as many tokens?", why))
    }

    /// Output `index` of the last run, and how many numbers of it each row has.
    pub fn output(&mut self, index: u32) -> Result<(&[f32], usize), String> {
        let rows = self.rows.len();
        let mut room = self.output.len().max(rows * LIKELY_NUMBERS);
        loop {
            if room > OUTPUT_BYTES_MAX / 4 {
                return Err(format!("output {} is larger than 1 GiB; try smaller batches", index));
            }
            self.output.resize(room, 0.0);
            let mut written = 0;
            let size = (room * 4) as u32;
            let to = self.output.as_mut_ptr().cast();
            let error = unsafe { get_output(self.context, index, to, size, &mut written) };
            let numbers = written as usize / 4;
            if error == TOO_LARGE {
                // Hosts need not say how much it is.
                room = if numbers > room { numbers } else { room * 2 };
                continue;
            }
            checked(error, || format!("getting output {}", index))?;
            if numbers == 0 || numbers % rows != 0 || written % 4 != 0 {
                return Err(format!(
                    "output {} has {} bytes, which is no float32 [{}, ...]",
                    index, written, rows
                ));
            }
            return Ok((&self.output[..numbers], numbers / rows));
        }
    }
}
