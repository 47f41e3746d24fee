/* Vocabulary and greedy longest match; see wordpiece.h. */
#include "wordpiece.h"

#include <stdlib.h>
#include <string.h>

#include "bert_text.h"

static const char *const SPECIAL_NAMES[WORDPIECE_SPECIALS] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                                              "[MASK]"};

/* A token: `length` bytes at `offset` of the vocabulary text, "##" left out. */
struct wordpiece_slot {
  uint32_t offset;
  uint32_t length;
  uint32_t hash;
  uint32_t id; /* WORDPIECE_NO_ID: the slot is free */
};

/* FNV-1a.  Its running value serves every prefix of a word; pieces that continue a word start
   from another value, so that "##ing" and "ing" need no separate tables. */
#define HASH_START 2166136261u
#define HASH_CONTINUE 0x9E3779B9u

static uint32_t hash_more(uint32_t hash, const char *bytes, size_t length) {
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 16777619u;
  return hash;
}

/* The slot that holds the token, or the free one where it would go.  Two pieces with the same
   bytes differ in "##", that is in where their bytes begin: after "##" or not. */
static struct wordpiece_slot *slot_for(const wordpiece_vocab *vocab, const char *bytes,
                                       size_t length, bool continues, uint32_t hash) {
  uint32_t at = hash & vocab->mask;
  for (;; at = (at + 1) & vocab->mask) {
    struct wordpiece_slot *slot = &vocab->slots[at];
    if (slot->id == WORDPIECE_NO_ID) return slot;
    if (slot->hash != hash || slot->length != length) continue;
    const char *token = vocab->text + slot->offset;
    bool token_continues = slot->offset >= 2 && token[-1] == '#' && token[-2] == '#';
    if (token_continues == continues && memcmp(token, bytes, length) == 0) return slot;
  }
}

static size_t count_code_points(const char *bytes, size_t length) {
  size_t count = 0;
  for (size_t i = 0; i < length; i++) count += ((unsigned char)bytes[i] & 0xC0) != 0x80;
  return count;
}

static bool is_line_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void add_token(wordpiece_vocab *vocab, const char *token, size_t length, uint32_t id) {
  bool continues = length > 2 && token[0] == '#' && token[1] == '#';
  if (continues) token += 2, length -= 2;
  uint32_t hash = hash_more(continues ? HASH_CONTINUE : HASH_START, token, length);
  struct wordpiece_slot *slot = slot_for(vocab, token, length, continues, hash);
  slot->offset = (uint32_t)(token - vocab->text);
  slot->length = (uint32_t)length;
  slot->hash = hash;
  slot->id = id; /* of two equal lines the later one counts */
  uint32_t points = (uint32_t)count_code_points(token, length);
  if (points > vocab->longest) vocab->longest = points;
}

static uint32_t special_id(const wordpiece_vocab *vocab, const char *name) {
  size_t length = strlen(name);
  uint32_t hash = hash_more(HASH_START, name, length);
  return slot_for(vocab, name, length, false, hash)->id;
}

const char *wordpiece_open(wordpiece_vocab *vocab, const char *text, size_t length) {
  memset(vocab, 0, sizeof *vocab);
  vocab->text = text;
  if (length > INT32_MAX) return "the vocabulary is larger than 2 GiB";

  size_t lines = length > 0 && text[length - 1] != '\n';
  for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
  size_t slots = 16;
  while (slots < lines * 2) slots *= 2;
  if (slots > SIZE_MAX / sizeof *vocab->slots) return "the vocabulary has too many lines";
  vocab->slots = malloc(slots * sizeof *vocab->slots);
  if (vocab->slots == NULL) return "out of memory";
  for (size_t i = 0; i < slots; i++) vocab->slots[i].id = WORDPIECE_NO_ID;
  vocab->mask = (uint32_t)(slots - 1);

  const char *at = text, *end = text + length;
  while (at < end) {
    const char *line_end = memchr(at, '\n', (size_t)(end - at));
    if (line_end == NULL) line_end = end;
    const char *token_end = line_end;
    while (token_end > at && is_line_space(token_end[-1])) token_end--;
    if (token_end > at) add_token(vocab, at, (size_t)(token_end - at), vocab->count);
    vocab->count++;
    at = line_end + (line_end < end);
  }
  if (vocab->longest > BERT_WORD_MAX) vocab->longest = BERT_WORD_MAX;

  for (int i = 0; i < WORDPIECE_SPECIALS; i++) {
    vocab->special[i] = special_id(vocab, SPECIAL_NAMES[i]);
  }
  if (vocab->special[WORDPIECE_UNK] == WORDPIECE_NO_ID) return "the vocabulary has no [UNK]";
  if (vocab->special[WORDPIECE_CLS] == WORDPIECE_NO_ID) return "the vocabulary has no [CLS]";
  if (vocab->special[WORDPIECE_SEP] == WORDPIECE_NO_ID) return "the vocabulary has no [SEP]";
  if (vocab->special[WORDPIECE_PAD] == WORDPIECE_NO_ID) return "the vocabulary has no [PAD]";
  return NULL;
}

