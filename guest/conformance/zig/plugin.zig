//! The conformance guest in Zig: runs the steps of a scenario, as README.md beside this folder says.
const std = @import("std");
const fb = @import("fuseboard.zig");

comptime {
    fb.hook("run", run);
    fb.hook("typed", typed);
    fb.hook("echo", echo);
    fb.hook("echo_bytes", echoBytes);
    fb.hook("empty", empty);
    fb.hook("keep", keep);
    fb.hook("failing", failing);
    fb.hook("note", note);
}

const Results = struct { results: []const fb.Json };

fn run(value: struct { steps: []const fb.Json }) Results {
    const results = fb.allocator.alloc(fb.Json, value.steps.len) catch @trap();
    for (results, value.steps) |*result, step| result.* = resultOf(step);
    return .{ .results = results };
}

/// Runs a step; where it gives an error, that is its result.
fn resultOf(step: fb.Json) fb.Json {
    const json = ran(step) catch |problem| switch (problem) {
        error.Misfit => fb.fail("a step's arguments don't fit: {s}", .{step.text}),
        else => fb.encode(.{ .@"error" = fb.failure.name(), .reason = fb.failure.reason }),
    };
    return .{ .text = json };
}

const Arguments = struct {
    do: []const u8,
    limit: []const u8 = "",
    level: []const u8 = "",
    text: []const u8 = "",
    method: []const u8 = "",
    url: []const u8 = "",
    headers: []const fb.Header = &.{},
    body: []const u8 = "",
    sql: []const u8 = "",
    params: fb.Json = .{ .text = "[]" },
    key: []const u8 = "",
    value: []const u8 = "",
    seconds: ?i64 = null,
    by: i64 = 0,
    name: []const u8 = "",
    args: fb.Json = .{ .text = "{}" },
    message: []const u8 = "",
    mib: usize = 0,
    length: usize = 0,
    times: u64 = 0,
    step: ?fb.Json = null,
};

const Do = enum {
    context,
    settings,
    call_info,
    meter,
    log,
    http,
    db_query,
    db_exec,
    kv_get,
    kv_set,
    kv_delete,
    kv_increment,
    call,
    fail,
    crash,
    loop,
    allocate,
    text,
    repeat,
    told,
};

var spinning: u32 = 0;

fn ran(step: fb.Json) ![]const u8 {
    const given = try fb.decode(Arguments, step.text);
    const do = std.meta.stringToEnum(Do, given.do) orelse fb.fail("unknown step: {s}", .{given.do});
    switch (do) {
        .context => return fb.encode(fb.context(fb.Json)),
        .settings => return fb.encode(fb.settings(fb.Json)),
        .call_info => return fb.encode(fb.callInfo()),
        .meter => return fb.encode(fb.remaining(named(fb.Limit, "limit", given.limit))),
        .log => fb.log(named(fb.Level, "level", given.level), "{s}", .{given.text}),
        .http => return fetched(given),
        .db_query => return fb.encode(try fb.db.query(given.sql, given.params)),
        .db_exec => return fb.encode(.{ .rows_changed = try fb.db.exec(given.sql, given.params) }),
        .kv_get => return if (try fb.kv.get(given.key)) |value| fb.encode(hexOf(value)) else "null",
        .kv_set => if (given.seconds) |seconds|
            try fb.kv.setFor(given.key, bytesOf(given.value), seconds)
        else
            try fb.kv.set(given.key, bytesOf(given.value)),
        .kv_delete => try fb.kv.delete(given.key),
        .kv_increment => return fb.encode(try fb.kv.increment(given.key, given.by)),
        .call => return fb.encode(try fb.call(fb.Json, given.name, given.args)),
        .fail => fb.fail("{s}", .{given.message}),
        .crash => @trap(),
        .loop => while (true) {
            @as(*volatile u32, &spinning).* += 1;
        },
        .allocate => @memset(fb.allocator.alloc(u8, given.mib << 20) catch @trap(), 1),
        .text => return fb.encode(filled(given.length)),
        .repeat => return repeated(given.times, given.step.?),
        .told => return told(given.step.?),
    }
    return "null";
}

fn named(comptime T: type, what: []const u8, name: []const u8) T {
    return std.meta.stringToEnum(T, name) orelse fb.fail("unknown {s}: {s}", .{ what, name });
}

fn fetched(given: Arguments) ![]const u8 {
    const response = try fb.fetch(.{ .method = given.method, .url = given.url, .headers = given.headers, .body = given.body });
    return fb.encode(.{ .status = response.status, .headers = response.headers, .body = try response.text() });
}

fn repeated(times: u64, step: fb.Json) []const u8 {
    var last: fb.Json = .{ .text = "null" };
    for (0..@intCast(times)) |_| last = resultOf(step);
    return last.text;
}

/// Returns the text of the error that a step is answered with.
fn told(step: fb.Json) []const u8 {
    return ran(step) catch fb.encode(fb.failure.text());
}

fn filled(length: usize) []const u8 {
    const text = fb.allocator.alloc(u8, length) catch @trap();
    @memset(text, 'x');
    return text;
}

fn hexOf(bytes: []const u8) []const u8 {
    const hex = fb.allocator.alloc(u8, bytes.len * 2) catch @trap();
    for (bytes, 0..) |byte, i| @memcpy(hex[i * 2 ..][0..2], &std.fmt.bytesToHex([_]u8{byte}, .lower));
    return hex;
}

fn bytesOf(hex: []const u8) []const u8 {
    const bytes = fb.allocator.alloc(u8, hex.len / 2) catch @trap();
    return std.fmt.hexToBytes(bytes, hex) catch fb.fail("not hex: {s}", .{hex});
}

const Record = struct {
    title: []u8,
    tags: []const []const u8,
    votes: i64,
    ratio: f64,
    author: ?struct { name: []const u8 },
};

fn typed(record: Record) Record {
    for (record.title) |*byte| byte.* = std.ascii.toUpper(byte.*);
    var changed = record;
    changed.votes += 1;
    return changed;
}

/// Takes a value apart and puts it together again: more than an author would do, who would give it back as it is.
fn echo(value: fb.Json) fb.Json {
    return copyOf(value);
}

fn copyOf(value: fb.Json) fb.Json {
    return .{ .text = switch (value.kind()) {
        .string => fb.encode(value.as([]const u8).?),
        .array => fb.encode(elementsOf(value.as([]fb.Json).?)),
        .object => fb.encode(membersOf(value.as(fb.Members).?)),
        else => fb.encode(value),
    } };
}

fn elementsOf(elements: []fb.Json) []fb.Json {
    for (elements) |*element| element.* = copyOf(element.*);
    return elements;
}

fn membersOf(members: fb.Members) fb.Members {
    const items = fb.allocator.dupe(fb.Member, members.items) catch @trap();
    for (items) |*item| item.value = copyOf(item.value);
    return .{ .items = items };
}

fn echoBytes(value: fb.Bytes) fb.Bytes {
    return value;
}

fn empty() fb.Bytes {
    return .{ .bytes = "" };
}

fn keep() void {}

fn failing(value: []const u8) void {
    fb.fail("it can't be done: {s}", .{value});
}

fn note(value: struct { text: []const u8 }) void {
    fb.log(.info, "{s}", .{value.text});
}
