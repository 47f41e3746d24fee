/* Memory: n thousand insertions and removals in the middle of a 256 KiB text, each of which moves
 * the rest of its line, its page or the whole tail: overlapping moves of 16 bytes to 128 KiB. */
#include "kernel.h"

enum { LENGTH = 1 << 18 };

static uint8_t text[LENGTH + 256];

int64_t run(int32_t n) {
    uint64_t seed = 19, sum = 0;
    for (int i = 0; i < LENGTH; i++) text[i] = (uint8_t)next_random(&seed);
    for (int64_t edit = 0; edit < (int64_t)n * 1000; edit++) {
        uint32_t choice = next_random(&seed);
        uint32_t at = (next_random(&seed) >> 15) & (LENGTH / 2 - 1);
        uint32_t by = 1 + (choice & 63);
        uint32_t length = 16 + ((choice >> 6) & 255);
        if ((choice >> 14 & 15) == 0) length = 4096;
        if ((choice >> 18 & 255) == 0) length = LENGTH / 2;
        if (choice & 0x40000000) {
            __builtin_memmove(text + at + by, text + at, length);
        } else {
            __builtin_memmove(text + at, text + at + by, length);
        }
        text[at] = (uint8_t)choice;
        sum = sum * 5 + text[at + length / 2];
    }
    return (int64_t)sum;
}
