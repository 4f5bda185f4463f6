//! Guest ABI 1: what a guest can import from `fuseboard`.

use std::time::Instant;

use wasmtime as wt;
use wasmtime::Linker;

use crate::exchange::{Answer, HostCall};
use crate::guest::Guest;
use crate::import::{Context, Range, bad_pointer, charge, clamped, enter, fuel_left, memory, park};
use crate::limits::{BYTE_FUEL, HOST_CALL_FUEL, IMPORT_FUEL};
use crate::text::printable;
use crate::trap::{Cause, Ended};

/// The module name that guests import from.
pub const IMPORT_MODULE: &str = "fuseboard";

/// The imports that are answered by the host, and how many byte arguments each has.
pub const HOST_CALLS: [(&str, usize); 9] = [
    ("host_http_request", 2),
    ("host_db_query", 2),
    ("host_db_exec", 2),
    ("host_kv_get", 1),
    ("host_kv_set", 2),
    ("host_kv_set_for", 2),
    ("host_kv_delete", 1),
    ("host_kv_increment", 1),
    ("host_call", 2),
];

/// The names of all imports.
pub const IMPORTS: [&str; 15] = [
    "buffer_length",
    "buffer_read",
    "output_write",
    "fail",
    "host_log",
    METER_REMAINING,
    "host_http_request",
    "host_db_query",
    "host_db_exec",
    "host_kv_get",
    "host_kv_set",
    "host_kv_set_for",
    "host_kv_delete",
    "host_kv_increment",
    "host_call",
];

const METER_REMAINING: &str = "meter_remaining";
const TOO_LARGE: i32 = -5;
const FAIL_BYTES: usize = 4096;
const LOG_LEVELS: std::ops::RangeInclusive<i32> = 0..=4;

/// Defines every import of the ABI.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wt::Result<()> {
    linker.func_wrap_async(IMPORT_MODULE, "buffer_length", |caller, (buffer,): (i32,)| {
        Box::new(buffer_length(caller, buffer))
    })?;
    linker.func_wrap_async(
        IMPORT_MODULE,
        "buffer_read",
        |caller, (buffer, offset, pointer, length): (i32, i32, i32, i32)| {
            Box::new(buffer_read(caller, buffer, offset, Range::new("pointer", pointer, length)))
        },
    )?;
    linker.func_wrap_async(IMPORT_MODULE, "output_write", |caller, (pointer, length): (i32, i32)| {
        Box::new(output_write(caller, Range::new("pointer", pointer, length)))
    })?;
    linker.func_wrap_async(IMPORT_MODULE, "fail", |caller, (pointer, length): (i32, i32)| {
        Box::new(fail(caller, Range::new("pointer", pointer, length)))
    })?;
    linker.func_wrap_async(IMPORT_MODULE, "host_log", |caller, (level, pointer, length): (i32, i32, i32)| {
        Box::new(host_log(caller, level, Range::new("pointer", pointer, length)))
    })?;
    linker.func_wrap_async(IMPORT_MODULE, METER_REMAINING, |caller, (limit,): (i32,)| {
        Box::new(meter_remaining(caller, limit))
    })?;
    link_host_calls(linker)
}

fn link_host_calls(linker: &mut Linker<Guest>) -> wt::Result<()> {
    let two = |first: &'static str, second: &'static str, (a, b, c, d): (i32, i32, i32, i32)| {
        [Range::new(first, a, b), Range::new(second, c, d)]
    };
    for (import, first, second) in [
        ("host_http_request", "head", "body"),
        ("host_db_query", "sql", "params"),
        ("host_db_exec", "sql", "params"),
        ("host_kv_set", "key", "value"),
        ("host_call", "name", "body"),
    ] {
        linker.func_wrap_async(IMPORT_MODULE, import, move |caller, ranges: (i32, i32, i32, i32)| {
            Box::new(host_call(caller, import, two(first, second, ranges), 0))
        })?;
    }
    for import in ["host_kv_get", "host_kv_delete"] {
        linker.func_wrap_async(IMPORT_MODULE, import, move |caller, (pointer, length): (i32, i32)| {
            Box::new(host_call(caller, import, [Range::new("key", pointer, length)], 0))
        })?;
    }
    let import = "host_kv_set_for";
    linker.func_wrap_async(
        IMPORT_MODULE,
        import,
        move |caller, (a, b, c, d, seconds): (i32, i32, i32, i32, i64)| {
            Box::new(host_call(caller, import, two("key", "value", (a, b, c, d)), seconds))
        },
    )?;
    let import = "host_kv_increment";
    linker.func_wrap_async(IMPORT_MODULE, import, move |caller, (pointer, length, by): (i32, i32, i64)| {
        Box::new(host_call(caller, import, [Range::new("key", pointer, length)], by))
    })?;
    Ok(())
}

// ── the imports ──────────────────────────────────────────────────────────────────────────────────

async fn buffer_length(mut caller: Context<'_>, buffer: i32) -> wt::Result<i32> {
    enter(&mut caller, IMPORT_FUEL).await?;
    Ok(clamped(readable(caller.data(), buffer)?.len()))
}

