/* hostile: one export for each way to trip a fuse or to crash, and for each way to misuse an import.
 *
 * README.md beside this folder says what each of them does and what must come of it.
 */
#include "fuseboard.h"

#define MIB (1u << 20)
#define OUTSIDE ((void *)0xfffffff0u) /* with 64 bytes: begins far behind memory, ends before 4 GiB wrap around */

static const fb_text SLOW = FB_TEXT_INIT("{\"method\":\"GET\",\"url\":\"https://api.example.com/slow\"}");
static const fb_text PAGE = FB_TEXT_INIT("{\"method\":\"GET\",\"url\":\"https://api.example.com/page\"}");
static const fb_text REDIRECT = FB_TEXT_INIT("{\"method\":\"GET\",\"url\":\"https://api.example.com/redirect\"}");
static const fb_text EVIL = FB_TEXT_INIT("{\"method\":\"GET\",\"url\":\"https://evil.example.net/\"}");

static volatile uint32_t spinning;

static void spin(void)
{
    for (;;) spinning++;
}

static int32_t get(fb_text head) { return fb_http_request(head.at, head.length, 0, 0); }

/* Gives a JSON string with a number, e.g. the code that a host call returned. */
static void output_number(int64_t number)
{
    fb_builder text = fb_begin();
    fb_put_int(&text, number);
    fb_output_string(fb_built(&text));
}

/* Gives a JSON string that holds a whole buffer. */
static void output_buffer(enum fb_buffer buffer)
{
    fb_output_string(fb_read(buffer));
}

static uint32_t memory_pages(void) { return (uint32_t)__builtin_wasm_memory_size(0); }

static void grow_to(uint32_t bytes)
{
    uint32_t wanted = bytes / FB_PAGE_BYTES;
    if (wanted > memory_pages()) __builtin_wasm_memory_grow(0, wanted - memory_pages());
}

/* ── endless ───────────────────────────────────────────────────────────────────────────────────── */

FUSEBOARD_EXPORT(loop_forever) { spin(); }

FUSEBOARD_EXPORT(loop_over_import)
{
    for (;;) spinning += (uint32_t)fb_buffer_length(FB_VALUE);
}

FUSEBOARD_EXPORT(loop_over_log)
{
    for (;;) fb_log_str(FB_INFO, "again");
}

FUSEBOARD_EXPORT(touch_pages)
{
    grow_to(60 * MIB);
    uint32_t end = memory_pages() * FB_PAGE_BYTES;
    for (;;)
        for (uint32_t at = 4 * FB_PAGE_BYTES; at < end; at += 4096) *(volatile char *)at = 1;
}

FUSEBOARD_EXPORT(bulk_fill)
{
    grow_to(60 * MIB);
    for (;;) __builtin_memset((void *)(4 * FB_PAGE_BYTES), (int)spinning++, 32 * MIB);
}

/* ── memory ────────────────────────────────────────────────────────────────────────────────────── */

FUSEBOARD_EXPORT(grow_memory)
{
    while (__builtin_wasm_memory_grow(0, 1) != (__SIZE_TYPE__)-1) {}
}

/* Would crash where growing fails: the trip must come first. */
FUSEBOARD_EXPORT(grow_or_crash)
{
    for (;;)
        if (__builtin_wasm_memory_grow(0, 16) == (__SIZE_TYPE__)-1) __builtin_trap();
}

/* ── host calls ────────────────────────────────────────────────────────────────────────────────── */

FUSEBOARD_EXPORT(wait_in_host_call) { get(SLOW); }

static void fetch(int times)
{
    while (times--) get(PAGE);
}

FUSEBOARD_EXPORT(fetch_8) { fetch(8); }
FUSEBOARD_EXPORT(fetch_9) { fetch(9); }

static void query(int times)
{
    while (times--) fb_db_query(FB_STR("SELECT 1"), 0, 0);
}

FUSEBOARD_EXPORT(query_32) { query(32); }
FUSEBOARD_EXPORT(query_33) { query(33); }

/* 16 writes of a 3-byte key and a value that makes it 64 KiB: 1,048,576 bytes. */
static void write_a_mebibyte(void)
{
    static char value[65533];
    char key[] = "k00";
    for (int i = 0; i < 16; i++) {
        key[1] = (char)('0' + i / 10);
        key[2] = (char)('0' + i % 10);
        fb_kv_set(key, 3, value, sizeof(value));
    }
}

