/* Integer, images: n times a separable Gaussian of five taps, then Sobel's gradient with its length,
 * over a picture of 256 by 256, and a histogram of the edges found. */
#include "kernel.h"

enum { SIZE = 256 };

static uint8_t picture[SIZE][SIZE], smooth[SIZE][SIZE], edges[SIZE][SIZE];
static uint16_t rows[SIZE][SIZE];

static int inside(int at) { return at < 0 ? 0 : at >= SIZE ? SIZE - 1 : at; }

static void blur(void) {
    for (int y = 0; y < SIZE; y++) {
        for (int x = 0; x < SIZE; x++) {
            const uint8_t *row = picture[y];
            uint32_t sum = row[inside(x - 2)] + row[inside(x + 2)] + 6u * row[x];
            sum += 4u * (row[inside(x - 1)] + row[inside(x + 1)]);
            rows[y][x] = (uint16_t)sum;
        }
    }
    for (int y = 0; y < SIZE; y++) {
        const uint16_t *up2 = rows[inside(y - 2)], *up = rows[inside(y - 1)];
        const uint16_t *down = rows[inside(y + 1)], *down2 = rows[inside(y + 2)];
        for (int x = 0; x < SIZE; x++) {
            uint32_t sum = up2[x] + down2[x] + 6u * rows[y][x] + 4u * (up[x] + down[x]);
            smooth[y][x] = (uint8_t)((sum + 128) >> 8);
        }
    }
}

/* The integer square root of a number below 2 to the 22, bit by bit. */
static uint32_t root(uint32_t value) {
    uint32_t result = 0;
    for (uint32_t bit = 1u << 20; bit; bit >>= 2) {
        if (value >= result + bit) {
            value -= result + bit;
            result = (result >> 1) + bit;
        } else {
            result >>= 1;
        }
    }
    return result;
}

static void gradient(void) {
    for (int y = 1; y < SIZE - 1; y++) {
        const uint8_t *up = smooth[y - 1], *row = smooth[y], *down = smooth[y + 1];
        for (int x = 1; x < SIZE - 1; x++) {
            int32_t dx = up[x + 1] + 2 * row[x + 1] + down[x + 1] - up[x - 1] - 2 * row[x - 1] - down[x - 1];
            int32_t dy = down[x - 1] + 2 * down[x] + down[x + 1] - up[x - 1] - 2 * up[x] - up[x + 1];
            uint32_t length = root((uint32_t)(dx * dx + dy * dy));
            edges[y][x] = (uint8_t)(length > 255 ? 255 : length);
        }
    }
}

int64_t run(int32_t n) {
    uint64_t seed = 1970, sum = 0;
    for (int y = 0; y < SIZE; y++) {
        for (int x = 0; x < SIZE; x++) {
            int shape = ((x - 90) * (x - 90) + (y - 120) * (y - 120) < 3600) * 100;
            picture[y][x] = (uint8_t)(shape + (x * y >> 10) + (next_random(&seed) >> 27));
        }
    }
    for (int32_t round = 0; round < n; round++) {
        uint32_t histogram[256] = {0};
        blur();
        gradient();
        for (int y = 1; y < SIZE - 1; y++) {
            for (int x = 1; x < SIZE - 1; x++) histogram[edges[y][x]]++;
        }
        for (int i = 0; i < 256; i++) sum = sum * 31 + histogram[i];
        uint32_t spot = next_random(&seed);
        picture[spot >> 24][spot >> 16 & 255] ^= 0x55;
    }
    return (int64_t)sum;
}
