/* Calls the application's function with the input, and gives back its result. */
#include "abi.h"

static uint8_t result[4096];

GUEST(run) {
    uint32_t length;
    uint8_t *arguments = input(&length);
    output(result, lookup(arguments, length, result, sizeof result));
}
