/* Vectors of f32: n passes of y = a x + y over two arrays of 64 KiB. */
#include "kernel.h"
#include "simd.h"

enum { COUNT = 16 * 1024 };

static float x[COUNT], y[COUNT];

int64_t run(int32_t n) {
    uint64_t seed = 1979, sum = 0;
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(int32_t)next_random(&seed) * 0x1p-31f;
        y[i] = (float)(int32_t)next_random(&seed) * 0x1p-31f;
    }
    for (int32_t round = 0; round < n; round++) {
        v128_t factor = wasm_f32x4_splat(round & 1 ? 0.75f : -0.5f);
        for (int i = 0; i < COUNT; i += 8) {
            v128_t first = wasm_f32x4_mul(factor, wasm_v128_load(x + i));
            v128_t second = wasm_f32x4_mul(factor, wasm_v128_load(x + i + 4));
            wasm_v128_store(y + i, wasm_f32x4_add(first, wasm_v128_load(y + i)));
            wasm_v128_store(y + i + 4, wasm_f32x4_add(second, wasm_v128_load(y + i + 4)));
        }
        sum = fold_double(sum, y[(uint32_t)(round * 7919) % COUNT]);
    }
    return (int64_t)sum;
}
