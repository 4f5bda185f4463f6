//! Fuseboard's guest ABI 1 for plugins in Zig 0.17.
//!
//!     const fb = @import("fuseboard.zig");
//!
//!     comptime {
//!         fb.hook("post_title", title);
//!     }
//!
//!     fn title(value: []const u8) ![]const u8 {
//!         return std.ascii.allocUpperString(fb.allocator, value);
//!     }
//!
//! Built for `wasm32-freestanding`:
//!
//!     zig build-exe plugin.zig -target wasm32-freestanding -O ReleaseSmall -fno-entry -rdynamic --stack 65536
//!
//! Rules:
//! - Values are JSON and cross as Zig types, see `decode` and `encode`. Text is `[]const u8`; bytes are a `Bytes`.
//! - `allocator` never frees: an instance serves one invocation, and its memory goes with it.
//! - A value that doesn't fit its type ends the invocation with a message that names its key: `votes: not an integer of 64 bits`.
//! - A host call that is refused or fails is an error of `HostError`; `failure` has the host's reason. An error that a hook
//!   returns ends the invocation, with that reason.

const std = @import("std");

// ── the ABI ────────────────────────────────────────────────────────────────────────────────────────

/// What can be read with `read`.
pub const Buffer = enum(i32) {
    value = 0,
    context = 1,
    reply_head = 2,
    reply_body = 3,
    settings = 4,
    call_info = 5,
};

/// What a host call is answered instead of a length; there may be others.
pub const Answer = enum(i32) {
    denied = -1,
    bad_request = -2,
    not_found = -3,
    backend_failed = -4,
    too_large = -5,
    conflict = -6,
    _,
};

pub const Level = enum(i32) {
    debug = 0,
    info = 1,
    warning = 2,
    @"error" = 3,
    critical = 4,
};

/// The limits of an invocation, in the units of `remaining`.
pub const Limit = enum(i32) {
    /// bytes
    memory = 0,
    fuel = 1,
    /// milliseconds
    timeout = 2,
    http_fetches = 3,
    db_queries = 4,
    /// bytes
    kv_write_bytes = 5,
};

const imports = struct {
    extern "fuseboard" fn buffer_length(buffer: i32) i32;
    extern "fuseboard" fn buffer_read(buffer: i32, offset: u32, to: [*]u8, length: u32) i32;
    extern "fuseboard" fn output_write(bytes: [*]const u8, length: usize) void;
    extern "fuseboard" fn fail(message: [*]const u8, length: usize) noreturn;
    extern "fuseboard" fn host_log(level: i32, message: [*]const u8, length: usize) void;
    extern "fuseboard" fn meter_remaining(limit: i32) i64;
    extern "fuseboard" fn host_http_request(head: [*]const u8, head_length: usize, body: [*]const u8, body_length: usize) i32;
    extern "fuseboard" fn host_db_query(sql: [*]const u8, sql_length: usize, params: [*]const u8, params_length: usize) i32;
    extern "fuseboard" fn host_db_exec(sql: [*]const u8, sql_length: usize, params: [*]const u8, params_length: usize) i32;
    extern "fuseboard" fn host_kv_get(key: [*]const u8, key_length: usize) i32;
    extern "fuseboard" fn host_kv_set(key: [*]const u8, key_length: usize, value: [*]const u8, value_length: usize) i32;
    extern "fuseboard" fn host_kv_set_for(key: [*]const u8, key_length: usize, value: [*]const u8, value_length: usize, seconds: i64) i32;
    extern "fuseboard" fn host_kv_delete(key: [*]const u8, key_length: usize) i32;
    extern "fuseboard" fn host_kv_increment(key: [*]const u8, key_length: usize, by: i64) i32;
    extern "fuseboard" fn host_call(name: [*]const u8, name_length: usize, body: [*]const u8, body_length: usize) i32;
};

/// Returns where bytes begin. What is empty may have an address outside of memory, which the host would refuse.
fn place(bytes: []const u8) [*]const u8 {
    return if (bytes.len == 0) "" else bytes.ptr;
}

// ── hooks ──────────────────────────────────────────────────────────────────────────────────────────

