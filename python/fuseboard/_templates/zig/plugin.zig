//! My Plugin: what it makes of a post's title.

const std = @import("std");
const fb = @import("fuseboard.zig");

pub const panic = fb.panic; // a panic's message is the trap's
pub const std_options: std.Options = .{ .logFn = fb.logFn }; // std.log is the plugin's log

comptime {
    fb.hook("post_title", postTitle);
}

/// The settings of plugin.toml, with the operator's over them.
const Settings = struct { ending: []const u8 };

/// Serves the hook post.title. Its value is JSON, here a string; one that isn't never gets here.
/// `null` leaves the value as it is, and an error ends the invocation with its name.
fn postTitle(value: []const u8) !?[]const u8 {
    const title = std.mem.trim(u8, value, " \t\r\n");
    if (title.len == 0) return null;
    const ending = fb.settings(Settings).ending;
    return try std.mem.concat(fb.allocator, u8, &.{ title, ending });
}

// Where to go on, all of it in fuseboard.zig:
// - another hook: a [[hooks]] table in plugin.toml, and fb.hook of a function here
// - what the application says beside the value: fb.context; what the call is about: fb.callInfo
// - the log: fb.log(.info, "{s} is long", .{title}); what is left of a limit: fb.remaining(.fuel)
// - with a capability in plugin.toml: fb.fetch, fb.db.query, fb.kv.get, fb.call
