/* html-sanitiser: keeps a short list of harmless tags in a comment and drops all others.
 *
 * Rules:
 * - The result is written anew. A `<` in it starts one of ALLOWED, spelt one way, or it is `&lt;`. So what a browser would make
 *   of broken markup in the input doesn't matter.
 * - Text is kept, but for what stands in script and style. Comments, doctypes and unfinished tags are dropped.
 * - Each tag that is opened is closed, and no other closing tag comes out.
 * - The input is read once, forward only: the work grows with its length and no faster.
 */
#include "fuseboard.h"

enum { DEPTH_MAX = 32 }; /* tags inside tags; deeper ones are dropped and their text kept */

struct element {
    fb_text name;
    bool is_void;             /* has no content and no closing tag */
    bool is_closed_by_itself; /* <p> ends an open <p>, as in HTML */
    bool has_href;
};

static const struct element ALLOWED[] = {
    {FB_TEXT_INIT("p"), .is_closed_by_itself = true},
    {FB_TEXT_INIT("b")},
    {FB_TEXT_INIT("i")},
    {FB_TEXT_INIT("em")},
    {FB_TEXT_INIT("strong")},
    {FB_TEXT_INIT("a"), .has_href = true},
    {FB_TEXT_INIT("ul")},
    {FB_TEXT_INIT("ol")},
    {FB_TEXT_INIT("li"), .is_closed_by_itself = true},
    {FB_TEXT_INIT("code")},
    {FB_TEXT_INIT("br"), .is_void = true},
};

static struct {
    const char *at, *end;
} input;

static struct {
    const struct element *tags[DEPTH_MAX];
    int count;
} open;

static fb_builder clean;

static void put(fb_text text) { fb_put(&clean, text); }

static void put_byte(char byte) { fb_put_byte(&clean, byte); }

static bool is_letter(char c) { return fb_lower(c) >= 'a' && fb_lower(c) <= 'z'; }

/* Says whether a text starts with a prefix that is given in lower case, whatever the text's own case. */
static bool starts_with(fb_text text, fb_text prefix)
{
    return text.length >= prefix.length && fb_same_ignoring_case(fb_text_of(text.at, prefix.length), prefix);
}

static bool has_more(void) { return input.at < input.end; }

/* Returns the byte so far ahead, a zero byte behind the end. */
static char peek(int ahead) { return input.end - input.at > ahead ? input.at[ahead] : '\0'; }

static fb_text ahead(void) { return fb_text_of(input.at, (uint32_t)(input.end - input.at)); }

static void skip_spaces(void)
{
    while (has_more() && fb_is_space(*input.at)) input.at++;
}

/* Goes on behind the next `mark`, or at the end without one. */
static void skip_past(fb_text mark)
{
    while (has_more() && !starts_with(ahead(), mark)) input.at++;
    if (has_more()) input.at += mark.length;
}

static bool ends_name(char c) { return fb_is_space(c) || c == '/' || c == '>'; }

static fb_text take_tag_name(void)
{
    const char *start = input.at;
    while (has_more() && !ends_name(*input.at)) input.at++;
    return fb_text_of(start, (uint32_t)(input.at - start));
}

/* A `=` in front belongs to the name: so says HTML, and so each round takes at least one byte. */
static fb_text take_attribute_name(void)
{
    const char *start = input.at++;
    while (has_more() && !ends_name(*input.at) && *input.at != '=') input.at++;
    return fb_text_of(start, (uint32_t)(input.at - start));
}

static fb_text take_attribute_value(void)
{
    skip_spaces();
    char quote = peek(0);
    bool is_quoted = quote == '"' || quote == '\'';
    const char *start = is_quoted ? ++input.at : input.at;
    while (has_more() && (is_quoted ? *input.at != quote : !fb_is_space(*input.at) && *input.at != '>')) input.at++;
    fb_text value = fb_text_of(start, (uint32_t)(input.at - start));
    if (is_quoted && has_more()) input.at++;
    return value;
}

/* Reads up to and with the `>`, and keeps the value of the first href. Returns false where the tag is unfinished. */
static bool take_attributes(fb_text *href)
{
    bool has_href = false;
    for (;;) {
        while (has_more() && (fb_is_space(*input.at) || *input.at == '/')) input.at++;
        if (!has_more()) return false;
        if (*input.at == '>') return input.at++, true;

        fb_text name = take_attribute_name(), value = {0};
        skip_spaces();
        if (peek(0) == '=') {
            input.at++;
            value = take_attribute_value();
        }
        if (!has_href && fb_same_ignoring_case(name, FB_TEXT("href"))) {
            has_href = true;
            *href = value;
        }
    }
}

