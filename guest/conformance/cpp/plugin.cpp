// The conformance guest in C++: runs the steps of a scenario, as README.md beside this folder says.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "fuseboard.h"

namespace {

void run_step(fb_json step, fb_writer &out);

[[noreturn]] void fail_unknown(const std::string &what, std::string_view name)
{
    fb_fail_text("unknown " + what + ": " + std::string(name));
}

bool tells_text = false; // instead of name and reason: the step `told`

// Writes an error as a step's result, where there is one.
bool failed(const fb_error &error, fb_writer &out)
{
    if (!error.code) return false;
    if (tells_text) {
        fb_add_string(&out, fb_error_text(error));
        return true;
    }
    fb_open_object(&out);
    fb_set_string(&out, "error", fb_error_name(error));
    fb_set_string(&out, "reason", error.reason);
    fb_close(&out);
    return true;
}

int index_of(const std::vector<std::string_view> &names, const std::string &what, std::string_view name)
{
    for (std::size_t i = 0; i < names.size(); i++)
        if (names[i] == name) return static_cast<int>(i);
    fail_unknown(what, name);
}

// ── bytes as hex ──

std::string hex_of(std::string_view bytes)
{
    static constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    hex.reserve(bytes.size() * 2);
    for (unsigned char byte : bytes) {
        hex += digits[byte >> 4];
        hex += digits[byte & 15];
    }
    return hex;
}

std::string bytes_of(std::string_view hex)
{
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes += static_cast<char>(std::strtol(std::string(hex.substr(i, 2)).c_str(), nullptr, 16));
    return bytes;
}

// ── the steps ──

void call_info(fb_json, fb_writer &out)
{
    fb_call_info info = fb_this_call();
    fb_open_object(&out);
    fb_set_string(&out, "hook", info.hook);
    fb_set_string(&out, "request_id", info.request_id);
    if (info.has_scope) fb_set_string(&out, "scope", info.scope);
    else fb_set_null(&out, "scope");
    fb_set_string(&out, "plugin", info.plugin);
    fb_close(&out);
}

void meter(fb_json step, fb_writer &out)
{
    static const std::vector<std::string_view> limits{"memory", "fuel", "timeout", "http_fetches", "db_queries", "kv_write_bytes"};
    fb_add_int(&out, fb_meter_remaining(index_of(limits, "limit", fb_string(fb_get(step, "limit")))));
}

void log(fb_json step, fb_writer &out)
{
    static const std::vector<std::string_view> levels{"debug", "info", "warning", "error", "critical"};
    int level = index_of(levels, "level", fb_string(fb_get(step, "level")));
    fb_log_text(static_cast<fb_level>(level), fb_string(fb_get(step, "text")));
    fb_add_null(&out);
}

void http(fb_json step, fb_writer &out)
{
    std::vector<fb_header> headers;
    fb_items pairs = fb_elements(fb_get(step, "headers"));
    for (fb_json pair; fb_next(&pairs, &pair);) headers.push_back({fb_string(fb_at(pair, 0)), fb_string(fb_at(pair, 1))});

    fb_request request{};
    request.method = fb_string(fb_get(step, "method"));
    request.url = fb_string(fb_get(step, "url"));
    request.body = fb_string(fb_get(step, "body"));
    request.headers = headers.data();
    request.header_count = static_cast<std::uint32_t>(headers.size());

    fb_response response = fb_fetch(request);
    if (failed(response.error, out)) return;
    fb_open_object(&out);
    fb_set_int(&out, "status", response.status);
    fb_set_json(&out, "headers", response.headers);
    fb_set_string(&out, "body", response.body);
    fb_close(&out);
}

fb_writer written(fb_json json)
{
    fb_writer writer = fb_json_writer();
    fb_add_json(&writer, json);
    return writer;
}

void db_query(fb_json step, fb_writer &out)
{
    fb_writer params = written(fb_get(step, "params"));
    fb_rows result = fb_query(fb_string(fb_get(step, "sql")), &params);
    if (failed(result.error, out)) return;
    fb_open_object(&out);
    fb_set_json(&out, "columns", result.columns);
    fb_set_json(&out, "rows", result.rows);
    fb_close(&out);
}

void db_exec(fb_json step, fb_writer &out)
{
    fb_writer params = written(fb_get(step, "params"));
    fb_number changed = fb_exec(fb_string(fb_get(step, "sql")), &params);
    if (failed(changed.error, out)) return;
    fb_open_object(&out);
    fb_set_int(&out, "rows_changed", changed.value);
    fb_close(&out);
}

void kv_get(fb_json step, fb_writer &out)
{
    fb_kept kept = fb_kv_read(fb_string(fb_get(step, "key")));
    if (failed(kept.error, out)) return;
    if (kept.is_there) fb_add_string(&out, hex_of(kept.value));
    else fb_add_null(&out);
}

void kv_set(fb_json step, fb_writer &out)
{
    fb_text key = fb_string(fb_get(step, "key"));
    std::string value = bytes_of(fb_string(fb_get(step, "value")));
    fb_json seconds = fb_get(step, "seconds");
    fb_error error = fb_is_given(seconds) ? fb_kv_write_for(key, value, fb_int(seconds)) : fb_kv_write(key, value);
    if (!failed(error, out)) fb_add_null(&out);
}

void kv_delete(fb_json step, fb_writer &out)
{
    if (!failed(fb_kv_remove(fb_string(fb_get(step, "key"))), out)) fb_add_null(&out);
}

void kv_increment(fb_json step, fb_writer &out)
{
    fb_number number = fb_kv_add(fb_string(fb_get(step, "key")), fb_int(fb_get(step, "by")));
    if (!failed(number.error, out)) fb_add_int(&out, number.value);
}

void call(fb_json step, fb_writer &out)
{
    fb_writer arguments = written(fb_get(step, "args"));
    fb_result result = fb_invoke(fb_string(fb_get(step, "name")), &arguments);
    if (!failed(result.error, out)) fb_add_json(&out, result.value);
}

void loop(fb_json, fb_writer &)
{
    for (volatile std::uint32_t spinning = 0;;) spinning = spinning + 1;
}

void allocate(fb_json step, fb_writer &out)
{
    static std::vector<std::string> kept;
    kept.emplace_back(static_cast<std::size_t>(fb_int(fb_get(step, "mib"))) << 20, 'x');
    fb_add_null(&out);
}

void repeat(fb_json step, fb_writer &out)
{
    fb_writer result = fb_json_writer();
    for (std::int64_t left = fb_int(fb_get(step, "times")); left > 0; left--) {
        result = fb_json_writer();
        run_step(fb_get(step, "step"), result);
    }
    fb_json last;
    if (!fb_parse(fb_written(&result), &last)) fb_fail_str("a step gave no JSON");
    fb_add_json(&out, last);
}

void told(fb_json step, fb_writer &out)
{
    tells_text = true;
    run_step(fb_get(step, "step"), out);
    tells_text = false;
}

void print(fb_json step, fb_writer &out)
{
    std::string text(fb_string(fb_get(step, "text")));
    std::FILE *to = std::string_view(fb_string(fb_get(step, "to"))) == "stderr" ? stderr : stdout;
    std::fprintf(to, "%s\n", text.c_str());
    std::fflush(to);
    fb_add_null(&out);
}

void now(fb_json, fb_writer &out)
{
    using namespace std::chrono;
    fb_add_int(&out, duration_cast<seconds>(system_clock::now().time_since_epoch()).count());
}

void random_bytes(fb_json, fb_writer &out)
{
    std::random_device device;
    std::string bytes;
    for (int i = 0; i < 16; i++) bytes += static_cast<char>(device());
    fb_add_string(&out, hex_of(bytes));
}

void sleep(fb_json step, fb_writer &out)
{
    std::int64_t ms = fb_int(fb_get(step, "ms"));
    std::timespec duration{ms / 1000, static_cast<long>(ms % 1000 * 1'000'000)};
    nanosleep(&duration, nullptr);
    fb_add_null(&out);
}

using Step = std::function<void(fb_json, fb_writer &)>;

// Made by a constructor of a global: `_initialize` runs it.
const std::map<std::string_view, Step> STEPS{
    {"context", [](fb_json, fb_writer &out) { fb_add_json(&out, fb_context()); }},
    {"settings", [](fb_json, fb_writer &out) { fb_add_json(&out, fb_settings()); }},
    {"call_info", call_info},
    {"meter", meter},
    {"log", log},
    {"http", http},
    {"db_query", db_query},
    {"db_exec", db_exec},
    {"kv_get", kv_get},
    {"kv_set", kv_set},
    {"kv_delete", kv_delete},
    {"kv_increment", kv_increment},
    {"call", call},
    {"fail", [](fb_json step, fb_writer &) { fb_fail_text(fb_string(fb_get(step, "message"))); }},
    {"crash", [](fb_json, fb_writer &) { std::abort(); }},
    {"loop", loop},
    {"allocate", allocate},
    {"text", [](fb_json step, fb_writer &out) {
         fb_add_string(&out, std::string(static_cast<std::size_t>(fb_int(fb_get(step, "length"))), 'x'));
     }},
    {"repeat", repeat},
    {"told", told},
    {"print", print},
    {"now", now},
    {"random", random_bytes},
    {"sleep", sleep},
};

void run_step(fb_json step, fb_writer &out)
{
    std::string_view name = fb_string(fb_get(step, "do"));
    auto found = STEPS.find(name);
    if (found == STEPS.end()) fail_unknown("step", name);
    found->second(step, out);
}

// Takes a value apart and puts it together again: more than an author would do, who would fb_add_json it.
void copy(fb_json json, fb_writer &out)
{
    switch (fb_type_of(json)) {
    case FB_STRING:
        fb_add_string(&out, std::string(fb_string(json)));
        return;
    case FB_ARRAY: {
        fb_open_array(&out);
        fb_items elements = fb_elements(json);
        for (fb_json element; fb_next(&elements, &element);) copy(element, out);
        fb_close(&out);
        return;
    }
    case FB_OBJECT: {
        fb_open_object(&out);
        fb_items members = fb_members(json);
        for (fb_json member; fb_next(&members, &member);) {
            fb_add_key(&out, member.key);
            copy(member, out);
        }
        fb_close(&out);
        return;
    }
    default: fb_add_json(&out, json);
    }
}

} // namespace

