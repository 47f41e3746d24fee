/* Branches: n quicksorts of 32768 random numbers, then as many binary searches. */
#include "kernel.h"

enum { LENGTH = 1 << 15 };

static int32_t numbers[LENGTH];

static void sort(int32_t *low, int32_t *high) {
    while (high - low > 12) {
        int32_t pivot = low[(high - low) / 2];
        int32_t *left = low, *right = high;
        while (left <= right) {
            while (*left < pivot) left++;
            while (*right > pivot) right--;
            if (left <= right) {
                int32_t kept = *left;
                *left++ = *right;
                *right-- = kept;
            }
        }
        if (right - low < high - left) {
            sort(low, right);
            low = left;
        } else {
            sort(left, high);
            high = right;
        }
    }
    for (int32_t *at = low + 1; at <= high; at++) {
        int32_t value = *at, *to = at;
        while (to > low && to[-1] > value) {
            *to = to[-1];
            to--;
        }
        *to = value;
    }
}

static int find(int32_t wanted) {
    int low = 0, high = LENGTH;
    while (low < high) {
        int middle = (low + high) / 2;
        if (numbers[middle] < wanted) low = middle + 1; else high = middle;
    }
    return low;
}

int64_t run(int32_t n) {
    uint64_t seed = 31, sum = 0;
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < LENGTH; i++) numbers[i] = (int32_t)next_random(&seed);
        sort(numbers, numbers + LENGTH - 1);
        for (int i = 0; i < LENGTH; i++) sum += (uint64_t)find((int32_t)next_random(&seed));
        sum = sum * 31 + (uint32_t)numbers[LENGTH / 5];
    }
    return (int64_t)sum;
}
