//! What Rust guests share that take rows for `wasinn eval`: what the exports of wasinn_eval.h do,
//! program arguments, the vocabulary, texts to tokens, and the answer.
//!
//! The arguments are
//!
//! ```text
//! --max-tokens N   tokens of a row, [CLS] and [SEP] among them
//! --cased          the model tells capitals and accents apart
//! --literal        "[SEP]" and the like in a text are text, not special tokens
//! ```

use std::{env, fs, str};

use super::model::Model;
use super::wordpiece::{Token, Vocabulary};

/// The version of wasinn_eval.h.
pub const VERSION: u32 = 1;
const VOCABULARY: &str = "/model/vocab.txt";

/// What came of a row.
#[derive(Clone, Copy, PartialEq)]
pub enum Status {
    Ok = 0,
    Truncated = 1, // done, but the model saw only a part of it
}

/// A batch as the host writes it: rows * columns places of texts, then the texts.
pub struct Request<'a> {
    bytes: &'a [u8],
    pub rows: usize,
    pub columns: usize,
}

impl<'a> Request<'a> {
    fn new(bytes: &'a [u8]) -> Result<Request<'a>, String> {
        let mut request = Request { bytes, rows: 0, columns: 0 };
        request.rows = request.number(0)?;
        request.columns = request.number(4)?;
        Ok(request)
    }

    fn number(&self, at: usize) -> Result<usize, String> {
        match self.bytes.get(at..at + 4) {
            Some(four) => Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize),
            None => Err(format!("the request ends at byte {}", self.bytes.len())),
        }
    }

    /// A text of the batch.
    pub fn text(&self, field: usize) -> Result<&'a str, String> {
        let at = 8 + field * 8;
        let (start, length) = (self.number(at)?, self.number(at + 4)?);
        let found = start.checked_add(length).and_then(|end| self.bytes.get(start..end));
        let bytes = found.ok_or_else(|| format!("field {} is not in the request", field))?;
        str::from_utf8(bytes).map_err(|error| format!("field {} is not UTF-8: {}", field, error))
    }
}

/// The answer, row by row.
#[derive(Default)]
pub struct Answer {
    status: Vec<u32>,
    tokens: Vec<u32>,
    counts: Vec<u32>,
    numbers: Vec<f32>,
    lengths: Vec<u32>,
    header: [u32; 7],
}

impl Answer {
    /// Answers the next row.
    pub fn row(&mut self, seen: Seen, numbers: &[f32]) {
        self.status.push(seen.status as u32);
        self.tokens.push(seen.tokens);
        self.counts.push(numbers.len() as u32);
        self.numbers.extend_from_slice(numbers);
        self.lengths.push(0);
    }

    /// As wasinn_eval_answer, which stays until the next batch.
    fn told(&mut self) -> *const u32 {
        self.header = [
            self.status.len() as u32,
            self.status.as_ptr() as usize as u32,
            self.tokens.as_ptr() as usize as u32,
            self.counts.as_ptr() as usize as u32,
            self.numbers.as_ptr() as usize as u32,
            self.lengths.as_ptr() as usize as u32,
            // No row has text.
            self.lengths.as_ptr() as usize as u32,
        ];
        self.header.as_ptr()
    }
}

/// What the model sees of a row; tokens with [CLS] and [SEP].
#[derive(Clone, Copy)]
pub struct Seen {
    pub status: Status,
    pub tokens: u32,
}

/// A guest that has started.
pub struct Guest {
    name: &'static str,
    pub vocabulary: Vocabulary,
    pub model: Model,
    pub answer: Answer,
    max_tokens: usize,
    request: Vec<u64>, // at an address that 8 divides
    texts: [Vec<Token>; 2],
}

