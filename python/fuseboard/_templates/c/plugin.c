/* My Plugin: what it makes of a post's title. */
#include "fuseboard.h"

static fb_text trimmed(fb_text text)
{
    while (text.length > 0 && fb_is_space(text.at[text.length - 1])) text.length--;
    while (text.length > 0 && fb_is_space(*text.at)) text.at++, text.length--;
    return text;
}

/* Serves the hook post.title. Its value is JSON, here a string; one that isn't ends the invocation, by fb_string.
 * Without an output the value stays as it is; fb_fail_str("...") ends the invocation with a message. */
FUSEBOARD_EXPORT(post_title)
{
    fb_text title = trimmed(fb_string(fb_value()));
    if (title.length == 0) return;

    fb_builder result = fb_begin();
    fb_put(&result, title);
    fb_put(&result, fb_string(fb_get(fb_settings(), "ending")));
    fb_output_string(fb_built(&result));
}

/* Where to go on, all of it in fuseboard.h:
 * - another hook: a [[hooks]] table in plugin.toml and a FUSEBOARD_EXPORT here
 * - what the application says beside the value: fb_context; what the call is about: fb_this_call
 * - the log: fb_log_str(FB_INFO, "a long title"); what is left of a limit: fb_meter_remaining(FB_FUEL)
 * - with a capability in plugin.toml: fb_fetch, fb_query, fb_kv_read, fb_invoke */
