/* Vectors of u8: n scans over 64 KiB of lines, by strlen for where the text ends and by the newlines'
 * bit masks for where each line does. */
#include "kernel.h"
#include "simd.h"

enum { BYTES = 64 * 1024 };

static uint8_t text[BYTES + 16];

static int32_t length_of(const uint8_t *from) {
    v128_t zero = wasm_i8x16_splat(0);
    for (int32_t at = 0;; at += 16) {
        uint32_t mask = wasm_i8x16_bitmask(wasm_i8x16_eq(wasm_v128_load(from + at), zero));
        if (mask) return at + __builtin_ctz(mask);
    }
}

int64_t run(int32_t n) {
    uint64_t seed = 2029, sum = 0;
    for (int i = 0; i < BYTES; i++) {
        uint32_t random = next_random(&seed);
        text[i] = random >> 26 ? (uint8_t)(33 + (random & 63)) : '\n';
    }
    v128_t newline = wasm_i8x16_splat('\n');
    for (int32_t round = 0; round < n; round++) {
        int32_t end = BYTES - 1 - round % 4096, start = 0;
        uint8_t kept = text[end];
        text[end] = 0;
        int32_t length = length_of(text + round % 16);
        for (int32_t at = 0; at < length; at += 16) {
            uint32_t mask = wasm_i8x16_bitmask(wasm_i8x16_eq(wasm_v128_load(text + at), newline));
            for (; mask; mask &= mask - 1) {
                int32_t stop = at + __builtin_ctz(mask);
                sum = sum * 31 + (uint32_t)(stop - start);
                start = stop + 1;
            }
        }
        text[end] = kept;
        sum += (uint32_t)length;
    }
    return (int64_t)sum;
}