/// Exports a function as a hook. It takes the value, as any type that `decode` knows, or nothing. What it returns is the new
/// value; `void`, or `null` of an optional, leaves the value unchanged. An action returns `void`.
pub fn hook(comptime name: []const u8, comptime function: anytype) void {
    const Export = struct {
        fn run() callconv(.c) void {
            const parameters = @typeInfo(@TypeOf(function)).@"fn".param_types;
            if (parameters.len > 1)
                @compileError("the hook " ++ name ++ " takes its value or nothing; fb.context and fb.settings have more");
            const result = if (parameters.len == 0) function() else function(value(parameters[0].?));
            give(if (@typeInfo(@TypeOf(result)) == .error_union) result catch |problem| failBy(problem) else result);
        }
    };
    @export(&Export.run, .{ .name = name });
}

fn give(result: anytype) void {
    switch (@typeInfo(@TypeOf(result))) {
        .void => {},
        .noreturn => {},
        .optional => if (result) |given| output(given),
        else => output(result),
    }
}

/// Returns the hook's value.
pub fn value(comptime T: type) T {
    const bytes = read(.value);
    return if (T == Bytes) .{ .bytes = bytes } else decode(T, bytes) catch failAsMisfit();
}

/// Gives the hook's new value. `Bytes` go as they are, everything else as JSON.
pub fn output(result: anytype) void {
    const bytes = if (@TypeOf(result) == Bytes) result.bytes else encode(result);
    imports.output_write(place(bytes), bytes.len);
}

/// Ends the invocation with a message. Everything it wrote is undone.
pub fn fail(comptime format: []const u8, arguments: anytype) noreturn {
    const message = print(format, arguments);
    imports.fail(place(message), message.len);
}

fn failBy(problem: anyerror) noreturn {
    if (problem == error.Misfit) failAsMisfit();
    if (failure.problem != null and failure.problem.? == problem) fail("{s}", .{failure.text()});
    fail("{s}", .{@errorName(problem)});
}

/// Has panics end the invocation with their message: `pub const panic = fb.panic;` in the plugin's root file.
pub const panic = std.debug.FullPanic(panicked);

fn panicked(message: []const u8, _: ?usize) noreturn {
    fail("panic: {s}", .{message});
}

fn print(comptime format: []const u8, arguments: anytype) []u8 {
    return std.fmt.allocPrint(allocator, format, arguments) catch @trap();
}

// ── the invocation ─────────────────────────────────────────────────────────────────────────────────

/// Reads a whole buffer.
pub fn read(buffer: Buffer) []const u8 {
    const length: u32 = @intCast(imports.buffer_length(@backingInt(buffer)));
    if (length == 0) return "";
    const bytes = allocator.alloc(u8, length) catch @trap();
    return bytes[0..@intCast(imports.buffer_read(@backingInt(buffer), 0, bytes.ptr, length))];
}

/// Returns the context; `Json` gives whatever it is.
pub fn context(comptime T: type) T {
    return decode(T, read(.context)) catch failAsMisfit();
}

/// Returns the settings: the manifest's with the operator's over them.
pub fn settings(comptime T: type) T {
    return decode(T, read(.settings)) catch failAsMisfit();
}

pub const CallInfo = struct {
    hook: []const u8,
    request_id: []const u8,
    scope: ?[]const u8,
    plugin: []const u8,
};

pub fn callInfo() CallInfo {
    return decode(CallInfo, read(.call_info)) catch failAsMisfit();
}

/// Returns what is left of a limit.
pub fn remaining(limit: Limit) i64 {
    return imports.meter_remaining(@backingInt(limit));
}

pub fn log(level: Level, comptime format: []const u8, arguments: anytype) void {
    const message = print(format, arguments);
    imports.host_log(@backingInt(level), place(message), message.len);
}

