/* Memory: a[i] = b[i] + s * c[i] and its two rotations over three arrays of 16 MiB, n times. */
#include "kernel.h"

enum { LENGTH = 1 << 21 };

static double a[LENGTH], b[LENGTH], c[LENGTH];

static void triad(double *restrict to, const double *restrict x, const double *restrict y,
                  double s) {
    for (int i = 0; i < LENGTH; i++) to[i] = x[i] + s * y[i];
}

int64_t run(int32_t n) {
    uint64_t sum = 0;
    for (int i = 0; i < LENGTH; i++) {
        a[i] = 0.0;
        b[i] = i * 0.5;
        c[i] = 1.0 - i;
    }
    for (int32_t round = 0; round < n; round++) {
        triad(a, b, c, 0.25);
        triad(b, c, a, -0.25);
        triad(c, a, b, 0.125);
        sum = fold_double(sum, c[(round * 4099) & (LENGTH - 1)]);
    }
    return (int64_t)sum;
}
