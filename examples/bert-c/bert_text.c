/* Text to words for BERT models; see bert_text.h. */
#include "bert_text.h"

#include "unicode_tables.h"

#define REPLACEMENT 0xFFFDu
#define SPACE 0x20u

#define HANGUL_FIRST 0xAC00u
#define HANGUL_LAST 0xD7A3u
#define HANGUL_VOWELS 21u
#define HANGUL_TRAILS 28u /* counting "no trailing consonant" */

static unsigned flags_of(uint32_t c) {
  return unicode_blocks[unicode_index[c >> UNICODE_BLOCK_BITS]]
                       [c & ((1u << UNICODE_BLOCK_BITS) - 1)];
}

/* Index of `c` in the ascending `table`; the caller knows that it is there. */
static size_t find(const uint32_t *table, size_t count, uint32_t c) {
  size_t low = 0;
  while (count > 1) {
    size_t half = count / 2;
    if (table[low + half] <= c) low += half;
    count -= half;
  }
  return low;
}

#define FIND(table, c) find(table, sizeof(table) / sizeof((table)[0]), c)

/* Takes one code point from the input, which is not empty. */
static uint32_t decode(bert_words *words) {
  const unsigned char *p = words->at;
  unsigned char lead = *p++;
  words->at = p;
  if (lead < 0x80) return lead;

  uint32_t c;
  unsigned more;
  /* Only the first continuation byte has narrower limits: they keep out overlong forms,
     surrogates and values past U+10FFFF. */
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    more = 1, c = lead & 0x1Fu;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    more = 2, c = lead & 0x0Fu;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    more = 3, c = lead & 0x07u;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return REPLACEMENT;
  }
  for (; more > 0; more--) {
    if (p == words->end || *p < low || *p > high) {
      words->at = p;
      return REPLACEMENT;
    }
    c = c << 6 | (*p++ & 0x3Fu);
    low = 0x80, high = 0xBF;
  }
  words->at = p;
  return c;
}

static void enqueue(bert_words *words, uint32_t c) { words->queue[words->queued++] = c; }

/* Decomposition without marks, and lower case, of a code point that is kept; cased, itself. */
static void enqueue_mapped(bert_words *words, uint32_t c, unsigned flags) {
  if (words->cased) {
    enqueue(words, c);
  } else if (c >= HANGUL_FIRST && c <= HANGUL_LAST) {
    uint32_t syllable = c - HANGUL_FIRST;
    uint32_t trail = syllable % HANGUL_TRAILS;
    enqueue(words, 0x1100u + syllable / (HANGUL_VOWELS * HANGUL_TRAILS));
    enqueue(words, 0x1161u + syllable / HANGUL_TRAILS % HANGUL_VOWELS);
    if (trail > 0) enqueue(words, 0x11A7u + trail);
  } else if (flags & UNICODE_MAPPED) {
    uint32_t target = unicode_targets[FIND(unicode_mapped, c)];
    if (target & UNICODE_EXPANSION) {
      uint32_t count = target >> 16 & 0x7FFFu, offset = target & 0xFFFFu;
      for (uint32_t i = 0; i < count; i++) enqueue(words, unicode_pool[offset + i]);
    } else {
      enqueue(words, target);
    }
  } else {
    enqueue(words, c);
  }
}

/* Refills the empty queue from the input; false at its end. */
static bool refill(bert_words *words) {
  words->queued = words->taken = 0;
  while (words->queued == 0) {
    if (words->at == words->end) return false;
    words->queue_span.start = (uint32_t)(words->at - words->text);
    uint32_t c = decode(words);
    words->queue_span.end = (uint32_t)(words->at - words->text);
    unsigned flags = flags_of(c);
    if (flags & UNICODE_DROP) {
      /* as if it had never been there */
    } else if (flags & UNICODE_MARK && !words->cased) {
      /* Gone too, but decomposition came first: a mark of class 0 stops reordering. */
      if (flags & UNICODE_BARRIER) words->barrier = words->length;
    } else if (flags & UNICODE_SPACE) {
      enqueue(words, SPACE);
    } else if (flags & UNICODE_CJK) {
      enqueue(words, SPACE);
      enqueue_mapped(words, c, flags);
      enqueue(words, SPACE);
    } else {
      enqueue_mapped(words, c, flags);
    }
  }
  return true;
}

/* Appends `c` to the word; a combining character goes to its canonical place, but where a place
   came from stays: so do Hugging Face tokenizers. */
