/* Indirect calls: n heap sorts of 16384 records, compared through a function pointer as qsort's
 * callers do; the comparison changes from round to round. */
#include "kernel.h"

enum { LENGTH = 1 << 14, ORDERS = 3 };

struct record {
    uint32_t key;
    uint16_t group, rank;
};

typedef int comparison(const struct record *, const struct record *);

static int by_key(const struct record *a, const struct record *b) {
    return (a->key > b->key) - (a->key < b->key);
}

static int by_group(const struct record *a, const struct record *b) {
    if (a->group != b->group) return a->group < b->group ? -1 : 1;
    return by_key(a, b);
}

static int by_rank(const struct record *a, const struct record *b) {
    if (a->rank != b->rank) return a->rank > b->rank ? -1 : 1;
    return by_key(a, b);
}

static comparison *const orders[ORDERS] = {by_key, by_group, by_rank};
static struct record records[LENGTH];

static void sink(struct record *all, int at, int length, comparison *compare) {
    struct record moved = all[at];
    for (;;) {
        int child = 2 * at + 1;
        if (child >= length) break;
        if (child + 1 < length && compare(&all[child], &all[child + 1]) < 0) child++;
        if (compare(&moved, &all[child]) >= 0) break;
        all[at] = all[child];
        at = child;
    }
    all[at] = moved;
}

static void sort(struct record *all, int length, comparison *compare) {
    for (int i = length / 2 - 1; i >= 0; i--) sink(all, i, length, compare);
    for (int i = length - 1; i > 0; i--) {
        struct record largest = all[0];
        all[0] = all[i];
        all[i] = largest;
        sink(all, 0, i, compare);
    }
}

int64_t run(int32_t n) {
    uint64_t seed = 29, sum = 0;
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < LENGTH; i++) {
            records[i].key = next_random(&seed);
            records[i].group = next_random(&seed) & 255;
            records[i].rank = next_random(&seed) & 4095;
        }
        sort(records, LENGTH, orders[next_random(&seed) % ORDERS]);
        sum = sum * 31 + records[LENGTH / 3].key;
    }
    return (int64_t)sum;
}
