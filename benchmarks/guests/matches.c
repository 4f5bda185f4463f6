/* Finds the longest earlier match at each place of a drawn text, as compressors of the Lempel-Ziv family do. */
#include "kernel.h"

#define MOST (1u << 20)
#define HEADS (1u << 14)
#define CHAIN 16
#define LONGEST 64

static uint8_t text[MOST];
static int32_t heads[HEADS], before[MOST];

static void write_text(uint32_t size) {
    for (uint32_t at = 0; at < size; at++) {
        uint32_t number = draw();
        uint32_t back = number >> 8 & 1023;
        text[at] = (number & 3) && at > back ? text[at - back] : (uint8_t)('a' + number % 26);
    }
}

static uint32_t match(uint32_t at, uint32_t earlier, uint32_t size) {
    uint32_t length = 0;
    while (length < LONGEST && at + length < size && text[at + length] == text[earlier + length]) length++;
    return length;
}

KERNEL(size) {
    uint64_t sum = 0;
    begin_drawing();
    write_text(size);
    for (uint32_t i = 0; i < HEADS; i++) heads[i] = -1;
    for (uint32_t at = 0; at + 3 <= size; at++) {
        uint32_t word = (uint32_t)text[at] << 16 | (uint32_t)text[at + 1] << 8 | text[at + 2];
        int32_t *head = &heads[(word * 2654435769u) >> 18], earlier = *head;
        uint32_t longest = 0;
        for (int tries = 0; earlier >= 0 && tries < CHAIN; tries++, earlier = before[earlier]) {
            uint32_t length = match(at, (uint32_t)earlier, size);
            if (length > longest) longest = length;
        }
        before[at] = *head;
        *head = (int32_t)at;
        sum = mixed(sum, longest);
    }
    return sum;
}
