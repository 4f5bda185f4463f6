//! Initialises a module once, under a budget and away from any host.
//!
//! Rules:
//! * It runs as it would in an invocation: the same imports at the same prices, and the same fuel.
//! * What it logs and prints is kept. Every other import that looks at the invocation or asks the host ends it: the
//!   answer would be the first caller's, for all that come after.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wasmtime as wt;

use crate::abi::IMPORT_MODULE;
use crate::engine;
use crate::exchange::{Exchange, LogLine, Slice};
use crate::execution::{Watched, fill_up};
use crate::guest::Guest;
use crate::limits::{self, Caps};
use crate::module::{self, ModuleError};
use crate::snapshot::{Budget, Refusal};
use crate::snapshot_plan::Plan;
use crate::surroundings::{FIRST_READING, Surroundings, System};
use crate::text::{NAME_BYTES, printable};
use crate::trap::{Cause, Ended, Trap};
use crate::wasi::CLOCK_TICK;

/// The import that means nothing to whoever comes after.
const ALLOWED: &str = "host_log";
const LOG_BYTES: usize = 64 << 10;
const CAPS: Caps = Caps { output_bytes: 0, request_bytes: 0, log_bytes: LOG_BYTES };

/// An instance that was initialised.
pub(crate) struct Initialised {
    pub(crate) store: wt::Store<Guest>,
    pub(crate) instance: wt::Instance,
    /// What that took.
    pub(crate) fuel: u64,
    pub(crate) logs: Vec<LogLine>,
}

/// The error of an import that must not be called.
#[derive(Debug)]
struct Asked(String);

impl std::fmt::Display for Asked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Asked {}

type Ran = (wt::Store<Guest>, wt::Result<wt::Instance>);
type Run = Pin<Box<dyn Future<Output = Ran> + Send>>;

/// What an instance that all invocations follow can learn: this machine's time and randomness, but a monotonic clock
/// that has hardly begun, so that no invocation sees it go back.
struct Before(Instant);

impl Before {
    fn now() -> Self {
        Self(Instant::now())
    }
}

impl Surroundings for Before {
    fn wall_clock(&self) -> Duration {
        System.wall_clock()
    }

    fn monotonic_clock(&self) -> Duration {
        self.0.elapsed().min(FIRST_READING - CLOCK_TICK)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        System.fill_random(bytes)
    }
}

/// Compiles the module, makes an instance, and calls the plan's exports.
pub(crate) fn initialised(wasm: &[u8], plan: &Plan, budget: &Budget) -> Result<Initialised, Refusal> {
    let engine = engine::for_one(budget.memory_bytes).map_err(|error| Refusal::NotAccepted(error.to_string()))?;
    let module = module::compiled(|| wt::Module::from_binary(&engine, wasm)).map_err(not_accepted)?;
    let pre = linked(&engine, &module).map_err(|error| Refusal::NotAccepted(format!("{error:#}")))?;
    let Some(memory_export) = module.get_export_index("memory") else {
        return Err(Refusal::NotAccepted("exports no memory".to_owned()));
    };
    for export in &plan.exports {
        module::plain_export(&module, export).map_err(not_accepted)?;
    }
    let deadline = Instant::now() + budget.time;
    let exchange = Arc::new(Exchange::new(deadline));
    let surroundings = Arc::new(Before::now());
    let guest = Guest::new(deadline, budget.memory_bytes, CAPS, exchange.clone(), memory_export, surroundings);
    let exports = plan.exports.clone();
    let (mut store, result) = finished(Box::pin(run(pre, exports, guest, budget.fuel)), &exchange)?;
    store.data_mut().end_lines();
    let logs = std::mem::take(&mut exchange.cells().logs);
    let left = store.get_fuel().unwrap_or(0);
    let result = if left == 0 { result.and(Err(Ended::out_of_fuel())) } else { result };
    let instance = result.map_err(|error| refusal(&error, budget))?;
    Ok(Initialised { store, instance, fuel: budget.fuel.saturating_sub(left - 1), logs })
}

fn not_accepted(error: ModuleError) -> Refusal {
    Refusal::NotAccepted(error.to_string())
}

/// Links what the module imports: what it may use, and what ends it.
fn linked(engine: &wt::Engine, module: &wt::Module) -> wt::Result<wt::InstancePre<Guest>> {
    let mut linker = engine::linker(engine)?;
    linker.allow_shadowing(true);
    for import in module.imports().filter(|import| import.module() == IMPORT_MODULE && import.name() != ALLOWED) {
        let wt::ExternType::Func(ty) = import.ty() else { continue };
        let name = import.name().to_owned();
        linker.func_new(IMPORT_MODULE, import.name(), ty, move |_, _, _| Err(wt::Error::new(Asked(name.clone()))))?;
    }
    linker.instantiate_pre(module)
}

async fn run(pre: wt::InstancePre<Guest>, exports: Vec<String>, guest: Guest, fuel: u64) -> Ran {
    let (exchange, deadline) = (guest.exchange.clone(), guest.deadline);
    let mut store = wt::Store::new(pre.module().engine(), guest);
    store.limiter(|guest| &mut guest.meter);
    if let Err(error) = fill_up(&mut store, fuel) {
        return (store, Err(error));
    }
    let mut instance = None;
    let result = {
        let call = pin!(initialise(&mut store, &pre, &exports, &mut instance));
        Watched { call, exchange, deadline }.await
    };
    let gone = || Ended::because(Cause::Crash, "there is no instance");
    (store, result.and_then(|()| instance.ok_or_else(gone)))
}

async fn initialise(
    store: &mut wt::Store<Guest>,
    pre: &wt::InstancePre<Guest>,
    exports: &[String],
    made: &mut Option<wt::Instance>,
) -> wt::Result<()> {
    let instance = made.insert(pre.instantiate_async(&mut *store).await?);
    for export in exports {
        let function = instance.get_typed_func::<(), ()>(&mut *store, export)?;
        function.call_async(&mut *store, ()).await?;
    }
    Ok(())
}

/// Runs it to its end, unless it asks the host or the engine gives up.
fn finished(mut run: Run, exchange: &Exchange) -> Result<Ran, Refusal> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        exchange.cells().slice = Slice::later();
        match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(ran)) => return Ok(ran),
            Ok(Poll::Pending) => {}
            Err(payload) => {
                std::mem::forget(run); // what a panic left behind can't be trusted to be dropped
                return Err(Refusal::Ended(Trap::from_panic(payload.as_ref()).detail));
            }
        }
        if let Some(call) = exchange.cells().call.take() {
            return Err(Refusal::Asks(call.import.to_owned()));
        }
    }
}

fn refusal(error: &wt::Error, budget: &Budget) -> Refusal {
    if let Some(Asked(import)) = error.downcast_ref::<Asked>() {
        return Refusal::Asks(printable(import.as_bytes(), NAME_BYTES));
    }
    let trap = Trap::from_error(error);
    match trap.limit.as_deref() {
        Some(limits::FUEL) => Refusal::Fuel { most: budget.fuel },
        Some(limits::TIMEOUT) => Refusal::Time { most: budget.time },
        Some(limits::MEMORY) => Refusal::Memory { most: budget.memory_bytes },
        _ => Refusal::Ended(trap.detail),
    }
}
