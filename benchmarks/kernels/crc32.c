/* Integer: CRC-32 (reflected polynomial 0xEDB88320), one table look-up per byte.
 * The chain of look-ups is the work: each step waits for the load before it. */
#include "kernel.h"

enum { LENGTH = 1 << 16 };

static uint32_t table[256];
static uint8_t data[LENGTH];

static void make_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = (c & 1) ? (c >> 1) ^ UINT32_C(0xEDB88320) : c >> 1;
        table[i] = c;
    }
}

int64_t run(int32_t n) {
    uint64_t seed = 7;
    uint32_t crc = 0;
    make_table();
    for (int i = 0; i < LENGTH; i++) data[i] = (uint8_t)next_random(&seed);
    for (int32_t round = 0; round < n; round++) {
        crc = ~crc;
        for (int i = 0; i < LENGTH; i++) crc = table[(crc ^ data[i]) & 0xFF] ^ (crc >> 8);
        crc = ~crc;
        data[crc & (LENGTH - 1)] ^= 0x5A;
    }
    return (int64_t)crc;
}
