/* Gives back what it gets, with small letters as capitals and capitals as small letters. */
#include "abi.h"

GUEST(run) {
    uint32_t length;
    uint8_t *bytes = input(&length);
    for (uint32_t at = 0; at < length; at++) {
        uint8_t small = bytes[at] | 0x20;
        if (small >= 'a' && small <= 'z') bytes[at] ^= 0x20;
    }
    output(bytes, length);
}
