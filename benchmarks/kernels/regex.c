/* Branches: regular expressions are compiled to instructions and run over a text of 16 KiB by keeping
 * the set of all states at once, so that no expression is exponential; n passes over six of them. */
#include "kernel.h"

/* -- compiling: recursive descent straight to instructions -------------------------------------- */

enum operation { BYTE, ANY, SET, SPLIT, JUMP, MATCH };

struct instruction {
    uint8_t operation, byte;
    int16_t first, second; /* where JUMP and SPLIT go; first: which set */
};

enum { CODE = 256, SETS = 16, TEXT = 16 * 1024 };

static struct instruction code[CODE];
static int code_length;
static uint32_t sets[SETS][8];
static int set_count;
static const char *pattern;

static int emit(enum operation operation, int first, int second) {
    struct instruction *at = &code[code_length];
    at->operation = (uint8_t)operation;
    at->byte = 0;
    at->first = (int16_t)first;
    at->second = (int16_t)second;
    return code_length++;
}

/* Make room for one instruction before `at`; targets at or behind it move along. */
static void insert(int at) {
    for (int i = code_length++; i > at; i--) code[i] = code[i - 1];
    for (int i = at + 1; i < code_length; i++) {
        if (code[i].operation != SPLIT && code[i].operation != JUMP) continue;
        if (code[i].first >= at) code[i].first++;
        if (code[i].operation == SPLIT && code[i].second >= at) code[i].second++;
    }
}

static void alternatives(void);

static void set(void) {
    uint32_t *bits = sets[set_count];
    for (int i = 0; i < 8; i++) bits[i] = 0;
    int negated = *pattern == '^';
    if (negated) pattern++;
    while (*pattern != ']') {
        uint8_t low = (uint8_t)*pattern++, high = low;
        if (pattern[0] == '-' && pattern[1] != ']') {
            high = (uint8_t)pattern[1];
            pattern += 2;
        }
        for (uint32_t c = low; c <= high; c++) bits[c >> 5] |= 1u << (c & 31);
    }
    pattern++;
    if (negated) {
        for (int i = 0; i < 8; i++) bits[i] = ~bits[i];
    }
    emit(SET, set_count++, 0);
}

static void repeated(void) {
    int start = code_length;
    char c = *pattern++;
    if (c == '(') {
        alternatives();
        pattern++;
    } else if (c == '[') {
        set();
    } else if (c == '.') {
        emit(ANY, 0, 0);
    } else {
        code[emit(BYTE, 0, 0)].byte = (uint8_t)c;
    }
    for (; *pattern == '*' || *pattern == '+' || *pattern == '?'; pattern++) {
        if (*pattern == '+') {
            emit(SPLIT, start, code_length + 1);
            continue;
        }
        insert(start);
        if (*pattern == '*') emit(JUMP, start, 0);
        code[start] = (struct instruction){SPLIT, 0, (int16_t)(start + 1), (int16_t)code_length};
    }
}

static void alternatives(void) {
    int start = code_length;
    while (*pattern && *pattern != '|' && *pattern != ')') repeated();
    if (*pattern != '|') return;
    pattern++;
    insert(start);
    int leave = emit(JUMP, 0, 0);
    code[start] = (struct instruction){SPLIT, 0, (int16_t)(start + 1), (int16_t)code_length};
    alternatives();
    code[leave].first = (int16_t)code_length;
}

static void compile(const char *source) {
    code_length = set_count = 0;
    pattern = source;
    alternatives();
    emit(MATCH, 0, 0);
}

/* -- running ------------------------------------------------------------------------------------ */

struct states {
    int count;
    int16_t list[CODE];
    uint32_t seen[CODE];
};

static struct states sides[2];
static uint32_t generation;

static void follow(struct states *states, int at) {
    while (states->seen[at] != generation) {
        states->seen[at] = generation;
        if (code[at].operation == JUMP) {
            at = code[at].first;
        } else if (code[at].operation == SPLIT) {
            follow(states, code[at].first);
            at = code[at].second;
        } else {
            states->list[states->count++] = (int16_t)at;
            return;
        }
    }
}

/* The end of the longest match that starts at `from`, or -1. */
static int match(const uint8_t *text, int from, int end) {
    struct states *now = &sides[0], *then = &sides[1];
    int longest = -1;
    now->count = 0;
    generation++;
    follow(now, 0);
    for (int at = from; now->count; at++) {
        generation++;
        then->count = 0;
        uint8_t c = at < end ? text[at] : 0;
        for (int i = 0; i < now->count; i++) {
            int state = now->list[i];
            const struct instruction *in = &code[state];
            int step = 0;
            switch (in->operation) {
            case BYTE: step = c == in->byte; break;
            case ANY: step = c && c != '\n'; break;
            case SET: step = c && sets[in->first][c >> 5] >> (c & 31) & 1; break;
            default: longest = at; break;
            }
            if (step) follow(then, state + 1);
        }
        struct states *swap = now;
        now = then;
        then = swap;
    }
    return longest;
}

static uint8_t text[TEXT];

static void write_text(void) {
    static const char *const words[16] = {
        "the ",   "quick ", "brown@fox.org ", "0x7F3a ", "12.50 ", "aaaaaaaab ", "foo(bar) ", "\n",
        "jumps ", "over ",  "a.b@c.example ", "-3e8 ",   "2026-11-23 ", "abababab ", "\"lazy\" ", "dog\n",
    };
    uint64_t seed = 1968;
    for (int at = 0; at < TEXT;) {
        for (const char *word = words[next_random(&seed) & 15]; *word && at < TEXT;) {
            text[at++] = (uint8_t)*word++;
        }
    }
}

int64_t run(int32_t n) {
    static const char *const expressions[6] = {
        "[a-z.]+@[a-z]+(.[a-z]+)*",
        "(0x[0-9a-fA-F]+|[-+]?[0-9]+(.[0-9]*)?(e[-+]?[0-9]+)?)",
        "(a|b)*abb?",
        "\"[^\"]*\"",
        "[0-9][0-9]*-[0-9]+-[0-9]+",
        "(quick|brown|lazy) (dog|fox|jumps|over)",
    };
    uint64_t sum = 0;
    write_text();
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < 6; i++) {
            compile(expressions[i]);
            for (int at = 0; at < TEXT;) {
                int end = match(text, at, TEXT);
                if (end > at) {
                    sum = sum * 31 + (uint64_t)(end - at);
                    at = end;
                } else {
                    at++;
                }
            }
        }
        text[(uint32_t)(round * 7919) % TEXT] = (uint8_t)('a' + round % 26);
    }
    return (int64_t)sum;
}
