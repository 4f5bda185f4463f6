/* Moves five bodies under their own gravity, so many steps. */
#include "kernel.h"

#define BODIES 5

static double place[BODIES][3], speed[BODIES][3], mass[BODIES];

static void pull(int a, int b, double step) {
    double between[3], square = 0;
    for (int d = 0; d < 3; d++) {
        between[d] = place[a][d] - place[b][d];
        square += between[d] * between[d];
    }
    double force = step / (square * __builtin_sqrt(square));
    for (int d = 0; d < 3; d++) {
        speed[a][d] -= between[d] * mass[b] * force;
        speed[b][d] += between[d] * mass[a] * force;
    }
}

KERNEL(size) {
    uint64_t sum = 0;
    begin_drawing();
    for (int i = 0; i < BODIES; i++) {
        mass[i] = 0.001 + draw() % 1000 / 1e3;
        for (int d = 0; d < 3; d++) {
            place[i][d] = draw() % 10000 / 1e2;
            speed[i][d] = draw() % 1000 / 1e4;
        }
    }
    for (uint32_t i = 0; i < size; i++) {
        for (int a = 0; a < BODIES; a++)
            for (int b = a + 1; b < BODIES; b++) pull(a, b, 0.001);
        for (int a = 0; a < BODIES; a++)
            for (int d = 0; d < 3; d++) place[a][d] += 0.001 * speed[a][d];
    }
    for (int i = 0; i < BODIES; i++) sum = mixed(sum, (uint64_t)(int64_t)(place[i][0] * 1e6));
    return sum;
}
