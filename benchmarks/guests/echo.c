/* Gives back what it gets. */
#include "abi.h"

GUEST(run) {
    uint32_t length;
    uint8_t *bytes = input(&length);
    output(bytes, length);
}
