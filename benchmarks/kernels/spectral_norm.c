/* Float: ten power iterations for the norm of the n by n matrix 1 / ((i+j)(i+j+1)/2 + i + 1);
 * integer arithmetic, conversions and divisions, no stored matrix. n is at most 4000. */
#include "kernel.h"

enum { MOST = 4000 };

static double u[MOST], v[MOST], between[MOST];

static double element(int i, int j) { return 1.0 / ((i + j) * (i + j + 1) / 2 + i + 1); }

static void times(int n, const double *from, double *to, int transposed) {
    for (int i = 0; i < n; i++) {
        double sum = 0.0;
        for (int j = 0; j < n; j++) sum += (transposed ? element(j, i) : element(i, j)) * from[j];
        to[i] = sum;
    }
}

int64_t run(int32_t n) {
    if (n > MOST) n = MOST;
    for (int i = 0; i < n; i++) u[i] = 1.0;
    for (int round = 0; round < 10; round++) {
        times(n, u, between, 0);
        times(n, between, v, 1);
        times(n, v, between, 0);
        times(n, between, u, 1);
    }
    double uv = 0.0, vv = 0.0;
    for (int i = 0; i < n; i++) {
        uv += u[i] * v[i];
        vv += v[i] * v[i];
    }
    return (int64_t)fold_double(0, __builtin_sqrt(uv / vv));
}
