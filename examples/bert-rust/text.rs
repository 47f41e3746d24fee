//! Text to words, the way a BERT model wants it.
//!
//! Follows Hugging Face tokenizers' BertNormalizer (clean_text, handle_chinese_chars,
//! strip_accents, lowercase) and BertPreTokenizer, code point for code point:
//!
//! 1. control, format and private-use characters, NUL and U+FFFD vanish; white space is a space
//! 2. each CJK ideograph stands alone
//! 3. canonical decomposition (NFD), then non-spacing marks are removed: "é" becomes "e"
//! 4. lower case, character by character
//! 5. words end at spaces, and each punctuation character is a word of its own
//!
//! Cased models do without steps 3 and 4. Words are made one at a time, in memory that is reused.

use super::unicode_tables as tables;

/// A word of more code points than this is an unknown word, whatever it says
/// (max_input_chars_per_word in the WordPiece models of Hugging Face).
pub const WORD_MAX: usize = 100;

const SPACE: u32 = 0x20;
const HANGUL: std::ops::RangeInclusive<u32> = 0xAC00..=0xD7A3;
const HANGUL_VOWELS: u32 = 21;
const HANGUL_TRAILS: u32 = 28; // counting "no trailing consonant"

/// Where something came from: bytes from the beginning of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// The words of a text; `next_word` makes one, and the public fields are about it.
pub struct Words<'a> {
    text: &'a str,
    at: usize,
    end: usize,
    is_cased: bool,
    queue: [u32; 6], // code points that are mapped but not yet part of a word
    queue_span: Span, // all of them came from here
    queued: usize,
    taken: usize,
    points: Vec<u32>,
    combining: Vec<u8>, // canonical order of combining characters at the word's end
    barrier: usize,     // nothing moves in front of this index
    /// UTF-8.
    pub bytes: Vec<u8>,
    /// Where in `bytes` each code point begins, and the end.
    pub edges: Vec<u16>,
    /// Where each code point came from.
    pub spans: Vec<Span>,
    /// Of the whole word, also of one that is too long.
    pub span: Span,
    /// Whether there were more than WORD_MAX code points: the others are left out.
    pub is_too_long: bool,
}

fn flags_of(point: u32) -> u8 {
    let block = tables::INDEX[(point >> tables::BLOCK_BITS) as usize] as usize;
    tables::BLOCKS[block][(point & ((1 << tables::BLOCK_BITS) - 1)) as usize]
}

fn ascii_flags(byte: u8) -> u8 {
    tables::BLOCKS[tables::INDEX[0] as usize][byte as usize & 0x7F]
}

