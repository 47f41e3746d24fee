/* Integer, vector-friendly: n passes of a 3 by 3 box filter over a 512 by 512 picture of bytes. */
#include "kernel.h"

enum { SIZE = 512 };

static uint8_t picture[SIZE][SIZE], blurred[SIZE][SIZE];

static void filter(const uint8_t from[SIZE][SIZE], uint8_t to[SIZE][SIZE]) {
    for (int y = 1; y < SIZE - 1; y++) {
        for (int x = 1; x < SIZE - 1; x++) {
            uint32_t sum = 0;
            for (int dy = -1; dy <= 1; dy++) {
                for (int dx = -1; dx <= 1; dx++) sum += from[y + dy][x + dx];
            }
            to[y][x] = (uint8_t)((sum * 57 + 256) >> 9);
        }
    }
}

int64_t run(int32_t n) {
    uint64_t seed = 37, sum = 0;
    for (int y = 0; y < SIZE; y++) {
        for (int x = 0; x < SIZE; x++) picture[y][x] = (uint8_t)next_random(&seed);
    }
    for (int32_t round = 0; round < n; round++) {
        filter(picture, blurred);
        filter(blurred, picture);
        uint32_t spot = next_random(&seed);
        picture[spot >> 23][spot & (SIZE - 1)] ^= 0xFF;
        sum = sum * 31 + picture[(spot >> 9) & (SIZE - 1)][spot >> 23];
    }
    return (int64_t)sum;
}
