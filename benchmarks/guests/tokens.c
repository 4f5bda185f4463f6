/* Writes a JSON text of so many records, and reads it token by token. */
#include "kernel.h"

#define ROOM_FOR_TEXT (4u << 20)

static char text[ROOM_FOR_TEXT];
static uint32_t written;

static void put(const char *piece) {
    while (*piece && written < ROOM_FOR_TEXT) text[written++] = *piece++;
}

static void put_number(uint32_t number) {
    char digits[11];
    int at = 10;
    digits[at] = 0;
    do digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    put(digits + at);
}

static void write_records(uint32_t count) {
    static const char *const words[] = {"fuse", "plugin", "a \\\"quoted\\\" word", "hook", "trap", "tenant"};
    written = 0;
    put("[");
    for (uint32_t i = 0; i < count; i++) {
        put(i ? ",{\"id\": " : "{\"id\": ");
        put_number(i);
        put(", \"tags\": [\"");
        put(words[draw() % 6]);
        put("\", true, null], \"size\": ");
        put_number(draw());
        put("}");
    }
    put("]");
}

KERNEL(size) {
    uint64_t sum = 0, number = 0;
    uint32_t depth = 0;
    begin_drawing();
    write_records(size);
    for (uint32_t at = 0; at < written; at++) {
        char c = text[at];
        switch (c) {
            case '{': case '[': sum = mixed(sum, ++depth); break;
            case '}': case ']': sum = mixed(sum, depth--); break;
            case '"':
                for (at++; text[at] != '"'; at++) {
                    if (text[at] == '\\') at++;
                    sum = mixed(sum, (uint8_t)text[at]);
                }
                break;
            default:
                if (c < '0' || c > '9') break;
                for (number = 0; text[at] >= '0' && text[at] <= '9'; at++) number = number * 10 + (uint32_t)(text[at] - '0');
                sum = mixed(sum, number);
                at--;
        }
    }
    return sum;
}
