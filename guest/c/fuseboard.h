/* Fuseboard's guest ABI 1 for plugins in C and C++: the imports, and what makes plugins of them short.
 *
 *     #include "fuseboard.h"
 *
 *     FUSEBOARD_EXPORT(post_published)
 *     {
 *         fb_json post = fb_value();
 *         fb_text title = fb_string(fb_get(post, "title"));
 *         int64_t votes = fb_int_or(fb_get(post, "votes"), 0);
 *
 *         fb_writer out = fb_object();
 *         fb_set_string(&out, "title", title);
 *         fb_set_int(&out, "votes", votes + 1);
 *         fb_output_json(&out);
 *     }
 *
 * A plugin is a module without `main` whose hooks are exports. Built with any clang that targets wasm32, for example:
 *
 *     python -m ziglang cc -target wasm32-freestanding -Os -nostdlib -Wl,--no-entry -Wl,-z,stack-size=65536 \
 *         -o plugin.wasm plugin.c
 *
 * or, with a C library, `-target wasm32-wasi -mexec-model=reactor` instead of the freestanding target, -nostdlib and --no-entry.
 *
 * Rules:
 * - Values are JSON in UTF-8, unless the hook's type is bytes. An export that writes no output leaves the value as it is.
 * - Nothing ends with a zero byte: every text is a pointer and a length, a fb_text. FB_TEXT("...") makes one of a literal.
 * - What is taken from memory is never freed: an instance serves one invocation, and its memory goes with it.
 * - What can't be right ends the invocation with a message: a value of another type (`votes: not an integer`), broken JSON.
 *   What can go wrong in good plugins is told: host calls give a fb_error.
 * - The imports come first; an import's C name is its name with `fb_` in front and without its `host_`. They take pointers and
 *   lengths; a pointer outside memory, an unknown buffer and an unknown level end the invocation.
 * - Needs no C library, and gets along with one. What a plugin doesn't use isn't in its module.
 * - Names that end in `_` are the header's own.
 */
#ifndef FUSEBOARD_H
#define FUSEBOARD_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
#if __has_include(<string_view>)
#define FB_HAS_STRING_VIEW_
#include <string_view>
#include <type_traits>
#endif
#define FB_C_NAMES_ extern "C"
#define FB_EMPTY_ {}
#else
#define FB_C_NAMES_
#define FB_EMPTY_
#endif

/* Starts a hook: `FUSEBOARD_EXPORT(post_title) { ... }`. The export `_initialize`, where there is one, runs before it. */
#define FUSEBOARD_EXPORT(name)    \
    FB_C_NAMES_ void name(void);  \
    FB_C_NAMES_ __attribute__((export_name(#name))) void name(void)

#define FB_IMPORT(name) FB_C_NAMES_ __attribute__((import_module("fuseboard"), import_name(#name)))

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
FB_IMPORT(fail) __attribute__((noreturn)) void fb_fail(const void *message, uint32_t length);

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

/* A function of some size: one copy in the module, however often it is called. */
#define FB_ONCE_ __attribute__((noinline)) static inline

/* A string literal as the two arguments that the imports take. */
#define FB_STR(literal) ("" literal), (uint32_t)(sizeof(literal) - 1)

#define fb_output_str(literal) fb_output_write(FB_STR(literal))
#define fb_fail_str(literal) fb_fail(FB_STR(literal))
#define fb_log_str(level, literal) fb_log((level), FB_STR(literal))

/* ── text ──────────────────────────────────────────────────────────────────────────────────────── */

/* Some bytes; they belong to somebody else. In C++ it is made of strings and literals, and is a std::string_view to others. */
typedef struct fb_text {
    const char *at;
    uint32_t length;
#ifdef __cplusplus
    fb_text() = default;
    constexpr fb_text(const char *bytes, uint32_t count) : at(bytes), length(count) {}
#endif
#ifdef FB_HAS_STRING_VIEW_
    template <typename Text, typename = std::enable_if_t<std::is_convertible_v<const Text &, std::string_view>>>
    constexpr fb_text(const Text &text)
        : at(std::string_view(text).data()), length(static_cast<uint32_t>(std::string_view(text).size()))
    {
    }
    constexpr operator std::string_view() const { return std::string_view(at, length); }
#endif
} fb_text;

/* A string literal as a fb_text, and as the initialiser of one that is static. */
#ifdef __cplusplus
#define FB_TEXT(literal) fb_text(FB_STR(literal))
#else
#define FB_TEXT(literal) ((fb_text){FB_STR(literal)})
#endif
#define FB_TEXT_INIT(literal) {FB_STR(literal)}

static inline fb_text fb_text_of(const void *at, uint32_t length)
{
    fb_text text;
    text.at = (const char *)at;
    text.length = length;
    return text;
}

static inline fb_text fb_nothing_(void) { return fb_text_of(0, 0); }

FB_ONCE_ bool fb_same(fb_text a, fb_text b)
{
    if (a.length != b.length) return false;
    for (uint32_t i = 0; i < a.length; i++)
        if (a.at[i] != b.at[i]) return false;
    return true;
}

static inline bool fb_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static inline bool fb_is_digit(char c) { return c >= '0' && c <= '9'; }

/* ASCII only, as the others here: other letters stay as they are. */
static inline char fb_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

static inline char fb_upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c & ~0x20) : c; }

static inline bool fb_same_ignoring_case(fb_text a, fb_text b)
{
    if (a.length != b.length) return false;
    for (uint32_t i = 0; i < a.length; i++)
        if (fb_lower(a.at[i]) != fb_lower(b.at[i])) return false;
    return true;
}

/* Returns the length of the character at `at`; 0 where what is there isn't UTF-8. */
FB_ONCE_ uint32_t fb_utf8_length_(const char *at, const char *end)
{
    uint8_t lead = (uint8_t)*at;
    if (lead < 0x80) return 1;
    uint32_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || end - at < (intptr_t)length) return 0;
    uint8_t lowest = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80; /* below: longer than need be */
    uint8_t highest = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* above: surrogates, or no Unicode */
    if ((uint8_t)at[1] < lowest || (uint8_t)at[1] > highest) return 0;
    for (uint32_t i = 2; i < length; i++)
        if (((uint8_t)at[i] & 0xc0) != 0x80) return 0;
    return length;
}

static inline bool fb_is_utf8(fb_text text)
{
    const char *end = text.at + text.length;
    for (uint32_t length; text.at < end; text.at += length)
        if (!(length = fb_utf8_length_(text.at, end))) return false;
    return true;
}

/* ── memory ────────────────────────────────────────────────────────────────────────────────────── */

#define FB_PAGE_BYTES 65536u

/* What is left of the memory that was taken last. Weak, so that all source files share one. */
typedef struct fb_arena_state_ {
    char *at, *end;
} fb_arena_state_;

#ifdef __cplusplus
extern "C" {
#endif
__attribute__((weak)) fb_arena_state_ fb_arena_;
extern char __heap_base; /* by the linker: the first byte behind static data */
#ifdef __wasi__
/* There only where the plugin takes memory by malloc. Older C libraries think, at the first use, that all memory is theirs. */
__attribute__((weak)) int posix_memalign(void **, __SIZE_TYPE__, __SIZE_TYPE__);
#endif
#ifdef __cplusplus
}
#endif

/* Makes room for `more` bytes at the arena's end. Without a C library, that begins in what the first pages have left; a C
 * library has that for itself. */
