/* Does as much as the hook's value says, a JSON number: what tests of exact limits measure. */
#include "fuseboard.h"

static uint32_t value(void)
{
    fb_text digits = fb_read(FB_VALUE);
    uint32_t number = 0;
    for (uint32_t i = 0; i < digits.length; i++) number = number * 10 + (uint32_t)(digits.at[i] - '0');
    return number;
}

static uint32_t memory_pages(void) { return (uint32_t)__builtin_wasm_memory_size(0); }

/* Counts to the value. */
FUSEBOARD_EXPORT(count)
{
    for (volatile uint32_t left = value(); left; left--) {}
}

/* Grows memory to the value in pages, one at a time, and gives back how many there are then. */
FUSEBOARD_EXPORT(grow)
{
    uint32_t pages = value();
    while (memory_pages() < pages) __builtin_wasm_memory_grow(0, 1);
    fb_output_int(memory_pages());
}

/* Fills as many bytes as the value says, below 1.8 MiB; then, if it is still there, says so in the log. */
FUSEBOARD_EXPORT(fill)
{
    __builtin_wasm_memory_grow(0, 32);
    uint32_t bytes = value();
    __builtin_memset((void *)(4 * FB_PAGE_BYTES), 1, bytes);
    fb_log_str(FB_INFO, "filled");
    fb_output_int(*(volatile unsigned char *)(4 * FB_PAGE_BYTES));
}
