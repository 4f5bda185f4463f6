/* Gives back what it gets, or writes to its memory and crashes, where the first byte is an `x`. */
#include "abi.h"

GUEST(run) {
    uint32_t length;
    uint8_t *bytes = input(&length);
    if (length && bytes[0] == 'x') {
        bytes[0] = 'y';
        __builtin_trap();
    }
    output(bytes, length);
}
