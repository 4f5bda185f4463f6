//! The limits that the core watches, the caps that it keeps, and the prices of its work.

use std::time::Duration;

/// The names of all limits, in the order of their numbers in the ABI. The core watches the first
/// three; the others are counted by the host, and named here for `meter_remaining`.
pub const LIMIT_NAMES: [&str; 6] = [MEMORY, FUEL, TIMEOUT, "http_fetches", "db_queries", "kv_write_bytes"];

/// Linear memory and tables, in bytes.
pub const MEMORY: &str = "memory";
/// Instructions, bulk bytes and the host's work, in fuel.
pub const FUEL: &str = "fuel";
/// Wall clock, in milliseconds.
pub const TIMEOUT: &str = "timeout";

/// What any import costs, in fuel.
pub const IMPORT_FUEL: u64 = 100;
/// What a host call costs beside that, in fuel, denied ones too.
pub const HOST_CALL_FUEL: u64 = 1_000;
/// What a byte costs that is copied, written out or logged, in fuel.
pub const BYTE_FUEL: u64 = 1;
/// What a page of `memory.grow` costs, in fuel. Wasmtime 48 would charge nothing.
pub const GROW_PAGE_FUEL: u8 = 255;

/// Fuel between two pulses. Costs computing guests some 8 % (measured), and bounds what a deadline is late by
/// to some 10 µs of computing. Pulses come at loops and calls only: code that touches a fresh
/// page with each instruction and has neither is late by some 2 µs a page.
pub const PULSE_FUEL: u64 = 20_000;
/// The first slice after each resume ends at the first pulse, which an import gives after this time.
pub const FIRST_SLICE: Duration = Duration::from_micros(200);
/// Later slices end at the first pulse after this time.
pub const LATER_SLICE: Duration = Duration::from_millis(5);
/// A module with a first slice that took longer than this starts detached until it has behaved.
pub const SLOW_FIRST_SLICE: Duration = Duration::from_micros(500);
/// So many quick first slices must follow a first slow one. With each slow one that recurs it is twice as many, up
/// to [`LONGEST_PROBATION`]: a module that the machine interrupted once isn't treated like one that faults pages.
pub const PROBATION: u32 = 8;
/// So many quick first slices in a row are behaving, whatever was before.
pub const LONGEST_PROBATION: u32 = 1_000;
/// A guest that holds more memory than this starts detached: giving it back takes milliseconds.
pub const MUCH_MEMORY_BYTES: usize = 32 << 20;

/// Bytes that a table's element counts for: the size of a lazily filled function reference.
pub const TABLE_ELEMENT_BYTES: usize = 8;
/// Elements that a table can hold; more needs no memory limit to be refused.
pub const TABLE_ELEMENTS: usize = 1 << 20;
/// Tables that a module can have.
pub const TABLES: u32 = 4;

/// What an invocation may use at most, of what the core watches.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Linear memory and tables, in bytes.
    pub memory_bytes: usize,
    /// Fuel.
    pub fuel: u64,
}

/// Sizes that are not exceeded; none of them trips.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Output; more ends the invocation with [`crate::Cause::BadOutput`].
    pub output_bytes: usize,
    /// Each part of a host call's request; more is answered `TOO_LARGE`.
    pub request_bytes: usize,
    /// Logged text; more is dropped after one notice, as are lines beyond [`LOG_LINES`].
    pub log_bytes: usize,
}

/// Lines that an invocation can log.
pub const LOG_LINES: usize = 1_024;
