//! What the ABI's page says that calls do, written a second time: the plain way, with no guest and no engine.
//!
//! The target compares: everything that leaves the guest, and every byte of its memory where the script shows it.

use fuseboard_core::limits::{
    BYTE_FUEL, Caps, FUEL, GROW_PAGE_FUEL, HOST_CALL_FUEL, IMPORT_FUEL, LOG_LINES, Limits, MEMORY,
};
use fuseboard_core::{Answer, Cause, HOST_CALLS};

use crate::script::{FIRST_HOST_CALL, GROW, METER_AT_MOST, RECORD_BYTES, Record};

/// Bytes of a page.
pub const PAGE_BYTES: usize = 64 << 10;
/// Pages that the calling guest has when it begins.
pub const FIRST_PAGES: usize = 2;
/// Where the guest keeps what calls gave.
const KEPT_AT: usize = 0x8000;
const KEPT: usize = 512;
/// Instructions that the guest spends on a record beside its call, generously.
const RECORD_FUEL: u64 = 200;
const FAIL_BYTES: usize = 4096;
const TOO_LARGE: i64 = -5;

/// What the host calls' byte arguments are called, in the order of [`HOST_CALLS`].
const PARTS: [[&str; 2]; HOST_CALLS.len()] = [
    ["head", "body"],
    ["sql", "params"],
    ["sql", "params"],
    ["key", ""],
    ["key", "value"],
    ["key", "value"],
    ["key", ""],
    ["key", ""],
    ["name", "body"],
];

/// What the driver does about a host call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers it.
    Answer(Answer),
    /// Ends the guest: the call would go over that limit.
    Trip(&'static str),
    /// Interrupts the guest.
    Interrupt,
    /// Drops the execution.
    Drop,
}

/// A host call, as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The import's name.
    pub import: &'static str,
    /// Its byte arguments.
    pub parts: Vec<Vec<u8>>,
    /// Its number.
    pub number: i64,
}

/// How an execution ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this output.
    Completed(Option<Vec<u8>>),
    /// With a cause, a limit where that is the cause, and what the guest said where it gave up.
    Trapped(Cause, Option<&'static str>, Vec<u8>),
    /// It is dropped while it waits.
    Dropped,
}

/// A guest on paper.
pub struct Model {
    limits: Limits,
    caps: Caps,
    buffers: [Vec<u8>; 6],
    replies: std::vec::IntoIter<Reply>,
    /// The guest's memory.
    pub memory: Vec<u8>,
    /// What it asks, in order.
    pub asked: Vec<Asked>,
    /// What it logs; `None` for the notice that the log is full.
    pub lines: Vec<Option<(u8, Vec<u8>)>>,
    /// The least that it spends, in fuel.
    pub fuel: u64,
    /// How much it may spend beside that.
    pub fuel_besides: u64,
    output: Option<Vec<u8>>,
    logged: usize,
}

impl Model {
    /// A guest that begins with these buffers, and whose host calls are replied to like this, later ones with
    /// an empty answer.
    #[must_use]
    pub fn new(limits: Limits, caps: Caps, buffers: [Vec<u8>; 6], replies: Vec<Reply>) -> Self {
        Self {
            limits,
            caps,
            buffers,
            replies: replies.into_iter(),
            memory: vec![0; FIRST_PAGES * PAGE_BYTES],
            asked: Vec::new(),
            lines: Vec::new(),
            fuel: 0,
            fuel_besides: RECORD_FUEL,
            output: None,
            logged: 0,
        }
    }

    /// Runs the guest over its script.
    pub fn run(&mut self, records: &[Record]) -> End {
        for (place, record) in records.iter().enumerate() {
            self.fuel += IMPORT_FUEL + BYTE_FUEL * RECORD_BYTES as u64;
            self.fuel_besides += RECORD_FUEL;
            self.memory[..RECORD_BYTES].copy_from_slice(&record.to_bytes());
            let given = match self.act(*record) {
                Ok(given) => given,
                Err(end) => return end,
            };
            let kept = KEPT_AT + place % KEPT * 8;
            self.memory[kept..kept + 8].copy_from_slice(&given.to_le_bytes());
        }
        self.fuel += IMPORT_FUEL;
        End::Completed(self.output.take())
    }

    fn act(&mut self, record: Record) -> Result<i64, End> {
        let [a, b, c, d] = record.numbers;
        if record.operation == GROW {
            return self.grow(a as usize);
        }
        self.fuel += IMPORT_FUEL;
        match record.operation {
            0 => Ok(self.buffer(a)?.len() as i64),
            1 => self.read(a, b, [c, d]),
            2 => self.write([a, b]),
            3 => self.fail([a, b]),
            4 => self.log(a, [b, c]),
            5 => self.meter(a),
            METER_AT_MOST => Ok(1),
            operation => {
                let number = match HOST_CALLS[(operation - FIRST_HOST_CALL) as usize].0 {
                    "host_kv_set_for" | "host_kv_increment" => record.wide,
                    _ => 0,
                };
                self.ask((operation - FIRST_HOST_CALL) as usize, [[a, b], [c, d]], number)
            }
        }
    }

    fn buffer(&self, number: i32) -> Result<&[u8], End> {
        usize::try_from(number).ok().and_then(|number| self.buffers.get(number)).map(Vec::as_slice).ok_or(BAD_POINTER)
    }

