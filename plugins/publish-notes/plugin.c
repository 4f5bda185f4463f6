/* publish-notes: notes each published post, and tells the editor and a webhook.
 *
 * A host call that fails is logged and the others still happen: none of them is worth losing the rest.
 */
#include "arena.h"
#include "fuseboard.h"
#include "json.h"
#include "text.h"

#define INSERT_NOTE "INSERT INTO notes(post_id, title) VALUES ($1, $2)"
#define WEBHOOK                                                              \
    "{\"method\":\"POST\",\"url\":\"https://hooks.example.com/published\"," \
    "\"headers\":[[\"Content-Type\",\"application/json\"]]}"

static void log_line(enum fb_level level, const char *start)
{
    struct text line = text_since(start);
    fb_log(level, line.at, line.length);
}

/* Logs a warning where a host call's answer is an error. */
static void check(struct text name, int32_t answer)
{
    if (answer >= 0) return;
    char *start = arena_top();
    put(name);
    put(TEXT(" failed with code "));
    put_number(answer);
    log_line(FB_WARNING, start);
}

static void write_note(struct text id, struct text title)
{
    char *start = arena_top();
    put_byte('[');
    put(id);
    put_byte(',');
    put(title);
    put_byte(']');
    struct text params = text_since(start);

    check(TEXT("host_kv_increment"), fb_kv_increment(FB_STR("published"), 1));
    check(TEXT("host_db_exec"), fb_db_exec(FB_STR(INSERT_NOTE), params.at, params.length));
}

static void send_mail(struct text title)
{
    char *start = arena_top();
    put(TEXT("{\"to\":\"editor@example.com\",\"subject\":\"Published: "));
    put((struct text){title.at + 1, title.length - 1}); /* with its closing quote, and its escapes as they are */
    put_byte('}');
    struct text mail = text_since(start);
    check(TEXT("host_call mail.send"), fb_call(FB_STR("mail.send"), mail.at, mail.length));
}

FUSEBOARD_EXPORT(post_published)
{
    struct text post = read_buffer(FB_VALUE);
    struct text id = json_member(post, TEXT("\"id\"")), title = json_member(post, TEXT("\"title\""));
    if (id.length == 0 || !json_is_string(title)) fb_fail_str("the post has no id or no title");

    write_note(id, title);
    send_mail(title);
    check(TEXT("host_http_request"), fb_http_request(FB_STR(WEBHOOK), post.at, post.length));

    char *start = arena_top();
    put(TEXT("post "));
    put(id);
    put(TEXT(" published: "));
    put(title);
    log_line(FB_INFO, start);
}
