/* Vectors of f64: n steps of sixteen bodies that attract each other in a plane; every body feels two
 * others at a time. */
#include "kernel.h"
#include "simd.h"

enum { BODIES = 16 };

static double x[BODIES], y[BODIES], vx[BODIES], vy[BODIES], mass[BODIES];

static double both(v128_t pair) {
    return wasm_f64x2_extract_lane(pair, 0) + wasm_f64x2_extract_lane(pair, 1);
}

static void pull(int body, double step) {
    v128_t px = wasm_f64x2_splat(x[body]), py = wasm_f64x2_splat(y[body]);
    v128_t ax = wasm_f64x2_splat(0), ay = ax, soft = wasm_f64x2_splat(0.01);
    for (int other = 0; other < BODIES; other += 2) {
        v128_t dx = wasm_f64x2_sub(wasm_v128_load(x + other), px);
        v128_t dy = wasm_f64x2_sub(wasm_v128_load(y + other), py);
        v128_t square = wasm_f64x2_add(wasm_f64x2_mul(dx, dx), wasm_f64x2_mul(dy, dy));
        square = wasm_f64x2_add(square, soft);
        v128_t cube = wasm_f64x2_mul(square, wasm_f64x2_sqrt(square));
        v128_t force = wasm_f64x2_div(wasm_v128_load(mass + other), cube);
        ax = wasm_f64x2_add(ax, wasm_f64x2_mul(dx, force));
        ay = wasm_f64x2_add(ay, wasm_f64x2_mul(dy, force));
    }
    vx[body] += both(ax) * step;
    vy[body] += both(ay) * step;
}

int64_t run(int32_t n) {
    uint64_t seed = 1687, sum = 0;
    for (int i = 0; i < BODIES; i++) {
        x[i] = (int32_t)next_random(&seed) * 0x1p-31;
        y[i] = (int32_t)next_random(&seed) * 0x1p-31;
        vx[i] = vy[i] = 0;
        mass[i] = next_random(&seed) * 0x1p-32;
    }
    v128_t step = wasm_f64x2_make(0.001, 0.001);
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < BODIES; i++) pull(i, 0.001);
        for (int i = 0; i < BODIES; i += 2) {
            v128_t ox = wasm_f64x2_mul(wasm_v128_load(vx + i), step);
            v128_t oy = wasm_f64x2_mul(wasm_v128_load(vy + i), step);
            wasm_v128_store(x + i, wasm_f64x2_add(wasm_v128_load(x + i), ox));
            wasm_v128_store(y + i, wasm_f64x2_add(wasm_v128_load(y + i), oy));
        }
    }
    for (int i = 0; i < BODIES; i++) sum = fold_double(fold_double(sum, x[i]), y[i]);
    return (int64_t)(sum + (uint64_t)n);
}
