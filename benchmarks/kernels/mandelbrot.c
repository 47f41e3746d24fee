/* Float: escape times of an n by n picture of the Mandelbrot set, 200 iterations at most. */
#include "kernel.h"

int64_t run(int32_t n) {
    uint64_t sum = 0;
    for (int32_t row = 0; row < n; row++) {
        double ci = 2.4 * row / n - 1.2;
        for (int32_t column = 0; column < n; column++) {
            double cr = 3.0 * column / n - 2.1;
            double zr = 0.0, zi = 0.0;
            int steps = 0;
            while (steps < 200) {
                double r2 = zr * zr, i2 = zi * zi;
                if (r2 + i2 > 4.0) break;
                zi = 2.0 * zr * zi + ci;
                zr = r2 - i2 + cr;
                steps++;
            }
            sum = sum * 3 + (uint64_t)steps;
        }
    }
    return (int64_t)sum;
}