/// Has `std.log` write to the plugin's log: `pub const std_options: std.Options = .{ .logFn = fb.logFn };` in the plugin's root
/// file. Without it, `std.log` doesn't compile: there is no standard error.
pub fn logFn(
    comptime level: std.log.Level,
    comptime scope: @TypeOf(.enum_literal),
    comptime format: []const u8,
    arguments: anytype,
) void {
    const prefix = if (scope == .default) "" else @tagName(scope) ++ ": ";
    log(switch (level) {
        .err => .@"error",
        .warn => .warning,
        .info => .info,
        .debug => .debug,
    }, prefix ++ format, arguments);
}

// ── host calls ─────────────────────────────────────────────────────────────────────────────────────

/// Why a host call gave nothing. `Unknown` is a number that this SDK doesn't know; `BadReply` a reply that doesn't read as the
/// ABI says.
pub const HostError = error{ Denied, BadRequest, NotFound, BackendFailed, TooLarge, Conflict, Unknown, BadReply };

/// The last host call that gave an error.
pub var failure: Failure = .{};

pub const Failure = struct {
    problem: ?HostError = null,
    code: i32 = 0,
    call: []const u8 = "",
    target: []const u8 = "",
    /// The host's words; may be empty.
    reason: []const u8 = "",

    /// Returns "denied", "bad_request" … "bad_reply", "unknown".
    pub fn name(self: Failure) []const u8 {
        return switch (self.problem orelse error.Unknown) {
            error.BadReply => "bad_reply",
            error.Unknown => "unknown",
            else => @tagName(@as(Answer, @fromBackingInt(self.code))),
        };
    }

    /// Returns a sentence such as `GET https://api.example.com/x: denied: origin not granted`.
    pub fn text(self: Failure) []const u8 {
        const what = if ((self.problem orelse error.BadReply) == error.Unknown) print("code {d}", .{self.code}) else self.name();
        const separator = if (self.reason.len == 0) "" else ": ";
        return print("{s} {s}: {s}{s}{s}", .{ self.call, beginning(self.target), what, separator, self.reason });
    }

    /// Returns a text, of a long one the beginning, cut between characters.
    fn beginning(long: []const u8) []const u8 {
        var end: usize = 200;
        if (long.len <= end) return long;
        while (end > 0 and long[end] & 0xc0 == 0x80) end -= 1;
        return print("{s}…", .{long[0..end]});
    }
};

fn answered(answer: i32, call_name: []const u8, target: []const u8) HostError!void {
    failure.call = call_name;
    failure.target = target;
    if (answer >= 0) return;
    const problem: HostError = switch (@as(Answer, @fromBackingInt(answer))) {
        .denied => error.Denied,
        .bad_request => error.BadRequest,
        .not_found => error.NotFound,
        .backend_failed => error.BackendFailed,
        .too_large => error.TooLarge,
        .conflict => error.Conflict,
        _ => error.Unknown,
    };
    const Head = struct { reason: []const u8 = "" };
    failure.reason = (decode(Head, read(.reply_head)) catch Head{}).reason;
    failure.problem = problem;
    failure.code = answer;
    return problem;
}

fn badReply(reason: []const u8) HostError {
    failure.problem = error.BadReply;
    failure.reason = reason;
    return error.BadReply;
}

fn decodeReply(comptime T: type, buffer: Buffer) HostError!T {
    return decode(T, read(buffer)) catch badReply(misfit.text());
}

pub const Header = struct { []const u8, []const u8 };

pub const Request = struct {
    method: []const u8 = "GET",
    url: []const u8,
    headers: []const Header = &.{},
    body: []const u8 = "",
};

pub const Response = struct {
    status: u16,
    headers: []const Header,
    body: []const u8,

    /// Returns the first header of a name, whatever its case.
    pub fn header(self: Response, name: []const u8) ?[]const u8 {
        for (self.headers) |pair| if (std.ascii.eqlIgnoreCase(pair[0], name)) return pair[1];
        return null;
    }

    /// Returns the body as text.
    pub fn text(self: Response) HostError![]const u8 {
        return if (std.unicode.utf8ValidateSlice(self.body)) self.body else badReply("the body isn't UTF-8");
    }
};

