/* 128-bit vectors under WebAssembly's names. For WebAssembly they are the compiler's intrinsics; for
 * native code the same names stand for the compiler's portable vectors, so that one source is both.
 * Only what the kernels use is here, and only where the two agree bit for bit. */
#ifndef SIMD_H
#define SIMD_H

#include <stdint.h>

#ifdef __wasm__
#include <wasm_simd128.h>
#else

typedef int32_t v128_t __attribute__((vector_size(16), aligned(16)));

/* NAME_view: the same 16 bytes as lanes of one type. */
#define SIMD_LANES(name, type) typedef type name##_view __attribute__((vector_size(16), aligned(16)))
SIMD_LANES(i8x16, int8_t);
SIMD_LANES(u8x16, uint8_t);
SIMD_LANES(i16x8, int16_t);
SIMD_LANES(u16x8, uint16_t);
SIMD_LANES(i32x4, int32_t);
SIMD_LANES(f32x4, float);
SIMD_LANES(f64x2, double);
typedef int16_t i16x16_pair __attribute__((vector_size(32)));
typedef _Bool bits_of_16 __attribute__((ext_vector_type(16)));

#define SIMD static inline __attribute__((always_inline))

typedef v128_t unaligned_v128 __attribute__((aligned(1)));

SIMD v128_t wasm_v128_load(const void *from) { return *(const unaligned_v128 *)from; }
SIMD void wasm_v128_store(void *to, v128_t value) { *(unaligned_v128 *)to = value; }

#define SIMD_BINARY(name, view, operator)                                                            \
    SIMD v128_t wasm_##name(v128_t a, v128_t b) { return (v128_t)((view)a operator(view) b); }

SIMD_BINARY(v128_and, i32x4_view, &)
SIMD_BINARY(v128_or, i32x4_view, |)
SIMD_BINARY(i8x16_eq, i8x16_view, ==)
SIMD_BINARY(i16x8_add, i16x8_view, +)
SIMD_BINARY(i32x4_add, i32x4_view, +)
SIMD_BINARY(i32x4_sub, i32x4_view, -)
SIMD_BINARY(f32x4_add, f32x4_view, +)
SIMD_BINARY(f32x4_sub, f32x4_view, -)
SIMD_BINARY(f32x4_mul, f32x4_view, *)
SIMD_BINARY(f32x4_le, f32x4_view, <=)
SIMD_BINARY(f64x2_add, f64x2_view, +)
SIMD_BINARY(f64x2_sub, f64x2_view, -)
SIMD_BINARY(f64x2_mul, f64x2_view, *)
SIMD_BINARY(f64x2_div, f64x2_view, /)

SIMD v128_t wasm_i8x16_splat(int8_t x) {
    return (v128_t)(i8x16_view){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}
SIMD v128_t wasm_i16x8_splat(int16_t x) { return (v128_t)(i16x8_view){x, x, x, x, x, x, x, x}; }
SIMD v128_t wasm_i32x4_splat(int32_t x) { return (v128_t)(i32x4_view){x, x, x, x}; }
SIMD v128_t wasm_f32x4_splat(float x) { return (v128_t)(f32x4_view){x, x, x, x}; }
SIMD v128_t wasm_f64x2_splat(double x) { return (v128_t)(f64x2_view){x, x}; }
SIMD v128_t wasm_f32x4_make(float a, float b, float c, float d) {
    return (v128_t)(f32x4_view){a, b, c, d};
}
SIMD v128_t wasm_f64x2_make(double a, double b) { return (v128_t)(f64x2_view){a, b}; }

#define wasm_i32x4_extract_lane(a, lane) (((i32x4_view)(a))[lane])
#define wasm_f32x4_extract_lane(a, lane) (((f32x4_view)(a))[lane])
#define wasm_f64x2_extract_lane(a, lane) (((f64x2_view)(a))[lane])

SIMD v128_t wasm_f64x2_sqrt(v128_t a) { return (v128_t)__builtin_elementwise_sqrt((f64x2_view)a); }

SIMD v128_t wasm_u16x8_shr(v128_t a, uint32_t by) {
    uint16_t x = by & 15;
    return (v128_t)((u16x8_view)a >> (u16x8_view){x, x, x, x, x, x, x, x});
}

SIMD u16x8_view simd_low(v128_t a) {
    u8x16_view b = (u8x16_view)a;
    return __builtin_convertvector(__builtin_shufflevector(b, b, 0, 1, 2, 3, 4, 5, 6, 7), u16x8_view);
}
SIMD u16x8_view simd_high(v128_t a) {
    u8x16_view b = (u8x16_view)a;
    return __builtin_convertvector(__builtin_shufflevector(b, b, 8, 9, 10, 11, 12, 13, 14, 15),
                                   u16x8_view);
}
SIMD v128_t wasm_u16x8_extmul_low_u8x16(v128_t a, v128_t b) {
    return (v128_t)(simd_low(a) * simd_low(b));
}
SIMD v128_t wasm_u16x8_extmul_high_u8x16(v128_t a, v128_t b) {
    return (v128_t)(simd_high(a) * simd_high(b));
}

SIMD v128_t wasm_u8x16_narrow_i16x8(v128_t a, v128_t b) {
    i16x16_pair both = __builtin_shufflevector((i16x8_view)a, (i16x8_view)b, 0, 1, 2, 3, 4, 5, 6, 7, 8,
                                               9, 10, 11, 12, 13, 14, 15);
    i16x16_pair none = both - both, all = none + 255;
    both = __builtin_elementwise_min(__builtin_elementwise_max(both, none), all);
    return (v128_t)__builtin_convertvector(both, u8x16_view);
}

SIMD v128_t wasm_i32x4_dot_i16x8(v128_t a, v128_t b) {
    typedef int32_t i32x8 __attribute__((vector_size(32)));
    i32x8 p = __builtin_convertvector((i16x8_view)a, i32x8) * __builtin_convertvector((i16x8_view)b, i32x8);
    return (v128_t)(__builtin_shufflevector(p, p, 0, 2, 4, 6) + __builtin_shufflevector(p, p, 1, 3, 5, 7));
}

SIMD uint32_t wasm_i8x16_bitmask(v128_t a) {
    union {
        bits_of_16 bits;
        uint16_t number;
    } mask;
    mask.bits = __builtin_convertvector((i8x16_view)a < (i8x16_view){0}, bits_of_16);
    return mask.number;
}

SIMD int wasm_v128_any_true(v128_t a) { return __builtin_reduce_or((i32x4_view)a) != 0; }

#endif
#endif
