/* Fuseboard's guest ABI 1 for plugins in C: the imports, their numbers and an export macro.
 *
 * Freestanding: needs no C library. A plugin is a module without `main` whose hooks are exports:
 *
 *     #include "fuseboard.h"
 *
 *     FUSEBOARD_EXPORT(post_title) {
 *         fb_output_str("\"A new title\"");
 *     }
 *
 * Built with any clang that targets wasm32, for example:
 *
 *     python -m ziglang cc -target wasm32-freestanding -Os -s -nostdlib -Wl,--no-entry -o plugin.wasm plugin.c
 *
 * Rules:
 * - A C name is the import's name with `fb_` in front and without its `host_`.
 * - Values are JSON in UTF-8, unless the hook's type is bytes. An export that writes no output leaves the value as it is.
 * - Nothing ends with a zero byte: every text is a pointer and a length.
 * - A pointer outside memory or an unknown buffer ends the invocation.
 */
#ifndef FUSEBOARD_H
#define FUSEBOARD_H

#include <stdint.h>

/* Starts a hook: `FUSEBOARD_EXPORT(post_title) { ... }`. The export `_initialize`, where there is one, runs before it. */
#define FUSEBOARD_EXPORT(name)                    \
    void name(void);                              \
    __attribute__((export_name(#name))) void name(void)

#define FB_IMPORT(name) __attribute__((import_module("fuseboard"), import_name(#name)))

/* What can be read, with fb_buffer_length and fb_buffer_read. */
enum fb_buffer {
    FB_VALUE = 0,      /* the hook's value */
    FB_CONTEXT = 1,    /* a JSON object, {} without one */
    FB_REPLY_HEAD = 2, /* of the last host call: {} unless said; {"reason": "..."} after an error */
    FB_REPLY_BODY = 3, /* of the last host call, until the next one */
    FB_SETTINGS = 4,   /* a JSON object: the manifest's settings with the operator's over them */
    FB_CALL_INFO = 5,  /* {"hook": ..., "request_id": ..., "scope": ..., "plugin": ...} */
};

/* What a host call returns instead of the reply body's length. Treat a negative number that isn't here as an error too. */
enum fb_answer {
    FB_DENIED = -1,         /* outside of what the operator granted */
    FB_BAD_REQUEST = -2,    /* malformed */
    FB_NOT_FOUND = -3,      /* no such key or function */
    FB_BACKEND_FAILED = -4, /* the application's service failed */
    FB_TOO_LARGE = -5,      /* request or reply above the operator's cap */
    FB_CONFLICT = -6,       /* something else changed the same data */
};

enum fb_level {
    FB_DEBUG = 0,
    FB_INFO = 1,
    FB_WARNING = 2,
    FB_ERROR = 3,
    FB_CRITICAL = 4,
};

/* The limits of an invocation, for fb_meter_remaining. */
enum fb_limit {
    FB_MEMORY = 0,         /* bytes */
    FB_FUEL = 1,           /* fuel, about one an instruction */
    FB_TIMEOUT = 2,        /* milliseconds */
    FB_HTTP_FETCHES = 3,   /* count */
    FB_DB_QUERIES = 4,     /* count */
    FB_KV_WRITE_BYTES = 5, /* bytes */
};

/* Returns the size of a buffer in bytes. */
FB_IMPORT(buffer_length) int32_t fb_buffer_length(int32_t buffer);

/* Copies at most `length` bytes of a buffer, from `offset` on. Returns how many: 0 past the buffer's end. */
FB_IMPORT(buffer_read) int32_t fb_buffer_read(int32_t buffer, uint32_t offset, void *to, uint32_t length);

/* Appends to the result. Called with length 0 only, the result is empty, not unchanged. */
FB_IMPORT(output_write) void fb_output_write(const void *bytes, uint32_t length);

/* Ends the invocation with the plugin's own message. Everything it wrote is undone. */
FB_IMPORT(fail) _Noreturn void fb_fail(const void *message, uint32_t length);

/* Writes to the plugin's log, at one of fb_level. */
FB_IMPORT(host_log) void fb_log(int32_t level, const void *message, uint32_t length);

/* Returns what is left under one of fb_limit, in its unit; -1 for an unknown one. */
FB_IMPORT(meter_remaining) int64_t fb_meter_remaining(int32_t limit);

/* The host calls from here on return the length of the reply's body or one of fb_answer. */

/* Sends a request: `head` is {"method": ..., "url": ..., "headers": [[name, value], ...]}.
 * The reply's head is {"status": ..., "headers": [[name, value], ...]}. */
FB_IMPORT(host_http_request)
int32_t fb_http_request(const void *head, uint32_t head_length, const void *body, uint32_t body_length);

/* Asks the database. `params` is a JSON array for $1, $2, ... in the SQL; the reply's body is {"columns": [...], "rows": [[...]]}. */
FB_IMPORT(host_db_query)
int32_t fb_db_query(const void *sql, uint32_t sql_length, const void *params, uint32_t params_length);

/* Changes the database. The reply's head is {"rows_changed": n}. */
FB_IMPORT(host_db_exec)
int32_t fb_db_exec(const void *sql, uint32_t sql_length, const void *params, uint32_t params_length);

/* Reads the bytes kept under a key into the reply's body. */
FB_IMPORT(host_kv_get) int32_t fb_kv_get(const void *key, uint32_t key_length);

FB_IMPORT(host_kv_set)
int32_t fb_kv_set(const void *key, uint32_t key_length, const void *value, uint32_t value_length);

/* Writes a key that is gone after so many seconds, 1 to 315,360,000: ten years. */
FB_IMPORT(host_kv_set_for)
int32_t fb_kv_set_for(const void *key, uint32_t key_length, const void *value, uint32_t value_length, int64_t seconds);

FB_IMPORT(host_kv_delete) int32_t fb_kv_delete(const void *key, uint32_t key_length);

/* Adds to the number kept under a key, as one step. The reply's body is the new number as decimal text. */
FB_IMPORT(host_kv_increment) int32_t fb_kv_increment(const void *key, uint32_t key_length, int64_t by);

/* Calls a function of the application. `body` is a JSON object of keyword arguments, the reply's body its result as JSON. */
FB_IMPORT(host_call)
int32_t fb_call(const void *name, uint32_t name_length, const void *body, uint32_t body_length);

/* A string literal as the two arguments that the imports take. */
#define FB_STR(literal) ("" literal), (uint32_t)(sizeof(literal) - 1)

#define fb_output_str(literal) fb_output_write(FB_STR(literal))
#define fb_fail_str(literal) fb_fail(FB_STR(literal))
#define fb_log_str(level, literal) fb_log((level), FB_STR(literal))

#endif
