/* Float: n leapfrog steps of six gravitating bodies; scalar adds, products, roots, divisions. */
#include "kernel.h"

enum { BODIES = 6 };

struct body {
    double x, y, z, vx, vy, vz, mass;
};

static struct body bodies[BODIES];

static void place(void) {
    uint64_t seed = 5;
    for (int i = 0; i < BODIES; i++) {
        struct body *b = &bodies[i];
        b->x = next_random(&seed) * 0x1p-28;
        b->y = next_random(&seed) * 0x1p-28;
        b->z = next_random(&seed) * 0x1p-30;
        b->vx = (next_random(&seed) * 0x1p-32 - 0.5) * 0.3;
        b->vy = (next_random(&seed) * 0x1p-32 - 0.5) * 0.3;
        b->vz = 0.0;
        b->mass = 0.5 + next_random(&seed) * 0x1p-32;
    }
}

static void step(double dt) {
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double squared = dx * dx + dy * dy + dz * dz + 0.01;
            double pull = dt / (squared * __builtin_sqrt(squared));
            a->vx -= dx * b->mass * pull;
            a->vy -= dy * b->mass * pull;
            a->vz -= dz * b->mass * pull;
            b->vx += dx * a->mass * pull;
            b->vy += dy * a->mass * pull;
            b->vz += dz * a->mass * pull;
        }
    }
    for (int i = 0; i < BODIES; i++) {
        struct body *b = &bodies[i];
        b->x += dt * b->vx;
        b->y += dt * b->vy;
        b->z += dt * b->vz;
    }
}

int64_t run(int32_t n) {
    uint64_t sum = 0;
    place();
    for (int32_t i = 0; i < n; i++) step(0.001);
    for (int i = 0; i < BODIES; i++) {
        sum = fold_double(sum, bodies[i].x);
        sum = fold_double(sum, bodies[i].vy);
    }
    return (int64_t)sum;
}
