/* Makes its memory as many MiB as its first byte says, touches each page of it, and asks the application.
 * It leaves out the last page of Wasm: tables count as memory too. */
#include "abi.h"

#define WASM_PAGE 65536
#define HOST_PAGE 4096

GUEST(run) {
    uint32_t length;
    uint8_t *bytes = input(&length);
    uint32_t pages = bytes[0] * 16u - 1;
    uint32_t begun = (uint32_t)__builtin_wasm_memory_size(0);
    if (pages > begun && __builtin_wasm_memory_grow(0, pages - begun) == (__SIZE_TYPE__)-1) __builtin_trap();
    uint32_t end = (pages > begun ? pages : begun) * WASM_PAGE;
    for (uint32_t at = HOST_PAGE; at < end; at += HOST_PAGE) {
        volatile uint8_t *page = (volatile uint8_t *)at;
        *page = *page; /* keeps what is there, and makes the page its own */
    }
    output(bytes, lookup("{}", 2, bytes, 1));
}
