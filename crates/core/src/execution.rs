//! The guest computation behind one invocation, moved on a step at a time.
//!
//! The store lives inside one future, which is polled by hand: parked at a host call, it waits for its
//! answer; at a pulse, for the next poll; dropped, it ends the guest at once.
//!
//! A store is given one unit of fuel more than the limit. Wasmtime looks at the meter at function
//! entries and loops only, so a guest can run past its last unit; holding the last unit back tells
//! "ended with exactly its fuel" (one left) from "overspent" (none left).

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use wasmtime as wt;

use crate::exchange::{Answer, Exchange, HostCall, LogLine, Reply, Slice};
use crate::fork;
use crate::guest::{Buffers, Guest};
use crate::limits::{Caps, Limits, MUCH_MEMORY_BYTES, PULSE_FUEL};
use crate::module::{INITIALIZE, Module, ModuleError};
use crate::surroundings::{Surroundings, System};
use crate::trap::{Cause, Ended, Exited, Trap};

/// An export with everything that its invocations share.
pub struct Entry {
    module: Arc<Module>,
    /// What is called, in order: what initialises an instance, then the export itself.
    calls: Arc<[wt::ModuleExport]>,
    code_shift: i64,
    settings: Arc<[u8]>,
    limits: Limits,
    caps: Caps,
}

/// What one invocation brings along: the bytes of buffers 0, 1 and 5.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The hook's value.
    pub value: Vec<u8>,
    /// The context, a JSON object.
    pub context: Vec<u8>,
    /// Hook, request id, scope and plugin, a JSON object.
    pub call_info: Vec<u8>,
}

/// What an execution used of the limits that the core watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Fuel spent.
    pub fuel: u64,
    /// Whether `fuel` is exact; else it is a lower bound, low by what was spent since the last call or pulse.
    pub fuel_is_exact: bool,
    /// The most memory held, in bytes. Memory never shrinks.
    pub memory_bytes: usize,
}

/// What moving an execution on gave, with the lines logged since the last step.
#[derive(Debug)]
pub struct Step {
    /// What happened.
    pub kind: StepKind,
    /// What the guest logged.
    pub logs: Vec<LogLine>,
}

/// The kinds of step.
#[derive(Debug)]
pub enum StepKind {
    /// The guest returned; its output, or `None` where it wrote none.
    Completed(Option<Vec<u8>>, Usage),
    /// The guest waits for an answer.
    Suspended(HostCall),
    /// The slice is over; the guest can go on.
    Running,
    /// The guest was ended.
    Trapped(Trap, Usage),
}

/// An execution can't be moved on that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveError {
    /// Another thread is moving it on.
    Busy,
    /// It has ended.
    Ended,
    /// It waits for an answer and got none.
    NeedsAnswer,
    /// It got an answer that it doesn't wait for.
    NeedsNoAnswer,
    /// It began before the process was forked, and lives on in the parent.
    Inherited,
}

type Report = (Result<Option<Vec<u8>>, Trap>, Usage);
type Run = Pin<Box<dyn Future<Output = Report> + Send>>;

/// One instance at work.
pub struct Execution {
    module: Arc<Module>,
    exchange: Arc<Exchange>,
    /// The process in which it began, see [`fork`].
    generation: u32,
    /// Whether there is a [`Turn`]. A mutex's guard would do, but can't be sent to where the GIL isn't held.
    taken: AtomicBool,
    closed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    run: Option<Run>,
    waits: bool,
    /// Whether the next slice is the first since the last answer.
    fresh: bool,
}

impl Entry {
    /// Resolves an export.
    ///
    /// # Errors
    /// There is none of that name, or it isn't a function without parameters and results.
    pub fn new(
        module: Arc<Module>,
        export: &str,
        settings: &[u8],
        limits: Limits,
        caps: Caps,
    ) -> Result<Self, ModuleError> {
        let calls = module.initialize.into_iter().chain([module.plain_export(export)?]).collect();
        Ok(Self { module, calls, code_shift: 0, settings: settings.into(), limits, caps })
    }

    /// Has another export run first, after `_initialize`.
    ///
    /// # Errors
    /// There is none of that name, or it isn't a function without parameters and results.
    pub fn initialised_by(self, export: &str) -> Result<Self, ModuleError> {
        let named = self.module.plain_export(export)?;
        if export == INITIALIZE {
            return Ok(self); // it does already
        }
        let (before, last) = self.calls.split_at(self.calls.len() - 1);
        let calls = before.iter().chain([&named]).chain(last).copied().collect();
        Ok(Self { calls, ..self })
    }

    /// Has backtraces tell where code is in the file that a snapshot was made of, see [`crate::Taken::code_shift`].
    #[must_use]
    pub fn shifted_by(self, code_shift: i64) -> Self {
        Self { code_shift, ..self }
    }

    /// Prepares an execution; nothing runs before its first slice.
    pub fn begin(&self, input: Input, deadline: Instant) -> Execution {
        self.begin_in(input, deadline, Arc::new(System))
    }

