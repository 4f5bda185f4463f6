//! What belongs to one instance: its buffers, output, log and meters.

use std::sync::Arc;
use std::time::Instant;

use wasmtime as wt;

use crate::exchange::{Exchange, LogLine};
use crate::limits::{Caps, LOG_LINES};
use crate::memory::MemoryMeter;
use crate::surroundings::Surroundings;
use crate::text::printable;

const INFO: u8 = 1;
const WARNING: u8 = 2;

/// What a guest can print to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out = 0,
    Error = 1,
}

const STREAMS: [Stream; 2] = [Stream::Out, Stream::Error];

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
    /// What was printed to each stream since its last line's end.
    pub(crate) lines: [Vec<u8>; STREAMS.len()],
    pub(crate) surroundings: Arc<dyn Surroundings>,
}

/// What the guest can read, by the ABI's buffer numbers.
#[derive(Default)]
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
    /// Returns a guest with empty buffers.
    pub(crate) fn new(
        deadline: Instant,
        memory_bytes: usize,
        caps: Caps,
        exchange: Arc<Exchange>,
        memory_export: wt::ModuleExport,
        surroundings: Arc<dyn Surroundings>,
    ) -> Self {
        Self {
            deadline,
            meter: MemoryMeter::new(memory_bytes),
            caps,
            buffers: Buffers::default(),
            output: None,
            exchange,
            memory_export,
            memory: None,
            logged_bytes: 0,
            logged_lines: 0,
            log_full_said: false,
            lines: Default::default(),
            surroundings,
        }
    }

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

    /// Returns how many printed bytes the log still takes.
    pub(crate) fn print_room(&self) -> usize {
        let pending = self.lines.iter().map(Vec::len).sum::<usize>();
        self.log_room(self.caps.log_bytes).unwrap_or(0).saturating_sub(pending)
    }

    /// Prints a text, of which [`Guest::print_room`] said that it fits, and logs the lines that it ends.
    pub(crate) fn print(&mut self, stream: Stream, text: &[u8]) {
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            let (line, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |line| (line, true));
            self.lines[stream as usize].extend_from_slice(line);
            if ends {
                self.log_line(stream);
            }
        }
    }

    /// Logs what was printed since the last line's end, if anything was.
    pub(crate) fn end_line(&mut self, stream: Stream) {
        if !self.lines[stream as usize].is_empty() {
            self.log_line(stream);
        }
    }

    /// Ends the lines of both streams.
    pub(crate) fn end_lines(&mut self) {
        STREAMS.into_iter().for_each(|stream| self.end_line(stream));
    }

    fn log_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.lines[stream as usize]);
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        let level = if stream == Stream::Out { INFO } else { WARNING };
        let room = self.log_room(text.len());
        if let Some(room) = room {
            self.log(level, &text[..room]);
        }
        if room != Some(text.len()) {
            self.log_is_full();
        }
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