    fn range(&self, [pointer, length]: [i32; 2]) -> Result<std::ops::Range<usize>, End> {
        let (start, length) = (i64::from(pointer as u32), i64::from(length as u32));
        if start + length <= self.memory.len() as i64 {
            Ok(start as usize..(start + length) as usize)
        } else {
            Err(BAD_POINTER)
        }
    }

    fn read(&mut self, buffer: i32, offset: i32, target: [i32; 2]) -> Result<i64, End> {
        let source = self.buffer(buffer)?;
        let target = self.range(target)?;
        let rest = source.get(offset as u32 as usize..).unwrap_or_default();
        let bytes = rest[..rest.len().min(target.len())].to_vec();
        self.fuel += BYTE_FUEL * bytes.len() as u64;
        self.memory[target.start..target.start + bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len() as i64)
    }

    fn write(&mut self, source: [i32; 2]) -> Result<i64, End> {
        let source = self.range(source)?;
        let written = self.output.as_ref().map_or(0, Vec::len);
        if written + source.len() > self.caps.output_bytes {
            return Err(End::Trapped(Cause::BadOutput, None, Vec::new()));
        }
        self.fuel += BYTE_FUEL * source.len() as u64;
        self.output.get_or_insert_default().extend_from_slice(&self.memory[source]);
        Ok(0)
    }

    fn fail(&mut self, message: [i32; 2]) -> Result<i64, End> {
        let message = self.range(message)?;
        self.fuel += BYTE_FUEL * message.len().min(FAIL_BYTES) as u64;
        Err(End::Trapped(Cause::Failed, None, self.memory[message].to_vec()))
    }

    fn log(&mut self, level: i32, text: [i32; 2]) -> Result<i64, End> {
        if !(0..=4).contains(&level) {
            return Err(BAD_POINTER);
        }
        let text = self.range(text)?;
        let lines = self.lines.iter().flatten().count();
        let fits = text.len().min(self.caps.log_bytes - self.logged);
        let is_taken = lines < LOG_LINES && (fits > 0 || text.is_empty());
        if is_taken {
            self.fuel += BYTE_FUEL * fits as u64;
            self.logged += fits;
            self.lines.push(Some((level as u8, self.memory[text.start..text.start + fits].to_vec())));
        }
        if (!is_taken || fits < text.len()) && !self.lines.contains(&None) {
            self.lines.push(None);
        }
        Ok(0)
    }

    fn meter(&mut self, limit: i32) -> Result<i64, End> {
        match limit {
            0 => Ok((self.limits.memory_bytes - self.memory.len()) as i64),
            3..=5 => Ok(self.park(Asked { import: "meter_remaining", parts: Vec::new(), number: limit.into() })?.code),
            _ => Ok(-1),
        }
    }

    fn ask(&mut self, call: usize, ranges: [[i32; 2]; 2], number: i64) -> Result<i64, End> {
        self.fuel += HOST_CALL_FUEL;
        let (import, parts) = HOST_CALLS[call];
        let ranges = ranges[..parts].iter().map(|range| self.range(*range)).collect::<Result<Vec<_>, _>>()?;
        let cap = self.caps.request_bytes;
        if let Some(part) = ranges.iter().position(|range| range.len() > cap) {
            let reason = format!(r#"{{"reason":"the {} is larger than {cap} bytes"}}"#, PARTS[call][part]);
            return Ok(self.settle(Answer { code: TOO_LARGE, head: reason.into(), body: Vec::new() }));
        }
        self.fuel += BYTE_FUEL * ranges.iter().map(|range| range.len() as u64).sum::<u64>();
        let parts = ranges.into_iter().map(|range| self.memory[range].to_vec()).collect();
        let answer = self.park(Asked { import, parts, number })?;
        Ok(self.settle(answer))
    }

    fn park(&mut self, asked: Asked) -> Result<Answer, End> {
        self.asked.push(asked);
        match self.replies.next().unwrap_or(Reply::Answer(Answer::default())) {
            Reply::Answer(answer) => Ok(answer),
            Reply::Trip(limit) => Err(End::Trapped(Cause::Limit, Some(limit), Vec::new())),
            Reply::Interrupt => Err(End::Trapped(Cause::Interrupted, None, Vec::new())),
            Reply::Drop => Err(End::Dropped),
        }
    }

    /// A negative code arrives as the nearest one that an import can return.
    fn settle(&mut self, Answer { code, head, body }: Answer) -> i64 {
        let given = if code < 0 { code.max(i32::MIN.into()) } else { body.len() as i64 };
        (self.buffers[2], self.buffers[3]) = (head, body);
        given
    }

    fn grow(&mut self, pages: usize) -> Result<i64, End> {
        let before = self.memory.len();
        self.fuel_besides += u64::from(GROW_PAGE_FUEL) * pages as u64;
        if before + pages * PAGE_BYTES > self.limits.memory_bytes {
            return Err(End::Trapped(Cause::Limit, Some(MEMORY), Vec::new()));
        }
        self.memory.resize(before + pages * PAGE_BYTES, 0);
        Ok((before / PAGE_BYTES) as i64)
    }
}

const BAD_POINTER: End = End::Trapped(Cause::BadPointer, None, Vec::new());

/// The end of a guest that has spent its fuel.
pub const OUT_OF_FUEL: End = End::Trapped(Cause::Limit, Some(FUEL), Vec::new());
