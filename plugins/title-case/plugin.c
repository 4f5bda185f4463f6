/* title-case: gives the words of a post's title a capital letter.
 *
 * With the setting `style = "ap"`, small words (a, of, and ...) are lower unless they come first.
 * Letters outside of ASCII, and the rest of each word, stay as they are: "NASA" isn't "Nasa".
 */
#include "fuseboard.h"

static const fb_text SMALL_WORDS[] = {
    FB_TEXT_INIT("a"),  FB_TEXT_INIT("an"), FB_TEXT_INIT("the"), FB_TEXT_INIT("of"), FB_TEXT_INIT("and"),
    FB_TEXT_INIT("or"), FB_TEXT_INIT("in"), FB_TEXT_INIT("on"),  FB_TEXT_INIT("to"), FB_TEXT_INIT("for"),
};

static bool is_small_word(fb_text word)
{
    for (uint32_t i = 0; i < sizeof(SMALL_WORDS) / sizeof(*SMALL_WORDS); i++)
        if (fb_same_ignoring_case(word, SMALL_WORDS[i])) return true;
    return false;
}

static bool is_letter(char c) { return fb_lower(c) >= 'a' && fb_lower(c) <= 'z'; }

/* Says whether a byte belongs to a word rather than to the punctuation around it. */
static bool is_in_word(char c) { return is_letter(c) || fb_is_digit(c) || (unsigned char)c >= 0x80; }

static void set_case(char *word, uint32_t length, bool small)
{
    if (!small) {
        *word = fb_upper(*word);
        return;
    }
    for (uint32_t i = 0; i < length; i++) word[i] = fb_lower(word[i]);
}

static void title_case(char *at, const char *end, bool small_words)
{
    bool is_first = true;
    while (at < end) {
        char *stop = at;
        while (stop < end && !fb_is_space(*stop)) stop++;
        char *word = at, *word_end = stop;
        while (word < word_end && !is_in_word(*word)) word++;
        while (word_end > word && !is_in_word(word_end[-1])) word_end--;
        uint32_t length = (uint32_t)(word_end - word);
        if (length > 0) {
            set_case(word, length, small_words && !is_first && is_small_word(fb_text_of(word, length)));
            is_first = false;
        }
        at = stop + 1;
    }
}

FUSEBOARD_EXPORT(post_title)
{
    fb_text title = fb_string(fb_value());
    fb_text style;
    bool is_ap = fb_as_string(fb_get(fb_settings(), "style"), &style) && fb_same(style, FB_TEXT("ap"));
    char *letters = fb_copy(title);
    title_case(letters, letters + title.length, is_ap);
    fb_output_string(fb_text_of(letters, title.length));
}