    /// Prepares an execution with clocks and random bytes of the caller's.
    pub fn begin_in(&self, input: Input, deadline: Instant, surroundings: Arc<dyn Surroundings>) -> Execution {
        let exchange = Arc::new(Exchange::new(deadline));
        let mut guest = Guest::new(
            deadline,
            self.limits.memory_bytes,
            self.caps,
            exchange.clone(),
            self.module.memory,
            surroundings,
        );
        guest.buffers = Buffers {
            value: input.value,
            context: input.context,
            settings: self.settings.clone(),
            call_info: input.call_info,
            ..Buffers::default()
        };
        let run = run(self.module.clone(), self.calls.clone(), guest, (self.limits.fuel, self.code_shift));
        Execution {
            module: self.module.clone(),
            exchange,
            generation: fork::generation(),
            taken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            state: Mutex::new(State { run: Some(Box::pin(run)), waits: false, fresh: true }),
        }
    }
}

impl Step {
    /// The step of a guest that wasn't moved.
    #[must_use]
    pub fn nothing() -> Self {
        Self { kind: StepKind::Running, logs: Vec::new() }
    }

    /// Returns this step with the lines of an earlier one before its own.
    #[must_use]
    pub fn after(mut self, mut earlier: Vec<LogLine>) -> Self {
        earlier.append(&mut self.logs);
        Self { logs: earlier, ..self }
    }
}

impl Execution {
    /// Takes the right to move this execution on.
    ///
    /// # Errors
    /// [`MoveError::Busy`]: another caller has it. Never waits. [`MoveError::Inherited`]: it is another process's.
    pub fn turn(&self) -> Result<Turn<'_>, MoveError> {
        if self.is_inherited() {
            return Err(MoveError::Inherited);
        }
        if self.taken.swap(true, Ordering::SeqCst) {
            return Err(MoveError::Busy);
        }
        Ok(Turn { execution: self })
    }

    /// Ends a running guest at its next pulse, with [`Cause::Interrupted`]. From any thread.
    pub fn interrupt(&self) {
        self.exchange.interrupt();
    }

    /// Ends the guest at once and gives its memory back; where another thread moves it on just now, at
    /// its next pulse or when that thread's turn ends. From any thread.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.interrupt();
        if self.is_inherited() {
            drop(self.state().run.take()); // whoever had a turn is not in this process
        }
        drop(self.turn());
    }

    fn is_inherited(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Whether the guest has completed, trapped or been closed.
    pub fn has_ended(&self) -> bool {
        self.state().run.is_none()
    }

    /// Whether a driver that holds a lock should give it up before the first slice: the module doesn't
    /// behave, see [`Module::starts_detached`], or the guest holds much memory, which takes time to give back.
    pub fn starts_detached(&self) -> bool {
        self.exchange.cells().memory_bytes > MUCH_MEMORY_BYTES || self.module.starts_detached()
    }

    /// Whether [`Execution::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to move an execution on; given back on drop.
pub struct Turn<'a> {
    execution: &'a Execution,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let execution = self.execution;
        if execution.is_closed() {
            drop(execution.state().run.take());
        }
        execution.taken.store(false, Ordering::SeqCst);
        // Closed between the look and the release: whoever closed it found the turn taken.
        if execution.is_closed() && execution.state().run.is_some() {
            drop(execution.turn());
        }
    }
}

impl Turn<'_> {
    /// Whether the next slice is the first since the guest began or was answered.
    pub fn is_fresh(&self) -> bool {
        self.execution.state().fresh
    }

    /// Checks that the execution runs, or can begin to.
    ///
    /// # Errors
    /// It waits for an answer, or has ended.
    pub fn go_on(&self) -> Result<(), MoveError> {
        let state = self.execution.state();
        match (&state.run, state.waits) {
            (None, _) => Err(MoveError::Ended),
            (_, true) => Err(MoveError::NeedsAnswer),
            _ => Ok(()),
        }
    }

    /// Hands the guest the answer it waits for.
    ///
    /// # Errors
    /// It waits for none, or has ended.
    pub fn answer(&self, answer: Answer) -> Result<(), MoveError> {
        self.reply(Reply::Answer(answer))
    }

    /// Ends the guest that waits for an answer: the host call would go over the named limit.
    ///
    /// # Errors
    /// It waits for none, or has ended.
    pub fn trip(&self, limit: String) -> Result<(), MoveError> {
        self.reply(Reply::Trip(limit))
    }

    fn reply(&self, reply: Reply) -> Result<(), MoveError> {
        let mut state = self.execution.state();
        match (&state.run, state.waits) {
            (None, _) => return Err(MoveError::Ended),
            (_, false) => return Err(MoveError::NeedsNoAnswer),
            _ => {}
        }
        state.waits = false;
        state.fresh = true;
        self.execution.exchange.cells().reply = Some(reply);
        Ok(())
    }

    /// Runs one slice: the first since the guest began or was answered ends at the first pulse, a later one at
    /// the first pulse after 5 ms.
    pub fn slice(&self) -> Step {
        let mut state = self.execution.state();
        if std::mem::replace(&mut state.fresh, false) {
            let slice = Slice::first();
            let step = self.run_for(&mut state, slice);
            self.execution.module.first_slice_took(slice.started.elapsed());
            step
        } else {
            self.run_for(&mut state, Slice::later())
        }
    }

    fn run_for(&self, state: &mut State, slice: Slice) -> Step {
        self.execution.exchange.cells().slice = slice;
        let polled = match &mut state.run {
            Some(run) => poll(run),
            None => return Step::nothing(),
        };
        let kind = match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready((Ok(output), usage))) => Some(StepKind::Completed(output, usage)),
            Ok(Poll::Ready((Err(trap), usage))) => Some(StepKind::Trapped(trap, usage)),
            Err(trap) => {
                // What a panic left behind can't be trusted to be dropped: its slot is lost.
                std::mem::forget(state.run.take());
                Some(StepKind::Trapped(trap, Usage::default()))
            }
        };
        if kind.is_some() {
            state.run = None;
        }
        let mut cells = self.execution.exchange.cells();
        let call = cells.call.take();
        state.waits = call.is_some();
        let kind = kind.or(call.map(StepKind::Suspended)).unwrap_or(StepKind::Running);
        Step { kind, logs: std::mem::take(&mut cells.logs) }
    }
}

