/* A kernel computes from a size, which crosses as four bytes, and gives a checksum of eight. */
#ifndef KERNEL_H
#define KERNEL_H

#include "abi.h"

#define KERNEL(size)                                          \
    static uint64_t kernel(uint32_t size);                    \
    GUEST(run) {                                              \
        uint32_t length, given = 0;                           \
        __builtin_memcpy(&given, input(&length), sizeof given); \
        uint64_t sum = kernel(given);                         \
        output(&sum, sizeof sum);                             \
    }                                                         \
    static uint64_t kernel(uint32_t size)

static uint32_t drawn = 2463534242u;

/* Marsaglia's xorshift: the same numbers in each run that begins with `drawn` as it is. */
static inline uint32_t draw(void) {
    drawn ^= drawn << 13;
    drawn ^= drawn >> 17;
    return drawn ^= drawn << 5;
}

static inline void begin_drawing(void) { drawn = 2463534242u; }

/* Mixes a number into a checksum (FNV-1a, eight bytes at once). */
static inline uint64_t mixed(uint64_t sum, uint64_t number) { return (sum ^ number) * 1099511628211u; }

#endif
