//! What the functions of WASI preview 1 do that do something.
//!
//! Layouts and numbers are those of its specification, `wasi_snapshot_preview1.witx`.

use std::time::Duration;

use wasmtime as wt;
use wasmtime::Val;

use crate::guest::Stream;
use crate::import::{Context, Range, charge, enter, memory};
use crate::limits::BYTE_FUEL;
use crate::trap::{Cause, Ended, Exited};
use crate::wasi::CLOCK_TICK;

const MOST_VECTORS: u32 = 1_024;
const VECTOR_BYTES: u32 = 8;
/// Random bytes are had in portions, between which the clock is looked at.
const RANDOM_BYTES: usize = 64 << 10;

const CHARACTER_DEVICE: u8 = 2;
const MAY_READ: u8 = 1 << 1;
const MAY_WRITE: u8 = 1 << 6;

/// What a function returns, by the specification's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errno {
    Success = 0,
    Badf = 8,
    Inval = 28,
    Io = 29,
    Notdir = 54,
    Notsock = 57,
    Notsup = 58,
    Spipe = 70,
}

/// A call of one of the functions.
pub(crate) struct Call<'a> {
    pub(crate) caller: Context<'a>,
    pub(crate) function: &'static str,
    pub(crate) arguments: &'a [Val],
}