async fn buffer_read(mut caller: Context<'_>, buffer: i32, offset: i32, target: Range) -> wt::Result<i32> {
    enter(&mut caller, IMPORT_FUEL).await?;
    let available = readable(caller.data(), buffer)?.len();
    target.check(&mut caller, "buffer_read")?;
    let start = available.min(offset.cast_unsigned() as usize);
    let length = target.length.min(available - start);
    charge(&mut caller, BYTE_FUEL * length as u64)?;
    let (memory, guest) = memory(&mut caller)?.data_and_store_mut(&mut caller);
    let source = guest.buffers.get(buffer).and_then(|bytes| bytes.get(start..start + length));
    let target = memory.get_mut(target.pointer..target.pointer + length);
    if let (Some(source), Some(target)) = (source, target) {
        target.copy_from_slice(source);
    }
    Ok(clamped(length))
}

async fn output_write(mut caller: Context<'_>, source: Range) -> wt::Result<()> {
    enter(&mut caller, IMPORT_FUEL).await?;
    source.check(&mut caller, "output_write")?;
    let cap = caller.data().caps.output_bytes;
    if caller.data().output.as_ref().map_or(0, Vec::len) + source.length > cap {
        return Err(Ended::because(Cause::BadOutput, format!("the output is larger than {cap} bytes")));
    }
    charge(&mut caller, BYTE_FUEL * source.length as u64)?;
    let (memory, guest) = memory(&mut caller)?.data_and_store_mut(&mut caller);
    guest.output.get_or_insert_default().extend_from_slice(source.bytes(memory));
    Ok(())
}

async fn fail(mut caller: Context<'_>, message: Range) -> wt::Result<()> {
    enter(&mut caller, IMPORT_FUEL).await?;
    message.check(&mut caller, "fail")?;
    charge(&mut caller, BYTE_FUEL * message.length.min(FAIL_BYTES) as u64)?;
    let memory = memory(&mut caller)?.data(&caller);
    Err(Ended::because(Cause::Failed, printable(message.bytes(memory), FAIL_BYTES)))
}

async fn host_log(mut caller: Context<'_>, level: i32, text: Range) -> wt::Result<()> {
    enter(&mut caller, IMPORT_FUEL).await?;
    if !LOG_LEVELS.contains(&level) {
        return Err(bad_pointer(format!("host_log: level {level} is not one of 0 to 4")));
    }
    text.check(&mut caller, "host_log")?;
    let room = caller.data().log_room(text.length);
    charge(&mut caller, BYTE_FUEL * room.unwrap_or(0) as u64)?;
    let (memory, guest) = memory(&mut caller)?.data_and_store_mut(&mut caller);
    if let Some(room) = room {
        guest.log(level.unsigned_abs() as u8, text.first(room).bytes(memory));
    }
    if room != Some(text.length) {
        guest.log_is_full();
    }
    Ok(())
}

async fn meter_remaining(mut caller: Context<'_>, limit: i32) -> wt::Result<i64> {
    enter(&mut caller, IMPORT_FUEL).await?;
    match limit {
        0 => Ok(caller.data().meter.left() as i64),
        1 => Ok(fuel_left(&caller)?.cast_signed()),
        2 => Ok(caller.data().deadline.saturating_duration_since(Instant::now()).as_millis() as i64),
        3..=5 => {
            let call = HostCall { import: METER_REMAINING, parts: Vec::new(), number: limit.into() };
            Ok(park(&mut caller, call).await?.code)
        }
        _ => Ok(-1),
    }
}

async fn host_call<const PARTS: usize>(
    mut caller: Context<'_>,
    import: &'static str,
    ranges: [Range; PARTS],
    number: i64,
) -> wt::Result<i32> {
    enter(&mut caller, IMPORT_FUEL + HOST_CALL_FUEL).await?;
    for range in &ranges {
        range.check(&mut caller, import)?;
    }
    let cap = caller.data().caps.request_bytes;
    if let Some(range) = ranges.iter().find(|range| range.length > cap) {
        let reason = format!(r#"{{"reason":"the {} is larger than {cap} bytes"}}"#, range.name);
        return Ok(settle(&mut caller, Answer { code: TOO_LARGE.into(), head: reason.into(), body: Vec::new() }));
    }
    let bytes = ranges.iter().map(|range| range.length as u64).sum::<u64>();
    charge(&mut caller, BYTE_FUEL * bytes)?;
    let memory = memory(&mut caller)?.data(&caller);
    let parts = ranges.iter().map(|range| range.bytes(memory).to_vec()).collect();
    let answer = park(&mut caller, HostCall { import, parts, number }).await?;
    Ok(settle(&mut caller, answer))
}

/// Puts an answer into the reply buffers and returns what the import returns.
fn settle(caller: &mut Context<'_>, answer: Answer) -> i32 {
    // Cut to an i32, a code could come out as a length.
    let code = if answer.code < 0 { answer.code.max(i32::MIN.into()) as i32 } else { clamped(answer.body.len()) };
    let buffers = &mut caller.data_mut().buffers;
    buffers.reply_head = answer.head;
    buffers.reply_body = answer.body;
    code
}

fn readable(guest: &Guest, buffer: i32) -> wt::Result<&[u8]> {
    guest.buffers.get(buffer).ok_or_else(|| bad_pointer(format!("there is no buffer {buffer}; there are 0 to 5")))
}