/// Reads arguments and vocabulary, and finds the model; None after saying why it can not.
pub fn open(name: &'static str, version: u32, max_tokens: usize) -> Option<Guest> {
    let opened = (|| {
        if version != VERSION {
            return Err(format!("the host asks for version {}, this is {}", version, VERSION));
        }
        let (max_tokens, is_cased, is_literal) = read_arguments(max_tokens)?;
        let text = fs::read(VOCABULARY).map_err(|error| {
            format!("cannot open '{}': {} (is its folder given to the guest?)", VOCABULARY, error)
        })?;
        let mut vocabulary =
            Vocabulary::new(text).map_err(|why| format!("{}: {}", VOCABULARY, why))?;
        vocabulary.is_cased = is_cased;
        vocabulary.is_literal = is_literal;
        Ok(Guest {
            name,
            vocabulary,
            model: Model::open()?,
            answer: Answer::default(),
            max_tokens,
            request: Vec::new(),
            texts: [Vec::new(), Vec::new()],
        })
    })();
    opened.map_err(|why| eprintln!("{}: {}", name, why)).ok()
}

fn read_arguments(max_tokens: usize) -> Result<(usize, bool, bool), String> {
    let mut found = (max_tokens, false, false);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--cased" => found.1 = true,
            "--literal" => found.2 = true,
            "--max-tokens" => {
                let given = arguments.next().unwrap_or_default();
                let is_plain = given.bytes().all(|byte| byte.is_ascii_digit());
                found.0 = match given.parse() {
                    Ok(number) if is_plain && (8..=65536).contains(&number) => number,
                    _ => {
                        return Err(format!(
                            "--max-tokens takes a number from 8 to 65536, not '{}'",
                            given
                        ))
                    }
                };
            }
            _ => return Err(format!("unknown argument '{}'", argument)),
        }
    }
    Ok(found)
}

impl Guest {
    /// Room for a request.
    pub fn room(&mut self, size: u32) -> *mut u64 {
        self.request.resize(size as usize / 8 + 1, 0);
        self.request.as_mut_ptr()
    }

    /// Answers the request with what `work` does; NULL after saying what went wrong with all of it.
    pub fn rows(
        &mut self,
        size: u32,
        work: impl FnOnce(&mut Guest, &Request) -> Result<(), String>,
    ) -> *const u32 {
        let words = std::mem::take(&mut self.request);
        let most = words.len() * 8;
        let bytes = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), most) };
        self.answer = Answer::default();
        self.model.begin();
        let done = Request::new(&bytes[..most.min(size as usize)])
            .and_then(|request| work(self, &request));
        self.request = words;
        match done {
            Ok(()) => self.answer.told(),
            Err(why) => {
                eprintln!("{}: {}", self.name, why);
                std::ptr::null()
            }
        }
    }

    /// Adds a row of `columns` texts, one or two, to the model's batch, cut to --max-tokens.
    pub fn add(&mut self, request: &Request, field: usize, columns: usize) -> Result<Seen, String> {
        let room = self.max_tokens - 1 - columns;
        // One more than fits tells whether something is cut; of a pair, each length counts.
        let most = if columns == 1 { room + 1 } else { usize::MAX };
        for column in 0..columns {
            let text = request.text(field + column)?;
            self.vocabulary.tokens(text, most, &mut self.texts[column]);
        }
        let (mut a, mut b) = (self.texts[0].len(), 0);
        if columns == 2 {
            b = self.texts[1].len();
        }
        let status = if a + b > room { Status::Truncated } else { Status::Ok };
        if columns == 2 {
            (a, b) = longest_first(a, b, room);
        } else {
            a = a.min(room);
        }
        let pair = if columns == 2 { Some(&self.texts[1][..b]) } else { None };
        self.model.add(&self.vocabulary, &self.texts[0][..a], pair);
        Ok(Seen { status, tokens: (1 + columns + a + b) as u32 })
    }
}

/// Cuts two texts to `most` tokens together: the longer one first, then both by turns, as Hugging
/// Face tokenizers do it (strategy longest_first).
pub fn longest_first(a: usize, b: usize, most: usize) -> (usize, usize) {
    if a + b <= most {
        return (a, b);
    }
    let mut shorter = a.min(b);
    // The shorter one stays whole if what is left is no less; else they share, and of an odd number
    // the longer one gets the one more.
    let mut longer = shorter.max(most.saturating_sub(shorter));
    if shorter + longer > most {
        shorter = most / 2;
        longer = shorter + most % 2;
    }
    if a > b {
        (longer, shorter)
    } else {
        (shorter, longer)
    }
}
