//! WordPiece tokens for BERT models, as Hugging Face tokenizers make them.

use super::text::{Span, Words, WORD_MAX};

/// A token, and the bytes of the text that it came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    pub id: u32,
    pub span: Span,
}

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// FNV-1a. Its running value serves every prefix of a word; pieces that continue a word start from
/// another value, so that "##ing" and "ing" need no separate tables.
const HASH_START: u32 = 2_166_136_261;
const HASH_CONTINUE: u32 = 0x9E37_79B9;

fn hash_more(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619))
}

/// A token of the vocabulary, "##" left out; an empty one is free.
#[derive(Clone, Copy, Default)]
struct Slot {
    start: u32,
    length: u32,
    hash: u32,
    id: u32,
    continues: bool,
}

/// A vocab.txt: one token a line, the line number from 0 is the id, "##" marks a piece that
/// continues a word.
pub struct Vocabulary {
    text: Vec<u8>,
    slots: Vec<Slot>,
    longest: usize, // code points
    special: [Option<u32>; 5],
    pub pad: u32,
    pub unknown: u32,
    pub cls: u32,
    pub sep: u32,
    /// Whether capitals and accents tell words apart.
    pub is_cased: bool,
    /// Whether "[SEP]" and the like in a text are text, and not special tokens.
    pub is_literal: bool,
}

impl Vocabulary {
    /// Reads one. The error says why it can not be used.
    pub fn new(text: Vec<u8>) -> Result<Vocabulary, String> {
        if text.len() > i32::MAX as usize {
            return Err("the vocabulary is larger than 2 GiB".into());
        }
        let lines = text.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let mut vocabulary = Vocabulary {
            slots: vec![Slot::default(); (lines * 2).next_power_of_two().max(16)],
            longest: 0,
            special: [None; 5],
            pad: 0,
            unknown: 0,
            cls: 0,
            sep: 0,
            is_cased: false,
            is_literal: false,
            text: Vec::new(),
        };
        vocabulary.text = text;
        let mut start = 0;
        for id in 0..lines as u32 {
            let rest = &vocabulary.text[start..];
            let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
            let spaces = rest[..length].iter().rev().take_while(|byte| is_space(byte)).count();
            vocabulary.add(start, length - spaces, id);
            start = (start + length + 1).min(vocabulary.text.len());
        }
        vocabulary.longest = vocabulary.longest.min(WORD_MAX);
        for (place, name) in SPECIAL.iter().enumerate() {
            let bytes = name.as_bytes();
            vocabulary.special[place] = vocabulary.find(bytes, false, hash_more(HASH_START, bytes));
        }
        let needed = |place: usize| {
            vocabulary.special[place]
                .ok_or_else(|| format!("the vocabulary has no {}", SPECIAL[place]))
        };
        let unknown = needed(1)?;
        let (cls, sep, pad) = (needed(2)?, needed(3)?, needed(0)?);
        vocabulary.unknown = unknown;
        vocabulary.cls = cls;
        vocabulary.sep = sep;
        vocabulary.pad = pad;
        Ok(vocabulary)
    }

    fn add(&mut self, mut start: usize, mut length: usize, id: u32) {
        if length == 0 {
            return;
        }
        let continues = length > 2 && self.text[start..].starts_with(b"##");
        if continues {
            start += 2;
            length -= 2;
        }
        let bytes = &self.text[start..start + length];
        let points = bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        let hash = hash_more(if continues { HASH_CONTINUE } else { HASH_START }, bytes);
        let place = self.place(bytes, continues, hash);
        self.longest = self.longest.max(points);
        // Of two equal lines the later one counts.
        self.slots[place] =
            Slot { start: start as u32, length: length as u32, hash, id, continues };
    }

    /// The place of the slot that holds the token, or of the free one where it would go.
    fn place(&self, bytes: &[u8], continues: bool, hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = &self.slots[place];
            let start = slot.start as usize;
            if slot.length == 0
                || slot.hash == hash
                    && slot.continues == continues
                    && &self.text[start..start + slot.length as usize] == bytes
            {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    fn find(&self, bytes: &[u8], continues: bool, hash: u32) -> Option<u32> {
        let slot = &self.slots[self.place(bytes, continues, hash)];
        if slot.length == 0 {
            None
        } else {
            Some(slot.id)
        }
    }

    /// Tokens of a text, without [CLS] and [SEP] around them; not many more than `most`.
    pub fn tokens(&self, text: &str, most: usize, tokens: &mut Vec<Token>) {
        tokens.clear();
        let mut rest = 0; // not tokenized yet
        let mut at = 0;
        while !self.is_literal && tokens.len() < most {
            at = match text[at..].find('[') {
                Some(found) => at + found,
                None => break,
            };
            let special = (0..SPECIAL.len())
                .find(|&n| self.special[n].is_some() && text[at..].starts_with(SPECIAL[n]));
            if let Some(n) = special {
                self.put_words(text, rest, at, most, tokens);
                let span = Span { start: at as u32, end: (at + SPECIAL[n].len()) as u32 };
                tokens.push(Token { id: self.special[n].unwrap_or(self.unknown), span });
                rest = span.end as usize;
                at = rest;
            } else {
                at += 1;
            }
        }
        self.put_words(text, rest, text.len(), most, tokens);
    }

    fn put_words(&self, text: &str, start: usize, end: usize, most: usize, out: &mut Vec<Token>) {
        let mut words = Words::new(text, start, end, self.is_cased);
        while out.len() < most && words.next_word() {
            self.put_word(&words, out);
        }
    }

    /// Greedy longest match over one word. From each start the hashes of all prefixes no longer
    /// than the longest token are made once, then tried from the longest on: time grows with the
    /// word's length times the longest token's, and never more.
    fn put_word(&self, word: &Words, out: &mut Vec<Token>) {
        let unknown = Token { id: self.unknown, span: word.span };
        if word.is_too_long {
            out.push(unknown);
            return;
        }
        let first = out.len();
        let length = word.spans.len();
        let piece =
            |from: usize, to: usize| &word.bytes[word.edges[from] as usize..word.edges[to] as usize];
        let mut start = 0;
        while start < length {
            let mut hashes = [0; WORD_MAX + 1];
            let mut hash = if start > 0 { HASH_CONTINUE } else { HASH_START };
            let most = length.min(start + self.longest);
            for n in start..most {
                hash = hash_more(hash, piece(n, n + 1));
                hashes[n + 1] = hash;
            }
            let found = (start + 1..=most).rev().find_map(|stop| {
                self.find(piece(start, stop), start > 0, hashes[stop]).map(|id| (id, stop))
            });
            if let Some((id, stop)) = found {
                let span = Span { start: word.spans[start].start, end: word.spans[stop - 1].end };
                out.push(Token { id, span });
                start = stop;
            } else {
                out.truncate(first); // the whole word is unknown
                out.push(unknown);
                return;
            }
        }
    }
}
