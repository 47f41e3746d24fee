/* Float: n forward and inverse fast Fourier transforms of 8192 complex doubles (radix 2, in place);
 * strided access and a bit-reversal permutation. */
#include "kernel.h"

enum { LOG = 13, SIZE = 1 << LOG };

static double real[SIZE], imaginary[SIZE], cosine[SIZE / 2], sine[SIZE / 2];

/* cos and sin of 2 pi k / SIZE by their power series, since there is no C library. */
static void make_twiddles(void) {
    for (int k = 0; k < SIZE / 2; k++) {
        double angle = 6.283185307179586 * k / SIZE;
        double c = 0.0, s = 0.0, term = 1.0;
        for (int i = 0; i < 32; i++) {
            switch (i & 3) {
            case 0: c += term; break;
            case 1: s += term; break;
            case 2: c -= term; break;
            default: s -= term; break;
            }
            term = term * angle / (i + 1);
        }
        cosine[k] = c;
        sine[k] = s;
    }
}

static void transform(double sign) {
    for (uint32_t i = 0, j = 0; i < SIZE; i++) {
        if (i < j) {
            double r = real[i], m = imaginary[i];
            real[i] = real[j];
            imaginary[i] = imaginary[j];
            real[j] = r;
            imaginary[j] = m;
        }
        uint32_t bit = SIZE >> 1;
        while (j & bit) {
            j ^= bit;
            bit >>= 1;
        }
        j |= bit;
    }
    for (int half = 1; half < SIZE; half *= 2) {
        int stride = SIZE / 2 / half;
        for (int base = 0; base < SIZE; base += 2 * half) {
            for (int k = 0; k < half; k++) {
                double wr = cosine[k * stride], wi = sign * sine[k * stride];
                int low = base + k, high = low + half;
                double tr = real[high] * wr - imaginary[high] * wi;
                double ti = real[high] * wi + imaginary[high] * wr;
                real[high] = real[low] - tr;
                imaginary[high] = imaginary[low] - ti;
                real[low] += tr;
                imaginary[low] += ti;
            }
        }
    }
}

int64_t run(int32_t n) {
    uint64_t seed = 13, sum = 0;
    make_twiddles();
    for (int i = 0; i < SIZE; i++) {
        real[i] = next_random(&seed) * 0x1p-32 - 0.5;
        imaginary[i] = 0.0;
    }
    for (int32_t round = 0; round < n; round++) {
        transform(-1.0);
        sum = fold_double(sum, real[round & (SIZE - 1)]);
        transform(1.0);
        for (int i = 0; i < SIZE; i++) {
            real[i] *= 1.0 / SIZE;
            imaginary[i] *= 1.0 / SIZE;
        }
    }
    return (int64_t)sum;
}