/// Sends a request. A status of 404 or 500 is no error: the request was answered.
pub fn fetch(request: Request) HostError!Response {
    const head = encode(.{ .method = request.method, .url = request.url, .headers = request.headers });
    const answer = imports.host_http_request(place(head), head.len, place(request.body), request.body.len);
    try answered(answer, request.method, request.url);
    const reply = try decodeReply(struct { status: u16, headers: []const Header }, .reply_head);
    return .{ .status = reply.status, .headers = reply.headers, .body = read(.reply_body) };
}

pub const Rows = struct {
    columns: []const []const u8,
    rows: []const []const Json,
};

/// The plugin's database. Parameters are a tuple for `$1`, `$2` …: `.{ 7, "title", fb.Bytes{ .bytes = raw } }`.
pub const db = struct {
    /// Returns the rows as values that can be decoded.
    pub fn query(sql: []const u8, params: anytype) HostError!Rows {
        const list = encode(params);
        try answered(imports.host_db_query(place(sql), sql.len, place(list), list.len), "query", sql);
        return decodeReply(Rows, .reply_body);
    }

    /// Returns the rows as structs, whose fields are columns.
    pub fn queryAs(comptime Row: type, sql: []const u8, params: anytype) HostError![]const Row {
        const found = try query(sql, params);
        const rows = allocator.alloc(Row, found.rows.len) catch @trap();
        for (rows, found.rows) |*row, cells| row.* = try rowAs(Row, found.columns, cells);
        return rows;
    }

    fn rowAs(comptime Row: type, columns: []const []const u8, cells: []const Json) HostError!Row {
        var row: Row = undefined;
        const fields = @typeInfo(Row).@"struct";
        inline for (fields.field_names, fields.field_types) |name, T| {
            const cell = for (columns, 0..) |column, i| {
                if (i < cells.len and std.mem.eql(u8, column, name)) break cells[i];
            } else return badReply("there is no column " ++ name);
            var reader: Reader = .{ .scanner = .initCompleteInput(allocator, cell.text) };
            @field(row, name) = reader.take(T, name) catch return badReply(misfit.text());
        }
        return row;
    }

    /// Changes the database; returns how many rows were changed.
    pub fn exec(sql: []const u8, params: anytype) HostError!i64 {
        const list = encode(params);
        try answered(imports.host_db_exec(place(sql), sql.len, place(list), list.len), "exec", sql);
        return (try decodeReply(struct { rows_changed: i64 }, .reply_head)).rows_changed;
    }
};

/// The plugin's keys and values, which are bytes.
pub const kv = struct {
    /// Returns the value, `null` where there is none.
    pub fn get(key: []const u8) HostError!?[]const u8 {
        const answer = imports.host_kv_get(place(key), key.len);
        if (answer == @backingInt(Answer.not_found)) return null;
        try answered(answer, "KV get", key);
        return read(.reply_body);
    }

    pub fn set(key: []const u8, bytes: []const u8) HostError!void {
        try answered(imports.host_kv_set(place(key), key.len, place(bytes), bytes.len), "KV set", key);
    }

    /// Writes a key that is gone after so many seconds.
    pub fn setFor(key: []const u8, bytes: []const u8, seconds: i64) HostError!void {
        try answered(imports.host_kv_set_for(place(key), key.len, place(bytes), bytes.len, seconds), "KV set", key);
    }

    pub fn delete(key: []const u8) HostError!void {
        try answered(imports.host_kv_delete(place(key), key.len), "KV delete", key);
    }

    /// Adds to the number under a key, as one step; returns the new one.
    pub fn increment(key: []const u8, by: i64) HostError!i64 {
        try answered(imports.host_kv_increment(place(key), key.len, by), "KV increment", key);
        return decodeReply(i64, .reply_body);
    }
};

/// Calls a function of the application with a struct of arguments: `try fb.call(void, "mail.send", .{ .to = address })`.
pub fn call(comptime Result: type, name: []const u8, arguments: anytype) HostError!Result {
    const body = encode(arguments);
    try answered(imports.host_call(place(name), name.len, place(body), body.len), "call", name);
    return if (Result == void) {} else decodeReply(Result, .reply_body);
}

// ── JSON ───────────────────────────────────────────────────────────────────────────────────────────

