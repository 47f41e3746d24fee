/* Calls: Ackermann's function, n times A(3, 7), A(3, 8) or A(3, 9): up to 4093 frames deep. */
#include "kernel.h"

static int32_t ackermann(int32_t m, int32_t n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

int64_t run(int32_t n) {
    int64_t sum = 0;
    for (int32_t round = 0; round < n; round++) sum += ackermann(3, 7 + round % 3);
    return sum;
}
