/* The conformance guest in C: runs the steps of a scenario, as README.md beside this folder says. Needs a C library, for WASI. */
#define _GNU_SOURCE /* getentropy, nanosleep */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuseboard.h"

static void run_step(fb_json step, fb_writer *out);

__attribute__((noreturn)) static void fail_unknown(const char *what, fb_text name)
{
    fb_builder message = fb_begin();
    fb_put_str(&message, "unknown ");
    fb_put(&message, fb_text_of(what, (uint32_t)strlen(what)));
    fb_put_str(&message, ": ");
    fb_put(&message, name);
    fb_fail_text(fb_built(&message));
}

static bool tells_text; /* instead of name and reason: the step `told` */

/* Writes an error as a step's result, where there is one. */
static bool failed(fb_error error, fb_writer *out)
{
    if (!error.code) return false;
    if (tells_text) {
        fb_add_string(out, fb_error_text(error));
        return true;
    }
    fb_open_object(out);
    fb_set_string(out, "error", fb_error_name(error));
    fb_set_string(out, "reason", error.reason);
    fb_close(out);
    return true;
}

static int32_t index_of(const char *const *names, int32_t count, const char *what, fb_text name)
{
    for (int32_t i = 0; i < count; i++)
        if (fb_same(fb_text_of(names[i], (uint32_t)strlen(names[i])), name)) return i;
    fail_unknown(what, name);
}

/* ── bytes as hex ──────────────────────────────────────────────────────────────────────────────── */

static void add_hex(fb_writer *out, fb_text bytes)
{
    fb_builder hex = fb_begin();
    for (uint32_t i = 0; i < bytes.length; i++) {
        fb_put_byte(&hex, "0123456789abcdef"[(uint8_t)bytes.at[i] >> 4]);
        fb_put_byte(&hex, "0123456789abcdef"[bytes.at[i] & 15]);
    }
    fb_add_string(out, fb_built(&hex));
}

static uint8_t nibble(char c) { return (uint8_t)(fb_is_digit(c) ? c - '0' : c - 'a' + 10); }

static fb_text bytes_of(fb_text hex)
{
    fb_builder bytes = fb_begin();
    for (uint32_t i = 0; i + 1 < hex.length; i += 2) fb_put_byte(&bytes, (char)(nibble(hex.at[i]) << 4 | nibble(hex.at[i + 1])));
    return fb_built(&bytes);
}

/* ── the steps ─────────────────────────────────────────────────────────────────────────────────── */

static void step_context(fb_json step, fb_writer *out)
{
    (void)step;
    fb_add_json(out, fb_context());
}

static void step_settings(fb_json step, fb_writer *out)
{
    (void)step;
    fb_add_json(out, fb_settings());
}

static void step_call_info(fb_json step, fb_writer *out)
{
    (void)step;
    fb_call_info info = fb_this_call();
    fb_open_object(out);
    fb_set_string(out, "hook", info.hook);
    fb_set_string(out, "request_id", info.request_id);
    if (info.has_scope) fb_set_string(out, "scope", info.scope);
    else fb_set_null(out, "scope");
    fb_set_string(out, "plugin", info.plugin);
    fb_close(out);
}

static void step_meter(fb_json step, fb_writer *out)
{
    static const char *const limits[] = {"memory", "fuel", "timeout", "http_fetches", "db_queries", "kv_write_bytes"};
    fb_add_int(out, fb_meter_remaining(index_of(limits, 6, "limit", fb_string(fb_get(step, "limit")))));
}

static void step_log(fb_json step, fb_writer *out)
{
    static const char *const levels[] = {"debug", "info", "warning", "error", "critical"};
    int32_t level = index_of(levels, 5, "level", fb_string(fb_get(step, "level")));
    fb_log_text((enum fb_level)level, fb_string(fb_get(step, "text")));
    fb_add_null(out);
}

static void step_http(fb_json step, fb_writer *out)
{
    fb_json headers = fb_get(step, "headers");
    fb_request request = {
        .method = fb_string(fb_get(step, "method")),
        .url = fb_string(fb_get(step, "url")),
        .body = fb_string(fb_get(step, "body")),
    };
    fb_header *header = (fb_header *)fb_alloc(fb_count(headers) * sizeof(fb_header));
    request.headers = header;
    fb_items items = fb_elements(headers);
    for (fb_json pair; fb_next(&items, &pair); request.header_count++)
        header[request.header_count] = (fb_header){fb_string(fb_at(pair, 0)), fb_string(fb_at(pair, 1))};

    fb_response response = fb_fetch(request);
    if (failed(response.error, out)) return;
    fb_open_object(out);
    fb_set_int(out, "status", response.status);
    fb_set_json(out, "headers", response.headers);
    fb_set_string(out, "body", response.body);
    fb_close(out);
}

