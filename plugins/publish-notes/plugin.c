/* publish-notes: notes each published post, and tells the editor and a webhook.
 *
 * A host call that fails is logged and the others still happen: none of them is worth losing the rest.
 */
#include "fuseboard.h"

#define INSERT_NOTE "INSERT INTO notes(post_id, title) VALUES ($1, $2)"

/* Logs a warning where a host call failed. */
static void report(fb_error error)
{
    if (error.code) fb_log_text(FB_WARNING, fb_error_text(error));
}

static void write_note(fb_json id, fb_text title)
{
    fb_writer params = fb_array();
    fb_add_json(&params, id);
    fb_add_string(&params, title);
    report(fb_kv_add(FB_TEXT("published"), 1).error);
    report(fb_exec(FB_TEXT(INSERT_NOTE), &params).error);
}

static void send_mail(fb_text title)
{
    fb_builder subject = fb_begin();
    fb_put_str(&subject, "Published: ");
    fb_put(&subject, title);
    fb_writer mail = fb_object();
    fb_set_string(&mail, "to", FB_TEXT("editor@example.com"));
    fb_set_string(&mail, "subject", fb_built(&subject));
    report(fb_invoke(FB_TEXT("mail.send"), &mail).error);
}

static void tell_webhook(fb_json post)
{
    static const fb_header headers[] = {{FB_TEXT_INIT("Content-Type"), FB_TEXT_INIT("application/json")}};
    fb_request request = {
        .method = FB_TEXT("POST"),
        .url = FB_TEXT("https://hooks.example.com/published"),
        .headers = headers,
        .header_count = 1,
        .body = post.text,
    };
    report(fb_fetch(request).error);
}

FUSEBOARD_EXPORT(post_published)
{
    fb_json post = fb_value(), id = fb_get(post, "id");
    fb_text title = fb_string(fb_get(post, "title"));

    write_note(id, title);
    send_mail(title);
    tell_webhook(post);

    fb_builder line = fb_begin();
    fb_put_str(&line, "post ");
    fb_put(&line, id.text);
    fb_put_str(&line, " published: ");
    fb_put(&line, title);
    fb_log_text(FB_INFO, fb_built(&line));
}