FB_ONCE_ void fb_make_room_(uint32_t more)
{
    if (!fb_arena_.end) {
#ifdef __wasi__
        void *first;
        if (posix_memalign) posix_memalign(&first, 16, 16);
#else
        fb_arena_.at = (char *)(((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15);
        fb_arena_.end = (char *)((uintptr_t)__builtin_wasm_memory_size(0) * FB_PAGE_BYTES);
#endif
    }
    uint32_t left = (uint32_t)(fb_arena_.end - fb_arena_.at);
    if (more <= left) return;
    uintptr_t pages = (more - left) / FB_PAGE_BYTES + 1;
    uintptr_t before = __builtin_wasm_memory_grow(0, pages);
    if (before == (uintptr_t)-1) __builtin_trap(); /* past the module's own maximum */
    char *start = (char *)(before * FB_PAGE_BYTES);
    if (start != fb_arena_.end) { /* somebody else grew memory: what was left stays unused */
        fb_arena_.at = start;
        fb_arena_.end = start + pages * FB_PAGE_BYTES;
        fb_make_room_(more);
        return;
    }
    fb_arena_.end = start + pages * FB_PAGE_BYTES;
}

/* Takes memory that is never given back, at a multiple of 16. Past the limit, the invocation has ended. */
FB_ONCE_ void *fb_alloc(uint32_t bytes)
{
    fb_arena_.at = (char *)(((uintptr_t)fb_arena_.at + 15) & ~(uintptr_t)15);
    fb_make_room_(bytes);
    char *taken = fb_arena_.at;
    fb_arena_.at += bytes;
    return taken;
}

/* Copies a text to where it may be changed: what JSON gives must stay as it is. */
static inline char *fb_copy(fb_text text)
{
    char *copy = (char *)fb_alloc(text.length);
    if (text.length) __builtin_memcpy(copy, text.at, text.length);
    return copy;
}

/* Reads a whole buffer. */
FB_ONCE_ fb_text fb_read(enum fb_buffer buffer)
{
    uint32_t length = (uint32_t)fb_buffer_length(buffer);
    void *bytes = fb_alloc(length);
    return fb_text_of(bytes, (uint32_t)fb_buffer_read(buffer, 0, bytes, length));
}

/* ── building text ─────────────────────────────────────────────────────────────────────────────── */

/* A text that grows: `fb_builder line = fb_begin(); fb_put(&line, title); fb_log_text(FB_INFO, fb_built(&line));` */
typedef struct fb_builder {
    char *at;
    uint32_t length, room;
} fb_builder;

static inline fb_builder fb_begin(void)
{
    fb_builder builder;
    builder.at = 0;
    builder.length = builder.room = 0;
    return builder;
}

/* Makes room for so many more bytes: in place where nothing was taken since, or else by moving. */
FB_ONCE_ void fb_reserve_(fb_builder *builder, uint32_t more)
{
    uint32_t unused = builder->room - builder->length;
    if (more <= unused) return;
    uint32_t extra = more - unused < 64 ? 64 : more - unused;
    if (extra < builder->room) extra = builder->room;
    char *end = builder->at + builder->room;
    if (builder->at && end == fb_arena_.at) fb_make_room_(extra);
    if (builder->at && end == fb_arena_.at) {
        fb_arena_.at += extra;
    } else {
        char *moved = (char *)fb_alloc(builder->room + extra);
        if (builder->length) __builtin_memcpy(moved, builder->at, builder->length);
        builder->at = moved;
    }
    builder->room += extra;
}

FB_ONCE_ void fb_put_byte(fb_builder *builder, char byte)
{
    fb_reserve_(builder, 1);
    builder->at[builder->length++] = byte;
}

FB_ONCE_ void fb_put(fb_builder *builder, fb_text text)
{
    if (!text.length) return;
    fb_reserve_(builder, text.length);
    __builtin_memcpy(builder->at + builder->length, text.at, text.length);
    builder->length += text.length;
}

#define fb_put_str(builder, literal) fb_put((builder), FB_TEXT(literal))

FB_ONCE_ void fb_put_uint(fb_builder *builder, uint64_t number)
{
    char digits[20];
    uint32_t first = sizeof(digits);
    do digits[--first] = (char)('0' + number % 10);
    while (number /= 10);
    fb_put(builder, fb_text_of(digits + first, (uint32_t)sizeof(digits) - first));
}

static inline void fb_put_int(fb_builder *builder, int64_t number)
{
    if (number < 0) fb_put_byte(builder, '-');
    fb_put_uint(builder, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

/* Returns what was built. The unused room goes back; more can be put behind it. */
static inline fb_text fb_built(fb_builder *builder)
{
    if (builder->at && builder->at + builder->room == fb_arena_.at) {
        builder->room = builder->length;
        fb_arena_.at = builder->at + builder->length;
    }
    return fb_text_of(builder->at, builder->length);
}

static inline void fb_output_text(fb_text text) { fb_output_write(text.at, text.length); }

static inline void fb_log_text(enum fb_level level, fb_text text) { fb_log(level, text.at, text.length); }

__attribute__((noreturn)) static inline void fb_fail_text(fb_text message) { fb_fail(message.at, message.length); }

/* ── doubles ───────────────────────────────────────────────────────────────────────────────────── */

/* Read to the nearest double, written with the fewest digits that read back as the same: by arithmetic with whole numbers as long
 * as need be. Steele and White 1990, Clinger 1990. */

enum { FB_WHOLE_WORDS_ = 128, FB_DIGITS_MAX_ = 770 }; /* more digits can't change a double, but by not being zero */

typedef struct fb_whole_ {
    uint32_t count; /* of the words, without leading zeros; the lowest first */
    uint32_t words[FB_WHOLE_WORDS_];
} fb_whole_;

/* Multiplies, and adds. */
FB_ONCE_ void fb_whole_times_(fb_whole_ *whole, uint32_t by, uint32_t more)
{
    uint64_t carry = more;
    for (uint32_t i = 0; i < whole->count; i++) {
        carry += (uint64_t)whole->words[i] * by;
        whole->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry) whole->words[whole->count++] = (uint32_t)carry;
}

FB_ONCE_ void fb_whole_times_ten_to_(fb_whole_ *whole, uint32_t power)
{
    for (; power >= 9; power -= 9) fb_whole_times_(whole, 1000000000, 0);
    while (power--) fb_whole_times_(whole, 10, 0);
}

FB_ONCE_ void fb_whole_shift_(fb_whole_ *whole, uint32_t bits)
{
    uint32_t words = bits / 32;
    fb_whole_times_(whole, 1u << bits % 32, 0);
    if (!words || !whole->count) return;
    for (uint32_t i = whole->count; i--;) whole->words[i + words] = whole->words[i];
    for (uint32_t i = 0; i < words; i++) whole->words[i] = 0;
    whole->count += words;
}

static inline void fb_whole_set_(fb_whole_ *whole, uint64_t number)
{
    whole->words[0] = (uint32_t)number;
    whole->words[1] = (uint32_t)(number >> 32);
    whole->count = whole->words[1] ? 2 : whole->words[0] ? 1 : 0;
}

static inline int32_t fb_whole_bits_(const fb_whole_ *whole)
{
    return (int32_t)whole->count * 32 - __builtin_clz(whole->words[whole->count - 1]);
}

/* Returns a number below, at or above 0, as a is below, at or above b. */
FB_ONCE_ int32_t fb_whole_compare_(const fb_whole_ *a, const fb_whole_ *b)
{
    if (a->count != b->count) return a->count < b->count ? -1 : 1;
    for (uint32_t i = a->count; i--;)
        if (a->words[i] != b->words[i]) return a->words[i] < b->words[i] ? -1 : 1;
    return 0;
}

/* Takes b from a, which is at least as much. */
FB_ONCE_ void fb_whole_less_(fb_whole_ *a, const fb_whole_ *b)
{
    uint64_t borrow = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        uint64_t taken = (uint64_t)a->words[i] - (i < b->count ? b->words[i] : 0) - borrow;
        a->words[i] = (uint32_t)taken;
        borrow = taken >> 63;
    }
    while (a->count && !a->words[a->count - 1]) a->count--;
}

static inline void fb_whole_sum_(fb_whole_ *sum, const fb_whole_ *a, const fb_whole_ *b)
{
    uint64_t carry = 0;
    sum->count = a->count > b->count ? a->count : b->count;
    for (uint32_t i = 0; i < sum->count; i++) {
        carry += (uint64_t)(i < a->count ? a->words[i] : 0) + (i < b->count ? b->words[i] : 0);
        sum->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry) sum->words[sum->count++] = (uint32_t)carry;
}

/* Returns the bits of the double nearest to over / under; of infinity where it is too large. Both are used up. */
static inline uint64_t fb_nearest_(fb_whole_ *over, fb_whole_ *under)
{
    int32_t power = fb_whole_bits_(over) - fb_whole_bits_(under);
    fb_whole_shift_(power < 0 ? over : under, (uint32_t)(power < 0 ? -power : power));
    if (fb_whole_compare_(over, under) < 0) {
        fb_whole_shift_(over, 1);
        power--;
    }
    /* over / under is in [1, 2) now, and to be taken times 2^power: of 53 bits, fewer where it is subnormal */
    int32_t bits = power >= -1022 ? 53 : power + 1075;
    if (power > 1023) return (uint64_t)0x7ff << 52;
    if (bits < 0) return 0;
    uint64_t result = 0;
    for (int32_t i = 0; i < bits; i++) {
        bool is_one = fb_whole_compare_(over, under) >= 0;
        result = result << 1 | is_one;
        if (is_one) fb_whole_less_(over, under);
        if (over->count) fb_whole_shift_(over, 1);
    }
    int32_t rest = fb_whole_compare_(over, under);
    if (rest > 0 || (rest == 0 && (result & 1))) result++;
    return power >= -1022 ? ((uint64_t)(power + 1022) << 52) + result : result;
}

/* What is written, as digits and a power of ten: 1.50e3 is 15 and 2. */
typedef struct fb_decimal_ {
    uint64_t first;              /* the first 19 significant digits, as a number */
    uint32_t count;              /* of the digits, up to FB_DIGITS_MAX_ */
    int32_t power;
    bool has_more;               /* digits that aren't zero behind those */
    const char *at;              /* the first significant digit */
} fb_decimal_;

static inline int32_t fb_exponent_(const char *at, const char *end)
{
    bool is_negative = at < end && *at == '-';
    int32_t number = 0;
    if (at < end && (*at == '-' || *at == '+')) at++;
    for (; at < end; at++)
        if (number < 100000000) number = number * 10 + (*at - '0');
    return is_negative ? -number : number;
}

/* Reads a JSON number without its sign. */
static inline fb_decimal_ fb_decimal_of_(const char *at, const char *end)
{
    fb_decimal_ decimal;
    decimal.first = decimal.count = 0;
    decimal.power = 0;
    decimal.has_more = false;
    bool is_fraction = false;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            is_fraction = true;
            continue;
        }
        if (!decimal.count && *at == '0') {
            decimal.power -= is_fraction;
            continue;
        }
        if (!decimal.count) decimal.at = at;
        if (decimal.count < FB_DIGITS_MAX_) {
            if (decimal.count++ < 19) decimal.first = decimal.first * 10 + (uint64_t)(*at - '0');
            decimal.power -= is_fraction;
        } else {
            decimal.has_more |= *at != '0';
            decimal.power += !is_fraction;
        }
    }
    if (at < end) decimal.power += fb_exponent_(at + 1, end);
    return decimal;
}

static inline uint64_t fb_long_way_(fb_decimal_ decimal)
{
    fb_whole_ over, under;
    fb_whole_set_(&over, 0);
    fb_whole_set_(&under, 1);
    const char *at = decimal.at;
    for (uint32_t i = 0; i < decimal.count; at++)
        if (*at != '.') fb_whole_times_(&over, 10, (uint32_t)(*at - '0')), i++;
    if (decimal.has_more) {
        fb_whole_times_(&over, 10, 1);
        decimal.power--;
    }
    fb_whole_times_ten_to_(decimal.power < 0 ? &under : &over, (uint32_t)(decimal.power < 0 ? -decimal.power : decimal.power));
    return fb_nearest_(&over, &under);
}

/* Reads a JSON number. Returns false where it is larger than any double. */
static inline bool fb_read_double_(fb_text text, double *number)
{
    bool is_negative = text.at[0] == '-';
    fb_decimal_ decimal = fb_decimal_of_(text.at + is_negative, text.at + text.length);
    int32_t magnitude = (int32_t)decimal.count + decimal.power;
    uint64_t bits = 0;
    if (decimal.count && magnitude > 310) return false;
    if (decimal.count <= 19 && decimal.first <= (uint64_t)1 << 53 && decimal.power >= -22 && decimal.power <= 22) {
        double exact = (double)decimal.first, ten_to = 1; /* both are exact, so one rounding gives the nearest */
        for (int32_t i = decimal.power < 0 ? -decimal.power : decimal.power; i; i--) ten_to *= 10;
        exact = decimal.power < 0 ? exact / ten_to : exact * ten_to;
        __builtin_memcpy(&bits, &exact, sizeof(bits));
    } else if (decimal.count && magnitude > -324) {
        bits = fb_long_way_(decimal);
    }
    bits |= (uint64_t)is_negative << 63;
    __builtin_memcpy(number, &bits, sizeof(bits));
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

/* What remains to be written of a number, over `under`, and half of the distance to its neighbours below and above. */
typedef struct fb_remainder_ {
    fb_whole_ over, under, below, above;
    bool is_even; /* then the half-way points read as this number too */
} fb_remainder_;

static inline void fb_remainder_set_(fb_remainder_ *rest, uint64_t significand, int32_t power, bool is_lopsided)
{
    fb_whole_set_(&rest->over, significand);
    fb_whole_set_(&rest->under, 1);
    fb_whole_set_(&rest->below, 1);
    fb_whole_set_(&rest->above, 1);
    fb_whole_shift_(&rest->over, 1u + is_lopsided);
    fb_whole_shift_(&rest->under, 1u + is_lopsided);
    fb_whole_shift_(&rest->above, is_lopsided); /* the neighbour below a power of two is twice as near */
    rest->is_even = !(significand & 1);
    if (power < 0) {
        fb_whole_shift_(&rest->under, (uint32_t)-power);
        return;
    }
    fb_whole_shift_(&rest->over, (uint32_t)power);
    fb_whole_shift_(&rest->below, (uint32_t)power);
    fb_whole_shift_(&rest->above, (uint32_t)power);
}

static inline void fb_remainder_times_ten_to_(fb_remainder_ *rest, uint32_t power)
{
    fb_whole_times_ten_to_(&rest->over, power);
    fb_whole_times_ten_to_(&rest->below, power);
    fb_whole_times_ten_to_(&rest->above, power);
}

static inline bool fb_ends_above_(const fb_remainder_ *rest)
{
    fb_whole_ sum;
    fb_whole_sum_(&sum, &rest->over, &rest->above);
    int32_t order = fb_whole_compare_(&sum, &rest->under);
    return rest->is_even ? order >= 0 : order > 0;
}

static inline bool fb_ends_below_(const fb_remainder_ *rest)
{
    int32_t order = fb_whole_compare_(&rest->over, &rest->below);
    return rest->is_even ? order <= 0 : order < 0;
}

/* Writes the shortest digits; returns how many. */
static inline uint32_t fb_shortest_(fb_remainder_ *rest, char *digits)
{
    for (uint32_t count = 0;;) {
        char digit = '0';
        while (fb_whole_compare_(&rest->over, &rest->under) >= 0) {
            fb_whole_less_(&rest->over, &rest->under);
            digit++;
        }
        bool is_low = fb_ends_below_(rest), is_high = fb_ends_above_(rest);
        if (is_low && is_high) { /* the nearer one; half-way, the even one */
            fb_whole_shift_(&rest->over, 1);
            int32_t order = fb_whole_compare_(&rest->over, &rest->under);
            is_low = order < 0 || (order == 0 && !(digit & 1));
        }
        digits[count++] = (char)(digit + ((is_low || is_high) && !is_low));
        if (is_low || is_high) return count;
        fb_remainder_times_ten_to_(rest, 1);
    }
}

/* Writes the digits of a number that is not 0; returns how many. `*point` is the power of ten of the first digit, and 1. */
static inline uint32_t fb_digits_of_(uint64_t bits, char *digits, int32_t *point)
{
    fb_remainder_ rest;
    int32_t exponent = (int32_t)(bits >> 52 & 0x7ff);
    uint64_t significand = bits & (((uint64_t)1 << 52) - 1);
    bool is_lopsided = !significand && exponent > 1;
    if (exponent) significand |= (uint64_t)1 << 52;
    int32_t power = (exponent ? exponent : 1) - 1075;
    fb_remainder_set_(&rest, significand, power, is_lopsided);

    double log10 = (double)(power + 63 - __builtin_clzll(significand)) * 0.30102999566398120 - 1e-10;
    *point = (int32_t)log10 + (log10 > (double)(int32_t)log10); /* rounded up: what is needed, or 1 less */
    if (*point >= 0) fb_whole_times_ten_to_(&rest.under, (uint32_t)*point);
    else fb_remainder_times_ten_to_(&rest, (uint32_t)-*point);
    if (fb_ends_above_(&rest)) ++*point;
    else fb_remainder_times_ten_to_(&rest, 1);
    return fb_shortest_(&rest, digits);
}

/* Puts digits as Python does: 1.0, 0.0001, 1e-5, 1.5e16. */
static inline void fb_put_digits_(fb_builder *builder, const char *digits, uint32_t count, int32_t point)
{
    bool has_exponent = point < -3 || point > 16;
    int32_t whole = has_exponent ? 1 : point; /* digits before the point */
    if (whole <= 0) fb_put_byte(builder, '0');
    for (int32_t i = 0; i < whole; i++) fb_put_byte(builder, i < (int32_t)count ? digits[i] : '0');
    if (!has_exponent || count > 1) fb_put_byte(builder, '.');
    for (int32_t i = whole; i < 0; i++) fb_put_byte(builder, '0');
    for (int32_t i = whole < 0 ? 0 : whole; i < (int32_t)count; i++) fb_put_byte(builder, digits[i]);
    if (!has_exponent && whole >= (int32_t)count) fb_put_byte(builder, '0');
    if (!has_exponent) return;
    fb_put_byte(builder, 'e');
    fb_put_int(builder, point - 1);
}

/* Puts the shortest text that reads as the same double, with a point or an exponent. Neither infinite nor NaN: JSON has no such. */
FB_ONCE_ void fb_put_double(fb_builder *builder, double number)
{
    uint64_t bits;
    __builtin_memcpy(&bits, &number, sizeof(bits));
    if ((bits >> 52 & 0x7ff) == 0x7ff) fb_fail_str("a number is infinite or NaN, which JSON can't say");
    if (bits >> 63) fb_put_byte(builder, '-');
    double size = number < 0 ? -number : number;
    if (size < 9007199254740992.0 && (double)(int64_t)size == size) {
        fb_put_int(builder, (int64_t)size);
        fb_put_str(builder, ".0");
        return;
    }
    char digits[20];
    int32_t point;
    uint32_t count = fb_digits_of_(bits & ~((uint64_t)1 << 63), digits, &point);
    fb_put_digits_(builder, digits, count, point);
}

/* ── is it JSON ────────────────────────────────────────────────────────────────────────────────── */

enum { FB_DEPTH_MAX = 128 }; /* of arrays and objects inside each other: what recurses over them fits a stack of 64 KiB */

typedef struct fb_scanner_ {
    const char *at, *end;
    uint32_t depth;
    uint8_t is_object[FB_DEPTH_MAX / 8];
} fb_scanner_;

static inline char fb_peek_(const fb_scanner_ *scan) { return scan->at < scan->end ? *scan->at : '\0'; }

static inline bool fb_is_json_space_(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static inline void fb_skip_spaces_(fb_scanner_ *scan)
{
    while (scan->at < scan->end && fb_is_json_space_(*scan->at)) scan->at++;
}

/* Returns the first byte that isn't an ASCII character which stands for itself in a string. */
FB_ONCE_ const char *fb_past_plain_(const char *at, const char *end)
{
    for (; end - at >= 8; at += 8) { /* eight at a time: a byte's highest bit says that it may be another */
        uint64_t eight;
        __builtin_memcpy(&eight, at, 8);
        const uint64_t each = 0x0101010101010101u;
        uint64_t control = eight - each * ' ', quote = (eight ^ each * '"') - each, slash = (eight ^ each * '\\') - each;
        if ((eight | control | quote | slash) & each * 0x80) break;
    }
    while (at < end && (uint8_t)*at >= ' ' && (uint8_t)*at < 0x80 && *at != '"' && *at != '\\') at++;
    return at;
}

/* Returns the number that four hexadecimal digits are, -1 for anything else. */
FB_ONCE_ int32_t fb_code_unit_(const char *at, const char *end)
{
    int32_t unit = 0;
    if (end - at < 4) return -1;
    for (int32_t i = 0; i < 4; i++) {
        char c = fb_lower(at[i]);
        if (!fb_is_digit(c) && (c < 'a' || c > 'f')) return -1;
        unit = unit << 4 | (fb_is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    return unit;
}

/* Goes past the `\uXXXX` whose digits are next, and past the second one of a pair. Half a pair is no JSON here: UTF-8 can't say it. */
static inline bool fb_scan_code_point_(fb_scanner_ *scan)
{
    int32_t unit = fb_code_unit_(scan->at, scan->end);
    if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff)) return false;
    scan->at += 4;
    if (unit < 0xd800 || unit > 0xdfff) return true;
    if (scan->end - scan->at < 6 || scan->at[0] != '\\' || scan->at[1] != 'u') return false;
    int32_t low = fb_code_unit_(scan->at + 2, scan->end);
    scan->at += 6;
    return low >= 0xdc00 && low <= 0xdfff;
}

static inline bool fb_scan_escape_(fb_scanner_ *scan)
{
    switch (fb_peek_(scan)) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': return scan->at++, true;
    case 'u': return scan->at++, fb_scan_code_point_(scan);
    default: return false;
    }
}

/* Goes past a string, from behind its opening quote. */
FB_ONCE_ bool fb_scan_string_(fb_scanner_ *scan)
{
    for (;;) {
        scan->at = fb_past_plain_(scan->at, scan->end);
        if (scan->at == scan->end) return false;
        uint8_t c = (uint8_t)*scan->at;
        uint32_t length = c < 0x80 ? 1 : fb_utf8_length_(scan->at, scan->end);
        if (c < ' ' || !length) return false;
        scan->at += length;
        if (c == '"') return true;
        if (c == '\\' && !fb_scan_escape_(scan)) return false;
    }
}

static inline bool fb_scan_digits_(fb_scanner_ *scan)
{
    const char *start = scan->at;
    while (fb_is_digit(fb_peek_(scan))) scan->at++;
    return scan->at > start;
}

static inline bool fb_scan_number_(fb_scanner_ *scan)
{
    if (fb_peek_(scan) == '-') scan->at++;
    if (fb_peek_(scan) == '0') scan->at++;
    else if (!fb_scan_digits_(scan)) return false;
    if (fb_peek_(scan) == '.' && (scan->at++, !fb_scan_digits_(scan))) return false;
    if ((fb_peek_(scan) | 0x20) != 'e') return true;
    scan->at++;
    if (fb_peek_(scan) == '-' || fb_peek_(scan) == '+') scan->at++;
    return fb_scan_digits_(scan);
}

static inline bool fb_scan_word_(fb_scanner_ *scan, fb_text word)
{
    if (scan->end - scan->at < (intptr_t)word.length || !fb_same(fb_text_of(scan->at, word.length), word)) return false;
    scan->at += word.length;
    return true;
}

static inline bool fb_scan_scalar_(fb_scanner_ *scan)
{
    switch (fb_peek_(scan)) {
    case '"': return scan->at++, fb_scan_string_(scan);
    case 't': return fb_scan_word_(scan, FB_TEXT("true"));
    case 'f': return fb_scan_word_(scan, FB_TEXT("false"));
    case 'n': return fb_scan_word_(scan, FB_TEXT("null"));
    default: return fb_scan_number_(scan);
    }
}

static inline bool fb_bit_(const uint8_t *bits, uint32_t index) { return bits[index / 8] >> index % 8 & 1; }

static inline void fb_set_bit_(uint8_t *bits, uint32_t index, bool is_set)
{
    uint8_t mask = (uint8_t)(1u << index % 8);
    bits[index / 8] = (uint8_t)(is_set ? bits[index / 8] | mask : bits[index / 8] & ~mask);
}

FB_ONCE_ bool fb_scan_key_(fb_scanner_ *scan)
{
    fb_skip_spaces_(scan);
    if (fb_peek_(scan) != '"') return false;
    scan->at++;
    if (!fb_scan_string_(scan)) return false;
    fb_skip_spaces_(scan);
    return fb_peek_(scan) == ':' && (scan->at++, true);
}

/* Goes past a scalar, or into an array or an object: to its first value, or to its end where it is empty. */
static inline bool fb_scan_begin_(fb_scanner_ *scan, bool *has_value)
{
    char c = fb_peek_(scan);
    *has_value = false;
    if (c != '{' && c != '[') return fb_scan_scalar_(scan);
    if (scan->depth == FB_DEPTH_MAX) return false;
    fb_set_bit_(scan->is_object, scan->depth++, c == '{');
    scan->at++;
    fb_skip_spaces_(scan);
    if (fb_peek_(scan) == (c == '{' ? '}' : ']')) return true;
    *has_value = true;
    return c != '{' || fb_scan_key_(scan);
}

/* Goes past the ends of arrays and objects, to the next value or to the end of all. */
static inline bool fb_scan_end_(fb_scanner_ *scan)
{
    for (; fb_skip_spaces_(scan), scan->depth; scan->depth--) {
        bool is_object = fb_bit_(scan->is_object, scan->depth - 1);
        char c = fb_peek_(scan);
        if (c != ',' && c != (is_object ? '}' : ']')) return false;
        scan->at++;
        if (c == ',') return !is_object || fb_scan_key_(scan);
    }
    return true;
}

FB_ONCE_ bool fb_is_json(fb_text text)
{
    fb_scanner_ scan;
    scan.at = text.at;
    scan.end = text.at + text.length;
    scan.depth = 0;
    do {
        bool has_value;
        fb_skip_spaces_(&scan);
        if (!fb_scan_begin_(&scan, &has_value)) return false;
        if (!has_value && !fb_scan_end_(&scan)) return false;
    } while (scan.depth);
    return scan.at == scan.end;
}

/* ── reading JSON ──────────────────────────────────────────────────────────────────────────────── */

/* A value inside of a well-formed text, as it is written there. Nothing is copied and no tree is built: each look reads on from
 * where it stands, so read a large object once, with fb_members, rather than by a hundred fb_get. */
typedef struct fb_json {
    fb_text text; /* without spaces around it; `at` is 0 where there is no such value */
    fb_text key;  /* what messages call it: its key, or that of the array that it is in */
} fb_json;

enum fb_type {
    FB_MISSING,
    FB_NULL,
    FB_BOOL,
    FB_NUMBER,
    FB_STRING,
    FB_ARRAY,
    FB_OBJECT,
};

static inline fb_json fb_json_of_(fb_text text, fb_text key)
{
    fb_json json;
    json.text = text;
    json.key = key;
    return json;
}

static inline enum fb_type fb_type_of(fb_json json)
{
    switch (json.text.at ? *json.text.at : '\0') {
    case '\0': return FB_MISSING;
    case 'n': return FB_NULL;
    case 't': case 'f': return FB_BOOL;
    case '"': return FB_STRING;
    case '[': return FB_ARRAY;
    case '{': return FB_OBJECT;
    default: return FB_NUMBER;
    }
}

static inline bool fb_is_null(fb_json json) { return fb_type_of(json) == FB_NULL; }

/* Says that there is a value, and that it isn't null. */
static inline bool fb_is_given(fb_json json) { return fb_type_of(json) > FB_NULL; }

/* Ends the invocation with a message about a value: `votes: must not be negative`. */
__attribute__((noreturn)) FB_ONCE_ void fb_fail_at(fb_json json, fb_text message)
{
    fb_builder text = fb_begin();
    if (json.key.length) {
        fb_put(&text, json.key);
        fb_put_str(&text, ": ");
    } else {
        fb_put_str(&text, "the value: ");
    }
    fb_put(&text, json.text.at ? message : FB_TEXT("missing"));
    fb_fail_text(fb_built(&text));
}

/* Takes any text apart. Returns false where it isn't JSON, isn't UTF-8, or is nested deeper than FB_DEPTH_MAX. */
FB_ONCE_ bool fb_parse(fb_text text, fb_json *json)
{
    if (!fb_is_json(text)) return false;
    while (fb_is_json_space_(*text.at)) text.at++, text.length--;
    while (fb_is_json_space_(text.at[text.length - 1])) text.length--;
    *json = fb_json_of_(text, fb_nothing_());
    return true;
}

/* Reads a buffer that holds JSON. */
FB_ONCE_ fb_json fb_read_json(enum fb_buffer buffer)
{
    fb_json json;
    if (!fb_parse(fb_read(buffer), &json)) fb_fail_str("the value isn't JSON, or is nested deeper than 128");
    return json;
}

/* The hook's value, where it is JSON; where it is bytes, fb_read(FB_VALUE). */
static inline fb_json fb_value(void) { return fb_read_json(FB_VALUE); }

static inline fb_json fb_context(void) { return fb_read_json(FB_CONTEXT); }

static inline fb_json fb_settings(void) { return fb_read_json(FB_SETTINGS); }

static inline char fb_unescaped_(char letter)
{
    switch (letter) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return letter;
    }
}

static inline char *fb_write_utf8_(char *to, uint32_t point)
{
    if (point < 0x80) return *to = (char)point, to + 1;
    int32_t more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    *to++ = (char)((0xff00 >> (more + 1)) | (point >> (6 * more)));
    while (more--) *to++ = (char)(0x80 | ((point >> (6 * more)) & 0x3f));
    return to;
}

/* Decodes what stands between a string's quotes. It is well-formed: fb_parse has looked. */
static inline fb_text fb_decoded_(fb_text inside)
{
    const char *at = inside.at, *end = inside.at + inside.length;
    char *start = (char *)fb_alloc(inside.length), *to = start;
    while (at < end) {
        const char *stop = fb_past_plain_(at, end);
        if (stop > at) {
            __builtin_memcpy(to, at, (uintptr_t)(stop - at));
            to += stop - at;
            at = stop;
        } else if (*at != '\\') {
            *to++ = *at++;
        } else if (at[1] != 'u') {
            *to++ = fb_unescaped_(at[1]);
            at += 2;
        } else {
            uint32_t point = (uint32_t)fb_code_unit_(at + 2, end);
            bool is_pair = point >= 0xd800 && point <= 0xdfff;
            if (is_pair) point = 0x10000 + ((point & 0x3ff) << 10) + ((uint32_t)fb_code_unit_(at + 8, end) & 0x3ff);
            to = fb_write_utf8_(to, point);
            at += is_pair ? 12 : 6;
        }
    }
    return fb_text_of(start, (uint32_t)(to - start));
}

/* Takes a string, from behind its opening quote, and goes past it. Copies only where there are escapes. */
FB_ONCE_ fb_text fb_take_string_(const char **at, const char *end)
{
    const char *start = *at, *stop = start;
    bool has_escapes = false;
    while (*(stop = fb_past_plain_(stop, end)) != '"') {
        has_escapes |= *stop == '\\';
        stop += *stop == '\\' ? 2 : 1;
    }
    *at = stop + 1;
    fb_text inside = fb_text_of(start, (uint32_t)(stop - start));
    return has_escapes ? fb_decoded_(inside) : inside;
}

/* Returns the end of the value that begins at `at`. */
FB_ONCE_ const char *fb_past_value_(const char *at, const char *end)
{
    uint32_t depth = 0;
    bool is_scalar = *at != '"' && *at != '{' && *at != '[';
    if (is_scalar) {
        while (at < end && *at != ',' && *at != '}' && *at != ']' && !fb_is_json_space_(*at)) at++;
        return at;
    }
    do {
        char c = *at++;
        if (c == '{' || c == '[') depth++;
        else if (c == '}' || c == ']') depth--;
        else if (c != '"') continue;
        else
            while ((at = fb_past_plain_(at, end)), *at++ != '"')
                if (at[-1] == '\\') at++;
    } while (depth);
    return at;
}

/* The elements of an array or the members of an object, one after the other:
 *
 *     fb_items items = fb_elements(fb_get(post, "tags"));
 *     for (fb_json tag; fb_next(&items, &tag);) fb_log_text(FB_INFO, fb_string(tag));
 */
typedef struct fb_items {
    const char *at, *end; /* the end is the closing bracket */
    bool has_keys;
    fb_text key;
} fb_items;

static inline fb_items fb_items_of_(fb_json json, bool has_keys)
{
    fb_items items;
    items.at = json.text.at + 1;
    items.end = json.text.at + json.text.length - 1;
    items.has_keys = has_keys;
    items.key = json.key;
    return items;
}

static inline fb_items fb_elements(fb_json json)
{
    if (fb_type_of(json) != FB_ARRAY) fb_fail_at(json, FB_TEXT("not an array"));
    return fb_items_of_(json, false);
}

/* Each member has its key. */
static inline fb_items fb_members(fb_json json)
{
    if (fb_type_of(json) != FB_OBJECT) fb_fail_at(json, FB_TEXT("not an object"));
    return fb_items_of_(json, true);
}

static inline void fb_skip_to_token_(fb_items *items)
{
    while (items->at < items->end && (fb_is_json_space_(*items->at) || *items->at == ',' || *items->at == ':')) items->at++;
}

/* Gives the next item. Returns false behind the last one. */
FB_ONCE_ bool fb_next(fb_items *items, fb_json *item)
{
    fb_skip_to_token_(items);
    if (items->at == items->end) return false;
    item->key = items->key;
    if (items->has_keys) {
        items->at++;
        item->key = fb_take_string_(&items->at, items->end);
        fb_skip_to_token_(items);
    }
    const char *end = fb_past_value_(items->at, items->end);
    item->text = fb_text_of(items->at, (uint32_t)(end - items->at));
    items->at = end;
    return true;
}

/* Returns an object's member, the first of that key; FB_MISSING where there is none. */
FB_ONCE_ fb_json fb_member(fb_json object, fb_text key)
{
    fb_items items = fb_members(object);
    for (fb_json item; fb_next(&items, &item);)
        if (fb_same(item.key, key)) return item;
    return fb_json_of_(fb_nothing_(), key);
}

/* The same for a key that is written in the source: fb_string(fb_get(fb_get(post, "author"), "name")). */
#define fb_get(object, literal) fb_member((object), FB_TEXT(literal))

/* Returns an array's element; FB_MISSING behind the last one. */
FB_ONCE_ fb_json fb_at(fb_json array, uint32_t index)
{
    fb_items items = fb_elements(array);
    for (fb_json item; fb_next(&items, &item);)
        if (!index--) return item;
    return fb_json_of_(fb_nothing_(), array.key);
}

/* Returns how many elements or members there are. */
static inline uint32_t fb_count(fb_json json)
{
    uint32_t count = 0;
    fb_items items = fb_type_of(json) == FB_ARRAY ? fb_elements(json) : fb_members(json);
    for (fb_json item; fb_next(&items, &item);) count++;
    return count;
}

/* ── JSON as a type: each of fb_as_... says whether it fits, and gives it ──────────────────────────── */

/* Reads digits alone, at most up to `most`. */
FB_ONCE_ bool fb_read_digits_(fb_text digits, uint64_t most, uint64_t *number)
{
    *number = 0;
    for (uint32_t i = 0; i < digits.length; i++) {
        uint64_t digit = (uint64_t)(digits.at[i] - '0');
        if (!fb_is_digit(digits.at[i]) || *number > (most - digit) / 10) return false;
        *number = *number * 10 + digit;
    }
    return digits.length > 0;
}

/* Reads an integer of 64 bits from any text. */
static inline bool fb_read_int(fb_text text, int64_t *number)
{
    uint64_t size = 0;
    bool is_negative = text.length && text.at[0] == '-';
    if (is_negative) text.at++, text.length--;
    if (!fb_read_digits_(text, (uint64_t)INT64_MAX + is_negative, &size)) return false;
    *number = (int64_t)(is_negative ? 0 - size : size);
    return true;
}

/* A number with a fraction or an exponent isn't an integer, nor is one outside of 64 bits. */
static inline bool fb_as_int(fb_json json, int64_t *number)
{
    return fb_type_of(json) == FB_NUMBER && fb_read_int(json.text, number);
}

static inline bool fb_as_uint(fb_json json, uint64_t *number)
{
    return fb_type_of(json) == FB_NUMBER && fb_read_digits_(json.text, UINT64_MAX, number);
}

/* The nearest double; a number above the largest doesn't fit. */
FB_ONCE_ bool fb_as_double(fb_json json, double *number)
{
    return fb_type_of(json) == FB_NUMBER && fb_read_double_(json.text, number);
}

static inline bool fb_as_bool(fb_json json, bool *is_true)
{
    *is_true = fb_type_of(json) == FB_BOOL && *json.text.at == 't';
    return fb_type_of(json) == FB_BOOL;
}

/* Without quotes and escapes. */
FB_ONCE_ bool fb_as_string(fb_json json, fb_text *string)
{
    if (fb_type_of(json) != FB_STRING) return false;
    const char *at = json.text.at + 1;
    *string = fb_take_string_(&at, json.text.at + json.text.length);
    return true;
}

static inline int32_t fb_base64_digit_(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (fb_is_digit(c)) return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Bytes, from a string in base64. */
static inline bool fb_as_bytes(fb_json json, fb_text *bytes)
{
    fb_text text;
    if (!fb_as_string(json, &text) || text.length % 4) return false;
    uint32_t padding = text.length && text.at[text.length - 1] == '=';
    padding += padding && text.at[text.length - 2] == '=';
    uint8_t *start = (uint8_t *)fb_alloc(text.length), *to = start;
    for (uint32_t i = 0, bits = 0; i < text.length - padding; i++) {
        int32_t digit = fb_base64_digit_(text.at[i]);
        if (digit < 0) return false;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4) *to++ = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    *bytes = fb_text_of(start, (uint32_t)(to - start));
    return true;
}

/* ── the same, ending the invocation where it doesn't fit: `votes: not an integer of 64 bits` ──────── */

static inline int64_t fb_int(fb_json json)
{
    int64_t number;
    if (!fb_as_int(json, &number)) fb_fail_at(json, FB_TEXT("not an integer of 64 bits"));
    return number;
}

static inline uint64_t fb_uint(fb_json json)
{
    uint64_t number;
    if (!fb_as_uint(json, &number)) fb_fail_at(json, FB_TEXT("not an unsigned integer of 64 bits"));
    return number;
}

static inline double fb_double(fb_json json)
{
    double number;
    if (!fb_as_double(json, &number)) fb_fail_at(json, FB_TEXT("not a number"));
    return number;
}

static inline bool fb_bool(fb_json json)
{
    bool is_true;
    if (!fb_as_bool(json, &is_true)) fb_fail_at(json, FB_TEXT("not true or false"));
    return is_true;
}

FB_ONCE_ fb_text fb_string(fb_json json)
{
    fb_text string;
    if (!fb_as_string(json, &string)) fb_fail_at(json, FB_TEXT("not a string"));
    return string;
}

static inline fb_text fb_bytes(fb_json json)
{
    fb_text bytes;
    if (!fb_as_bytes(json, &bytes)) fb_fail_at(json, FB_TEXT("not a string in base64"));
    return bytes;
}

/* With a default for what is missing or null; what is there must fit. */
static inline int64_t fb_int_or(fb_json json, int64_t otherwise) { return fb_is_given(json) ? fb_int(json) : otherwise; }

static inline double fb_double_or(fb_json json, double otherwise) { return fb_is_given(json) ? fb_double(json) : otherwise; }

static inline bool fb_bool_or(fb_json json, bool otherwise) { return fb_is_given(json) ? fb_bool(json) : otherwise; }

static inline fb_text fb_string_or(fb_json json, fb_text otherwise) { return fb_is_given(json) ? fb_string(json) : otherwise; }

/* ── writing JSON ──────────────────────────────────────────────────────────────────────────────── */

/* Writes one value and its commas: `fb_writer out = fb_object(); fb_set_int(&out, "votes", 8);`. What is still open is closed where
 * it is used. */
typedef struct fb_writer {
    fb_builder text;
    bool needs_comma;
    uint32_t depth;
    uint8_t is_object[FB_DEPTH_MAX / 8];
} fb_writer;

/* Begins with nothing; one value may be added. */
static inline fb_writer fb_json_writer(void)
{
    fb_writer writer;
    writer.text = fb_begin();
    writer.needs_comma = false;
    writer.depth = 0;
    return writer;
}

FB_ONCE_ void fb_put_comma_(fb_writer *writer)
{
    if (writer->needs_comma) fb_put_byte(&writer->text, ',');
    writer->needs_comma = true;
}

FB_ONCE_ void fb_open_(fb_writer *writer, bool is_object)
{
    fb_put_comma_(writer);
    if (writer->depth == FB_DEPTH_MAX) fb_fail_str("the output is nested deeper than 128");
    fb_set_bit_(writer->is_object, writer->depth++, is_object);
    fb_put_byte(&writer->text, is_object ? '{' : '[');
    writer->needs_comma = false;
}

static inline void fb_open_object(fb_writer *writer) { fb_open_(writer, true); }

static inline void fb_open_array(fb_writer *writer) { fb_open_(writer, false); }

/* Closes the innermost object or array. */
FB_ONCE_ void fb_close(fb_writer *writer)
{
    if (!writer->depth) return;
    fb_put_byte(&writer->text, fb_bit_(writer->is_object, --writer->depth) ? '}' : ']');
    writer->needs_comma = true;
}

static inline fb_writer fb_object(void)
{
    fb_writer writer = fb_json_writer();
    fb_open_object(&writer);
    return writer;
}

static inline fb_writer fb_array(void)
{
    fb_writer writer = fb_json_writer();
    fb_open_array(&writer);
    return writer;
}

/* Closes everything, and returns what was written. */
static inline fb_text fb_written(fb_writer *writer)
{
    while (writer->depth) fb_close(writer);
    return fb_built(&writer->text);
}

static inline void fb_add_null(fb_writer *writer)
{
    fb_put_comma_(writer);
    fb_put_str(&writer->text, "null");
}

static inline void fb_add_bool(fb_writer *writer, bool is_true)
{
    fb_put_comma_(writer);
    fb_put(&writer->text, is_true ? FB_TEXT("true") : FB_TEXT("false"));
}

static inline void fb_add_int(fb_writer *writer, int64_t number)
{
    fb_put_comma_(writer);
    fb_put_int(&writer->text, number);
}

static inline void fb_add_uint(fb_writer *writer, uint64_t number)
{
    fb_put_comma_(writer);
    fb_put_uint(&writer->text, number);
}

static inline void fb_add_double(fb_writer *writer, double number)
{
    fb_put_comma_(writer);
    fb_put_double(&writer->text, number);
}

static inline void fb_put_escape_(fb_builder *builder, char c)
{
    static const char hex[] = "0123456789abcdef";
    fb_put_byte(builder, '\\');
    if (c == '"' || c == '\\') {
        fb_put_byte(builder, c);
        return;
    }
    fb_put_str(builder, "u00");
    fb_put_byte(builder, hex[c >> 4]);
    fb_put_byte(builder, hex[c & 0xf]);
}

/* With quotes and escapes around it. What isn't UTF-8 ends the invocation: JSON has no bytes, see fb_add_bytes. */
FB_ONCE_ void fb_add_string(fb_writer *writer, fb_text text)
{
    fb_put_comma_(writer);
    fb_builder *to = &writer->text;
    const char *at = text.at, *end = text.at + text.length;
    fb_put_byte(to, '"');
    while (at < end) {
        const char *start = at;
        uint32_t length = 1;
        for (at = fb_past_plain_(at, end); at < end && (uint8_t)*at >= 0x80 && length; at = fb_past_plain_(at + length, end))
            length = fb_utf8_length_(at, end);
        if (!length) fb_fail_str("a text isn't UTF-8");
        fb_put(to, fb_text_of(start, (uint32_t)(at - start)));
        if (at < end) fb_put_escape_(to, *at++);
    }
    fb_put_byte(to, '"');
}

/* Bytes as {"base64": ...}: the form that the database's parameters take. */
static inline void fb_add_bytes(fb_writer *writer, fb_text bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fb_put_comma_(writer);
    fb_put_str(&writer->text, "{\"base64\":\"");
    for (uint32_t i = 0; i < bytes.length; i += 3) {
        uint32_t three = 0, count = bytes.length - i < 3 ? bytes.length - i : 3;
        for (uint32_t j = 0; j < 3; j++) three = three << 8 | (j < count ? (uint8_t)bytes.at[i + j] : 0);
        for (uint32_t j = 0; j < 4; j++) fb_put_byte(&writer->text, j <= count ? digits[three >> (18 - 6 * j) & 63] : '=');
    }
    fb_put_str(&writer->text, "\"}");
}

/* A value that was read, as it was written there: numbers to the last digit. */
static inline void fb_add_json(fb_writer *writer, fb_json json)
{
    if (!json.text.at) fb_fail_at(json, fb_nothing_());
    fb_put_comma_(writer);
    fb_put(&writer->text, json.text);
}

/* Begins a member of an object: the next value is its own. */
static inline void fb_add_key(fb_writer *writer, fb_text key)
{
    fb_add_string(writer, key);
    fb_put_byte(&writer->text, ':');
    writer->needs_comma = false;
}

/* A member with its key written in the source. */
#define fb_set_null(writer, key) (fb_add_key((writer), FB_TEXT(key)), fb_add_null(writer))
#define fb_set_bool(writer, key, is_true) (fb_add_key((writer), FB_TEXT(key)), fb_add_bool((writer), (is_true)))
#define fb_set_int(writer, key, number) (fb_add_key((writer), FB_TEXT(key)), fb_add_int((writer), (number)))
#define fb_set_uint(writer, key, number) (fb_add_key((writer), FB_TEXT(key)), fb_add_uint((writer), (number)))
#define fb_set_double(writer, key, number) (fb_add_key((writer), FB_TEXT(key)), fb_add_double((writer), (number)))
#define fb_set_string(writer, key, text) (fb_add_key((writer), FB_TEXT(key)), fb_add_string((writer), (text)))
#define fb_set_json(writer, key, json) (fb_add_key((writer), FB_TEXT(key)), fb_add_json((writer), (json)))
#define fb_set_object(writer, key) (fb_add_key((writer), FB_TEXT(key)), fb_open_object(writer))
#define fb_set_array(writer, key) (fb_add_key((writer), FB_TEXT(key)), fb_open_array(writer))

/* The hook's new value. For bytes, fb_output_text. */
static inline void fb_output_json(fb_writer *writer) { fb_output_text(fb_written(writer)); }

static inline void fb_output_string(fb_text text)
{
    fb_writer writer = fb_json_writer();
    fb_add_string(&writer, text);
    fb_output_json(&writer);
}

static inline void fb_output_int(int64_t number)
{
    fb_builder text = fb_begin();
    fb_put_int(&text, number);
    fb_output_text(fb_built(&text));
}

static inline void fb_output_double(double number)
{
    fb_builder text = fb_begin();
    fb_put_double(&text, number);
    fb_output_text(fb_built(&text));
}

static inline void fb_output_bool(bool is_true) { fb_output_text(is_true ? FB_TEXT("true") : FB_TEXT("false")); }

/* ── the invocation ────────────────────────────────────────────────────────────────────────────── */

typedef struct fb_call_info {
    fb_text plugin, hook, request_id;
    fb_text scope;
    bool has_scope;
} fb_call_info;

static inline fb_call_info fb_this_call(void)
{
    fb_json json = fb_read_json(FB_CALL_INFO);
    fb_call_info info;
    info.plugin = fb_string(fb_get(json, "plugin"));
    info.hook = fb_string(fb_get(json, "hook"));
    info.request_id = fb_string_or(fb_get(json, "request_id"), fb_nothing_());
    info.scope = fb_string_or(fb_get(json, "scope"), fb_nothing_());
    info.has_scope = fb_is_given(fb_get(json, "scope"));
    return info;
}

/* ── host calls ────────────────────────────────────────────────────────────────────────────────── */

/* Beside fb_answer, in a fb_error: the reply doesn't read as the ABI says. */
#define FB_BAD_REPLY 1

/* Why a host call gave nothing: `if (rows.error.code) ...`. */
typedef struct fb_error {
    int32_t code;   /* 0 where all went well; one of fb_answer, another negative number, or FB_BAD_REPLY */
    fb_text call;   /* such as "GET" */
    fb_text target; /* such as "https://api.example.com/x" */
    fb_text reason; /* the host's words; may be empty */
} fb_error;

/* "denied", "bad_request" ... "bad_reply"; "unknown" for a number that this header doesn't know. */
static inline fb_text fb_error_name(fb_error error)
{
    switch (error.code) {
    case FB_DENIED: return FB_TEXT("denied");
    case FB_BAD_REQUEST: return FB_TEXT("bad_request");
    case FB_NOT_FOUND: return FB_TEXT("not_found");
    case FB_BACKEND_FAILED: return FB_TEXT("backend_failed");
    case FB_TOO_LARGE: return FB_TEXT("too_large");
    case FB_CONFLICT: return FB_TEXT("conflict");
    case FB_BAD_REPLY: return FB_TEXT("bad_reply");
    default: return FB_TEXT("unknown");
    }
}

/* Puts a text; of a long one the beginning, cut between characters. */
static inline void fb_put_beginning_(fb_builder *builder, fb_text text)
{
    uint32_t length = text.length < 200 ? text.length : 200;
    while (length && length < text.length && ((uint8_t)text.at[length] & 0xc0) == 0x80) length--;
    fb_put(builder, fb_text_of(text.at, length));
    if (length < text.length) fb_put_str(builder, "…");
}

/* A sentence such as `GET https://api.example.com/x: denied: origin not granted`. */
FB_ONCE_ fb_text fb_error_text(fb_error error)
{
    fb_builder text = fb_begin();
    bool is_known = error.code == FB_BAD_REPLY || (error.code >= FB_CONFLICT && error.code < 0);
    fb_put(&text, error.call);
    fb_put_byte(&text, ' ');
    fb_put_beginning_(&text, error.target);
    fb_put_str(&text, ": ");
    if (is_known) fb_put(&text, fb_error_name(error));
    else fb_put_str(&text, "code "), fb_put_int(&text, error.code);
    if (error.reason.length) fb_put_str(&text, ": ");
    fb_put(&text, error.reason);
    return fb_built(&text);
}

/* Ends the invocation with an error's text, where there is an error. */
FB_ONCE_ void fb_check(fb_error error)
{
    if (error.code) fb_fail_text(fb_error_text(error));
}

/* What an import answered, with the host's reason where it is an error. */
FB_ONCE_ fb_error fb_answered_(int32_t answer, fb_text call, fb_text target)
{
    fb_error error;
    fb_json head, reason;
    error.code = answer < 0 ? answer : 0;
    error.call = call;
    error.target = target;
    error.reason = fb_nothing_();
    if (answer < 0 && fb_parse(fb_read(FB_REPLY_HEAD), &head) && fb_type_of(head) == FB_OBJECT) {
        reason = fb_get(head, "reason");
        if (!fb_as_string(reason, &error.reason)) error.reason = fb_nothing_();
    }
    return error;
}

/* Returns a member of the reply, which must be an object and have it as this type. */
FB_ONCE_ fb_json fb_reply_(fb_error *error, enum fb_buffer buffer, fb_text key, enum fb_type type)
{
    fb_json reply, member = fb_json_of_(fb_nothing_(), key);
    if (error->code) return member;
    if (fb_parse(fb_read(buffer), &reply) && fb_type_of(reply) == FB_OBJECT) member = fb_member(reply, key);
    if (fb_type_of(member) != type) error->code = FB_BAD_REPLY;
    return member;
}

typedef struct fb_header {
    fb_text name, value;
} fb_header;

/* `fb_request request = {.url = FB_TEXT("https://api.example.com/x")};`. What is left out is empty. */
typedef struct fb_request {
    fb_text method FB_EMPTY_; /* GET where it is empty */
    fb_text url FB_EMPTY_;
    fb_text body FB_EMPTY_;
    const fb_header *headers FB_EMPTY_;
    uint32_t header_count FB_EMPTY_;
} fb_request;

typedef struct fb_response {
    fb_error error;
    int32_t status;
    fb_json headers; /* [[name, value], ...]; see fb_header_of */
    fb_text body;
} fb_response;

static inline fb_text fb_request_head_(const fb_request *request, fb_text method)
{
    fb_writer head = fb_object();
    fb_set_string(&head, "method", method);
    fb_set_string(&head, "url", request->url);
    fb_set_array(&head, "headers");
    for (uint32_t i = 0; i < request->header_count; i++) {
        fb_open_array(&head);
        fb_add_string(&head, request->headers[i].name);
        fb_add_string(&head, request->headers[i].value);
        fb_close(&head);
    }
    return fb_written(&head);
}

static inline bool fb_are_headers_(fb_json headers)
{
    if (fb_type_of(headers) != FB_ARRAY) return false;
    fb_items items = fb_elements(headers);
    for (fb_json pair; fb_next(&items, &pair);)
        if (fb_type_of(pair) != FB_ARRAY || fb_count(pair) != 2 || fb_type_of(fb_at(pair, 0)) != FB_STRING ||
            fb_type_of(fb_at(pair, 1)) != FB_STRING)
            return false;
    return true;
}

/* Sends a request. A status of 404 or 500 is no error: the request was answered. */
static inline fb_response fb_fetch(fb_request request)
{
    fb_response response;
    fb_text method = request.method.length ? request.method : FB_TEXT("GET");
    fb_text head = fb_request_head_(&request, method);
    int32_t answer = fb_http_request(head.at, head.length, request.body.at, request.body.length);
    int64_t status = 0;
    response.error = fb_answered_(answer, method, request.url);
    response.body = fb_nothing_();
    response.headers = fb_reply_(&response.error, FB_REPLY_HEAD, FB_TEXT("headers"), FB_ARRAY);
    fb_json number = fb_reply_(&response.error, FB_REPLY_HEAD, FB_TEXT("status"), FB_NUMBER);
    if (!response.error.code && (!fb_as_int(number, &status) || status < 0 || status > 999 || !fb_are_headers_(response.headers)))
        response.error.code = FB_BAD_REPLY;
    response.status = (int32_t)status;
    if (!response.error.code) response.body = fb_read(FB_REPLY_BODY);
    return response;
}

/* Returns the first header of a name, whatever its case; an empty text without one. */
static inline fb_text fb_header_of(fb_response response, fb_text name)
{
    if (response.error.code) return fb_nothing_();
    fb_items items = fb_elements(response.headers);
    for (fb_json pair; fb_next(&items, &pair);)
        if (fb_same_ignoring_case(fb_string(fb_at(pair, 0)), name)) return fb_string(fb_at(pair, 1));
    return fb_nothing_();
}

typedef struct fb_rows {
    fb_error error;
    fb_json columns; /* an array of names */
    fb_json rows;    /* an array of arrays; bytes in them are base64, for fb_bytes */
} fb_rows;

static inline bool fb_are_all_(fb_json array, enum fb_type type)
{
    fb_items items = fb_elements(array);
    for (fb_json item; fb_next(&items, &item);)
        if (fb_type_of(item) != type) return false;
    return true;
}

static inline fb_text fb_params_(fb_writer *params) { return params ? fb_written(params) : fb_nothing_(); }

/* Asks the database. `params` is an array for $1, $2 ..., or 0:
 *
 *     fb_writer params = fb_array();
 *     fb_add_int(&params, 7);
 *     fb_rows found = fb_query(FB_TEXT("SELECT title FROM posts WHERE id = $1"), &params);
 */
static inline fb_rows fb_query(fb_text sql, fb_writer *params)
{
    fb_rows result;
    fb_text list = fb_params_(params);
    result.error = fb_answered_(fb_db_query(sql.at, sql.length, list.at, list.length), FB_TEXT("query"), sql);
    result.columns = fb_reply_(&result.error, FB_REPLY_BODY, FB_TEXT("columns"), FB_ARRAY);
    result.rows = fb_reply_(&result.error, FB_REPLY_BODY, FB_TEXT("rows"), FB_ARRAY);
    if (!result.error.code && !(fb_are_all_(result.columns, FB_STRING) && fb_are_all_(result.rows, FB_ARRAY)))
        result.error.code = FB_BAD_REPLY;
    return result;
}

/* Returns a row's value in the column of a name; FB_MISSING where there is none. */
static inline fb_json fb_column(fb_rows result, fb_json row, fb_text name)
{
    uint32_t index = 0;
    fb_items items = fb_elements(result.columns);
    for (fb_json column; fb_next(&items, &column); index++) {
        if (!fb_same(fb_string(column), name)) continue;
        fb_json value = fb_at(row, index);
        value.key = name;
        return value;
    }
    return fb_json_of_(fb_nothing_(), name);
}

/* A number, from a statement that changes rows or from a count. */
typedef struct fb_number {
    fb_error error;
    int64_t value;
} fb_number;

/* Changes the database; gives how many rows were changed. */
static inline fb_number fb_exec(fb_text sql, fb_writer *params)
{
    fb_number changed;
    fb_text list = fb_params_(params);
    changed.value = 0;
    changed.error = fb_answered_(fb_db_exec(sql.at, sql.length, list.at, list.length), FB_TEXT("exec"), sql);
    fb_json count = fb_reply_(&changed.error, FB_REPLY_HEAD, FB_TEXT("rows_changed"), FB_NUMBER);
    if (!changed.error.code && !fb_as_int(count, &changed.value)) changed.error.code = FB_BAD_REPLY;
    return changed;
}

typedef struct fb_kept {
    fb_error error;
    bool is_there; /* a key that isn't there is no error */
    fb_text value;
} fb_kept;

static inline fb_kept fb_kv_read(fb_text key)
{
    fb_kept kept;
    int32_t answer = fb_kv_get(key.at, key.length);
    kept.error = fb_answered_(answer == FB_NOT_FOUND ? 0 : answer, FB_TEXT("KV get"), key);
    kept.is_there = answer >= 0;
    kept.value = kept.is_there ? fb_read(FB_REPLY_BODY) : fb_nothing_();
    return kept;
}

static inline fb_error fb_kv_write(fb_text key, fb_text value)
{
    return fb_answered_(fb_kv_set(key.at, key.length, value.at, value.length), FB_TEXT("KV set"), key);
}

/* The key is gone after so many seconds. */
static inline fb_error fb_kv_write_for(fb_text key, fb_text value, int64_t seconds)
{
    return fb_answered_(fb_kv_set_for(key.at, key.length, value.at, value.length, seconds), FB_TEXT("KV set"), key);
}

static inline fb_error fb_kv_remove(fb_text key)
{
    return fb_answered_(fb_kv_delete(key.at, key.length), FB_TEXT("KV delete"), key);
}

/* Adds to the number under a key, as one step; gives the new one. */
static inline fb_number fb_kv_add(fb_text key, int64_t by)
{
    fb_number number;
    number.value = 0;
    number.error = fb_answered_(fb_kv_increment(key.at, key.length, by), FB_TEXT("KV increment"), key);
    if (!number.error.code && !fb_read_int(fb_read(FB_REPLY_BODY), &number.value)) number.error.code = FB_BAD_REPLY;
    return number;
}

typedef struct fb_result {
    fb_error error;
    fb_json value;
} fb_result;

/* Calls a function of the application. `arguments` is an object, or 0:
 *
 *     fb_writer mail = fb_object();
 *     fb_set_string(&mail, "to", FB_TEXT("editor@example.com"));
 *     fb_check(fb_invoke(FB_TEXT("mail.send"), &mail).error);
 */
static inline fb_result fb_invoke(fb_text name, fb_writer *arguments)
{
    fb_result result;
    fb_text body = fb_params_(arguments);
    result.error = fb_answered_(fb_call(name.at, name.length, body.at, body.length), FB_TEXT("call"), name);
    result.value = fb_json_of_(fb_nothing_(), name);
    if (!result.error.code && !fb_parse(fb_read(FB_REPLY_BODY), &result.value)) result.error.code = FB_BAD_REPLY;
    return result;
}

#endif