static fb_writer params_of(fb_json step)
{
    fb_writer params = fb_json_writer();
    fb_add_json(&params, fb_get(step, "params"));
    return params;
}

static void step_db_query(fb_json step, fb_writer *out)
{
    fb_writer params = params_of(step);
    fb_rows result = fb_query(fb_string(fb_get(step, "sql")), &params);
    if (failed(result.error, out)) return;
    fb_open_object(out);
    fb_set_json(out, "columns", result.columns);
    fb_set_json(out, "rows", result.rows);
    fb_close(out);
}

static void step_db_exec(fb_json step, fb_writer *out)
{
    fb_writer params = params_of(step);
    fb_number changed = fb_exec(fb_string(fb_get(step, "sql")), &params);
    if (failed(changed.error, out)) return;
    fb_open_object(out);
    fb_set_int(out, "rows_changed", changed.value);
    fb_close(out);
}

static void step_kv_get(fb_json step, fb_writer *out)
{
    fb_kept kept = fb_kv_read(fb_string(fb_get(step, "key")));
    if (failed(kept.error, out)) return;
    if (kept.is_there) add_hex(out, kept.value);
    else fb_add_null(out);
}

static void step_kv_set(fb_json step, fb_writer *out)
{
    fb_text key = fb_string(fb_get(step, "key")), value = bytes_of(fb_string(fb_get(step, "value")));
    fb_json seconds = fb_get(step, "seconds");
    fb_error error = fb_is_given(seconds) ? fb_kv_write_for(key, value, fb_int(seconds)) : fb_kv_write(key, value);
    if (!failed(error, out)) fb_add_null(out);
}

static void step_kv_delete(fb_json step, fb_writer *out)
{
    if (!failed(fb_kv_remove(fb_string(fb_get(step, "key"))), out)) fb_add_null(out);
}

static void step_kv_increment(fb_json step, fb_writer *out)
{
    fb_number number = fb_kv_add(fb_string(fb_get(step, "key")), fb_int(fb_get(step, "by")));
    if (!failed(number.error, out)) fb_add_int(out, number.value);
}

static void step_call(fb_json step, fb_writer *out)
{
    fb_writer arguments = fb_json_writer();
    fb_add_json(&arguments, fb_get(step, "args"));
    fb_result result = fb_invoke(fb_string(fb_get(step, "name")), &arguments);
    if (!failed(result.error, out)) fb_add_json(out, result.value);
}

static void step_fail(fb_json step, fb_writer *out)
{
    (void)out;
    fb_fail_text(fb_string(fb_get(step, "message")));
}

static void step_crash(fb_json step, fb_writer *out)
{
    (void)step;
    (void)out;
    abort();
}

static void step_loop(fb_json step, fb_writer *out)
{
    (void)step;
    (void)out;
    for (volatile uint32_t spinning = 0;;) spinning++;
}

static void step_allocate(fb_json step, fb_writer *out)
{
    size_t size = (size_t)fb_int(fb_get(step, "mib")) << 20;
    void *volatile kept = malloc(size);
    if (!kept) abort();
    memset(kept, 1, size);
    fb_add_null(out);
}

static void step_text(fb_json step, fb_writer *out)
{
    uint32_t length = (uint32_t)fb_int(fb_get(step, "length"));
    fb_add_string(out, fb_text_of(memset(fb_alloc(length), 'x', length), length));
}

static void step_repeat(fb_json step, fb_writer *out)
{
    fb_writer result = fb_json_writer();
    fb_json last;
    for (int64_t left = fb_int(fb_get(step, "times")); left > 0; left--) {
        result = fb_json_writer();
        run_step(fb_get(step, "step"), &result);
    }
    if (!fb_parse(fb_written(&result), &last)) fb_fail_str("a step gave no JSON");
    fb_add_json(out, last);
}

static void step_told(fb_json step, fb_writer *out)
{
    tells_text = true;
    run_step(fb_get(step, "step"), out);
    tells_text = false;
}

static void step_print(fb_json step, fb_writer *out)
{
    fb_text text = fb_string(fb_get(step, "text"));
    FILE *to = fb_same(fb_string(fb_get(step, "to")), FB_TEXT("stderr")) ? stderr : stdout;
    fprintf(to, "%.*s\n", (int)text.length, text.at);
    fflush(to);
    fb_add_null(out);
}

static void step_now(fb_json step, fb_writer *out)
{
    (void)step;
    fb_add_int(out, time(NULL));
}

