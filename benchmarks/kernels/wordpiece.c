/* Hashing and string comparison: a text of 4,096 words is split, lower-cased and cut greedily into the
 * longest pieces of a vocabulary of 8,192, as BERT's tokenizer does; n times. */
#include "kernel.h"

enum { PIECES = 8192, SLOTS = 4 * PIECES, LONGEST = 24, WORDS = 4096, TEXT = WORDS * (LONGEST + 2) };

struct piece {
    uint32_t hash;
    int32_t id; /* 0: the slot is free */
    uint8_t length, inner;
    char letters[LONGEST];
};

static struct piece slots[SLOTS];
static char text[TEXT];
static int32_t text_length, pieces;

static const char *const syllables[32] = {
    "ba", "ton", "re", "ka", "in", "er", "lo", "mi",  "sta", "ve", "qu", "or", "un", "pre", "al", "is",
    "do", "ne", "chi", "ly", "gra", "tu", "zo", "fe", "hu",  "ex", "ja", "wi", "pe", "sy",  "ri", "ma",
};

static int append(char *to, int length, uint64_t *seed) {
    for (const char *from = syllables[next_random(seed) & 31]; *from; from++) to[length++] = *from;
    return length;
}

/* FNV-1a over the letters; a piece within a word is another than one at its start. */
static uint32_t start_hash(int inner) { return inner ? 2166136261u : 0x9747B28Cu; }
static uint32_t next_hash(uint32_t hash, char letter) { return (hash ^ (uint8_t)letter) * 16777619u; }

static int same(const struct piece *piece, const char *letters, int length, int inner) {
    if (piece->length != length || piece->inner != inner) return 0;
    for (int i = 0; i < length; i++) {
        if (piece->letters[i] != letters[i]) return 0;
    }
    return 1;
}

/* The slot of the piece, or the free one where it belongs. */
static struct piece *look_up(uint32_t hash, const char *letters, int length, int inner) {
    for (uint32_t at = hash >> 5;; at++) {
        struct piece *piece = &slots[at & (SLOTS - 1)];
        if (!piece->id) return piece;
        if (piece->hash == hash && same(piece, letters, length, inner)) return piece;
    }
}

static void add(const char *letters, int length, int inner) {
    uint32_t hash = start_hash(inner);
    for (int i = 0; i < length; i++) hash = next_hash(hash, letters[i]);
    struct piece *piece = look_up(hash, letters, length, inner);
    if (piece->id) return;
    piece->hash = hash;
    piece->id = ++pieces;
    piece->length = (uint8_t)length;
    piece->inner = (uint8_t)inner;
    for (int i = 0; i < length; i++) piece->letters[i] = letters[i];
}

static void fill_vocabulary(void) {
    uint64_t seed = 1806;
    for (char letter = 'a'; letter <= 'y'; letter++) {
        add(&letter, 1, 0);
        add(&letter, 1, 1);
    }
    for (int tries = 0; pieces < PIECES && tries < 4 * PIECES; tries++) {
        char letters[LONGEST];
        int length = 0;
        for (uint32_t left = 1 + next_random(&seed) % 4; left; left--) length = append(letters, length, &seed);
        add(letters, length, next_random(&seed) & 1);
    }
}

static void write_text(void) {
    uint64_t seed = 1936;
    text_length = 0;
    for (int word = 0; word < WORDS; word++) {
        int start = text_length;
        for (uint32_t left = 1 + next_random(&seed) % 6; left; left--) {
            text_length = append(text, text_length, &seed);
        }
        if (next_random(&seed) & 1) text[start] = (char)(text[start] - 32);
        uint32_t mark = next_random(&seed) & 15;
        if (mark == 0) text[text_length++] = ',';
        if (mark == 1) text[text_length++] = '.';
        text[text_length++] = ' ';
    }
}

/* Cut one word into pieces and fold their numbers in; a word that can not be cut counts as one. */
static uint64_t cut(const char *word, int length, uint64_t sum) {
    uint64_t before = sum;
    for (int start = 0; start < length;) {
        uint32_t hashes[LONGEST + 1];
        int inner = start > 0, size = length - start < LONGEST ? length - start : LONGEST;
        hashes[0] = start_hash(inner);
        for (int i = 0; i < size; i++) hashes[i + 1] = next_hash(hashes[i], word[start + i]);
        for (; size; size--) {
            struct piece *piece = look_up(hashes[size], word + start, size, inner);
            if (!piece->id) continue;
            sum = sum * 0x100000001B3u + (uint64_t)piece->id;
            break;
        }
        if (!size) return before * 0x100000001B3u + 100;
        start += size;
    }
    return sum;
}

int64_t run(int32_t n) {
    uint64_t sum = 0;
    if (!pieces) fill_vocabulary();
    write_text();
    for (int32_t round = 0; round < n; round++) {
        char word[LONGEST + 1];
        int length = 0;
        for (int32_t at = 0; at < text_length; at++) {
            char c = text[at];
            if (c >= 'A' && c <= 'Z') c = (char)(c + 32);
            if (c >= 'a' && c <= 'z') {
                if (length < LONGEST) word[length++] = c;
                continue;
            }
            sum = cut(word, length, sum);
            length = 0;
            if (c != ' ') sum = sum * 31 + (uint8_t)c;
        }
    }
    return (int64_t)sum;
}