// ── the exports ──

FUSEBOARD_EXPORT(run)
{
    fb_writer out = fb_object();
    fb_set_array(&out, "results");
    fb_items steps = fb_elements(fb_get(fb_value(), "steps"));
    for (fb_json step; fb_next(&steps, &step);) run_step(step, out);
    fb_output_json(&out);
}

FUSEBOARD_EXPORT(typed)
{
    fb_json record = fb_value(), author = fb_get(record, "author");
    std::string title(fb_string(fb_get(record, "title")));
    for (char &c : title) c = fb_upper(c);

    fb_writer out = fb_object();
    fb_set_string(&out, "title", title);
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

FUSEBOARD_EXPORT(echo)
{
    fb_writer out = fb_json_writer();
    copy(fb_value(), out);
    fb_output_json(&out);
}

FUSEBOARD_EXPORT(echo_bytes) { fb_output_text(fb_read(FB_VALUE)); }

FUSEBOARD_EXPORT(empty) { fb_output_text(""); }

FUSEBOARD_EXPORT(keep) {}

FUSEBOARD_EXPORT(failing) { fb_fail_text("it can't be done: " + std::string(fb_string(fb_value()))); }

FUSEBOARD_EXPORT(note) { fb_log_text(FB_INFO, fb_string(fb_get(fb_value(), "text"))); }
