//! The imports where there is no host: on targets other than WebAssembly, for an author's `cargo test`.
//!
//! The log goes to standard error. What only a host can answer panics with a sentence that says so.

/// Reads a whole buffer.
pub(crate) fn read(_buffer: i32) -> Vec<u8> {
    no_host()
}

/// Appends to the result.
pub(crate) fn write_output(_bytes: &[u8]) {
    no_host()
}

/// Ends the invocation with the plugin's own message.
pub(crate) fn fail(message: &str) -> ! {
    panic!("the plugin failed: {message}")
}

/// Writes a line to the log.
pub(crate) fn log(_level: i32, line: &str) {
    eprintln!("{line}");
}

/// Returns what is left of a limit: here there are none.
pub(crate) fn meter_remaining(_limit: i32) -> i64 {
    i64::MAX
}

macro_rules! host_calls {
    ($($name:ident($($argument:ident: $kind:ty),+);)+) => {$(
        pub(crate) fn $name($($argument: $kind),+) -> i32 {
            let _ = ($($argument,)+);
            no_host()
        }
    )+};
}

host_calls! {
    http_request(head: &[u8], body: &[u8]);
    db_query(sql: &[u8], params: &[u8]);
    db_exec(sql: &[u8], params: &[u8]);
    kv_get(key: &[u8]);
    kv_set(key: &[u8], value: &[u8]);
    kv_set_for(key: &[u8], value: &[u8], seconds: i64);
    kv_delete(key: &[u8]);
    kv_increment(key: &[u8], by: i64);
    call(name: &[u8], body: &[u8]);
}

fn no_host() -> ! {
    panic!("there is no host in a native build: test what asks it through a real one, as test_plugin.py does")
}
