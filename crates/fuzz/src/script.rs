//! What the calling guest is told to do: calls with numbers that an attacker would choose, and how they are written
//! down for the guest.

use arbitrary::Arbitrary;
use fuseboard_core::HOST_CALLS;

use crate::model::PAGE_BYTES;

/// Bytes of a record in the guest's script.
pub const RECORD_BYTES: usize = 32;
/// The first operation that is a host call; they come in the order of [`HOST_CALLS`].
pub const FIRST_HOST_CALL: u32 = 7;
/// The operation that grows the memory, which is no import.
pub const GROW: u32 = FIRST_HOST_CALL + HOST_CALLS.len() as u32;
/// The operation that says whether a meter's reading is at most the wide number.
pub const METER_AT_MOST: u32 = 6;

/// One thing that the guest does.
#[derive(Arbitrary, Clone, Debug)]
pub enum Deed {
    /// Asks for a buffer's length.
    Length(Choice),
    /// Reads from a buffer at an offset.
    Read(Choice, Number, Range),
    /// Writes output.
    Write(Range),
    /// Gives up.
    Fail(Range),
    /// Logs a line.
    Log(Choice, Range),
    /// Looks at a meter.
    Meter(Choice),
    /// Asks the host for something.
    Ask {
        /// Which of the host calls.
        call: u8,
        /// Its first bytes.
        first: Range,
        /// Its second bytes, where it has them.
        second: Range,
        /// Its number, where it has one.
        by: i64,
    },
    /// Grows the memory by so many pages.
    Grow(u8),
}

/// A pointer and a length.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Range {
    /// Any two.
    Any(Number, Number),
    /// So many bytes, that end close to the end of the memory.
    ToEnd(Number, Step),
}

/// A step from a bound: from one before it to two behind it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Step(u8);

/// What numbers are chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Bytes of memory that the guest has.
    pub size: usize,
    /// The caps.
    pub caps: [usize; 3],
}

/// A number that is worth trying for a pointer, a length or an offset.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Number {
    /// Within the first bytes.
    Small(u8),
    /// Within the first page.
    Medium(u16),
    /// Close to the end of the memory, on either side.
    Edge(i8),
    /// Close to a cap.
    Cap(u8, Step),
    /// Any.
    Any(i32),
}

/// One of a few that there are, the ones beside them, or any.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Choice {
    /// From -1 to 6.
    Known(u8),
    /// Any.
    Any(i32),
}

/// A deed with its numbers, as the guest reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// What to do.
    pub operation: u32,
    /// The numbers for it.
    pub numbers: [i32; 4],
    /// The wide number for it.
    pub wide: i64,
}

impl Record {
    /// Writes it as the guest reads it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let [a, b, c, d] = self.numbers.map(i32::to_le_bytes);
        let mut bytes = [0; RECORD_BYTES];
        let parts = [self.operation.to_le_bytes(), a, b, c, d, [0; 4]];
        bytes[..24].copy_from_slice(parts.as_flattened());
        bytes[24..].copy_from_slice(&self.wide.to_le_bytes());
        bytes
    }
}

impl Deed {
    /// Gives the record; `most` says what meters 1 and 2 read at most.
    #[must_use]
    pub fn record(&self, scene: Scene, most: [i64; 2]) -> Record {
        let record = |operation, numbers, wide| Record { operation, numbers, wide };
        match self {
            Self::Length(buffer) => record(0, [buffer.resolve(), 0, 0, 0], 0),
            Self::Read(buffer, offset, range) => {
                let [pointer, length] = range.resolve(scene);
                record(1, [buffer.resolve(), offset.resolve(scene), pointer, length], 0)
            }
            Self::Write(range) | Self::Fail(range) => {
                let [pointer, length] = range.resolve(scene);
                record(if matches!(self, Self::Write(_)) { 2 } else { 3 }, [pointer, length, 0, 0], 0)
            }
            Self::Log(level, range) => {
                let [pointer, length] = range.resolve(scene);
                record(4, [level.resolve(), pointer, length, 0], 0)
            }
            Self::Meter(limit) => match limit.resolve() {
                limit @ 1..=2 => record(METER_AT_MOST, [limit, 0, 0, 0], most[limit as usize - 1]),
                limit => record(5, [limit, 0, 0, 0], 0),
            },
            Self::Ask { call, first, second, by } => {
                let ([a, b], [c, d]) = (first.resolve(scene), second.resolve(scene));
                record(FIRST_HOST_CALL + u32::from(*call) % HOST_CALLS.len() as u32, [a, b, c, d], *by)
            }
            Self::Grow(pages) => record(GROW, [(*pages).into(), 0, 0, 0], 0),
        }
    }

    /// Says how large the memory is after this, of which there can be `limit` bytes.
    #[must_use]
    pub fn size_after(&self, size: usize, limit: usize) -> usize {
        match self {
            Self::Grow(pages) if size + usize::from(*pages) * PAGE_BYTES <= limit => {
                size + usize::from(*pages) * PAGE_BYTES
            }
            _ => size,
        }
    }
}

impl Range {
    fn resolve(self, scene: Scene) -> [i32; 2] {
        match self {
            Self::Any(pointer, length) => [pointer.resolve(scene), length.resolve(scene)],
            Self::ToEnd(length, step) => {
                let length = length.resolve(scene);
                [step.from(scene.size).wrapping_sub(length), length]
            }
        }
    }
}

impl Step {
    fn from(self, bound: usize) -> i32 {
        (bound as i32).wrapping_add(i32::from(self.0 % 4) - 1)
    }
}

impl Number {
    fn resolve(self, scene: Scene) -> i32 {
        match self {
            Self::Small(number) => number.into(),
            Self::Medium(number) => number.into(),
            Self::Edge(distance) => (scene.size as i32).wrapping_add(distance.into()),
            Self::Cap(cap, step) => step.from(scene.caps[usize::from(cap) % scene.caps.len()]),
            Self::Any(number) => number,
        }
    }
}

impl Choice {
    fn resolve(self) -> i32 {
        match self {
            Self::Known(number) => i32::from(number % 8) - 1,
            Self::Any(number) => number,
        }
    }
}
