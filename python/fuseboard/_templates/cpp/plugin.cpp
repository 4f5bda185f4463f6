// My Plugin: what it makes of a post's title.
#include <string>
#include <string_view>

#include "fuseboard.h"

static std::string_view trimmed(std::string_view text)
{
    while (!text.empty() && fb_is_space(text.back())) text.remove_suffix(1);
    while (!text.empty() && fb_is_space(text.front())) text.remove_prefix(1);
    return text;
}

// Serves the hook post.title. Its value is JSON, here a string; one that isn't ends the invocation, by fb_string.
// Without an output the value stays as it is; fb_fail_str("...") ends the invocation with a message.
FUSEBOARD_EXPORT(post_title)
{
    std::string title(trimmed(fb_string(fb_value())));
    if (title.empty()) return;

    title += std::string_view(fb_string(fb_get(fb_settings(), "ending")));
    fb_output_string(title);
}

// Where to go on, all of it in fuseboard.h:
// - another hook: a [[hooks]] table in plugin.toml and a FUSEBOARD_EXPORT here
// - what the application says beside the value: fb_context; what the call is about: fb_this_call
// - the log: fb_log_text(FB_INFO, title); what is left of a limit: fb_meter_remaining(FB_FUEL)
// - with a capability in plugin.toml: fb_fetch, fb_query, fb_kv_read, fb_invoke
