"""One invocation, as a flow: every rule between a hook's value and an outcome, in the order they apply.

Rules:
* The deadline is fixed first; nothing runs when it has passed. Waiting for a slot is inside of it.
* Breaker, then slot, then guest; slot and probe are given back on every path, after all that was written is
  committed or rolled back.
* The first trip ends the guest, and is the one that is told.
* A trapped invocation leaves nothing: all its sessions are rolled back, however it ends.
* Order at the end: decode the output, then commit, then `Completed`.
* Nothing that a guest gives raises out of here: a value that isn't the hook's type is `BAD_OUTPUT`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from fuseboard import _core
from fuseboard._breaker import BreakerKey
from fuseboard._breakers import Admission
from fuseboard._budget import Budget
from fuseboard._effects import Acquire, Continue, Flow, Resume
from fuseboard._limits import SPEC_OF, Limit
from fuseboard._nesting import MAX_DEPTH, Enclosing, stack_of
from fuseboard._outcome import Cause, Completed, Frame, Outcome, Skipped, SkipReason, Trap, Trapped
from fuseboard._serving import Serving
from fuseboard._sessions import MAX_DETAIL, Services, Sessions
from fuseboard._slots import Ticket
from fuseboard._text import printable
from fuseboard.backends import Identity

if TYPE_CHECKING:
    from fuseboard._plugin import Subscriber

_LOG_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class Request(NamedTuple):
    """What all invocations of a dispatch share.

    Attributes:
        request_id: the application's, or 128 random bits in hex.
        scope: the tenant, or `None`.
        context: a JSON object.
        deadline: when the dispatch must end, on the services' clock, or `None`.
    """

    request_id: str
    scope: str | None
    context: bytes
    deadline: float | None


class _Fault(NamedTuple):
    """What becomes a `Trap`, with what the core counted."""

    cause: Cause
    detail: str
    end: _core.Completed | _core.Trapped


class Invocation:
    """One plugin, one hook, one request: one attempt.

    Attributes:
        encoded: the hook's value as it crosses: what the plugin gets, and once it has completed, what the next gets.
    """

    def __init__(
        self, subscriber: Subscriber, request: Request, value: Any, encoded: bytes, services: Services
    ) -> None:
        plugin = subscriber.plugin
        self._subscriber = subscriber
        self._plugin = plugin
        self._context = request.context
        self._value = value
        self.encoded = encoded
        self._services = services
        self._clock = services.clock
        self._started = services.clock()
        self._deadline = self._started + plugin.timeout_seconds
        self._deadline_shared = request.deadline is not None and request.deadline < self._deadline
        if request.deadline is not None and self._deadline_shared:
            self._deadline = request.deadline
        self._identity = Identity(plugin.slug, subscriber.hook.name, request.scope, request.request_id, plugin.grants)
        self._budget = Budget(plugin.ceilings)
        self._sessions = Sessions(self._identity, services)
        self._serving = Serving(self._identity, self._budget, self._sessions, services, self._deadline)
        self._ticket = Ticket(plugin.slug, plugin.max_concurrency, plugin.ceilings[Limit.MEMORY][0])
        self._level: Enclosing | None = None
        self._admission: Admission | None = None
        self._shows_trap: bool | None = None
        self._used_ms = 0.0

    def run(self) -> Flow[Outcome]:
        """Run the plugin and return what became of it. Raises only what isn't the plugin's doing."""
        try:
            return (yield from self._admitted())
        finally:
            try:
                self._let_go()
            except BaseException:  # an interrupt: what wasn't given back yet must be
                self._let_go()
                raise

    def _admitted(self) -> Flow[Outcome]:
        if not self._plugin.enabled:
            return self._skipped(SkipReason.DISABLED)
        stack = stack_of(self._services.slots.era)
        if stack and (problem := self._nesting_problem(stack)):
            return self._skipped(SkipReason.REENTRANT, problem)
        if self._clock() >= self._deadline:
            return self._skipped(SkipReason.DEADLINE)
        key = BreakerKey(self._plugin.slug, self._subscriber.hook.name, self._identity.scope)
        self._admission = self._services.breakers.admit(
            self._plugin, key, self._deadline + self._services.commit_seconds
        )
        if self._admission is None:
            return self._skipped(SkipReason.BREAKER_OPEN)
        return (yield from self._in_slot(nested=bool(stack)))

    def _nesting_problem(self, stack: tuple[Enclosing, ...]) -> str | None:
        if any(one.plugin == self._plugin.slug for one in stack):
            return "the plugin waits for this dispatch itself"
        return f"{MAX_DEPTH} invocations are inside of each other already" if len(stack) >= MAX_DEPTH else None

    def _in_slot(self, *, nested: bool) -> Flow[Outcome]:
        slots = self._services.slots
        if not slots.ask(self._ticket, nested=nested):
            if not nested:
                yield Acquire(self._ticket, self._deadline)
                self._deadline_shared = True  # by all who waited
            if not slots.has(self._ticket):
                return self._skipped(SkipReason.SATURATED, slots.lack(self._ticket))
        seconds = self._deadline - self._clock()
        if seconds <= 0:
            return self._skipped(SkipReason.SATURATED, "the slot came too late")
        return (yield from self._run_guest(seconds))

    def _run_guest(self, seconds: float) -> Flow[Outcome]:
        call_info = msgspec.json.encode(self._identity.names())
        execution = self._subscriber.entry.begin(self.encoded, self._context, call_info, seconds)
        self._ticket.execution = execution
        try:
            end = yield from self._execute(execution)
            return (yield from self._conclude(end))
        except BaseException:
            execution.close()
            yield from self._sessions.roll_back_for_sure()
            raise

    def _let_go(self) -> None:
        """Give back what the invocation has of its host's. Doing it twice does no harm."""
        if self._level is not None:
            self._level.leave()
        self._services.slots.give_back(self._ticket)
        if self._admission is not None:
            self._services.breakers.settle(self._admission, trapped=self._shows_trap)
            self._admission = None

    def _execute(self, execution: _core.Execution) -> Flow[_core.Completed | _core.Trapped]:
        step = yield Resume(execution)
        while True:
            self._log_lines(step.logs)
            if isinstance(step, _core.Completed | _core.Trapped):
                return step
            if isinstance(step, _core.Running):
                step = yield Continue(execution)
                continue
            if self._level is None:  # from here on the application's own code may run
                self._level = Enclosing(self._services.slots.era, self._plugin.slug, self._deadline)
                self._level.enter()
            reply = yield from self._serving.serve(step)
            step = yield Resume(execution, reply)

    def _conclude(self, end: _core.Completed | _core.Trapped) -> Flow[Outcome]:
        self._used_ms = self._elapsed_ms()  # commit and rollback have their own time
        if isinstance(end, _core.Trapped):
            yield from self._sessions.roll_back()
            if end.cause == "saturated":
                return self._skipped(SkipReason.SATURATED, end.detail)
            return self._trapped(_Fault(Cause(end.cause), end.detail, end))
        try:
            value, changed = self._decoded(end.output)
        except Exception as error:  # noqa: BLE001  a type's own validators may raise anything for a guest's value
            yield from self._sessions.roll_back()
            return self._trapped(
                _Fault(Cause.BAD_OUTPUT, f"the output can't be read: {printable(str(error), MAX_DETAIL)}", end)
            )
        refusal = yield from self._sessions.commit()
        if refusal is not None:
            yield from self._sessions.roll_back()
            return self._trapped(_Fault(Cause.COMMIT, refusal, end))
        self._shows_trap = False
        meters = self._budget.meters(elapsed_ms=self._used_ms, fuel=end.fuel, memory_bytes=end.memory_bytes)
        return Completed(
            **self._identity.names(), elapsed_ms=self._elapsed_ms(), meters=meters, value=value, changed=changed
        )

    def _decoded(self, output: bytes | None) -> tuple[Any, bool]:
        if not self._subscriber.gives_value:
            return None, False
        if output is None or output == self.encoded:
            return self._value, False
        codec = self._subscriber.hook.codec
        value = codec.decode(output)
        encoded = codec.encode(value)
        if encoded == self.encoded:  # the same, written otherwise
            return self._value, False
        self.encoded = encoded
        return value, True

    def _trapped(self, fault: _Fault) -> Trapped:
        end = fault.end
        ended_early = end if isinstance(end, _core.Trapped) else None
        limit = ended_early and ended_early.limit
        names, elapsed_ms = self._identity.names(), self._elapsed_ms()
        meters = self._budget.meters(
            elapsed_ms=self._used_ms,
            fuel=end.fuel,
            memory_bytes=end.memory_bytes,
            fuel_exact=ended_early is None or ended_early.fuel_exact,
        )
        is_cut_short = self._deadline_shared and limit == Limit.TIMEOUT
        if fault.cause is not Cause.COMMIT and not is_cut_short:
            self._shows_trap = True
        trap = Trap(
            **names,
            elapsed_ms=elapsed_ms,
            meters=meters,
            cause=fault.cause,
            limit=limit and (SPEC_OF[limit].limit if limit in SPEC_OF else limit),
            detail=fault.detail,
            backtrace=tuple(Frame(*frame) for frame in ended_early.backtrace) if ended_early else (),
            host_call=self._serving.host_call,
            http_requests=tuple(self._serving.http_requests),
            deadline_shared=is_cut_short,
        )
        return Trapped(**names, elapsed_ms=elapsed_ms, meters=meters, trap=trap)

    def _skipped(self, reason: SkipReason, detail: str = "") -> Skipped:
        elapsed_ms = self._elapsed_ms()
        meters = self._budget.meters(elapsed_ms=elapsed_ms)
        return Skipped(**self._identity.names(), elapsed_ms=elapsed_ms, meters=meters, reason=reason, detail=detail)

    def _elapsed_ms(self) -> float:
        return (self._clock() - self._started) * 1e3

    def _log_lines(self, lines: list[tuple[int, str]]) -> None:
        for level, text in lines:
            self._plugin.logger.log(_LOG_LEVELS[level], "%s", text, extra=self._identity.names())