FUSEBOARD_EXPORT(kv_write_exact) { write_a_mebibyte(); }

FUSEBOARD_EXPORT(kv_write_one_too_many)
{
    write_a_mebibyte();
    fb_kv_set(FB_STR("x"), 0, 0);
}

static void send_mail(int times)
{
    while (times--) fb_call(FB_STR("mail.send"), FB_STR("{\"to\":\"a@example.com\",\"subject\":\"x\"}"));
}

FUSEBOARD_EXPORT(call_function_2) { send_mail(2); }
FUSEBOARD_EXPORT(call_function_3) { send_mail(3); }

FUSEBOARD_EXPORT(denied_fetch) { output_number(get(EVIL)); }

FUSEBOARD_EXPORT(redirected_fetch)
{
    int32_t code = get(REDIRECT);
    fb_builder line = fb_begin();
    fb_put_int(&line, code);
    fb_put_byte(&line, ' ');
    fb_put(&line, fb_read(FB_REPLY_HEAD));
    fb_output_string(fb_built(&line));
}

FUSEBOARD_EXPORT(db_bad_params) { output_number(fb_db_query(FB_STR("SELECT $1"), FB_STR("not json"))); }

FUSEBOARD_EXPORT(missing_key) { output_number(fb_kv_get(FB_STR("nope"))); }

FUSEBOARD_EXPORT(too_large_request)
{
    char *value = (char *)fb_alloc(MIB + 1);
    output_number(fb_kv_set(FB_STR("large"), value, MIB + 1));
}

/* ── writes, and then ──────────────────────────────────────────────────────────────────────────── */

static void write_traces(void)
{
    fb_kv_set(FB_STR("trace"), FB_STR("x"));
    fb_db_exec(FB_STR("INSERT INTO traces VALUES ($1)"), FB_STR("[1]"));
}

FUSEBOARD_EXPORT(write_and_finish) { write_traces(); }

FUSEBOARD_EXPORT(write_then_loop)
{
    write_traces();
    spin();
}

FUSEBOARD_EXPORT(write_then_crash)
{
    write_traces();
    __builtin_trap();
}

FUSEBOARD_EXPORT(write_then_fail)
{
    write_traces();
    fb_fail_str("enough");
}

FUSEBOARD_EXPORT(write_then_bad_json)
{
    write_traces();
    fb_output_str("{\"broken");
}

/* ── crashes ───────────────────────────────────────────────────────────────────────────────────── */

FUSEBOARD_EXPORT(unreachable_now) { __builtin_trap(); }

FUSEBOARD_EXPORT(out_of_bounds) { spinning = *(volatile uint32_t *)0xfffffff0u; }

/* In assembly, as dividing by zero is undefined in C. */
FUSEBOARD_EXPORT(divide_by_zero)
{
    __asm__ volatile("i32.const 7\n i32.const 0\n i32.div_u\n drop");
}

/* Not a tail call, and no address is taken: the engine's stack is what runs out. */
__attribute__((noinline)) static uint32_t deeper(uint32_t depth)
{
    if (depth == spinning) return depth;
    return deeper(depth + 2) * 3 + deeper(depth + 1);
}

FUSEBOARD_EXPORT(stack_exhaustion)
{
    spinning = 1;
    spinning = deeper(2);
}

FUSEBOARD_EXPORT(bad_indirect_call)
{
    void (*volatile wrong)(uint64_t) = (void (*)(uint64_t))(uintptr_t)spin;
    wrong(1);
}

FUSEBOARD_EXPORT(fail_with_message) { fb_fail_str("the guest says no"); }

FUSEBOARD_EXPORT(fail_with_escapes)
{
    fb_builder message = fb_begin();
    fb_put_str(&message, "\x1b[31mred\nsecond line\xe2\x80\xae");
    for (int i = 0; i < 1000; i++) fb_put_str(&message, "0123456789");
    fb_fail_text(fb_built(&message));
}

/* ── outputs ───────────────────────────────────────────────────────────────────────────────────── */

