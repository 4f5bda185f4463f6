//! What a guest can learn of the world by itself: the time, and randomness. Whoever begins an execution can give another.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a guest's clocks and random bytes come from.
pub trait Surroundings: Send + Sync {
    /// Time since 1970-01-01 00:00 UTC.
    fn wall_clock(&self) -> Duration;

    /// Time since a moment that is the same for all executions that can meet one another's readings. Never goes back.
    fn monotonic_clock(&self) -> Duration;

    /// Fills a slice with random bytes.
    ///
    /// # Errors
    /// There are none to be had; the guest is told so.
    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// This machine's clocks and random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

/// The monotonic clock's reading when it is first read in a process. What was read before that, while a snapshot was
/// taken, is less.
pub const FIRST_READING: Duration = Duration::from_secs(1);

impl Surroundings for System {
    fn wall_clock(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic_clock(&self) -> Duration {
        static BASE: OnceLock<Instant> = OnceLock::new();
        FIRST_READING + BASE.get_or_init(Instant::now).elapsed()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        Ok(getrandom::fill(bytes)?)
    }
}
