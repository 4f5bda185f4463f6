//! Where guest and driver meet: the guest's store is borrowed while it runs, so what goes in and out
//! while it is parked goes through here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::{FIRST_SLICE, LATER_SLICE};

/// What a suspended guest asks.
#[derive(Clone, Debug)]
pub struct HostCall {
    /// The import's name.
    pub import: &'static str,
    /// Its byte arguments, in order.
    pub parts: Vec<Vec<u8>>,
    /// Its number argument; 0 without one.
    pub number: i64,
}

/// What a suspended guest is answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// A negative answer code, or any other number for the length of the body. For `meter_remaining`
    /// the number itself.
    pub code: i64,
    /// Buffer 2.
    pub head: Vec<u8>,
    /// Buffer 3.
    pub body: Vec<u8>,
}

/// A line that the guest logged, or the notice that more was dropped.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// 0 to 4: debug, info, warning, error, critical.
    pub level: u8,
    /// The text, made printable.
    pub text: String,
}

/// What a parked import goes on with.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer(Answer),
    Trip(String),
}

/// For how long a guest runs at one stretch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) started: Instant,
    /// An import that is entered later gives a pulse.
    pub(crate) ends: Instant,
    /// The first since the guest began or was answered: it ends at the first pulse, whenever that comes.
    pub(crate) is_first: bool,
}

impl Slice {
    pub(crate) fn first() -> Self {
        let started = Instant::now();
        Self { started, ends: started + FIRST_SLICE, is_first: true }
    }

    pub(crate) fn later() -> Self {
        let started = Instant::now();
        Self { started, ends: started + LATER_SLICE, is_first: false }
    }
}

#[derive(Debug)]
pub(crate) struct Exchange {
    cells: Mutex<Cells>,
    interrupted: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) slice: Slice,
    pub(crate) call: Option<HostCall>,
    /// What the guest held when it parked.
    pub(crate) memory_bytes: usize,
    pub(crate) reply: Option<Reply>,
    pub(crate) logs: Vec<LogLine>,
}

impl Exchange {
    /// Returns an exchange before the first slice, whose times are set when that begins.
    pub(crate) fn new(any: Instant) -> Self {
        let slice = Slice { started: any, ends: any, is_first: true };
        let cells = Cells { slice, call: None, memory_bytes: 0, reply: None, logs: Vec::new() };
        Self { cells: Mutex::new(cells), interrupted: AtomicBool::new(false) }
    }

    /// Locks the cells. Held for moves only, never while a guest runs.
    pub(crate) fn cells(&self) -> MutexGuard<'_, Cells> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
