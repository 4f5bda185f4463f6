/* Sorts so many drawn numbers by Hoare's quicksort, the short ends by insertion. */
#include "kernel.h"

#define MOST (1u << 20)
#define SHORT 12

static uint32_t numbers[MOST];

static void insert(int32_t low, int32_t high) {
    for (int32_t i = low + 1; i <= high; i++) {
        uint32_t number = numbers[i];
        int32_t j = i - 1;
        for (; j >= low && numbers[j] > number; j--) numbers[j + 1] = numbers[j];
        numbers[j + 1] = number;
    }
}

static void sort(int32_t low, int32_t high) {
    while (high - low > SHORT) {
        uint32_t pivot = numbers[low + (high - low) / 2];
        int32_t i = low, j = high;
        while (i <= j) {
            while (numbers[i] < pivot) i++;
            while (numbers[j] > pivot) j--;
            if (i > j) break;
            uint32_t kept = numbers[i];
            numbers[i++] = numbers[j];
            numbers[j--] = kept;
        }
        sort(low, j);
        low = i;
    }
    insert(low, high);
}

KERNEL(size) {
    uint64_t sum = 0;
    begin_drawing();
    for (uint32_t i = 0; i < size; i++) numbers[i] = draw();
    sort(0, (int32_t)size - 1);
    for (uint32_t i = 0; i < size; i++) sum = mixed(sum, numbers[i]);
    return sum;
}
