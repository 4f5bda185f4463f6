//! One input of the target `fuzz-abi`: what the guest does, where, under which limits, and what it is answered.

use std::time::Duration;

use arbitrary::Arbitrary;
use fuseboard_core::Answer;
use fuseboard_core::limits::{Caps, LIMIT_NAMES, Limits};

use crate::model::{FIRST_PAGES, PAGE_BYTES, Reply};
use crate::script::{Deed, FIRST_HOST_CALL, Record, Scene};

pub(crate) const LIMIT_PAGES: usize = 4;
pub(crate) const AMPLE_TIME: Duration = Duration::from_secs(3_600);
const AMPLE_FUEL: u64 = 1 << 40;
/// More deeds than these find nothing that these don't.
const MOST_DEEDS: usize = 1_500;
/// `host_call`, which the script's last records show the memory with.
const SHOW: u32 = FIRST_HOST_CALL + 8;

/// One input.
#[derive(Arbitrary, Debug)]
pub(crate) struct Session {
    pub(crate) place: Place,
    fuel: Option<u16>,
    output_bytes: u16,
    log_bytes: u16,
    /// A request's cap; `None` lets a whole page through.
    request_bytes: Option<u8>,
    deeds: Vec<Deed>,
    pub(crate) replies: Vec<Response>,
}

/// Where the guest runs.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Place {
    Export,
    Start,
    Initialize,
}

/// What the driver does about a host call.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Response {
    kind: u8,
    code: i64,
    head: Text,
    body: Text,
}

/// Bytes, of which some can't be printed.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Text {
    first: u8,
    length: u16,
}

impl Text {
    fn bytes(self) -> Vec<u8> {
        (0..self.length).map(|place| self.first.wrapping_add(place as u8)).collect()
    }
}

impl Response {
    pub(crate) fn reply(&self) -> Reply {
        match self.kind {
            0 => Reply::Trip(LIMIT_NAMES[3 + self.code.rem_euclid(3) as usize]),
            1 => Reply::Interrupt,
            2 => Reply::Drop,
            _ => Reply::Answer(Answer { code: self.code, head: self.head.bytes(), body: self.body.bytes() }),
        }
    }
}

impl Session {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            memory_bytes: LIMIT_PAGES * PAGE_BYTES,
            fuel: self.fuel.map_or(AMPLE_FUEL, |fuel| u64::from(fuel) * 4),
        }
    }

    pub(crate) fn caps(&self) -> Caps {
        let request_bytes = self.request_bytes.map_or(PAGE_BYTES, usize::from);
        Caps { output_bytes: self.output_bytes.into(), request_bytes, log_bytes: self.log_bytes.into() }
    }

    /// The deeds, and then the memory, page by page, as host calls.
    pub(crate) fn records(&self) -> Vec<Record> {
        let limits = self.limits();
        let most = [limits.fuel as i64, AMPLE_TIME.as_millis() as i64];
        let Caps { output_bytes, request_bytes, log_bytes } = self.caps();
        let caps = [output_bytes, request_bytes, log_bytes];
        let mut size = FIRST_PAGES * PAGE_BYTES;
        let mut records = Vec::new();
        for deed in self.deeds.iter().take(MOST_DEEDS) {
            records.push(deed.record(Scene { size, caps }, most));
            size = deed.size_after(size, limits.memory_bytes);
        }
        let pages = if self.request_bytes.is_none() { size / PAGE_BYTES } else { 0 };
        records.extend((0..pages).map(|page| {
            let numbers = [(page * PAGE_BYTES) as i32, PAGE_BYTES as i32, 0, 0];
            Record { operation: SHOW, numbers, wide: 0 }
        }));
        records
    }
}