static void append(bert_words *words, uint32_t c, unsigned flags) {
  if (words->length == 0) words->span.start = words->queue_span.start;
  words->span.end = words->queue_span.end;
  if (words->length == BERT_WORD_MAX) {
    words->too_long = true;
    return;
  }
  size_t at = words->length++;
  words->point_spans[at] = words->queue_span;
  uint8_t class = 0;
  if (flags & UNICODE_MOVABLE && !words->cased) {
    class = unicode_movable_class[FIND(unicode_movable, c)];
    for (; at > words->barrier && words->combining[at - 1] > class; at--) {
      words->points[at] = words->points[at - 1];
      words->combining[at] = words->combining[at - 1];
    }
  }
  words->points[at] = c;
  words->combining[at] = class;
}

/* Collects the code points of the next word, whatever they are. */
static bool next_points(bert_words *words) {
  while (words->taken < words->queued || refill(words)) {
    uint32_t c = words->queue[words->taken];
    unsigned flags = flags_of(c);
    bool alone = flags & UNICODE_PUNCTUATION;
    if (alone && words->length > 0) return true; /* and `c` is the next word */
    words->taken++;
    if (flags & UNICODE_SPACE) {
      if (words->length > 0) return true;
      words->barrier = 0;
      continue;
    }
    append(words, c, flags);
    if (alone) return true;
  }
  return words->length > 0;
}

/* Writes code point `c` to `out` (room for 4 bytes); returns how many bytes it took. */
static size_t put_utf8(uint32_t c, char *out) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = (char)(0xE0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3F));
    out[2] = (char)(0x80 | (c & 0x3F));
    return 3;
  }
  out[0] = (char)(0xF0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 0x3F));
  out[2] = (char)(0x80 | (c >> 6 & 0x3F));
  out[3] = (char)(0x80 | (c & 0x3F));
  return 4;
}

/* Where each code point of an ASCII word begins. */
#define TEN(n) n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7, n + 8, n + 9
static const uint16_t PLAIN_EDGES[BERT_WORD_MAX + 1] = {
    TEN(0), TEN(10), TEN(20), TEN(30), TEN(40), TEN(50), TEN(60), TEN(70), TEN(80), TEN(90), 100};
_Static_assert(BERT_WORD_MAX == 100, "PLAIN_EDGES counts to it");

/* Makes the next word if it is of ASCII, which most are: a byte for each code point.  False, with
   nothing read but spaces, when it is not, or too long, or there is none. */
static bool next_plain(bert_words *words) {
  const uint8_t *flags = unicode_blocks[unicode_index[0]];
  const unsigned char *at = words->at, *end = words->end;
  while (at < end && *at < 0x80 && flags[*at] & UNICODE_SPACE) at++;
  words->at = at;
  if (at == end || *at >= 0x80) return false;
  size_t count = 0;
  if (flags[*at] & UNICODE_PUNCTUATION) {
    words->bytes[count++] = (char)*at++;
  } else {
    while (at < end && *at < 0x80) {
      unsigned c = *at, kind = flags[c];
      if (kind & ~UNICODE_MAPPED) {
        if (kind & UNICODE_DROP) return false;
        break;
      }
      if (count == BERT_WORD_MAX) return false;
      /* What is mapped, here, are capitals. */
      words->bytes[count++] = (char)(kind && !words->cased ? c + ('a' - 'A') : c);
      at++;
    }
    /* What follows may be a part of the word. */
    if (at < end && *at >= 0x80) return false;
  }
  words->length = count;
  words->span = (bert_span){(uint32_t)(words->at - words->text), (uint32_t)(at - words->text)};
  words->edges = PLAIN_EDGES;
  words->spans = NULL;
  words->at = at;
  return true;
}

void bert_words_start(bert_words *words, const char *text, bert_span part, bool cased) {
  words->text = (const unsigned char *)text;
  words->at = words->text + part.start;
  words->end = words->text + part.end;
  words->cased = cased;
  words->queued = words->taken = 0;
}

bool bert_words_next(bert_words *words) {
  words->too_long = false;
  if (words->taken == words->queued && next_plain(words)) return true;
  words->length = words->barrier = 0;
  if (!next_points(words)) return false;
  size_t size = 0;
  for (size_t i = 0; i < words->length; i++) {
    words->point_edges[i] = (uint16_t)size;
    size += put_utf8(words->points[i], words->bytes + size);
  }
  words->point_edges[words->length] = (uint16_t)size;
  words->edges = words->point_edges;
  words->spans = words->point_spans;
  return true;
}

bert_span bert_words_span(const bert_words *words, size_t first, size_t last) {
  if (words->spans != NULL) return (bert_span){words->spans[first].start, words->spans[last].end};
  uint32_t start = words->span.start;
  return (bert_span){start + (uint32_t)first, start + (uint32_t)last + 1};
}