/// Any JSON, as it is written: a type for values whose shape isn't known, or that only pass through. Its text is well-formed.
pub const Json = struct {
    text: []const u8,

    pub const Kind = enum { null, bool, number, string, array, object };

    pub fn kind(self: Json) Kind {
        return switch (self.text[0]) {
            'n' => .null,
            't', 'f' => .bool,
            '"' => .string,
            '[' => .array,
            '{' => .object,
            else => .number,
        };
    }

    /// Returns the value as a type, `null` where it doesn't fit: `as([]const fb.Json)` gives elements, `as(fb.Members)` members.
    pub fn as(self: Json, comptime T: type) ?T {
        return Reader.read(T, self.text) catch null;
    }
};

/// An object's members in their order: a type for objects whose keys aren't known.
pub const Members = struct { items: []const Member };

pub const Member = struct { key: []const u8, value: Json };

/// Bytes. In JSON they are `{"base64": …}` when written, and a string in base64 when read.
pub const Bytes = struct { bytes: []const u8 };

/// Of arrays and objects inside each other, in what is read: what recurses over them fits a stack of 64 KiB.
pub const max_depth = 128;

const Misfit = error{Misfit};

/// What didn't fit, and how.
const misfit = struct {
    var key: []const u8 = "";
    var message: []const u8 = "";

    fn at(name: []const u8, what: []const u8) Misfit {
        key = name;
        message = what;
        return error.Misfit;
    }

    fn text() []const u8 {
        return if (key.len == 0) print("the value: {s}", .{message}) else print("{s}: {s}", .{ key, message });
    }
};

fn failAsMisfit() noreturn {
    fail("{s}", .{misfit.text()});
}

/// Reads JSON as a type: `bool`, integers, floats, `[]const u8` for a string, enums by name, optionals for what may be null,
/// slices and tuples for arrays, structs for objects, `Json`, `Members`, `Bytes`. A struct's fields must all be there, but for
/// those with defaults; unknown keys are ignored.
pub fn decode(comptime T: type, json: []const u8) Misfit!T {
    return Reader.read(T, json);
}

