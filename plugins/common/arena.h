/* The plugin's memory behind its static data: texts are built at its top, one after the other, and never freed.
 *
 *     char *start = arena_top();
 *     put(TEXT("post "));
 *     put_number(7);
 *     struct text line = text_since(start);
 *
 * Rules:
 * - Nothing is freed: an instance serves one invocation, and its memory goes with it.
 * - One text is built at a time. Memory is grown a page at a time, as it is needed.
 * - The position is a static variable: a plugin is one source file.
 */
#ifndef PLUGINS_ARENA_H
#define PLUGINS_ARENA_H

#include "fuseboard.h"
#include "text.h"

#define PAGE_BYTES 65536u

extern char __heap_base; /* by the linker: the first byte behind static data */

static char *arena_position;

static inline char *arena_top(void)
{
    if (!arena_position) arena_position = &__heap_base;
    return arena_position;
}

static inline uint32_t memory_pages(void) { return (uint32_t)__builtin_wasm_memory_size(0); }

/* Returns `length` bytes at the top, and moves the top behind them. */
static inline char *arena_take(uint32_t length)
{
    char *start = arena_top();
    uint32_t there = memory_pages() * PAGE_BYTES - (uint32_t)start;
    if (length > there) {
        uint32_t pages = (length - there + PAGE_BYTES - 1) / PAGE_BYTES;
        if (__builtin_wasm_memory_grow(0, pages) == (__SIZE_TYPE__)-1) __builtin_trap();
    }
    arena_position = start + length;
    return start;
}

static inline struct text text_since(const char *start)
{
    return (struct text){start, (uint32_t)(arena_top() - start)};
}

static inline void put_byte(char byte) { *arena_take(1) = byte; }

static inline void put(struct text text) { __builtin_memcpy(arena_take(text.length), text.at, text.length); }

static inline void put_number(int64_t number)
{
    char digits[20];
    uint32_t first = sizeof(digits);
    uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;
    do digits[--first] = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0) put_byte('-');
    put((struct text){digits + first, sizeof(digits) - first});
}

/* Reads a whole buffer to the top. */
static inline struct text read_buffer(enum fb_buffer buffer)
{
    uint32_t length = (uint32_t)fb_buffer_length(buffer);
    char *start = arena_take(length);
    return (struct text){start, (uint32_t)fb_buffer_read(buffer, 0, start, length)};
}

static inline void output(struct text text) { fb_output_write(text.at, text.length); }

#endif