static void step_random(fb_json step, fb_writer *out)
{
    (void)step;
    char bytes[16];
    if (getentropy(bytes, sizeof(bytes))) abort();
    add_hex(out, fb_text_of(bytes, sizeof(bytes)));
}

static void step_sleep(fb_json step, fb_writer *out)
{
    int64_t ms = fb_int(fb_get(step, "ms"));
    struct timespec duration = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * 1000000)};
    nanosleep(&duration, NULL);
    fb_add_null(out);
}

#define STEP(name) {#name, step_##name}

static const struct {
    const char *name;
    void (*run)(fb_json step, fb_writer *out);
} STEPS[] = {
    STEP(context), STEP(settings), STEP(call_info), STEP(meter), STEP(log), STEP(http), STEP(db_query), STEP(db_exec),
    STEP(kv_get), STEP(kv_set), STEP(kv_delete), STEP(kv_increment), STEP(call), STEP(fail), STEP(crash), STEP(loop),
    STEP(allocate), STEP(text), STEP(repeat), STEP(told), STEP(print), STEP(now), STEP(random), STEP(sleep),
};

static void run_step(fb_json step, fb_writer *out)
{
    fb_text name = fb_string(fb_get(step, "do"));
    for (uint32_t i = 0; i < sizeof(STEPS) / sizeof(*STEPS); i++)
        if (fb_same(fb_text_of(STEPS[i].name, (uint32_t)strlen(STEPS[i].name)), name)) {
            STEPS[i].run(step, out);
            return;
        }
    fail_unknown("step", name);
}

/* ── the exports ───────────────────────────────────────────────────────────────────────────────── */

FUSEBOARD_EXPORT(run)
{
    fb_writer out = fb_object();
    fb_set_array(&out, "results");
    fb_items steps = fb_elements(fb_get(fb_value(), "steps"));
    for (fb_json step; fb_next(&steps, &step);) run_step(step, &out);
    fb_output_json(&out);
}

static fb_text upper(fb_text text)
{
    char *bytes = (char *)fb_alloc(text.length);
    for (uint32_t i = 0; i < text.length; i++) bytes[i] = fb_upper(text.at[i]);
    return fb_text_of(bytes, text.length);
}

FUSEBOARD_EXPORT(typed)
{
    fb_json record = fb_value(), author = fb_get(record, "author");
    fb_writer out = fb_object();
    fb_set_string(&out, "title", upper(fb_string(fb_get(record, "title"))));
    fb_set_array(&out, "tags");
    fb_items tags = fb_elements(fb_get(record, "tags"));
    for (fb_json tag; fb_next(&tags, &tag);) fb_add_string(&out, fb_string(tag));
    fb_close(&out);
    fb_set_int(&out, "votes", fb_int(fb_get(record, "votes")) + 1);
    fb_set_double(&out, "ratio", fb_double(fb_get(record, "ratio")));
    if (fb_is_null(author)) {
        fb_set_null(&out, "author");
    } else {
        fb_set_object(&out, "author");
        fb_set_string(&out, "name", fb_string(fb_get(author, "name")));
    }
    fb_output_json(&out);
}

/* Takes a value apart and puts it together again: more than an author would do, who would fb_add_json it. */
static void copy(fb_json json, fb_writer *out)
{
    enum fb_type type = fb_type_of(json);
    if (type == FB_STRING) {
        fb_add_string(out, fb_string(json));
    } else if (type == FB_ARRAY) {
        fb_open_array(out);
        fb_items elements = fb_elements(json);
        for (fb_json element; fb_next(&elements, &element);) copy(element, out);
        fb_close(out);
    } else if (type == FB_OBJECT) {
        fb_open_object(out);
        fb_items members = fb_members(json);
        for (fb_json member; fb_next(&members, &member);) {
            fb_add_key(out, member.key);
            copy(member, out);
        }
        fb_close(out);
    } else {
        fb_add_json(out, json);
    }
}

FUSEBOARD_EXPORT(echo)
{
    fb_writer out = fb_json_writer();
    copy(fb_value(), &out);
    fb_output_json(&out);
}

FUSEBOARD_EXPORT(echo_bytes) { fb_output_text(fb_read(FB_VALUE)); }

FUSEBOARD_EXPORT(empty) { fb_output_str(""); }

FUSEBOARD_EXPORT(keep) {}

FUSEBOARD_EXPORT(failing)
{
    fb_builder message = fb_begin();
    fb_put_str(&message, "it can't be done: ");
    fb_put(&message, fb_string(fb_value()));
    fb_fail_text(fb_built(&message));
}

FUSEBOARD_EXPORT(note) { fb_log_text(FB_INFO, fb_string(fb_get(fb_value(), "text"))); }