/// Takes values out of a text, token by token. What isn't JSON doesn't fit anything.
const Reader = struct {
    scanner: std.json.Scanner,

    fn read(comptime T: type, json: []const u8) Misfit!T {
        var reader: Reader = .{ .scanner = .initCompleteInput(allocator, json) };
        const result = try reader.take(T, "");
        return if (try reader.peek() == .end_of_document) result else broken();
    }

    fn broken() Misfit {
        return misfit.at("", "not JSON, or nested deeper than 128");
    }

    fn peek(self: *Reader) Misfit!std.json.TokenType {
        return self.scanner.peekNextTokenType() catch broken();
    }

    fn next(self: *Reader) Misfit!void {
        _ = self.scanner.next() catch return broken();
    }

    fn skip(self: *Reader) Misfit!void {
        const outside = self.scanner.stackHeight();
        while (true) {
            const token = self.scanner.next() catch return broken();
            const is_part = switch (token) {
                .partial_number, .partial_string => true,
                .partial_string_escaped_1, .partial_string_escaped_2 => true,
                .partial_string_escaped_3, .partial_string_escaped_4 => true,
                else => false,
            };
            const depth = self.scanner.stackHeight();
            if (depth > max_depth) return broken();
            if (depth <= outside and !is_part) return;
        }
    }

    /// Takes a value as it is written.
    fn raw(self: *Reader) Misfit![]const u8 {
        switch (try self.peek()) { // past the spaces
            .array_end, .object_end, .end_of_document => return broken(),
            else => {},
        }
        const start = self.scanner.cursor;
        try self.skip();
        return self.scanner.input[start..self.scanner.cursor];
    }

    fn string(self: *Reader) Misfit![]const u8 {
        return switch (self.scanner.nextAlloc(allocator, .alloc_if_needed) catch return broken()) {
            .string, .allocated_string => |text| text,
            else => unreachable, // a peek has said so, and an object's keys are strings
        };
    }

    fn take(self: *Reader, comptime T: type, key: []const u8) Misfit!T {
        if (T == Json) return .{ .text = try self.raw() };
        if (T == Members) return self.members(key);
        if (T == Bytes) return self.base64(key);
        if (T == []const u8 or T == []u8) {
            if (try self.peek() != .string) return misfit.at(key, "not a string");
            return if (T == []u8) allocator.dupe(u8, try self.string()) catch @trap() else try self.string();
        }
        return switch (@typeInfo(T)) {
            .bool => self.boolean(key),
            .int => self.integer(T, key),
            .float => self.float(T, key),
            .@"enum" => self.name(T, key),
            .optional => |info| self.optional(info.child, key),
            .pointer => |info| switch (info.size) {
                .slice => self.slice(info.child, key),
                else => @compileError("JSON can't be read as " ++ @typeName(T)),
            },
            .@"struct" => |info| if (info.is_tuple) self.tuple(T, key) else self.record(T, key),
            else => @compileError("JSON can't be read as " ++ @typeName(T)),
        };
    }

    fn optional(self: *Reader, comptime T: type, key: []const u8) Misfit!?T {
        if (try self.peek() != .null) return try self.take(T, key);
        try self.next();
        return null;
    }

    fn boolean(self: *Reader, key: []const u8) Misfit!bool {
        const token = try self.peek();
        if (token != .true and token != .false) return misfit.at(key, "not true or false");
        try self.next();
        return token == .true;
    }

    fn integer(self: *Reader, comptime T: type, key: []const u8) Misfit!T {
        const bits = @typeInfo(T).int.bits;
        const unsigned = if (@typeInfo(T).int.signedness == .unsigned) "unsigned " else "";
        const message = std.fmt.comptimePrint("not an {s}integer of {d} bits", .{ unsigned, bits });
        if (try self.peek() != .number) return misfit.at(key, message);
        return std.fmt.parseInt(T, try self.raw(), 10) catch misfit.at(key, message);
    }

    fn float(self: *Reader, comptime T: type, key: []const u8) Misfit!T {
        if (try self.peek() != .number) return misfit.at(key, "not a number");
        const number = std.fmt.parseFloat(T, try self.raw()) catch unreachable;
        return if (std.math.isFinite(number)) number else misfit.at(key, "not a number that fits");
    }

    fn name(self: *Reader, comptime T: type, key: []const u8) Misfit!T {
        if (try self.peek() != .string) return misfit.at(key, "not a string");
        return std.meta.stringToEnum(T, try self.string()) orelse misfit.at(key, "none of the known names");
    }

    fn base64(self: *Reader, key: []const u8) Misfit!Bytes {
        if (try self.peek() != .string) return misfit.at(key, "not a string in base64");
        const text = try self.string();
        const decoder = std.base64.standard.Decoder;
        const length = decoder.calcSizeForSlice(text) catch return misfit.at(key, "not a string in base64");
        const bytes = allocator.alloc(u8, length) catch @trap();
        decoder.decode(bytes, text) catch return misfit.at(key, "not a string in base64");
        return .{ .bytes = bytes };
    }

    fn slice(self: *Reader, comptime T: type, key: []const u8) Misfit![]T {
        if (try self.peek() != .array_begin) return misfit.at(key, "not an array");
        var items: std.ArrayList(T) = .empty;
        try self.next();
        while (try self.peek() != .array_end) items.append(allocator, try self.take(T, key)) catch @trap();
        try self.next();
        return items.items;
    }

    fn tuple(self: *Reader, comptime T: type, key: []const u8) Misfit!T {
        if (try self.peek() != .array_begin) return misfit.at(key, "not an array");
        var result: T = undefined;
        try self.next();
        inline for (@typeInfo(T).@"struct".field_types, 0..) |Field, i| {
            if (try self.peek() == .array_end) return misfit.at(key, "too short an array");
            result[i] = try self.take(Field, key);
        }
        if (try self.peek() != .array_end) return misfit.at(key, "too long an array");
        try self.next();
        return result;
    }

    fn members(self: *Reader, key: []const u8) Misfit!Members {
        if (try self.peek() != .object_begin) return misfit.at(key, "not an object");
        var items: std.ArrayList(Member) = .empty;
        try self.next();
        while (try self.peek() != .object_end) {
            const member_key = try self.string();
            items.append(allocator, .{ .key = member_key, .value = .{ .text = try self.raw() } }) catch @trap();
        }
        try self.next();
        return .{ .items = items.items };
    }

    fn record(self: *Reader, comptime T: type, key: []const u8) Misfit!T {
        const fields = @typeInfo(T).@"struct";
        if (try self.peek() != .object_begin) return misfit.at(key, "not an object");
        var result: T = undefined;
        var is_there: [fields.field_names.len]bool = @splat(false);
        try self.next();
        while (try self.peek() != .object_end) try self.field(T, &result, &is_there);
        try self.next();
        inline for (fields.field_names, fields.field_types, fields.field_attrs, is_there) |field_name, Field, attributes, is_given| {
            if (!is_given) @field(result, field_name) = attributes.defaultValue(Field) orelse return misfit.at(field_name, "missing");
        }
        return result;
    }

    /// Takes one member, into its field if there is one. Of members with the same key the first counts.
    fn field(self: *Reader, comptime T: type, result: *T, is_there: []bool) Misfit!void {
        const fields = @typeInfo(T).@"struct";
        const key = try self.string();
        inline for (fields.field_names, fields.field_types, 0..) |field_name, Field, i| {
            if (!is_there[i] and std.mem.eql(u8, field_name, key)) {
                is_there[i] = true;
                @field(result, field_name) = try self.take(Field, field_name);
                return;
            }
        }
        try self.skip();
    }
};

