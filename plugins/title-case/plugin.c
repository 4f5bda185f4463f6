/* title-case: gives the words of a post's title a capital letter.
 *
 * With the setting `style = "ap"`, small words (a, of, and ...) are lower unless they come first.
 * Letters outside of ASCII, and the rest of each word, stay as they are: "NASA" isn't "Nasa".
 */
#include "arena.h"
#include "fuseboard.h"
#include "json.h"
#include "text.h"

static const struct text SMALL_WORDS[] = {
    TEXT_INIT("a"),  TEXT_INIT("an"), TEXT_INIT("the"), TEXT_INIT("of"), TEXT_INIT("and"),
    TEXT_INIT("or"), TEXT_INIT("in"), TEXT_INIT("on"),  TEXT_INIT("to"), TEXT_INIT("for"),
};

static bool is_small_word(struct text word)
{
    for (uint32_t i = 0; i < sizeof(SMALL_WORDS) / sizeof(*SMALL_WORDS); i++)
        if (text_is(word, SMALL_WORDS[i])) return true;
    return false;
}

/* Says whether a byte belongs to a word rather than to the punctuation around it. */
static bool is_in_word(char c) { return is_letter(c) || is_digit(c) || (unsigned char)c >= 0x80; }

static void set_case(char *word, uint32_t length, bool small)
{
    if (!small) {
        *word = upper(*word);
        return;
    }
    for (uint32_t i = 0; i < length; i++) word[i] = lower(word[i]);
}

static void title_case(char *at, const char *end, bool small_words)
{
    bool is_first = true;
    while (at < end) {
        char *stop = at;
        while (stop < end && !is_space(*stop)) stop++;
        char *word = at, *word_end = stop;
        while (word < word_end && !is_in_word(*word)) word++;
        while (word_end > word && !is_in_word(word_end[-1])) word_end--;
        uint32_t length = (uint32_t)(word_end - word);
        if (length > 0) {
            set_case(word, length, small_words && !is_first && is_small_word((struct text){word, length}));
            is_first = false;
        }
        at = stop + 1;
    }
}

FUSEBOARD_EXPORT(post_title)
{
    struct text value = read_buffer(FB_VALUE);
    if (!json_is_string(value)) fb_fail_str("the title isn't a string");

    struct text style = json_member(read_buffer(FB_SETTINGS), TEXT("\"style\""));
    char *title = arena_top();
    json_put_decoded(value);
    title_case(title, arena_top(), text_equals(style, TEXT("\"ap\"")));

    char *result = arena_top();
    json_put_string((struct text){title, (uint32_t)(result - title)});
    output(text_since(result));
}
