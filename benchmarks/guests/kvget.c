/* Reads a key as often as the input's first byte says, and gives back the last value. */
#include "abi.h"

static const char KEY[] = "session:0123456789";
static uint8_t value[4096];

GUEST(run) {
    uint32_t length, found = 0;
    uint8_t times = input(&length)[0];
    for (uint8_t each = 0; each < times; each++) found = kv_get(KEY, sizeof KEY - 1, value, sizeof value);
    output(value, found);
}