impl Call<'_> {
    pub(crate) fn about_stream(&self, errno: Errno) -> Errno {
        if self.number(0) <= 2 { errno } else { Errno::Badf }
    }

    pub(crate) fn count_none(&mut self) -> wt::Result<Errno> {
        self.store(0, "count", &[0; 4])?;
        self.store(1, "size", &[0; 4])
    }

    pub(crate) fn clock_resolution(&mut self) -> wt::Result<Errno> {
        if self.clock(self.number(0)).is_none() {
            return Ok(Errno::Inval);
        }
        self.store(1, "resolution", &nanoseconds(CLOCK_TICK).to_le_bytes())
    }

    pub(crate) fn clock_time(&mut self) -> wt::Result<Errno> {
        let Some(now) = self.clock(self.number(0)) else { return Ok(Errno::Inval) };
        let ticks = now.as_nanos() / CLOCK_TICK.as_nanos();
        let time = u64::try_from(ticks * CLOCK_TICK.as_nanos()).unwrap_or(u64::MAX);
        self.store(2, "time", &time.to_le_bytes())
    }

    /// Reads a clock, finer than guests do; `None` for one that there isn't, such as a processor's.
    pub(crate) fn clock(&self, id: u32) -> Option<Duration> {
        let surroundings = &self.caller.data().surroundings;
        match id {
            0 => Some(surroundings.wall_clock()),
            1 => Some(surroundings.monotonic_clock()),
            _ => None,
        }
    }

    pub(crate) async fn random(&mut self) -> wt::Result<Errno> {
        let target = self.range(0, "buffer", self.number(1))?;
        let surroundings = self.caller.data().surroundings.clone();
        for start in (0..target.length).step_by(RANDOM_BYTES) {
            let length = RANDOM_BYTES.min(target.length - start);
            enter(&mut self.caller, BYTE_FUEL * length as u64).await?;
            let memory = memory(&mut self.caller)?.data_mut(&mut self.caller);
            let bytes = memory.get_mut(target.pointer + start..target.pointer + start + length);
            if surroundings.fill_random(bytes.unwrap_or_default()).is_err() {
                return Ok(Errno::Io);
            }
        }
        Ok(Errno::Success)
    }

    pub(crate) fn stream_status(&mut self) -> wt::Result<Errno> {
        let rights = match self.number(0) {
            0 => MAY_READ,
            1 | 2 => MAY_WRITE,
            _ => return Ok(Errno::Badf),
        };
        let mut status = [0; 24];
        status[0] = CHARACTER_DEVICE;
        status[8] = rights;
        self.store(1, "stat", &status)
    }

    pub(crate) fn file_status(&mut self) -> wt::Result<Errno> {
        if self.number(0) > 2 {
            return Ok(Errno::Badf);
        }
        let mut status = [0; 64];
        status[16] = CHARACTER_DEVICE;
        self.store(1, "stat", &status)
    }

    pub(crate) fn read(&mut self) -> wt::Result<Errno> {
        if self.number(0) != 0 {
            return Ok(Errno::Badf);
        }
        self.store(3, "nread", &[0; 4])
    }

    pub(crate) fn write(&mut self) -> wt::Result<Errno> {
        let stream = match self.number(0) {
            1 => Stream::Out,
            2 => Stream::Error,
            _ => return Ok(Errno::Badf),
        };
        let count = self.number(2);
        if count > MOST_VECTORS {
            return Ok(Errno::Inval);
        }
        let pieces = self.vectors(1, count)?;
        let total = pieces.iter().map(|piece| piece.length as u64).sum::<u64>();
        let Ok(total) = u32::try_from(total) else { return Ok(Errno::Inval) };
        self.store(3, "nwritten", &total.to_le_bytes())?;
        for piece in pieces {
            self.print(stream, piece)?;
        }
        Ok(Errno::Success)
    }

    fn print(&mut self, stream: Stream, text: Range) -> wt::Result<()> {
        let kept = text.first(text.length.min(self.caller.data().print_room()));
        charge(&mut self.caller, BYTE_FUEL * kept.length as u64)?;
        let (memory, guest) = memory(&mut self.caller)?.data_and_store_mut(&mut self.caller);
        guest.print(stream, kept.bytes(memory));
        if kept.length < text.length {
            guest.end_line(stream);
            guest.log_is_full();
        }
        Ok(())
    }

    /// Returns the pieces of memory that a list of pointers and lengths names.
    fn vectors(&mut self, argument: usize, count: u32) -> wt::Result<Vec<Range>> {
        let list = self.load(argument, "iovs", count * VECTOR_BYTES)?;
        let numbers = |vector: &[u8]| (number_at(vector, 0), number_at(vector, 4));
        let vectors = list.chunks_exact(VECTOR_BYTES as usize).map(numbers);
        vectors.map(|(pointer, length)| self.checked(Range::of("buf", pointer, length))).collect()
    }

    pub(crate) fn exit(&self) -> wt::Error {
        wt::Error::new(Exited(self.number(0)))
    }

    pub(crate) fn raise(&self) -> wt::Error {
        Ended::because(Cause::Crash, format!("the guest raised signal {}", self.number(0)))
    }

    // ── arguments and memory ─────────────────────────────────────────────────────────────────────

    /// The 32 bits of an argument.
    pub(crate) fn number(&self, argument: usize) -> u32 {
        match self.arguments.get(argument) {
            Some(Val::I32(number)) => number.cast_unsigned(),
            _ => 0,
        }
    }

    /// Returns a copy of the bytes that an argument points to, charged.
    pub(crate) fn load(&mut self, argument: usize, name: &'static str, length: u32) -> wt::Result<Vec<u8>> {
        let range = self.range(argument, name, length)?;
        charge(&mut self.caller, BYTE_FUEL * range.length as u64)?;
        Ok(range.bytes(memory(&mut self.caller)?.data(&self.caller)).to_vec())
    }

    /// Writes bytes to where an argument points, charged.
    pub(crate) fn store(&mut self, argument: usize, name: &'static str, bytes: &[u8]) -> wt::Result<Errno> {
        let range = self.range(argument, name, bytes.len() as u32)?;
        charge(&mut self.caller, BYTE_FUEL * bytes.len() as u64)?;
        memory(&mut self.caller)?.write(&mut self.caller, range.pointer, bytes)?;
        Ok(Errno::Success)
    }

    fn range(&mut self, argument: usize, name: &'static str, length: u32) -> wt::Result<Range> {
        let range = Range::of(name, self.number(argument), length);
        self.checked(range)
    }

    fn checked(&mut self, range: Range) -> wt::Result<Range> {
        range.check(&mut self.caller, self.function)?;
        Ok(range)
    }
}

/// The 32 bits at a place.
pub(crate) fn number_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u32::from_le_bytes(*number))
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
