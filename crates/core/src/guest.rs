//! What belongs to one instance: its buffers, output, log and meters.

use std::sync::Arc;
use std::time::Instant;

use wasmtime as wt;

use crate::exchange::{Exchange, LogLine};
use crate::limits::{Caps, LOG_LINES};
use crate::memory::MemoryMeter;
use crate::text::printable;

const WARNING: u8 = 2;

/// The data of a guest's store.
pub(crate) struct Guest {
    pub(crate) deadline: Instant,
    pub(crate) meter: MemoryMeter,
    pub(crate) caps: Caps,
    pub(crate) buffers: Buffers,
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) memory_export: wt::ModuleExport,
    pub(crate) memory: Option<wt::Memory>,
    pub(crate) logged_bytes: usize,
    pub(crate) logged_lines: usize,
    pub(crate) log_full_said: bool,
}

/// What the guest can read, by the ABI's buffer numbers.
pub(crate) struct Buffers {
    pub(crate) value: Vec<u8>,
    pub(crate) context: Vec<u8>,
    pub(crate) reply_head: Vec<u8>,
    pub(crate) reply_body: Vec<u8>,
    pub(crate) settings: Arc<[u8]>,
    pub(crate) call_info: Vec<u8>,
}

impl Buffers {
    pub(crate) fn get(&self, buffer: i32) -> Option<&[u8]> {
        match buffer {
            0 => Some(&self.value),
            1 => Some(&self.context),
            2 => Some(&self.reply_head),
            3 => Some(&self.reply_body),
            4 => Some(&self.settings),
            5 => Some(&self.call_info),
            _ => None,
        }
    }
}

impl Guest {
    /// Returns how many of `length` bytes the log still takes; `None` where it takes no line at all.
    pub(crate) fn log_room(&self, length: usize) -> Option<usize> {
        let room = length.min(self.caps.log_bytes - self.logged_bytes);
        let takes_line = self.logged_lines < LOG_LINES && (room > 0 || length == 0);
        takes_line.then_some(room)
    }

    /// Logs a text, of which [`Guest::log_room`] said that it fits.
    pub(crate) fn log(&mut self, level: u8, text: &[u8]) {
        self.logged_bytes += text.len();
        self.logged_lines += 1;
        let line = LogLine { level, text: printable(text, text.len()) };
        self.exchange.cells().logs.push(line);
    }

    /// Says, once, that the log is full.
    pub(crate) fn log_is_full(&mut self) {
        if !std::mem::replace(&mut self.log_full_said, true) {
            let text = format!(
                "the log is full: what goes beyond {} bytes or {LOG_LINES} lines in this invocation is dropped",
                self.caps.log_bytes
            );
            self.exchange.cells().logs.push(LogLine { level: WARNING, text });
        }
    }
}