void wordpiece_close(wordpiece_vocab *vocab) {
  free(vocab->slots);
  vocab->slots = NULL;
}

/* Where tokens go; `put` turns false when there is no more room. */
typedef struct {
  wordpiece_token *tokens;
  size_t count;
  size_t room;
} sink;

static bool put(sink *out, uint32_t id, bert_span span) {
  if (out->count == out->room) return false;
  out->tokens[out->count++] = (wordpiece_token){id, span.start, span.end};
  return true;
}

/* Greedy longest match over one word.  From each start the hashes of all prefixes no longer than
   the longest token are made once, then tried from the longest on: time grows with the word's
   length times the longest token's, and never more. */
static bool put_word(const wordpiece_vocab *vocab, const bert_words *word, sink *out) {
  uint32_t unknown = vocab->special[WORDPIECE_UNK];
  if (word->too_long) return put(out, unknown, word->span);

  size_t first = out->count;
  bool is_room = true;
  for (size_t start = 0; start < word->length;) {
    const char *piece = word->bytes + word->edges[start];
    const uint16_t *edges = word->edges;
    uint32_t hashes[BERT_WORD_MAX + 1];
    uint32_t hash = start > 0 ? HASH_CONTINUE : HASH_START;
    size_t stop = word->length;
    if (stop - start > vocab->longest) stop = start + vocab->longest;
    for (size_t i = start; i < stop; i++) {
      hash = hash_more(hash, word->bytes + edges[i], (size_t)edges[i + 1] - edges[i]);
      hashes[i + 1] = hash;
    }
    uint32_t id = WORDPIECE_NO_ID;
    for (; stop > start; stop--) {
      size_t size = (size_t)edges[stop] - edges[start];
      id = slot_for(vocab, piece, size, start > 0, hashes[stop])->id;
      if (id != WORDPIECE_NO_ID) break;
    }
    if (id == WORDPIECE_NO_ID) { /* the whole word is unknown */
      out->count = first;
      return put(out, unknown, word->span);
    }
    /* The rest is looked at all the same: it may make the word an unknown one. */
    is_room = put(out, id, bert_words_span(word, start, stop - 1)) && is_room;
    start = stop;
  }
  return is_room;
}

static bool put_text(const wordpiece_vocab *vocab, const char *text, bert_span part, sink *out) {
  bert_words words;
  bert_words_start(&words, text, part, vocab->cased);
  while (bert_words_next(&words)) {
    if (!put_word(vocab, &words, out)) return false;
  }
  return true;
}

/* The special token that begins at `text`, or -1. */
static int special_at(const wordpiece_vocab *vocab, const char *text, size_t length) {
  for (int i = 0; i < WORDPIECE_SPECIALS; i++) {
    size_t size = strlen(SPECIAL_NAMES[i]);
    if (vocab->special[i] != WORDPIECE_NO_ID && length >= size &&
        memcmp(text, SPECIAL_NAMES[i], size) == 0) {
      return i;
    }
  }
  return -1;
}

size_t wordpiece_tokens(const wordpiece_vocab *vocab, const char *text, size_t length,
                        wordpiece_token *tokens, size_t room) {
  sink out = {tokens, 0, room};
  const char *end = text + length;
  bert_span rest = {0, (uint32_t)length}; /* not tokenized yet */
  bool is_room = true;
  for (const char *at = text; is_room && !vocab->literal && at < end;) {
    at = memchr(at, '[', (size_t)(end - at));
    if (at == NULL) break;
    int special = special_at(vocab, at, (size_t)(end - at));
    if (special < 0) {
      at++;
      continue;
    }
    bert_span span = {(uint32_t)(at - text), 0};
    at += strlen(SPECIAL_NAMES[special]);
    span.end = (uint32_t)(at - text);
    is_room = put_text(vocab, text, (bert_span){rest.start, span.start}, &out) &&
              put(&out, vocab->special[special], span);
    rest.start = span.end;
  }
  if (is_room) put_text(vocab, text, rest, &out);
  return out.count;
}
