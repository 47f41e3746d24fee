/* Vectors of f32: n times a matrix of 128 rows of 384 by a vector, four sums side by side, as a layer
 * of a neural network or a search over embeddings does. */
#include "kernel.h"
#include "simd.h"

enum { ROWS = 128, WIDTH = 384 };

static float matrix[ROWS][WIDTH], vector[WIDTH], result[ROWS];

static float dot(const float *a, const float *b) {
    v128_t sums[4];
    for (int i = 0; i < 4; i++) sums[i] = wasm_f32x4_splat(0);
    for (int at = 0; at < WIDTH; at += 16) {
        for (int i = 0; i < 4; i++) {
            v128_t product = wasm_f32x4_mul(wasm_v128_load(a + at + 4 * i), wasm_v128_load(b + at + 4 * i));
            sums[i] = wasm_f32x4_add(sums[i], product);
        }
    }
    v128_t all = wasm_f32x4_add(wasm_f32x4_add(sums[0], sums[1]), wasm_f32x4_add(sums[2], sums[3]));
    return (wasm_f32x4_extract_lane(all, 0) + wasm_f32x4_extract_lane(all, 1)) +
           (wasm_f32x4_extract_lane(all, 2) + wasm_f32x4_extract_lane(all, 3));
}

int64_t run(int32_t n) {
    uint64_t seed = 384, sum = 0;
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < WIDTH; j++) matrix[i][j] = (float)(int32_t)next_random(&seed) * 0x1p-31f;
    }
    for (int j = 0; j < WIDTH; j++) vector[j] = (float)(int32_t)next_random(&seed) * 0x1p-31f;
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < ROWS; i++) result[i] = dot(matrix[i], vector);
        vector[round % WIDTH] = result[round % ROWS] * 0.0625f;
        sum = fold_double(sum, result[(uint32_t)(round * 31) % ROWS]);
    }
    return (int64_t)sum;
}
