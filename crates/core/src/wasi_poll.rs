//! `poll_oneoff`: waits for the first of several events, which here are clocks and streams.
//!
//! Rules:
//! * Streams are ready at once: nothing is waited for where one is asked for.
//! * A sleep parks the guest like a host call: it ends at the deadline at the latest, and holds up nobody else.

use std::time::Duration;

use wasmtime as wt;

use crate::exchange::HostCall;
use crate::import::{charge, park};
use crate::limits::HOST_CALL_FUEL;
use crate::wasi::CLOCK_TICK;
use crate::wasi_calls::{Call, Errno, nanoseconds, number_at};

/// What a parked sleep is called; its number is how long it takes, in nanoseconds.
pub const SLEEP: &str = "poll_oneoff";

const MOST_SUBSCRIPTIONS: u32 = 256;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
const IS_ABSOLUTE: u8 = 1;

/// What a guest waits for.
struct Subscription {
    /// The guest's own name for it.
    userdata: [u8; 8],
    kind: u8,
    /// How long it takes, or what is wrong with it.
    ready_in: Result<Duration, Errno>,
}

impl Call<'_> {
    pub(crate) async fn poll(&mut self) -> wt::Result<Errno> {
        charge(&mut self.caller, HOST_CALL_FUEL)?;
        let count = self.number(2);
        if count == 0 || count > MOST_SUBSCRIPTIONS {
            return Ok(Errno::Inval);
        }
        let list = self.load(0, "in", count * SUBSCRIPTION_BYTES)?;
        let all: Vec<_> =
            list.chunks_exact(SUBSCRIPTION_BYTES as usize).map(|bytes| self.subscription(bytes)).collect();
        let first = all.iter().map(|one| one.ready_in.unwrap_or_default()).min().unwrap_or_default();
        let events: Vec<u8> = all.iter().filter(|one| one.is_due(first)).flat_map(Subscription::event).collect();
        // Memory doesn't shrink: what is written now would be there after the sleep too.
        self.store(1, "out", &events)?;
        self.store(3, "nevents", &(events.len() as u32 / EVENT_BYTES).to_le_bytes())?;
        if !first.is_zero() {
            let number = i64::try_from(nanoseconds(first)).unwrap_or(i64::MAX);
            park(&mut self.caller, HostCall { import: SLEEP, parts: Vec::new(), number }).await?;
        }
        Ok(Errno::Success)
    }

    fn subscription(&self, bytes: &[u8]) -> Subscription {
        let kind = bytes.get(8).copied().unwrap_or_default();
        let ready_in = match (kind, number_at(bytes, 16)) {
            (0, clock) => self.time_until(clock, long_at(bytes, 24), bytes.get(40).copied().unwrap_or_default()),
            (1, 0) | (2, 1 | 2) => Ok(Duration::ZERO),
            (1 | 2, _) => Err(Errno::Badf),
            _ => Err(Errno::Inval),
        };
        Subscription { userdata: *bytes.first_chunk().unwrap_or(&[0; 8]), kind, ready_in }
    }

    /// How long it takes until a guest, which reads whole ticks, finds that the time has come.
    fn time_until(&self, clock: u32, timeout: u64, flags: u8) -> Result<Duration, Errno> {
        let now = nanoseconds(self.clock(clock).ok_or(Errno::Inval)?);
        let tick = nanoseconds(CLOCK_TICK);
        let target = if flags & IS_ABSOLUTE == 0 { now.saturating_add(timeout) } else { timeout };
        if target <= now - now % tick || timeout == 0 {
            return Ok(Duration::ZERO);
        }
        let seen = target.checked_next_multiple_of(tick).unwrap_or(u64::MAX);
        Ok(Duration::from_nanos(seen - now))
    }
}

impl Subscription {
    fn is_due(&self, waited: Duration) -> bool {
        self.ready_in.is_ok_and(|time| time <= waited) || self.ready_in.is_err()
    }

    fn event(&self) -> [u8; EVENT_BYTES as usize] {
        let mut event = [0; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&self.userdata);
        event[8] = self.ready_in.err().map_or(0, |errno| errno as u8);
        event[10] = self.kind;
        event
    }
}

fn long_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u64::from_le_bytes(*number))
}
