//! The memory meter: one sum over linear memory and tables.

use wasmtime as wt;

use crate::limits::{MEMORY, TABLE_ELEMENT_BYTES, TABLE_ELEMENTS};
use crate::trap::Ended;

/// A memory without a declared maximum can have 4 GiB, says the standard.
const WHOLE_ADDRESS_SPACE: usize = 1 << 32;

/// Counts what a guest holds, and refuses the growth that doesn't fit with a typed error.
///
/// Growth past the guest's own declared maximum is the guest's `-1`, as the standard says, and no trip.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    limit: usize,
    used: usize,
    last_charge: usize,
}

impl MemoryMeter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: 0, last_charge: 0 }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn left(&self) -> usize {
        self.limit - self.used
    }

    fn charge(&mut self, bytes: usize) -> wt::Result<bool> {
        if bytes > self.left() {
            let detail = format!("asked for {bytes} bytes more, {} were left", self.left());
            return Err(Ended::tripped(MEMORY, detail));
        }
        self.used += bytes;
        self.last_charge = bytes;
        Ok(true)
    }

    fn refuse_quietly(&mut self) -> wt::Result<bool> {
        self.last_charge = 0;
        Ok(false)
    }

    fn give_back(&mut self) {
        self.used -= std::mem::take(&mut self.last_charge);
    }
}

impl wt::ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wt::Result<bool> {
        match maximum {
            Some(declared) if declared < WHOLE_ADDRESS_SPACE && desired > declared => self.refuse_quietly(),
            _ => self.charge(desired - current),
        }
    }

    fn memory_grow_failed(&mut self, _error: wt::Error) -> wt::Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wt::Result<bool> {
        // The pool's bound of a table is told as its maximum too.
        if maximum.is_some_and(|declared| declared < TABLE_ELEMENTS && desired > declared) {
            return self.refuse_quietly();
        }
        if desired > TABLE_ELEMENTS {
            let detail = format!("asked for a table of {desired} elements; the most is {TABLE_ELEMENTS}");
            return Err(Ended::tripped(MEMORY, detail));
        }
        self.charge((desired - current).saturating_mul(TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: wt::Error) -> wt::Result<()> {
        self.give_back();
        Ok(())
    }
}
