"""One invocation, as a flow: every rule between a hook's value and an outcome, in the order they apply.

Rules:
* The deadline is fixed first; nothing runs when it has passed. Waiting for a slot is inside of it.
* Breaker, then slot, then guest; slot and probe are given back on every path, after all that was written is
  committed or rolled back.
* The first trip ends the guest, and is the one that is told.
* A trapped invocation leaves nothing: all its sessions are rolled back, however it ends.
* Order at the end: decode the output, then commit, then `Completed`.
* Nothing that a guest gives raises out of here: a value that isn't the hook's type is `BAD_OUTPUT`.
* What most invocations don't need (host calls, a place on the stack) is made when it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from fuseboard import _core
from fuseboard._breakers import Admission
from fuseboard._budget import Budget
from fuseboard._effects import Acquire, Continue, Flow
from fuseboard._hostcalls import Trip
from fuseboard._limits import SPEC_OF, Limit
from fuseboard._nesting import MAX_DEPTH, Enclosing
from fuseboard._outcome import Cause, Completed, Frame, Outcome, Skipped, SkipReason, Trap, Trapped
from fuseboard._plugin import LOG_LEVELS
from fuseboard._serving import Serving
from fuseboard._sessions import MAX_DETAIL, Services, Sessions
from fuseboard._slots import Ticket
from fuseboard._text import printable
from fuseboard.backends import Identity

if TYPE_CHECKING:
    from fuseboard._plugin import Subscriber

_Step = _core.Completed | _core.Suspended | _core.Running | _core.Trapped
_End = _core.Completed | _core.Trapped

_json: Final = msgspec.json.Encoder()


class Request(msgspec.Struct, frozen=True):
    """What all invocations of a dispatch share.

    Attributes:
        request_id: the application's, or 128 random bits in hex.
        scope: the tenant, or `None`.
        context: a JSON object.
        deadline: when the dispatch must end, on the services' clock, or `None`.
        stack: the invocations that it is made inside of, outermost first.
    """

    request_id: str
    scope: str | None = None
    context: bytes = b"{}"
    deadline: float | None = None
    stack: tuple[Enclosing, ...] = ()


class _CallInfo(msgspec.Struct, frozen=True, gc=False):
    """What the guest can know of its call: buffer 5."""

    hook: str
    request_id: str
    scope: str | None
    plugin: str


class _Fault(NamedTuple):
    """What becomes a `Trap`; where there was no room for the guest, a `Skipped`."""

    cause: str
    detail: str


class Invocation:
    """One plugin, one hook, one request: one attempt.

    Attributes:
        encoded: the hook's value as it crosses: what the plugin gets, and once it has completed, what the next gets.
    """

    _serving: Serving | None = None
    _level: Enclosing | None = None
    _admission: Admission | None = None
    _shows_trap: bool | None = None
    _asks = False
    _changed = False
    _used_ms = 0.0

    def __init__(
        self, subscriber: Subscriber, request: Request, value: Any, encoded: bytes, services: Services
    ) -> None:
        self._subscriber = subscriber
        self._plugin = plugin = subscriber.plugin
        self._request = request
        self._value = value
        self.encoded = encoded
        self._services = services
        self._started = services.clock()
        self._deadline = self._started + plugin.timeout_seconds
        self._deadline_shared = request.deadline is not None and request.deadline < self._deadline
        if request.deadline is not None and self._deadline_shared:
            self._deadline = request.deadline
        self._budget = Budget(plugin.ceilings)
        self._ticket = Ticket(plugin.slug, plugin.max_concurrency, plugin.memory_bytes)

    def run(self) -> Flow[Outcome]:
        """Run the plugin, report what became of it, and return that. Raises only what isn't the plugin's doing."""
        try:
            stack = self._request.stack and tuple(one for one in self._request.stack if not one.has_ended)
            outcome: Outcome | None = self._refused(stack)
            if outcome is None:
                self._asks = True
                if not self._services.slots.ask(self._ticket):
                    outcome = yield from self._without_slot()
            if outcome is None:
                outcome = yield from self._run_guest()
        finally:
            try:
                self._let_go()
            except BaseException:  # an interrupt: what wasn't given back yet must be
                self._let_go()
                raise
        self._services.report(outcome)
        return outcome

    # ── whether it runs ──────────────────────────────────────────────────────────────────────────

    def _refused(self, stack: tuple[Enclosing, ...]) -> Skipped | None:
        plugin, request, services = self._plugin, self._request, self._services
        if not plugin.enabled:
            return self._skipped(SkipReason.DISABLED)
        if stack:
            self._ticket.is_nested = True
            if problem := self._nesting_problem(stack):
                return self._skipped(SkipReason.REENTRANT, problem)
        now = services.clock()
        if now >= self._deadline:
            return self._skipped(SkipReason.DEADLINE)
        key = self._subscriber.breaker_key
        if request.scope is not None:
            key = key._replace(scope=request.scope)
        lost_at = self._deadline + services.commit_seconds
        self._admission = services.breakers.admit(plugin, key, now, lost_at)
        return self._skipped(SkipReason.BREAKER_OPEN) if self._admission is None else None

    def _nesting_problem(self, stack: tuple[Enclosing, ...]) -> str | None:
        if any(one.plugin == self._plugin.slug for one in stack):
            return "the plugin waits for this dispatch itself"
        return f"{MAX_DEPTH} invocations are inside of each other already" if len(stack) >= MAX_DEPTH else None

    def _without_slot(self) -> Flow[Skipped | None]:
        slots = self._services.slots
        if not self._ticket.is_nested:
            yield Acquire(self._ticket, self._deadline)
            self._deadline_shared = True  # by all who waited
        return None if slots.has(self._ticket) else self._skipped(SkipReason.SATURATED, slots.lack(self._ticket))

    # ── the guest ────────────────────────────────────────────────────────────────────────────────

    def _run_guest(self) -> Flow[Outcome]:
        seconds = self._deadline - self._services.clock()
        if seconds <= 0:
            return self._skipped(SkipReason.SATURATED, "the slot came too late")
        subscriber, request = self._subscriber, self._request
        call_info = _CallInfo(subscriber.hook.name, request.request_id, request.scope, self._plugin.slug)
        execution = subscriber.entry.begin(self.encoded, request.context, _json.encode(call_info), seconds)
        self._ticket.execution = execution
        try:
            step = execution.resume(slices=0)
            while not isinstance(step, (_core.Completed, _core.Trapped)):
                step = yield from self._next(execution, step)
            if step.logs:
                self._log(step)
            self._used_ms = (self._services.clock() - self._started) * 1e3  # commit and rollback have their own time
            fault = self._judged(step)
            if self._serving is not None:
                fault = yield from self._end_sessions(self._serving.sessions, fault)
            return self._completed(step) if fault is None else self._stopped(step, fault)
        except BaseException:
            execution.close()
            if self._serving is not None:
                yield from self._serving.sessions.roll_back_for_sure()
            raise

    def _next(self, execution: _core.Execution, step: _core.Running | _core.Suspended) -> Flow[_Step]:
        """Do what a guest waits for that has not ended, and move it on."""
        if step.logs:
            self._log(step)
        if isinstance(step, _core.Running):
            moved: _Step = yield Continue(execution, self._deadline)
            return moved
        serving = self._serving or self._begun_serving()
        reply = yield from serving.serve(step)
        if isinstance(reply, Trip):
            return execution.trip(reply.limit, slices=0)
        return execution.answer(reply.code, reply.head, reply.body, slices=0)

    def _begun_serving(self) -> Serving:
        """From here on the application's own code may run."""
        self._level = Enclosing(self._services.slots.era, self._plugin.slug, self._deadline)
        self._level.enter()
        self._serving = Serving(self._identity(), self._budget, self._services, self._deadline)
        return self._serving

    def _let_go(self) -> None:
        """Give back what the invocation has of its host's. Done twice, at worst the breaker counts it twice."""
        if self._level is not None:
            self._level.leave()
        if self._asks:
            self._services.slots.give_back(self._ticket)
        if self._admission is not None:
            self._services.breakers.settle(self._admission, trapped=self._shows_trap)
            self._admission = None

    # ── its end ──────────────────────────────────────────────────────────────────────────────────

    def _judged(self, end: _End) -> _Fault | None:
        """Decode the output, and return what is wrong with it or with the end."""
        if isinstance(end, _core.Trapped):
            return _Fault(end.cause, end.detail)
        output = end.output
        if not self._subscriber.gives_value:
            self._value = None
        elif output is not None and output != self.encoded:
            try:
                self._decode(output)
            except Exception as error:  # noqa: BLE001  a type's own validators may raise anything for a guest's value
                return _Fault(Cause.BAD_OUTPUT, f"the output can't be read: {printable(str(error), MAX_DETAIL)}")
        return None

    def _decode(self, output: bytes) -> None:
        codec = self._subscriber.hook.codec
        value = codec.decode(output)
        encoded = codec.encode(value)
        if encoded != self.encoded:  # else it is the same, written otherwise
            self._value, self._changed, self.encoded = value, True, encoded

    def _end_sessions(self, sessions: Sessions, fault: _Fault | None) -> Flow[_Fault | None]:
        if fault is None:
            refusal = yield from sessions.commit()
            if refusal is None:
                return None
            fault = _Fault(Cause.COMMIT, refusal)
        yield from sessions.roll_back()
        return fault

    # ── its outcome ──────────────────────────────────────────────────────────────────────────────

    def _completed(self, end: _End) -> Completed[Any]:
        self._shows_trap = False
        request = self._request
        return Completed(
            plugin=self._plugin.slug,
            hook=self._subscriber.hook.name,
            request_id=request.request_id,
            scope=request.scope,
            elapsed_ms=self._used_ms if self._serving is None else self._elapsed_ms(),
            meters=self._budget.meters(self._used_ms, end.fuel, end.memory_bytes),
            value=self._value,
            changed=self._changed,
        )

    def _stopped(self, end: _End, fault: _Fault) -> Trapped | Skipped:
        if fault.cause == "saturated":
            return self._skipped(SkipReason.SATURATED, fault.detail)
        ended_early = end if isinstance(end, _core.Trapped) else None
        limit = ended_early and ended_early.limit
        is_cut_short = self._deadline_shared and limit == Limit.TIMEOUT
        if fault.cause != Cause.COMMIT and not is_cut_short:
            self._shows_trap = True
        names, elapsed_ms = self._identity().names(), self._elapsed_ms()
        fuel_exact = ended_early is None or ended_early.fuel_exact
        meters = self._budget.meters(self._used_ms, end.fuel, end.memory_bytes, fuel_exact=fuel_exact)
        trap = Trap(
            **names,
            elapsed_ms=elapsed_ms,
            meters=meters,
            cause=Cause(fault.cause),
            limit=limit and (SPEC_OF[limit].limit if limit in SPEC_OF else limit),
            detail=fault.detail,
            backtrace=tuple(Frame(*frame) for frame in ended_early.backtrace) if ended_early else (),
            host_call=self._serving.host_call if self._serving else None,
            http_requests=tuple(self._serving.http_requests) if self._serving else (),
            deadline_shared=is_cut_short,
        )
        return Trapped(**names, elapsed_ms=elapsed_ms, meters=meters, trap=trap)

    def _skipped(self, reason: SkipReason, detail: str = "") -> Skipped:
        elapsed_ms = self._elapsed_ms()
        meters = self._budget.meters(elapsed_ms)
        names = self._identity().names()
        return Skipped(**names, elapsed_ms=elapsed_ms, meters=meters, reason=reason, detail=detail)

    def _identity(self) -> Identity:
        plugin, request = self._plugin, self._request
        hook = self._subscriber.hook.name
        return Identity(plugin.slug, hook, request.scope, request.request_id, plugin.grants, plugin.version)

    def _elapsed_ms(self) -> float:
        return (self._services.clock() - self._started) * 1e3

    def _log(self, step: _Step) -> None:
        names = self._identity().names()
        for level, text in step.logs:
            self._plugin.logger.log(LOG_LEVELS[level], "%s", text, extra=names)
