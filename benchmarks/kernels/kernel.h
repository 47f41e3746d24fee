/* What every kernel shares: fixed-width types, the export mark and a random number generator.
 *
 * A kernel is one function, `int64_t run(int32_t n)`, that needs no C library: n scales the work,
 * the result is a checksum of it. The same source is built as a native shared library and as a
 * WebAssembly module, and both must return the same checksum, so floating point keeps to what
 * IEEE 754 fixes (no fused multiply-add, no library functions besides the square root).
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>

#ifdef __wasm__
#define EXPORT __attribute__((export_name("run")))
#else
#define EXPORT __attribute__((visibility("default")))
#endif

EXPORT int64_t run(int32_t n);

/* xorshift64*: full period, no multiplication-free bias in the upper bits. */
static inline uint32_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (uint32_t)((x * UINT64_C(0x2545F4914F6CDD1D)) >> 32);
}

/* The bits of a double, folded into a running checksum. */
static inline uint64_t fold_double(uint64_t sum, double value) {
    union {
        double number;
        uint64_t bits;
    } view;
    view.number = value;
    return (sum ^ view.bits) * UINT64_C(0x9E3779B97F4A7C15);
}

#endif
