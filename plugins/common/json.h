/* The little JSON that the plugins need: strings in and out, and one member of an object.
 *
 * Rules:
 * - What is read came from the host and is well-formed JSON: a broken text gives a wrong result, never a read behind it.
 * - Half of a surrogate pair becomes U+FFFD, as UTF-8 has no place for it.
 */
#ifndef PLUGINS_JSON_H
#define PLUGINS_JSON_H

#include "arena.h"
#include "text.h"

static inline bool json_is_string(struct text json)
{
    return json.length >= 2 && json.at[0] == '"' && json.at[json.length - 1] == '"';
}

static inline void put_utf8(uint32_t point)
{
    if (point < 0x80) {
        put_byte((char)point);
        return;
    }
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    put_byte((char)((0xff00 >> (more + 1)) | (point >> (6 * more))));
    while (more--) put_byte((char)(0x80 | ((point >> (6 * more)) & 0x3f)));
}

/* Reads the four digits of a \uXXXX; anything else gives a half surrogate, so U+FFFD. */
static inline uint32_t json_code_unit(const char *at, const char *end)
{
    uint32_t unit = 0;
    if (end - at < 4) return 0xd800;
    for (int i = 0; i < 4; i++) {
        char c = lower(at[i]);
        if (!is_digit(c) && (c < 'a' || c > 'f')) return 0xd800;
        unit = unit << 4 | (uint32_t)(is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    return unit;
}

/* Puts the character of the \u escape whose digits start at `at`; returns where the text goes on. */
static inline const char *json_put_unicode_escape(const char *at, const char *end)
{
    uint32_t point = json_code_unit(at, end);
    at = end - at < 4 ? end : at + 4;
    if (point < 0xd800 || point > 0xdfff) {
        put_utf8(point);
        return at;
    }
    bool is_pair = point < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u';
    uint32_t low = is_pair ? json_code_unit(at + 2, end) : 0;
    if (low < 0xdc00 || low > 0xdfff) {
        put_utf8(0xfffd);
        return at;
    }
    put_utf8(0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00));
    return at + 6;
}

static inline char json_unescaped(char letter)
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

/* Puts what a JSON string says: its quotes off, its escapes replaced. */
static inline void json_put_decoded(struct text string)
{
    const char *at = string.at + 1, *end = string.at + string.length - 1;
    while (at < end) {
        char c = *at++;
        if (c != '\\' || at == end) {
            put_byte(c);
        } else if (*at == 'u') {
            at = json_put_unicode_escape(at + 1, end);
        } else {
            put_byte(json_unescaped(*at++));
        }
    }
}

/* Puts a text as a JSON string, with its quotes. */
static inline void json_put_string(struct text text)
{
    static const char hex[] = "0123456789abcdef";
    put_byte('"');
    for (uint32_t i = 0; i < text.length; i++) {
        char c = text.at[i];
        if ((unsigned char)c < 0x20) {
            put(TEXT("\\u00"));
            put_byte(hex[c >> 4]);
            put_byte(hex[c & 0xf]);
            continue;
        }
        if (c == '"' || c == '\\') put_byte('\\');
        put_byte(c);
    }
    put_byte('"');
}

/* Returns the end of the JSON value at `at`: the first `,`, `:`, `}`, `]` or space outside of it. */
static inline const char *json_value_end(const char *at, const char *end)
{
    int depth = 0;
    bool in_string = false;
    for (; at < end; at++) {
        if (in_string) {
            if (*at == '\\') at++;
            else if (*at == '"') in_string = false;
            continue;
        }
        if (*at == '"') in_string = true;
        else if (*at == '{' || *at == '[') depth++;
        else if (depth > 0 && (*at == '}' || *at == ']')) depth--;
        else if (depth == 0 && (is_space(*at) || *at == ',' || *at == ':' || *at == '}' || *at == ']')) return at;
    }
    return end;
}

/* Takes the next value off the front of an object's inside; an empty text at its end. */
static inline struct text json_take(struct text *rest)
{
    const char *at = rest->at, *end = at + rest->length;
    while (at < end && (is_space(*at) || *at == ',' || *at == ':')) at++;
    const char *value_end = json_value_end(at, end);
    *rest = (struct text){value_end, (uint32_t)(end - value_end)};
    return (struct text){at, (uint32_t)(value_end - at)};
}

/* Returns a member of a JSON object as it is written there; an empty text where there is none.
 * `key` is given with its quotes, and compared as written. */
static inline struct text json_member(struct text object, struct text key)
{
    if (object.length < 2 || object.at[0] != '{') return (struct text){object.at, 0};
    struct text rest = {object.at + 1, object.length - 2};
    for (;;) {
        struct text name = json_take(&rest), value = json_take(&rest);
        if (name.length == 0 || text_equals(name, key)) return value;
    }
}

#endif
