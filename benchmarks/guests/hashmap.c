/* Counts drawn words in a hash map with open addressing, and looks all up again. */
#include "kernel.h"

#define PLACES (1u << 18)

static uint32_t keys[PLACES], counts[PLACES];

static inline uint32_t place_of(uint32_t key) {
    uint32_t place = (key * 2654435769u) >> 14;
    while (keys[place] && keys[place] != key) place = (place + 1) & (PLACES - 1);
    return place;
}

KERNEL(size) {
    uint64_t sum = 0;
    __builtin_memset(keys, 0, sizeof keys);
    __builtin_memset(counts, 0, sizeof counts);
    begin_drawing();
    for (uint32_t i = 0; i < size; i++) {
        uint32_t key = draw() % 150000 + 1, place = place_of(key);
        keys[place] = key;
        counts[place]++;
    }
    for (uint32_t key = 1; key <= 150000; key++) sum = mixed(sum, counts[place_of(key)]);
    return sum;
}
