/* Text as a pointer and a length, and the ASCII rules that the plugins share. */
#ifndef PLUGINS_TEXT_H
#define PLUGINS_TEXT_H

#include <stdbool.h>
#include <stdint.h>

struct text {
    const char *at;
    uint32_t length;
};

/* A string literal as the initialiser of a struct text, and as a value. */
#define TEXT_INIT(literal) {"" literal, sizeof(literal) - 1}
#define TEXT(literal) ((struct text)TEXT_INIT(literal))

static inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

static inline bool is_letter(char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

static inline char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

static inline char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c & ~0x20) : c; }

static inline bool text_equals(struct text a, struct text b)
{
    if (a.length != b.length) return false;
    for (uint32_t i = 0; i < a.length; i++)
        if (a.at[i] != b.at[i]) return false;
    return true;
}

/* Says whether a text starts with a prefix that is given in lower case, whatever the text's own case. */
static inline bool text_starts_with(struct text text, struct text prefix)
{
    if (text.length < prefix.length) return false;
    for (uint32_t i = 0; i < prefix.length; i++)
        if (lower(text.at[i]) != prefix.at[i]) return false;
    return true;
}

/* Says whether a text is a word that is given in lower case, whatever the text's own case. */
static inline bool text_is(struct text text, struct text word)
{
    return text.length == word.length && text_starts_with(text, word);
}

#endif
