/* Vectors of i16: n times a filter of 64 taps over 4,096 samples, by products of pairs added into 32
 * bits, as audio codecs and quantised networks do. */
#include "kernel.h"
#include "simd.h"

enum { SAMPLES = 4096, TAPS = 64 };

static int16_t sound[SAMPLES + TAPS], taps[TAPS];

int64_t run(int32_t n) {
    uint64_t seed = 441, sum = 0;
    for (int i = 0; i < SAMPLES + TAPS; i++) sound[i] = (int16_t)(next_random(&seed) >> 20);
    for (int i = 0; i < TAPS; i++) taps[i] = (int16_t)((int32_t)next_random(&seed) >> 18);
    for (int32_t round = 0; round < n; round++) {
        uint32_t loud = 0;
        for (int at = 0; at < SAMPLES; at++) {
            v128_t total = wasm_i32x4_splat(0);
            for (int i = 0; i < TAPS; i += 8) {
                v128_t products = wasm_i32x4_dot_i16x8(wasm_v128_load(sound + at + i), wasm_v128_load(taps + i));
                total = wasm_i32x4_add(total, products);
            }
            uint32_t value = (uint32_t)wasm_i32x4_extract_lane(total, 0);
            value += (uint32_t)wasm_i32x4_extract_lane(total, 1);
            value += (uint32_t)wasm_i32x4_extract_lane(total, 2);
            value += (uint32_t)wasm_i32x4_extract_lane(total, 3);
            loud = loud * 3 + (value >> 7);
        }
        taps[round % TAPS] ^= 0x55;
        sum = sum * 31 + loud;
    }
    return (int64_t)sum;
}
