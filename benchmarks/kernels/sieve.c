/* Integer: the sieve of Eratosthenes over bytes, n times; strided stores, then a count. */
#include "kernel.h"

enum { LIMIT = 1 << 19 };

static uint8_t composite[LIMIT];

int64_t run(int32_t n) {
    int64_t sum = 0;
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < LIMIT; i++) composite[i] = 0;
        for (int i = 2; i * i < LIMIT; i++) {
            if (composite[i]) continue;
            for (int j = i * i; j < LIMIT; j += i) composite[j] = 1;
        }
        for (int i = 2 + round % 7; i < LIMIT; i++) sum += composite[i] == 0;
    }
    return sum;
}
