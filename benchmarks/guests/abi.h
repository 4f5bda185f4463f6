/* What a guest of the benchmarks needs of its host, with one implementation for each contestant's ABI.
 *
 * A guest is one function, `GUEST(run) { ... }`. It takes the input, gives the output, and may ask the host:
 *
 *     input(&length)                       the input's bytes, where the guest may read and change them
 *     output(bytes, length)                ends the work; once a run
 *     kv_get(key, ...), lookup(json, ...)  the calls of the host that give bytes back
 *
 * Rules:
 * - Chosen with -DFUSEBOARD, -DEXTISM or -DPLAIN; each does what the contestant's own SDK for C does.
 * - PLAIN is a buffer that both sides know: what one writes by hand with a bare engine, and the fastest there is.
 *   It is also what a native library exports, without calls of the host.
 * - At most ROOM bytes cross at once.
 */
#ifndef ABI_H
#define ABI_H

#include <stdint.h>

#define ROOM 65536

static uint8_t crossing[ROOM];

#if defined(FUSEBOARD)

#include "fuseboard.h"

#define GUEST(name) FUSEBOARD_EXPORT(name)

static inline uint8_t *input(uint32_t *length) {
    *length = (uint32_t)fb_buffer_length(FB_VALUE);
    fb_buffer_read(FB_VALUE, 0, crossing, ROOM);
    return crossing;
}

static inline void output(const void *bytes, uint32_t length) { fb_output_write(bytes, length); }

/* Copies the reply to `to` and returns its length. */
static inline uint32_t reply(int32_t length, void *to, uint32_t room) {
    return length < 0 ? 0 : (uint32_t)fb_buffer_read(FB_REPLY_BODY, 0, to, room);
}

/* Reads the bytes under a key. */
static inline uint32_t kv_get(const void *key, uint32_t key_length, void *to, uint32_t room) {
    return reply(fb_kv_get(key, key_length), to, room);
}

/* Calls the application's function `lookup` with JSON. */
static inline uint32_t lookup(const void *arguments, uint32_t length, void *to, uint32_t room) {
    return reply(fb_call(FB_STR("lookup"), arguments, length), to, room);
}

#elif defined(EXTISM)

#define EXTISM_IMPORT(name) __attribute__((import_module("extism:host/env"), import_name(#name))) extern
#define USER_IMPORT(name) __attribute__((import_module("extism:host/user"), import_name(#name))) extern

/* The kernel's memory is another one than the guest's: bytes cross by loads and stores of up to eight. */
EXTISM_IMPORT(input_length) uint64_t extism_input_length(void);
EXTISM_IMPORT(input_offset) uint64_t extism_input_offset(void);
EXTISM_IMPORT(output_set) void extism_output_set(uint64_t at, uint64_t length);
EXTISM_IMPORT(alloc) uint64_t extism_alloc(uint64_t length);
EXTISM_IMPORT(free) void extism_free(uint64_t block);
EXTISM_IMPORT(length_unsafe) uint64_t extism_length(uint64_t block);
EXTISM_IMPORT(load_u8) uint32_t extism_load_u8(uint64_t at);
EXTISM_IMPORT(load_u64) uint64_t extism_load_u64(uint64_t at);
EXTISM_IMPORT(store_u8) void extism_store_u8(uint64_t at, uint32_t byte);
EXTISM_IMPORT(store_u64) void extism_store_u64(uint64_t at, uint64_t bytes);
USER_IMPORT(kv_get) uint64_t user_kv_get(uint64_t key);
USER_IMPORT(lookup) uint64_t user_lookup(uint64_t arguments);

#define GUEST(name)                                                        \
    static void guest_##name(void);                                        \
    __attribute__((export_name(#name))) int32_t name(void);                \
    int32_t name(void) {                                                   \
        guest_##name();                                                    \
        return 0;                                                          \
    }                                                                      \
    static void guest_##name(void)

static inline void load(uint64_t block, void *room, uint32_t length) {
    uint8_t *to = (uint8_t *)room;
    uint32_t at = 0;
    for (; at + 8 <= length; at += 8) {
        uint64_t eight = extism_load_u64(block + at);
        __builtin_memcpy(to + at, &eight, 8);
    }
    for (; at < length; at++) to[at] = (uint8_t)extism_load_u8(block + at);
}

static inline uint64_t stored(const void *from, uint32_t length) {
    const uint8_t *bytes = (const uint8_t *)from;
    uint64_t block = extism_alloc(length);
    uint32_t at = 0;
    for (; at + 8 <= length; at += 8) {
        uint64_t eight;
        __builtin_memcpy(&eight, bytes + at, 8);
        extism_store_u64(block + at, eight);
    }
    for (; at < length; at++) extism_store_u8(block + at, bytes[at]);
    return block;
}

static inline uint8_t *input(uint32_t *length) {
    *length = (uint32_t)extism_input_length();
    load(extism_input_offset(), crossing, *length);
    return crossing;
}

static inline void output(const void *bytes, uint32_t length) { extism_output_set(stored(bytes, length), length); }

/* Copies what a function of the application gave to `to`, and returns its length. */
static inline uint32_t loaded(uint64_t block, void *to, uint32_t room) {
    uint32_t length = (uint32_t)extism_length(block);
    if (length > room) length = room;
    load(block, to, length);
    extism_free(block);
    return length;
}

/* Reads the bytes under a key. */
static inline uint32_t kv_get(const void *key, uint32_t key_length, void *to, uint32_t room) {
    uint64_t block = stored(key, key_length);
    uint32_t length = loaded(user_kv_get(block), to, room);
    extism_free(block);
    return length;
}

/* Calls the application's function `lookup` with JSON. */
static inline uint32_t lookup(const void *arguments, uint32_t length, void *to, uint32_t room) {
    uint64_t block = stored(arguments, length);
    uint32_t written = loaded(user_lookup(block), to, room);
    extism_free(block);
    return written;
}

#elif defined(PLAIN)

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(#name)))
#define PLAIN_IMPORT(name) __attribute__((import_module("host"), import_name(#name))) extern

/* Each takes bytes, writes others to `to`, and returns how many. */
PLAIN_IMPORT(kv_get) uint32_t kv_get(const void *key, uint32_t key_length, void *to, uint32_t room);
PLAIN_IMPORT(lookup) uint32_t lookup(const void *arguments, uint32_t length, void *to, uint32_t room);
#else
#define EXPORT(name) __attribute__((visibility("default")))
#endif

static uint32_t crossing_length;

/* Returns where the host writes the input and reads the output. */
EXPORT(buffer) uint8_t *buffer(void);
uint8_t *buffer(void) { return crossing; }

/* The host calls it with the input's length, and gets the output's. */
#define GUEST(name)                                  \
    static void guest_##name(void);                  \
    EXPORT(name) uint32_t name(uint32_t length);     \
    uint32_t name(uint32_t length) {                 \
        crossing_length = length;                    \
        guest_##name();                              \
        return crossing_length;                      \
    }                                                \
    static void guest_##name(void)

static inline uint8_t *input(uint32_t *length) {
    *length = crossing_length;
    return crossing;
}

static inline void output(const void *bytes, uint32_t length) {
    if (bytes != crossing) __builtin_memcpy(crossing, bytes, length);
    crossing_length = length;
}

#else
#error "build with -DFUSEBOARD, -DEXTISM or -DPLAIN"
#endif

#endif
