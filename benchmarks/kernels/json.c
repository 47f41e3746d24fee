/* Branches and small allocations: a document of records is parsed n times into a tree of nodes, with
 * escapes, numbers and nesting, and the tree is walked. */
#include "kernel.h"

/* -- a document to parse ------------------------------------------------------------------------ */

enum { DOCUMENT = 64 * 1024, NODES = 16 * 1024 };

static char document[DOCUMENT];
static int32_t written;

static void put(const char *text) {
    while (*text && written < DOCUMENT - 1) document[written++] = *text++;
}

static void put_number(uint32_t value) {
    char digits[12];
    int at = 11;
    digits[at] = 0;
    do digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    put(digits + at);
}

static void put_record(uint64_t *seed) {
    static const char *const words[8] = {"alpha", "b\\\"eta\\\"", "gamma ray", "d\\u00e9lta",
                                         "line\\nbreak", "", "zeta-zeta-zeta-zeta", "\\\\eta"};
    put("{\"id\": ");
    put_number(next_random(seed));
    put(", \"name\": \"");
    put(words[next_random(seed) & 7]);
    put("\",\n  \"price\": ");
    if (next_random(seed) & 1) put("-");
    put_number(next_random(seed) >> 20);
    put(".");
    put_number(next_random(seed) >> 16);
    if ((next_random(seed) & 3) == 0) put("e-3");
    put(", \"tags\": [");
    for (uint32_t left = next_random(seed) & 7; left; left--) {
        put("\"");
        put(words[next_random(seed) & 7]);
        put(left > 1 ? "\", " : "\"");
    }
    put(next_random(seed) & 1 ? "], \"stock\": true" : "], \"stock\": null");
    put(", \"place\": {\"x\": ");
    put_number(next_random(seed) >> 24);
    put(", \"y\": [[], {}, false]}}");
}

static void write_document(void) {
    uint64_t seed = 90;
    written = 0;
    put("[");
    for (int i = 0; written < DOCUMENT - 1024; i++) {
        if (i) put(",\n ");
        put_record(&seed);
    }
    put("]");
    document[written] = 0;
}

/* -- the parser --------------------------------------------------------------------------------- */

enum kind { NOTHING, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT };

struct node {
    enum kind kind;
    uint32_t hash; /* of the string, or of a member's name */
    double number;
    struct node *first, *next, *value;
};

static struct node nodes[NODES];
static int32_t used;
static const char *cursor;

static struct node *make(enum kind kind) {
    struct node *node = &nodes[used < NODES - 1 ? used++ : used];
    node->kind = kind;
    node->hash = 0;
    node->number = 0;
    node->first = node->next = node->value = 0;
    return node;
}

static void skip_space(void) {
    while (*cursor == ' ' || *cursor == '\n' || *cursor == '\t' || *cursor == '\r') cursor++;
}

static uint32_t mix(uint32_t hash, uint32_t unit) { return (hash ^ unit) * 16777619u; }

static uint32_t string_hash(void) {
    uint32_t hash = 2166136261u;
    cursor++;
    while (*cursor && *cursor != '"') {
        if (*cursor != '\\') {
            hash = mix(hash, (uint8_t)*cursor++);
            continue;
        }
        cursor++;
        switch (*cursor++) {
        case 'n': hash = mix(hash, '\n'); break;
        case 't': hash = mix(hash, '\t'); break;
        case 'u': {
            uint32_t code = 0;
            for (int i = 0; i < 4; i++) {
                uint32_t c = (uint8_t)*cursor++;
                code = code * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
            }
            hash = mix(hash, code);
            break;
        }
        default: hash = mix(hash, (uint8_t)cursor[-1]); break;
        }
    }
    cursor++;
    return hash;
}

static double number(void) {
    int negative = *cursor == '-';
    double value = 0, scale = 1;
    if (negative) cursor++;
    while (*cursor >= '0' && *cursor <= '9') value = value * 10 + (*cursor++ - '0');
    if (*cursor == '.') {
        cursor++;
        while (*cursor >= '0' && *cursor <= '9') {
            scale *= 10;
            value = value * 10 + (*cursor++ - '0');
        }
    }
    if (*cursor == 'e' || *cursor == 'E') {
        cursor++;
        int down = *cursor == '-', power = 0;
        if (*cursor == '-' || *cursor == '+') cursor++;
        while (*cursor >= '0' && *cursor <= '9') power = power * 10 + (*cursor++ - '0');
        for (; power > 0; power--) {
            if (down) scale *= 10;
            else value *= 10;
        }
    }
    return negative ? -value / scale : value / scale;
}

static struct node *parse(void) {
    struct node *node;
    skip_space();
    switch (*cursor) {
    case '{':
    case '[': {
        int object = *cursor++ == '{';
        node = make(object ? OBJECT : ARRAY);
        struct node **link = &node->first;
        for (;;) {
            skip_space();
            if (!*cursor || *cursor == '}' || *cursor == ']') break;
            struct node *child;
            if (object) {
                child = make(STRING);
                child->hash = string_hash();
                skip_space();
                cursor++; /* the colon */
                child->value = parse();
            } else {
                child = parse();
            }
            *link = child;
            link = &child->next;
            skip_space();
            if (*cursor == ',') cursor++;
        }
        cursor++;
        return node;
    }
    case '"':
        node = make(STRING);
        node->hash = string_hash();
        return node;
    case 't':
    case 'f':
        node = make(BOOLEAN);
        node->number = *cursor == 't';
        cursor += *cursor == 't' ? 4 : 5;
        return node;
    case 'n': cursor += 4; return make(NOTHING);
    default:
        node = make(NUMBER);
        node->number = number();
        return node;
    }
}

static uint64_t walk(const struct node *node, uint64_t sum) {
    sum = fold_double(sum + node->hash + (uint64_t)node->kind, node->number);
    if (node->value) sum = walk(node->value, sum);
    for (const struct node *child = node->first; child; child = child->next) sum = walk(child, sum);
    return sum;
}

int64_t run(int32_t n) {
    uint64_t sum = 0;
    write_document();
    for (int32_t round = 0; round < n; round++) {
        used = 0;
        cursor = document;
        sum = walk(parse(), sum + (uint64_t)used);
    }
    return (int64_t)sum;
}