FUSEBOARD_EXPORT(bad_json) { fb_output_str("{\"broken"); }
FUSEBOARD_EXPORT(bad_utf8) { fb_output_str("\"\xff\xfe\""); }
FUSEBOARD_EXPORT(wrong_type) { fb_output_str("{\"a\":[1,2]}"); }
FUSEBOARD_EXPORT(empty_output) { fb_output_write(0, 0); }
FUSEBOARD_EXPORT(keep) {}

FUSEBOARD_EXPORT(too_much_output)
{
    static char chunk[65536];
    for (int i = 0; i < 16; i++) fb_output_write(chunk, sizeof(chunk));
    fb_output_write(chunk, 1);
}

FUSEBOARD_EXPORT(echo) { fb_output_text(fb_read(FB_VALUE)); }
FUSEBOARD_EXPORT(echo_context) { output_buffer(FB_CONTEXT); }
FUSEBOARD_EXPORT(echo_settings) { output_buffer(FB_SETTINGS); }
FUSEBOARD_EXPORT(echo_call_info) { output_buffer(FB_CALL_INFO); }

/* Gives what is left of the six limits as a JSON string, after one fetch, one query and one write. */
FUSEBOARD_EXPORT(read_meters)
{
    fetch(1);
    query(1);
    fb_kv_set(FB_STR("key"), FB_STR("value"));
    fb_builder text = fb_begin();
    for (int limit = FB_MEMORY; limit <= FB_KV_WRITE_BYTES; limit++) {
        if (limit) fb_put_byte(&text, ' ');
        fb_put_int(&text, fb_meter_remaining(limit));
    }
    fb_output_string(fb_built(&text));
}

FUSEBOARD_EXPORT(unknown_meter) { output_number(fb_meter_remaining(77)); }

/* ── misuse ────────────────────────────────────────────────────────────────────────────────────── */

FUSEBOARD_EXPORT(unknown_buffer) { fb_buffer_length(99); }
FUSEBOARD_EXPORT(bad_level) { fb_log_str(9, "level nine"); }

#define BAD_POINTER(name, call) FUSEBOARD_EXPORT(bad_pointer_##name) { call; }

BAD_POINTER(buffer_read, fb_buffer_read(FB_VALUE, 0, OUTSIDE, 64))
BAD_POINTER(output_write, fb_output_write(OUTSIDE, 64))
BAD_POINTER(fail, fb_fail(OUTSIDE, 64))
BAD_POINTER(log, fb_log(FB_INFO, OUTSIDE, 64))
BAD_POINTER(http_head, fb_http_request(OUTSIDE, 64, 0, 0))
BAD_POINTER(http_body, fb_http_request(PAGE.at, PAGE.length, OUTSIDE, 64))
BAD_POINTER(db_query_sql, fb_db_query(OUTSIDE, 64, 0, 0))
BAD_POINTER(db_query_params, fb_db_query(FB_STR("SELECT 1"), OUTSIDE, 64))
BAD_POINTER(db_exec_sql, fb_db_exec(OUTSIDE, 64, 0, 0))
BAD_POINTER(db_exec_params, fb_db_exec(FB_STR("SELECT 1"), OUTSIDE, 64))
BAD_POINTER(kv_get, fb_kv_get(OUTSIDE, 64))
BAD_POINTER(kv_set_key, fb_kv_set(OUTSIDE, 64, 0, 0))
BAD_POINTER(kv_set_value, fb_kv_set(FB_STR("key"), OUTSIDE, 64))
BAD_POINTER(kv_set_for_key, fb_kv_set_for(OUTSIDE, 64, 0, 0, 60))
BAD_POINTER(kv_set_for_value, fb_kv_set_for(FB_STR("key"), OUTSIDE, 64, 60))
BAD_POINTER(kv_delete, fb_kv_delete(OUTSIDE, 64))
BAD_POINTER(kv_increment, fb_kv_increment(OUTSIDE, 64, 1))
BAD_POINTER(call_name, fb_call(OUTSIDE, 64, 0, 0))
BAD_POINTER(call_body, fb_call(FB_STR("mail.send"), OUTSIDE, 64))
BAD_POINTER(wraps, fb_output_write((void *)0xffffffffu, 0xffffffffu))
BAD_POINTER(one_byte_behind, fb_output_write((void *)(memory_pages() * FB_PAGE_BYTES - 63), 64))
