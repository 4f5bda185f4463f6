//! The host's imports as safe functions. All unsafe code of the crate stands here.
//!
//! The host reads from and writes to the guest's memory only while an import runs, and never beyond the pointer and length
//! that it was given; it keeps neither.

#![allow(unsafe_code)]

mod raw {
    #[link(wasm_import_module = "fuseboard")]
    unsafe extern "C" {
        pub(super) safe fn buffer_length(buffer: i32) -> usize;
        pub(super) fn buffer_read(buffer: i32, offset: usize, ptr: *mut u8, len: usize) -> usize;
        pub(super) fn output_write(ptr: *const u8, len: usize);
        pub(super) fn fail(ptr: *const u8, len: usize) -> !;
        pub(super) fn host_log(level: i32, ptr: *const u8, len: usize);
        pub(super) safe fn meter_remaining(limit: i32) -> i64;
        pub(super) fn host_http_request(head: *const u8, head_len: usize, body: *const u8, body_len: usize) -> i32;
        pub(super) fn host_db_query(sql: *const u8, sql_len: usize, params: *const u8, params_len: usize) -> i32;
        pub(super) fn host_db_exec(sql: *const u8, sql_len: usize, params: *const u8, params_len: usize) -> i32;
        pub(super) fn host_kv_get(key: *const u8, key_len: usize) -> i32;
        pub(super) fn host_kv_set(key: *const u8, key_len: usize, value: *const u8, value_len: usize) -> i32;
        pub(super) fn host_kv_set_for(
            key: *const u8,
            key_len: usize,
            value: *const u8,
            value_len: usize,
            seconds: i64,
        ) -> i32;
        pub(super) fn host_kv_delete(key: *const u8, key_len: usize) -> i32;
        pub(super) fn host_kv_increment(key: *const u8, key_len: usize, by: i64) -> i32;
        pub(super) fn host_call(name: *const u8, name_len: usize, body: *const u8, body_len: usize) -> i32;
    }
}

/// Reads a whole buffer.
pub(crate) fn read(buffer: i32) -> Vec<u8> {
    let length = raw::buffer_length(buffer);
    let mut bytes = Vec::with_capacity(length);
    // SAFETY: the vector has room for `length` bytes; the host initialises as many as it returns, at most `length`.
    unsafe {
        let copied = raw::buffer_read(buffer, 0, bytes.as_mut_ptr(), length);
        bytes.set_len(copied);
    }
    bytes
}

/// Appends to the result.
pub(crate) fn write_output(bytes: &[u8]) {
    // SAFETY: pointer and length are a slice's.
    unsafe { raw::output_write(bytes.as_ptr(), bytes.len()) }
}

/// Ends the invocation with the plugin's own message.
pub(crate) fn fail(message: &str) -> ! {
    // SAFETY: pointer and length are a slice's. The host unwinds the guest without running its code again.
    unsafe { raw::fail(message.as_ptr(), message.len()) }
}

/// Writes a line to the log.
pub(crate) fn log(level: i32, line: &str) {
    // SAFETY: pointer and length are a slice's.
    unsafe { raw::host_log(level, line.as_ptr(), line.len()) }
}

/// Returns what is left of a limit, -1 for an unknown one.
pub(crate) fn meter_remaining(limit: i32) -> i64 {
    raw::meter_remaining(limit)
}

/// Makes the safe form of host calls that take byte strings, and numbers behind them.
macro_rules! host_calls {
    ($($name:ident = $import:ident($($bytes:ident),+ $(; $number:ident)?);)+) => {$(
        pub(crate) fn $name($($bytes: &[u8]),+ $(, $number: i64)?) -> i32 {
            // SAFETY: each pointer and its length are a slice's.
            unsafe { raw::$import($($bytes.as_ptr(), $bytes.len()),+ $(, $number)?) }
        }
    )+};
}

host_calls! {
    http_request = host_http_request(head, body);
    db_query = host_db_query(sql, params);
    db_exec = host_db_exec(sql, params);
    kv_get = host_kv_get(key);
    kv_set = host_kv_set(key, value);
    kv_set_for = host_kv_set_for(key, value; seconds);
    kv_delete = host_kv_delete(key);
    kv_increment = host_kv_increment(key; by);
    call = host_call(name, body);
}
