//! What all imports share, whichever module they are imported from.
//!
//! Rules:
//! * Every import is charged, and looks at the clock, before it does anything (`enter`): a guest that
//!   only calls imports never comes to a pulse of its own.
//! * A pointer is checked before its bytes are charged, and bytes are charged before they are copied.
//! * Nothing here runs deep: imports run on the guest's small stack.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use wasmtime as wt;
use wasmtime::Caller;

use crate::exchange::{Answer, HostCall, Reply};
use crate::guest::Guest;
use crate::trap::{Cause, Ended};

pub(crate) type Context<'a> = Caller<'a, Guest>;

/// Charges, looks at the clock, and gives a pulse where the slice has become old.
pub(crate) async fn enter(caller: &mut Context<'_>, fuel: u64) -> wt::Result<()> {
    charge(caller, fuel)?;
    let now = Instant::now();
    if now >= caller.data().deadline {
        return Err(Ended::out_of_time());
    }
    let exchange = &caller.data().exchange;
    if exchange.is_interrupted() {
        return Err(Ended::because(Cause::Interrupted, "interrupted"));
    }
    let ends = exchange.cells().slice.ends;
    if now > ends {
        pulse().await;
    }
    Ok(())
}

/// Returns the fuel that is left. A store holds one more, see [`crate::execution`].
pub(crate) fn fuel_left(caller: &Context<'_>) -> wt::Result<u64> {
    Ok(caller.get_fuel()?.saturating_sub(1))
}

pub(crate) fn charge(caller: &mut Context<'_>, fuel: u64) -> wt::Result<()> {
    match caller.get_fuel()?.checked_sub(fuel) {
        None | Some(0) => {
            caller.set_fuel(0)?;
            Err(Ended::out_of_fuel())
        }
        Some(left) => caller.set_fuel(left),
    }
}

async fn pulse() {
    let mut given = false;
    poll_fn(|_| if std::mem::replace(&mut given, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Parks the guest until the host call is answered.
pub(crate) async fn park(caller: &mut Context<'_>, call: HostCall) -> wt::Result<Answer> {
    let Guest { exchange, deadline, meter, .. } = caller.data();
    let (exchange, deadline) = (exchange.clone(), *deadline);
    {
        let mut cells = exchange.cells();
        cells.memory_bytes = meter.used();
        cells.call = Some(call);
    }
    let reply = poll_fn(|_| exchange.cells().reply.take().map_or(Poll::Pending, Poll::Ready)).await;
    match reply {
        Reply::Answer(_) if Instant::now() >= deadline => Err(Ended::out_of_time()),
        Reply::Answer(answer) => Ok(answer),
        Reply::Trip(limit) => Err(Ended::tripped(limit, "")),
    }
}

pub(crate) fn bad_pointer(detail: String) -> wt::Error {
    Ended::because(Cause::BadPointer, detail)
}

/// The exported memory, which start functions may need before there is an instance to ask.
pub(crate) fn memory(caller: &mut Context<'_>) -> wt::Result<wt::Memory> {
    if let Some(memory) = caller.data().memory {
        return Ok(memory);
    }
    let export = caller.data().memory_export;
    let memory = caller
        .get_module_export(&export)
        .and_then(wt::Extern::into_memory)
        .ok_or_else(|| bad_pointer("the guest exports no memory".into()))?;
    caller.data_mut().memory = Some(memory);
    Ok(memory)
}

pub(crate) fn clamped(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// A pointer and a length as a guest passes them.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) name: &'static str,
    pub(crate) pointer: usize,
    pub(crate) length: usize,
}

impl Range {
    pub(crate) fn new(name: &'static str, pointer: i32, length: i32) -> Self {
        Self::of(name, pointer.cast_unsigned(), length.cast_unsigned())
    }

    pub(crate) fn of(name: &'static str, pointer: u32, length: u32) -> Self {
        Self { name, pointer: pointer as usize, length: length as usize }
    }

    pub(crate) fn first(self, length: usize) -> Self {
        Self { length, ..self }
    }

    pub(crate) fn check(&self, caller: &mut Context<'_>, import: &str) -> wt::Result<()> {
        let size = memory(caller)?.data_size(&*caller);
        if self.pointer.checked_add(self.length).is_some_and(|end| end <= size) {
            return Ok(());
        }
        let Self { name, pointer, length } = self;
        Err(bad_pointer(format!(
            "{import}: {length} bytes at {name} {pointer} do not lie in the guest's {size} bytes of memory"
        )))
    }

    /// The bytes, of a range that was checked.
    pub(crate) fn bytes<'a>(&self, memory: &'a [u8]) -> &'a [u8] {
        memory.get(self.pointer..self.pointer + self.length).unwrap_or_default()
    }
}
