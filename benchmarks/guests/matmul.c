/* Multiplies two matrices of doubles, row by row. */
#include "kernel.h"

#define MOST 256

static double left[MOST][MOST], right[MOST][MOST], product[MOST][MOST];

KERNEL(size) {
    uint64_t sum = 0;
    begin_drawing();
    for (uint32_t i = 0; i < size; i++)
        for (uint32_t j = 0; j < size; j++) {
            left[i][j] = draw() % 1000;
            right[i][j] = draw() % 1000;
            product[i][j] = 0;
        }
    for (uint32_t i = 0; i < size; i++)
        for (uint32_t k = 0; k < size; k++)
            for (uint32_t j = 0; j < size; j++) product[i][j] += left[i][k] * right[k][j];
    for (uint32_t i = 0; i < size; i++)
        for (uint32_t j = 0; j < size; j++) sum = mixed(sum, (uint64_t)product[i][j]);
    return sum;
}