/// Writes a value as JSON: the types that `decode` knows, arrays, and comptime numbers. Text that isn't UTF-8, and numbers that
/// are infinite or NaN, end the invocation: JSON can't say them.
pub fn encode(json: anytype) []const u8 {
    var writer: Writer = .{};
    writer.put(json);
    return writer.text.items;
}

const Writer = struct {
    text: std.ArrayList(u8) = .empty,

    fn add(self: *Writer, text: []const u8) void {
        self.text.appendSlice(allocator, text) catch @trap();
    }

    fn put(self: *Writer, json: anytype) void {
        const T = @TypeOf(json);
        if (T == Json) return self.add(json.text);
        if (T == Members) return self.members(json);
        if (T == Bytes) return self.base64(json.bytes);
        switch (@typeInfo(T)) {
            .null => self.add("null"),
            .bool => self.add(if (json) "true" else "false"),
            .int, .comptime_int => self.integer(json),
            .float, .comptime_float => self.float(json),
            .@"enum", .enum_literal => self.string(@tagName(json)),
            .optional => if (json) |given| self.put(given) else self.add("null"),
            .array => self.list(&json),
            .pointer => |info| switch (info.size) {
                .one => self.pointer(json),
                else => if (info.child == u8) self.string(json) else self.list(json),
            },
            .@"struct" => |info| if (info.is_tuple) self.tuple(json) else self.record(json),
            else => @compileError(@typeName(T) ++ " can't be written as JSON"),
        }
    }

    /// A pointer to an array of bytes is what a string literal is.
    fn pointer(self: *Writer, json: anytype) void {
        const Child = @typeInfo(@TypeOf(json)).pointer.child;
        switch (@typeInfo(Child)) {
            .array => |info| if (info.child == u8) self.string(json) else self.list(json),
            else => self.put(json.*),
        }
    }

    fn integer(self: *Writer, number: anytype) void {
        var digits: [48]u8 = undefined;
        self.add(std.fmt.bufPrint(&digits, "{d}", .{number}) catch unreachable);
    }

    /// The shortest digits that read back as the same, with a point or an exponent: it stays a float.
    fn float(self: *Writer, number: f64) void {
        if (!std.math.isFinite(number)) fail("a number is infinite or NaN, which JSON can't say", .{});
        var digits: [64]u8 = undefined;
        const size = @abs(number);
        if (size != 0 and (size < 1e-5 or size >= 1e16)) return self.add(std.fmt.bufPrint(&digits, "{e}", .{number}) catch unreachable);
        const text = std.fmt.bufPrint(&digits, "{d}", .{number}) catch unreachable;
        self.add(text);
        if (std.mem.findScalar(u8, text, '.') == null) self.add(".0");
    }

    fn string(self: *Writer, text: []const u8) void {
        if (!std.unicode.utf8ValidateSlice(text)) fail("a text isn't UTF-8", .{});
        var start: usize = 0;
        self.add("\"");
        for (text, 0..) |byte, i| {
            if (byte >= ' ' and byte != '"' and byte != '\\') continue;
            self.add(text[start..i]);
            start = i + 1;
            const hex = "0123456789abcdef";
            if (byte < ' ') self.add(&.{ '\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15] }) else self.add(&.{ '\\', byte });
        }
        self.add(text[start..]);
        self.add("\"");
    }

    fn base64(self: *Writer, bytes: []const u8) void {
        const encoder = std.base64.standard.Encoder;
        self.add("{\"base64\":\"");
        const to = self.text.addManyAsSlice(allocator, encoder.calcSize(bytes.len)) catch @trap();
        _ = encoder.encode(to, bytes);
        self.add("\"}");
    }

    fn list(self: *Writer, items: anytype) void {
        self.add("[");
        for (items, 0..) |item, i| {
            if (i > 0) self.add(",");
            self.put(item);
        }
        self.add("]");
    }

    fn tuple(self: *Writer, items: anytype) void {
        self.add("[");
        inline for (items, 0..) |item, i| {
            if (i > 0) self.add(",");
            self.put(item);
        }
        self.add("]");
    }

    fn members(self: *Writer, object: Members) void {
        self.add("{");
        for (object.items, 0..) |member, i| {
            if (i > 0) self.add(",");
            self.string(member.key);
            self.add(":");
            self.put(member.value);
        }
        self.add("}");
    }

    fn record(self: *Writer, json: anytype) void {
        self.add("{");
        inline for (@typeInfo(@TypeOf(json)).@"struct".field_names, 0..) |name, i| {
            if (i > 0) self.add(",");
            self.string(name);
            self.add(":");
            self.put(@field(json, name));
        }
        self.add("}");
    }
};

// ── memory ─────────────────────────────────────────────────────────────────────────────────────────

/// Takes memory that is never given back, one piece after the other; only the last piece can grow where it is. Growing past the
/// limit ends the invocation; past the module's own maximum it is `error.OutOfMemory`.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = arena.alloc,
    .resize = arena.resize,
    .remap = arena.remap,
    .free = arena.free,
} };

