/* Indirect calls: n thousand runs of a random program of 256 steps, each a call through a table of
 * sixteen functions. */
#include "kernel.h"

enum { STEPS = 256, OPERATIONS = 16 };

struct machine {
    uint32_t x, y;
};

typedef void operation(struct machine *, uint32_t);

static void add(struct machine *m, uint32_t k) { m->x += k; }
static void subtract(struct machine *m, uint32_t k) { m->y -= k; }
static void multiply(struct machine *m, uint32_t k) { m->x *= k | 1; }
static void exchange(struct machine *m, uint32_t k) {
    uint32_t x = m->x;
    m->x = m->y + k;
    m->y = x;
}
static void exclusive(struct machine *m, uint32_t k) { m->y ^= m->x + k; }
static void both(struct machine *m, uint32_t k) { m->x &= m->y | k; }
static void either(struct machine *m, uint32_t k) { m->y |= m->x & k; }
static void left(struct machine *m, uint32_t k) { m->x <<= k & 7; }
static void right(struct machine *m, uint32_t k) { m->y >>= k & 7; }
static void rotate(struct machine *m, uint32_t k) {
    k = (k & 15) + 1;
    m->x = m->x << k | m->x >> (32 - k);
}
static void negate(struct machine *m, uint32_t k) { m->y = k - m->y; }
static void larger(struct machine *m, uint32_t k) { m->x = m->x > m->y ? m->x : m->y + k; }
static void smaller(struct machine *m, uint32_t k) { m->y = m->x < m->y ? m->x + k : m->y; }
static void mixed(struct machine *m, uint32_t k) { m->x = m->x * 33 ^ m->y ^ k; }
static void sum(struct machine *m, uint32_t k) { m->y += m->x ^ k; }
static void high(struct machine *m, uint32_t k) { m->x += (m->y >> 16) + k; }

static operation *const operations[OPERATIONS] = {
    add,   subtract, multiply, exchange, exclusive, both,  either, left,
    right, rotate,   negate,   larger,   smaller,   mixed, sum,    high,
};

int64_t run(int32_t n) {
    static uint8_t code[STEPS];
    static uint32_t operands[STEPS];
    uint64_t seed = 23;
    struct machine m = {1, 2};
    for (int i = 0; i < STEPS; i++) {
        code[i] = next_random(&seed) >> 28;
        operands[i] = next_random(&seed);
    }
    for (int64_t round = 0; round < (int64_t)n * 1000; round++) {
        for (int i = 0; i < STEPS; i++) operations[code[i]](&m, operands[i]);
    }
    return (int64_t)((uint64_t)m.x << 32 | m.y);
}
