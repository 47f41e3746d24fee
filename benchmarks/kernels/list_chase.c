/* Memory: n * 1000 steps along a linked list in random order, 2^18 nodes of 64 bytes (16 MiB). */
#include "kernel.h"

enum { NODES = 1 << 18 };

struct node {
    struct node *next;
    uint32_t value;
} __attribute__((aligned(64)));

static struct node nodes[NODES];
static uint32_t order[NODES];

int64_t run(int32_t n) {
    uint64_t seed = 17, sum = 0;
    for (uint32_t i = 0; i < NODES; i++) order[i] = i;
    for (uint32_t i = NODES - 1; i > 0; i--) {
        uint32_t other = next_random(&seed) % (i + 1);
        uint32_t kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) & (NODES - 1)]];
        nodes[order[i]].value = i * UINT32_C(2654435761);
    }
    const struct node *at = &nodes[order[0]];
    for (int64_t step = 0; step < (int64_t)n * 1000; step++) {
        sum += at->value;
        at = at->next;
    }
    return (int64_t)sum;
}
