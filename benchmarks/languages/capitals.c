/* Gives a JSON string back in capitals. */
#include "abi.h"

GUEST(run) {
    uint32_t length;
    uint8_t *bytes = input(&length);
    for (uint32_t at = 0; at < length; at++) {
        if (bytes[at] == '\\') at++; /* an escape such as \n stays */
        else if (bytes[at] >= 'a' && bytes[at] <= 'z') bytes[at] -= 'a' - 'A';
    }
    output(bytes, length);
}
