/* Float: n products of 192 by 192 matrices of doubles, the inner loop along rows. */
#include "kernel.h"

enum { SIZE = 192 };

static double left[SIZE][SIZE], right[SIZE][SIZE], product[SIZE][SIZE];

int64_t run(int32_t n) {
    uint64_t seed = 3, sum = 0;
    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++) {
            left[i][j] = next_random(&seed) * 0x1p-32 - 0.5;
            right[i][j] = next_random(&seed) * 0x1p-32 - 0.5;
        }
    }
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < SIZE; i++) {
            for (int j = 0; j < SIZE; j++) product[i][j] = 0.0;
            for (int k = 0; k < SIZE; k++) {
                double factor = left[i][k];
                for (int j = 0; j < SIZE; j++) product[i][j] += factor * right[k][j];
            }
        }
        int at = round % SIZE;
        sum = fold_double(sum, product[at][at]);
        left[at][at] = product[at][0] * 0.01;
    }
    return (int64_t)sum;
}