const arena = struct {
    const page_bytes = 65536;
    var at: usize = 0;
    var end: usize = 0;

    /// Moves the position to `to`, which may be past what there is.
    fn move(to: usize) bool {
        if (to > end) {
            const pages = (to - end + page_bytes - 1) / page_bytes;
            const before = @wasmMemoryGrow(0, pages);
            if (before < 0) return false;
            const start = @as(usize, @intCast(before)) * page_bytes;
            if (start != end) return false; // somebody else grew memory
            end += pages * page_bytes;
        }
        at = to;
        return true;
    }

    fn alloc(_: *anyopaque, length: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
        const bytes = alignment.toByteUnits();
        if (end != @wasmMemorySize(0) * page_bytes) at = @wasmMemorySize(0) * page_bytes;
        end = @wasmMemorySize(0) * page_bytes;
        const start = std.mem.alignForward(usize, at, bytes);
        return if (move(start + length)) @ptrFromInt(start) else null;
    }

    fn resize(_: *anyopaque, memory: []u8, _: std.mem.Alignment, length: usize, _: usize) bool {
        const start = @intFromPtr(memory.ptr);
        return length <= memory.len or (start + memory.len == at and move(start + length));
    }

    fn remap(ptr: *anyopaque, memory: []u8, alignment: std.mem.Alignment, length: usize, address: usize) ?[*]u8 {
        return if (resize(ptr, memory, alignment, length, address)) memory.ptr else null;
    }

    fn free(_: *anyopaque, _: []u8, _: std.mem.Alignment, _: usize) void {}
};
