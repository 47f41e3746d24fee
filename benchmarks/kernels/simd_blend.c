/* Vectors of u8: n times two pictures of 256 KiB mixed by a weight, rounded, through 16-bit products
 * that are narrowed again. */
#include "kernel.h"
#include "simd.h"

enum { BYTES = 256 * 1024 };

static uint8_t front[BYTES], back[BYTES];

int64_t run(int32_t n) {
    uint64_t seed = 1984, sum = 0;
    for (int i = 0; i < BYTES; i++) {
        uint32_t random = next_random(&seed);
        front[i] = (uint8_t)random;
        back[i] = (uint8_t)(random >> 8);
    }
    v128_t half = wasm_i16x8_splat(128);
    for (int32_t round = 0; round < n; round++) {
        uint8_t weight = (uint8_t)(round * 37 + 11);
        v128_t more = wasm_i8x16_splat((int8_t)weight), less = wasm_i8x16_splat((int8_t)(255 - weight));
        for (int i = 0; i < BYTES; i += 16) {
            v128_t a = wasm_v128_load(front + i), b = wasm_v128_load(back + i);
            v128_t low = wasm_i16x8_add(wasm_u16x8_extmul_low_u8x16(a, more),
                                        wasm_u16x8_extmul_low_u8x16(b, less));
            v128_t high = wasm_i16x8_add(wasm_u16x8_extmul_high_u8x16(a, more),
                                         wasm_u16x8_extmul_high_u8x16(b, less));
            low = wasm_u16x8_shr(wasm_i16x8_add(low, half), 8);
            high = wasm_u16x8_shr(wasm_i16x8_add(high, half), 8);
            wasm_v128_store(back + i, wasm_u8x16_narrow_i16x8(low, high));
        }
        front[(uint32_t)(round * 7919) % BYTES] ^= 0xFF;
        sum = sum * 31 + back[(uint32_t)(round * 104729) % BYTES];
    }
    return (int64_t)sum;
}