impl<'a> Words<'a> {
    /// Starts on the part of `text` from byte `start` to `end`.
    pub fn new(text: &'a str, start: usize, end: usize, is_cased: bool) -> Words<'a> {
        Words {
            text,
            at: start,
            end,
            is_cased,
            queue: [0; 6],
            queue_span: Span::default(),
            queued: 0,
            taken: 0,
            points: Vec::with_capacity(WORD_MAX),
            combining: Vec::with_capacity(WORD_MAX),
            barrier: 0,
            bytes: Vec::with_capacity(WORD_MAX * 4),
            edges: Vec::with_capacity(WORD_MAX + 1),
            spans: Vec::with_capacity(WORD_MAX),
            span: Span::default(),
            is_too_long: false,
        }
    }

    /// Makes the next word; false at the end of the text.
    pub fn next_word(&mut self) -> bool {
        self.is_too_long = false;
        self.bytes.clear();
        self.edges.clear();
        self.spans.clear();
        if self.taken == self.queued && self.next_plain() {
            return true;
        }
        self.bytes.clear();
        self.points.clear();
        self.combining.clear();
        self.barrier = 0;
        if !self.next_points() {
            return false;
        }
        let mut utf8 = [0; 4];
        for &point in &self.points {
            self.edges.push(self.bytes.len() as u16);
            let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
            self.bytes.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        }
        self.edges.push(self.bytes.len() as u16);
        true
    }

    /// Makes the next word if it is of ASCII, which most are. False, with nothing read but spaces,
    /// when it is not, or too long, or there is none.
    fn next_plain(&mut self) -> bool {
        let all = &self.text.as_bytes()[..self.end];
        let mut at = self.at;
        while at < all.len() && all[at] < 0x80 && ascii_flags(all[at]) & tables::SPACE != 0 {
            at += 1;
        }
        self.at = at;
        if at == all.len() || all[at] >= 0x80 {
            return false;
        }
        if ascii_flags(all[at]) & tables::PUNCTUATION != 0 {
            self.bytes.push(all[at]);
            at += 1;
        } else {
            while at < all.len() && all[at] < 0x80 {
                let flags = ascii_flags(all[at]);
                if flags & tables::DROP != 0 {
                    return false;
                }
                if flags & !tables::MAPPED != 0 {
                    break;
                }
                if self.bytes.len() == WORD_MAX {
                    return false;
                }
                // What is mapped, here, are capitals.
                let byte = if self.is_cased { all[at] } else { all[at].to_ascii_lowercase() };
                self.bytes.push(byte);
                at += 1;
            }
            // What follows may be a part of the word.
            if at < all.len() && all[at] >= 0x80 {
                return false;
            }
        }
        self.span = Span { start: self.at as u32, end: at as u32 };
        for place in 0..self.bytes.len() as u32 {
            self.edges.push(place as u16);
            let start = self.span.start + place;
            self.spans.push(Span { start, end: start + 1 });
        }
        self.edges.push(self.bytes.len() as u16);
        self.at = at;
        true
    }

    /// Collects the code points of the next word, whatever they are.
    fn next_points(&mut self) -> bool {
        while self.taken < self.queued || self.refill() {
            let point = self.queue[self.taken];
            let flags = flags_of(point);
            let is_alone = flags & tables::PUNCTUATION != 0;
            if is_alone && !self.points.is_empty() {
                return true; // and `point` is the next word
            }
            self.taken += 1;
            if flags & tables::SPACE != 0 {
                if !self.points.is_empty() {
                    return true;
                }
                self.barrier = 0;
                continue;
            }
            self.append(point, flags);
            if is_alone {
                return true;
            }
        }
        !self.points.is_empty()
    }

    /// Refills the empty queue from the input; false at its end.
    fn refill(&mut self) -> bool {
        self.queued = 0;
        self.taken = 0;
        while self.queued == 0 {
            let next = self.text[self.at..self.end].chars().next();
            let character = match next {
                Some(character) => character,
                None => return false,
            };
            let start = self.at as u32;
            self.at += character.len_utf8();
            self.queue_span = Span { start, end: self.at as u32 };
            let point = character as u32;
            let flags = flags_of(point);
            if flags & tables::DROP != 0 {
                // as if it had never been there
            } else if flags & tables::MARK != 0 && !self.is_cased {
                // Gone too, but decomposition came first: a mark of class 0 stops reordering.
                if flags & tables::BARRIER != 0 {
                    self.barrier = self.points.len();
                }
            } else if flags & tables::SPACE != 0 {
                self.enqueue(SPACE);
            } else if flags & tables::CJK != 0 {
                self.enqueue(SPACE);
                self.enqueue_mapped(point, flags);
                self.enqueue(SPACE);
            } else {
                self.enqueue_mapped(point, flags);
            }
        }
        true
    }

    fn enqueue(&mut self, point: u32) {
        self.queue[self.queued] = point;
        self.queued += 1;
    }

    /// Decomposition without marks, and lower case, of a code point that is kept; cased, itself.
    fn enqueue_mapped(&mut self, point: u32, flags: u8) {
        if self.is_cased {
            self.enqueue(point);
        } else if HANGUL.contains(&point) {
            let syllable = point - HANGUL.start();
            self.enqueue(0x1100 + syllable / (HANGUL_VOWELS * HANGUL_TRAILS));
            self.enqueue(0x1161 + syllable / HANGUL_TRAILS % HANGUL_VOWELS);
            if syllable % HANGUL_TRAILS > 0 {
                self.enqueue(0x11A7 + syllable % HANGUL_TRAILS);
            }
        } else if flags & tables::MAPPED != 0 {
            let place = tables::MAPPED_POINTS.partition_point(|&known| known < point);
            let target = tables::TARGETS[place];
            if target & tables::EXPANSION == 0 {
                self.enqueue(target);
            } else {
                let first = (target & 0xFFFF) as usize;
                let count = (target >> 16 & 0x7FFF) as usize;
                for &part in &tables::POOL[first..first + count] {
                    self.enqueue(part);
                }
            }
        } else {
            self.enqueue(point);
        }
    }

    /// Appends to the word; a combining character goes to its canonical place, but where a place
    /// came from stays: so do Hugging Face tokenizers.
    fn append(&mut self, point: u32, flags: u8) {
        if self.points.is_empty() {
            self.span.start = self.queue_span.start;
        }
        self.span.end = self.queue_span.end;
        if self.points.len() == WORD_MAX {
            self.is_too_long = true;
            return;
        }
        self.spans.push(self.queue_span);
        let mut at = self.points.len();
        let mut class = 0;
        if flags & tables::MOVABLE != 0 && !self.is_cased {
            let place = tables::MOVABLE_POINTS.partition_point(|&known| known < point);
            class = tables::MOVABLE_CLASSES[place];
            while at > self.barrier && self.combining[at - 1] > class {
                at -= 1;
            }
        }
        self.points.insert(at, point);
        self.combining.insert(at, class);
    }
}
