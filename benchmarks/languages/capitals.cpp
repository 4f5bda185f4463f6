/* Gives a JSON string back in capitals, but for words of a dictionary, which a constructor fills before the call. */
#include <string>
#include <unordered_set>

#include "abi.h"

static std::unordered_set<std::string> dictionary() {
    std::unordered_set<std::string> words;
    for (int number = 0; number < 5000; number++) words.insert("exception" + std::to_string(number));
    return words;
}

static const std::unordered_set<std::string> small = dictionary();

static bool is_letter(uint8_t byte) { return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9'); }

GUEST(run) {
    uint32_t length;
    uint8_t *bytes = input(&length);
    for (uint32_t at = 0; at < length; at++) {
        if (bytes[at] == '\\') at++; /* an escape such as \n stays */
        else if (is_letter(bytes[at])) {
            uint32_t end = at;
            while (end < length && is_letter(bytes[end])) end++;
            bool stays = small.count(std::string(bytes + at, bytes + end)) > 0;
            for (; at < end; at++)
                if (!stays && bytes[at] >= 'a') bytes[at] -= 'a' - 'A';
            at--;
        }
    }
    output(bytes, length);
}