fn poll(run: &mut Run) -> Result<Poll<Report>, Trap> {
    let mut context = Context::from_waker(Waker::noop());
    catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(&mut context)))
        .map_err(|payload| Trap::from_panic(payload.as_ref()))
}

async fn run(
    module: Arc<Module>,
    calls: Arc<[wt::ModuleExport]>,
    guest: Guest,
    (fuel, code_shift): (u64, i64),
) -> Report {
    let exchange = guest.exchange.clone();
    let deadline = guest.deadline;
    let mut store = wt::Store::new(module.pre.module().engine(), guest);
    store.limiter(|guest| &mut guest.meter);
    let fuelled = fill_up(&mut store, fuel);
    let result = {
        let call = pin!(call(&mut store, &module, &calls));
        Watched { call, exchange, deadline }.await
    };
    store.data_mut().end_lines();
    let result = fuelled.and(result);
    let left = store.get_fuel().unwrap_or(0);
    let result = result.and_then(|()| match left {
        // The one unit held back is gone: the guest ran past its last unit without looking at the meter.
        0 => Err(Ended::out_of_fuel()),
        _ if Instant::now() >= deadline => Err(Ended::out_of_time()),
        _ => Ok(()),
    });
    let result = result.map_err(|error| Trap::from_error(&error).shifted_by(code_shift));
    let usage = Usage {
        fuel: fuel.saturating_sub(left.saturating_sub(1)),
        fuel_is_exact: result.as_ref().err().is_none_or(Trap::fuel_is_exact),
        memory_bytes: store.data().meter.used(),
    };
    (result.map(|()| store.data_mut().output.take()), usage)
}

pub(crate) fn fill_up(store: &mut wt::Store<Guest>, fuel: u64) -> wt::Result<()> {
    store.set_fuel(fuel.saturating_add(1))?;
    store.fuel_async_yield_interval(Some(PULSE_FUEL))
}

async fn call(store: &mut wt::Store<Guest>, module: &Module, calls: &[wt::ModuleExport]) -> wt::Result<()> {
    let instance = module.pre.instantiate_async(&mut *store).await?;
    let Some((export, before)) = calls.split_last() else { return Ok(()) };
    for initialize in before {
        call_export(store, &instance, initialize).await?;
    }
    match call_export(store, &instance, export).await {
        Err(error) if matches!(error.downcast_ref(), Some(Exited(0))) => Ok(()),
        result => result,
    }
}

async fn call_export(
    store: &mut wt::Store<Guest>,
    instance: &wt::Instance,
    export: &wt::ModuleExport,
) -> wt::Result<()> {
    let Some(function) = instance.get_module_export(&mut *store, export).and_then(wt::Extern::into_func) else {
        return Err(Ended::because(Cause::Crash, "an export is gone"));
    };
    function.typed::<(), ()>(&*store)?.call_async(&mut *store, ()).await
}

/// Looks at interrupt, deadline and the end of the slice at each pulse. An answered guest goes on: its import
/// looks at the clock itself, where the trap has a backtrace.
pub(crate) struct Watched<F> {
    pub(crate) call: F,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) deadline: Instant,
}

impl<F: Future<Output = wt::Result<()>> + Unpin> Future for Watched<F> {
    type Output = wt::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (slice, is_answered) = {
            let cells = self.exchange.cells();
            (cells.slice, cells.reply.is_some())
        };
        let mut now = slice.started;
        loop {
            if self.exchange.is_interrupted() {
                return Poll::Ready(Err(Ended::because(Cause::Interrupted, "interrupted")));
            }
            if now >= self.deadline && !is_answered {
                return Poll::Ready(Err(Ended::out_of_time()));
            }
            let polled = Pin::new(&mut self.call).poll(context);
            if polled.is_ready() || slice.is_first || self.exchange.cells().call.is_some() {
                return polled;
            }
            now = Instant::now();
            if now >= slice.ends {
                return Poll::Pending;
            }
        }
    }
}
