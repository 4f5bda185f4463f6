/* Takes values apart and puts them together again by guest/c/fuseboard.h, so that tests can hold it to Python.
 *
 * A value ends where memory ends: to read behind it is a crash.
 */
#include "fuseboard.h"

/* Reads the value into the last bytes of memory. What is taken later comes from a mebibyte before it. */
static fb_text value_at_the_end(void)
{
    uint32_t length = (uint32_t)fb_buffer_length(FB_VALUE);
    char *room = (char *)fb_alloc(1u << 20);
    __builtin_wasm_memory_grow(0, length / FB_PAGE_BYTES + 1);
    char *start = (char *)(__builtin_wasm_memory_size(0) * FB_PAGE_BYTES - length);
    fb_buffer_read(FB_VALUE, 0, start, length);
    fb_arena_.at = room;
    return fb_text_of(start, length);
}

static fb_json parsed(void)
{
    fb_json json;
    if (!fb_parse(value_at_the_end(), &json)) fb_fail_str("no JSON");
    return json;
}

static void add_number(fb_writer *out, fb_json json)
{
    int64_t number;
    uint64_t natural;
    double approximate;
    if (fb_as_int(json, &number)) fb_add_int(out, number);
    else if (fb_as_uint(json, &natural)) fb_add_uint(out, natural);
    else if (fb_as_double(json, &approximate)) fb_add_double(out, approximate);
    else fb_add_json(out, json);
}

static void copy(fb_writer *out, fb_json json)
{
    enum fb_type type = fb_type_of(json);
    bool is_object = type == FB_OBJECT;
    if (type == FB_NUMBER) return add_number(out, json);
    if (type == FB_STRING) return fb_add_string(out, fb_string(json));
    if (type == FB_BOOL) return fb_add_bool(out, fb_bool(json));
    if (type == FB_NULL) return fb_add_null(out);
    if (is_object) fb_open_object(out);
    else fb_open_array(out);
    fb_items items = is_object ? fb_members(json) : fb_elements(json);
    for (fb_json item; fb_next(&items, &item);) {
        if (is_object) fb_add_key(out, item.key);
        copy(out, item);
    }
    fb_close(out);
}

/* Gives the value again. */
FUSEBOARD_EXPORT(copied)
{
    fb_writer out = fb_json_writer();
    copy(&out, parsed());
    fb_output_json(&out);
}

FUSEBOARD_EXPORT(is_json) { fb_output_bool(fb_is_json(value_at_the_end())); }

/* Goes through all that is in the value, if it is JSON, and says whether it is. */
FUSEBOARD_EXPORT(is_walked)
{
    fb_json json;
    bool is_json = fb_parse(value_at_the_end(), &json);
    fb_writer out = fb_json_writer();
    if (is_json) copy(&out, json);
    fb_output_bool(is_json);
}

/* [object, key]: gives the member of that key, null where there is none. */
FUSEBOARD_EXPORT(member)
{
    fb_json both = parsed(), found = fb_member(fb_at(both, 0), fb_string(fb_at(both, 1)));
    fb_writer out = fb_json_writer();
    if (fb_type_of(found) == FB_MISSING) fb_add_null(&out);
    else fb_add_json(&out, found);
    fb_output_json(&out);
}

/* A string in base64: gives the bytes as a parameter of the database. */
FUSEBOARD_EXPORT(bytes)
{
    fb_writer out = fb_json_writer();
    fb_add_bytes(&out, fb_bytes(parsed()));
    fb_output_json(&out);
}

/* Takes each member as the type that its key says; one that doesn't fit ends the invocation. */
FUSEBOARD_EXPORT(typed)
{
    fb_json record = parsed();
    fb_int(fb_get(record, "int"));
    fb_uint(fb_get(record, "uint"));
    fb_double(fb_get(record, "double"));
    fb_bool(fb_get(record, "bool"));
    fb_string(fb_get(record, "string"));
    fb_elements(fb_get(record, "array"));
    fb_int(fb_get(fb_get(record, "object"), "inside"));
    fb_int_or(fb_get(record, "optional"), 7);
}

/* Bytes, as text: JSON can't say all of them. */
FUSEBOARD_EXPORT(string) { fb_output_string(fb_read(FB_VALUE)); }

FUSEBOARD_EXPORT(not_a_number) { fb_output_double(__builtin_inf() - __builtin_inf()); }

/* Builds two texts in turns, so that each has to move, and gives them one after the other. */
FUSEBOARD_EXPORT(builders)
{
    fb_text text = fb_read(FB_VALUE);
    fb_builder all = fb_begin(), backwards = fb_begin();
    for (uint32_t i = 0; i < text.length; i++) {
        fb_put_byte(&all, text.at[i]);
        fb_put_byte(&backwards, text.at[text.length - 1 - i]);
    }
    fb_put(&all, fb_built(&backwards));
    fb_output_text(fb_built(&all));
}
