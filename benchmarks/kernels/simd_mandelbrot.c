/* Vectors of f32: the Mandelbrot set on a grid of n by n points, four at a time, 100 steps at most. */
#include "kernel.h"
#include "simd.h"

static v128_t steps_of(v128_t x0, v128_t y0) {
    v128_t x = wasm_f32x4_splat(0), y = x, count = wasm_i32x4_splat(0);
    v128_t four = wasm_f32x4_splat(4);
    for (int step = 0; step < 100; step++) {
        v128_t xx = wasm_f32x4_mul(x, x), yy = wasm_f32x4_mul(y, y), xy = wasm_f32x4_mul(x, y);
        v128_t inside = wasm_f32x4_le(wasm_f32x4_add(xx, yy), four);
        if (!wasm_v128_any_true(inside)) break;
        count = wasm_i32x4_sub(count, inside);
        x = wasm_f32x4_add(wasm_f32x4_sub(xx, yy), x0);
        y = wasm_f32x4_add(wasm_f32x4_add(xy, xy), y0);
    }
    return count;
}

int64_t run(int32_t n) {
    uint64_t sum = 0;
    float scale = 1.0f / (float)n;
    for (int32_t row = 0; row < n; row++) {
        v128_t y = wasm_f32x4_splat((float)row * 2.5f * scale - 1.25f);
        for (int32_t column = 0; column < n; column += 4) {
            float at = (float)column;
            v128_t x = wasm_f32x4_make(at, at + 1, at + 2, at + 3);
            x = wasm_f32x4_mul(x, wasm_f32x4_splat(3.0f * scale));
            v128_t count = steps_of(wasm_f32x4_sub(x, wasm_f32x4_splat(2.25f)), y);
            sum = sum * 31 + (uint32_t)wasm_i32x4_extract_lane(count, 0);
            sum = sum * 31 + (uint32_t)wasm_i32x4_extract_lane(count, 1);
            sum = sum * 31 + (uint32_t)wasm_i32x4_extract_lane(count, 2);
            sum = sum * 31 + (uint32_t)wasm_i32x4_extract_lane(count, 3);
        }
    }
    return (int64_t)sum;
}