/* Drops everything up to and with the closing tag of script or style. */
static void skip_raw_text(fb_text name)
{
    fb_text no_href;
    while (has_more()) {
        skip_past(FB_TEXT("</"));
        if (starts_with(ahead(), name) && ends_name(peek((int)name.length))) {
            take_attributes(&no_href);
            return;
        }
    }
}

static fb_text trimmed(fb_text text)
{
    while (text.length && fb_is_space(text.at[0])) text.at++, text.length--;
    while (text.length && fb_is_space(text.at[text.length - 1])) text.length--;
    return text;
}

/* The scheme must be spelt out: a character reference in it makes it another one, so the address is dropped. */
static bool is_web_address(fb_text address)
{
    return starts_with(address, FB_TEXT("http://")) || starts_with(address, FB_TEXT("https://"));
}

static void put_attribute_value(fb_text value)
{
    for (uint32_t i = 0; i < value.length; i++) {
        switch (value.at[i]) {
        case '"': put(FB_TEXT("&quot;")); break;
        case '<': put(FB_TEXT("&lt;")); break;
        case '>': put(FB_TEXT("&gt;")); break;
        default: put_byte(value.at[i]);
        }
    }
}

static void close_tags_down_to(int count)
{
    while (open.count > count) {
        put(FB_TEXT("</"));
        put(open.tags[--open.count]->name);
        put_byte('>');
    }
}

static void close_tag(const struct element *tag)
{
    for (int i = open.count - 1; i >= 0; i--)
        if (open.tags[i] == tag) return close_tags_down_to(i);
}

static void open_tag(const struct element *tag, fb_text href)
{
    if (tag->is_closed_by_itself && open.count > 0 && open.tags[open.count - 1] == tag) close_tag(tag);
    if (open.count == DEPTH_MAX && !tag->is_void) return;
    put_byte('<');
    put(tag->name);
    if (tag->has_href && is_web_address(href)) {
        put(FB_TEXT(" href=\""));
        put_attribute_value(href);
        put_byte('"');
    }
    put_byte('>');
    if (!tag->is_void) open.tags[open.count++] = tag;
}

static const struct element *find_allowed(fb_text name)
{
    for (uint32_t i = 0; i < sizeof(ALLOWED) / sizeof(*ALLOWED); i++)
        if (fb_same_ignoring_case(name, ALLOWED[i].name)) return &ALLOWED[i];
    return 0;
}

static void read_tag(void)
{
    bool is_closing = peek(1) == '/';
    input.at += is_closing ? 2 : 1;
    fb_text name = take_tag_name(), href = {0};
    if (!take_attributes(&href)) return;

    const struct element *tag = find_allowed(name);
    if (tag && is_closing) close_tag(tag);
    else if (tag) open_tag(tag, trimmed(href));
    else if (is_closing) return;
    else if (fb_same_ignoring_case(name, FB_TEXT("script"))) skip_raw_text(FB_TEXT("script"));
    else if (fb_same_ignoring_case(name, FB_TEXT("style"))) skip_raw_text(FB_TEXT("style"));
}

/* Reads what starts with a `<`. */
static void read_markup(void)
{
    char next = peek(1);
    if (is_letter(next) || (next == '/' && is_letter(peek(2)))) {
        read_tag();
    } else if (starts_with(ahead(), FB_TEXT("<!--"))) {
        input.at += 2; /* so that <!--> is a whole comment, as it is to a browser */
        skip_past(FB_TEXT("-->"));
    } else if (next == '!' || next == '?' || next == '/') {
        skip_past(FB_TEXT(">"));
    } else {
        put(FB_TEXT("&lt;"));
        input.at++;
    }
}

FUSEBOARD_EXPORT(comment_html)
{
    fb_text comment = fb_string(fb_value());
    input.at = comment.at;
    input.end = comment.at + comment.length;
    while (has_more()) {
        if (*input.at == '<') read_markup();
        else put_byte(*input.at++);
    }
    close_tags_down_to(0);
    fb_output_string(fb_built(&clean));
}
