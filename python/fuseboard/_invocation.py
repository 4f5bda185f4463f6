"""One invocation, as a flow: every rule between a hook's value and an outcome, in the order they apply.

Rules:
* Refuse, charge, ask. A call that is malformed or outside the grants is answered with an error code; a
  charge that doesn't fit trips before a backend is touched; after each answer the deadline is looked at.
* The first trip ends the guest, and is the one that is told.
* A trapped invocation leaves nothing: all its sessions are rolled back, however it ends.
* Order at the end: decode the output, commit the database, then KV, then the functions' `on_commit`.
* Nothing that a guest or a backend gives raises out of here: the one is `BAD_OUTPUT`, the other an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from fuseboard import _core
from fuseboard._budget import METER_NAMES, Budget
from fuseboard._effects import Ask, Commit, Flow, Resume, Rollback
from fuseboard._errors import BackendError
from fuseboard._hostcalls import (
    HOST_CALLS,
    Answer,
    AnswerCode,
    BackendKind,
    BadRequestError,
    HostCall,
    HttpRequest,
    HttpResponse,
    Reply,
    error_reply,
)
from fuseboard._limits import Caps, Limit
from fuseboard._outcome import Cause, Completed, Frame, Outcome, Skipped, SkipReason, Trap, Trapped
from fuseboard._values import UNWRITABLE
from fuseboard.backends import Backend, Identity, Session

if TYPE_CHECKING:
    from fuseboard._plugin import Subscriber

MAX_REDIRECTS: Final = 5
MAX_DETAIL: Final = 1024
COMMIT_ORDER: Final[tuple[BackendKind, ...]] = ("db", "kv", "http", "functions")
_LOG_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_ERROR_CODES: Final = frozenset(AnswerCode) - {AnswerCode.OK}

_log = logging.getLogger("fuseboard")


class Services(NamedTuple):
    """What all invocations of a host share.

    Attributes:
        backends: who serves each kind of host call.
        caps: the operator's caps.
        clock: monotonic time in seconds.
        commit_seconds: what a commit may take, outside the invocation's own time.
    """

    backends: Mapping[BackendKind, Backend]
    caps: Caps
    clock: Callable[[], float]
    commit_seconds: float


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


class _Trip(NamedTuple):
    limit: str


class _Fault(NamedTuple):
    """What becomes a `Trap`, with what the core counted."""

    cause: Cause
    limit: str | None
    detail: str
    end: _core.Completed | _core.Trapped


class Invocation:
    """One plugin, one hook, one request: one attempt.

    Attributes:
        encoded: the hook's value as it crosses: what the plugin gets, and once it has completed, what the next gets.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        request: Request,
        value: Any,
        encoded: bytes,
        services: Services,
    ) -> None:
        self._subscriber = subscriber
        self._plugin = subscriber.plugin
        self._request = request
        self._value = value
        self.encoded = encoded
        self._services = services
        self._budget = Budget(self._plugin.ceilings)
        self._sessions: dict[int, Session] = {}
        self._started = services.clock()
        self._deadline = self._started + self._plugin.timeout_seconds
        self._deadline_shared = request.deadline is not None and request.deadline < self._deadline
        if request.deadline is not None and self._deadline_shared:
            self._deadline = request.deadline
        self._used_ms = 0.0
        self._host_call: str | None = None
        self._http_requests: list[str] = []

    def run(self) -> Flow[Outcome]:
        """Run the plugin and return what became of it. Raises only what isn't the plugin's doing."""
        if not self._plugin.enabled:
            return self._skipped(SkipReason.DISABLED)
        seconds = self._deadline - self._services.clock()
        if seconds <= 0:
            return self._skipped(SkipReason.DEADLINE)
        execution = self._subscriber.entry.begin(self.encoded, self._request.context, self._call_info(), seconds)
        try:
            end = yield from self._execute(execution)
            return (yield from self._conclude(end))
        except BaseException:
            execution.close()
            yield from self._roll_back()
            raise

    # ── the guest ────────────────────────────────────────────────────────────────────────────────

    def _execute(self, execution: _core.Execution) -> Flow[_core.Completed | _core.Trapped]:
        step = yield Resume(execution)
        while True:
            self._log_lines(step.logs)
            if isinstance(step, _core.Completed | _core.Trapped):
                return step
            if isinstance(step, _core.Running):
                step = yield Resume(execution)
                continue
            reply = yield from self._serve(step)
            if isinstance(reply, _Trip):
                step = execution.trip(reply.limit)
            else:
                self._host_call = None
                step = yield Resume(execution, reply)

    def _serve(self, step: _core.Suspended) -> Flow[Reply | _Trip]:
        if step.call == "meter_remaining":
            return Reply(self._budget.remaining(METER_NAMES[step.number]))
        self._host_call = step.call
        try:
            call = HOST_CALLS[step.call].parse(step.parts, step.number)
        except BadRequestError as error:
            return error_reply(AnswerCode.BAD_REQUEST, str(error))
        if isinstance(call, HttpRequest):
            return (yield from self._fetch(call))
        answer = yield from self._refuse_charge_ask(call)
        return answer if isinstance(answer, Reply | _Trip) else self._written(answer)

    # ── host calls ───────────────────────────────────────────────────────────────────────────────

    def _fetch(self, call: HttpRequest) -> Flow[Reply | _Trip]:
        """Fetch and follow redirects, each of which is refused, charged and asked like the first request."""
        for _ in range(1 + MAX_REDIRECTS):
            answer = yield from self._refuse_charge_ask(call)
            if isinstance(answer, Reply | _Trip):
                return answer
            try:
                if not isinstance(answer, HttpResponse) or (location := answer.location()) is None:
                    return self._written(answer)
                call = call.redirected(answer.status, location)
            except BadRequestError as error:
                return error_reply(AnswerCode.BACKEND_FAILED, f"the server redirects: {error}")
            except Exception:
                return self._failed(call, "answered with headers that can't be read")
        return error_reply(AnswerCode.BACKEND_FAILED, f"the server redirects more than {MAX_REDIRECTS} times")

    def _refuse_charge_ask(self, call: HostCall) -> Flow[Answer | Reply | _Trip]:
        reason = call.denial(self._plugin.grants)
        if reason is not None:
            return error_reply(AnswerCode.DENIED, reason)
        limit = call.charged_to
        if limit is not None and not self._budget.charge(limit, call.cost()):
            return _Trip(limit)
        answer = yield from self._ask(call)
        if self._services.clock() >= self._deadline:
            return _Trip(Limit.TIMEOUT)
        return answer

    def _ask(self, call: HostCall) -> Flow[Answer | Reply]:
        if isinstance(call, HttpRequest):
            self._http_requests.append(f"{call.method} {call.url}")
            call = call.with_header("X-Request-ID", self._request.request_id)
        try:
            answer = yield Ask(self._session(call.kind), call, self._deadline)
        except BackendError as error:
            return error_reply(_error_code(error), _as_text(error.reason))
        except Exception:
            return self._failed(call, "raised")
        if not isinstance(answer, call.answered_by):
            return self._failed(call, f"answered with {type(answer).__name__}")
        return answer

    def _written(self, answer: Answer) -> Reply:
        try:
            reply = answer.reply()
            _check_bytes(reply.body)
        except UNWRITABLE:
            _log.exception("an answer of type %s can't be written", type(answer).__name__, extra=self._names())
            return error_reply(AnswerCode.BACKEND_FAILED, "the answer can't be written")
        most = self._services.caps.reply_bytes
        if len(reply.head) + len(reply.body) > most:
            return error_reply(AnswerCode.TOO_LARGE, f"the reply is larger than {most} bytes")
        return reply

    def _failed(self, call: HostCall, how: str) -> Reply:
        """Tell the operator everything and the guest nothing: the text may hold secrets."""
        _log.exception("the %s backend %s", call.kind, how, extra=self._names())
        return error_reply(AnswerCode.BACKEND_FAILED, "the service failed")

    def _session(self, kind: BackendKind) -> Session:
        backend = self._services.backends[kind]
        session = self._sessions.get(id(backend))
        if session is None:
            request = self._request
            identity = Identity(
                self._plugin.slug, self._subscriber.hook.name, request.scope, request.request_id, self._plugin.grants
            )
            session = self._sessions[id(backend)] = backend.session(identity)
        return session

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def _conclude(self, end: _core.Completed | _core.Trapped) -> Flow[Outcome]:
        self._used_ms = self._elapsed_ms()  # commit and rollback have their own time
        if isinstance(end, _core.Trapped):
            yield from self._roll_back()
            if end.cause == "saturated":
                _log.warning("no room for an instance: %s", end.detail, extra=self._names())
                return self._skipped(SkipReason.SATURATED)
            return self._trapped(_Fault(Cause(end.cause), end.limit, end.detail, end))
        try:
            value, changed = self._decoded(end.output)
        except Exception as error:  # noqa: BLE001  a type's own validators may raise anything for a guest's value
            yield from self._roll_back()
            return self._trapped(_Fault(Cause.BAD_OUTPUT, None, f"the output can't be read: {_printable(error)}", end))
        problem = yield from self._commit()
        if problem is not None:
            yield from self._roll_back()
            return self._trapped(_Fault(Cause.COMMIT, None, problem, end))
        elapsed_ms = self._elapsed_ms()
        meters = self._budget.meters(elapsed_ms=self._used_ms, fuel=end.fuel, memory_bytes=end.memory_bytes)
        return Completed(**self._names(), elapsed_ms=elapsed_ms, meters=meters, value=value, changed=changed)

    def _decoded(self, output: bytes | None) -> tuple[Any, bool]:
        if not self._subscriber.gives_value:
            return None, False
        if output is None or output == self.encoded:
            return self._value, False
        codec = self._subscriber.hook.codec
        value = codec.decode(output)
        self.encoded = codec.encode(value)
        return value, True

    def _commit(self) -> Flow[str | None]:
        for kind in COMMIT_ORDER:
            backend = self._services.backends.get(kind)
            session = self._sessions.get(id(backend))
            if session is None:
                continue
            try:
                yield Commit(session, self._services.clock() + self._services.commit_seconds)
            except Exception as error:
                _log.exception("the %s backend can't commit", kind, extra=self._names())
                return f"{kind}: {error.reason}" if isinstance(error, BackendError) else f"{kind}: the service failed"
            del self._sessions[id(backend)]
        return None

    def _roll_back(self) -> Flow[None]:
        for backend, session in reversed(tuple(self._sessions.items())):
            try:
                yield Rollback(session)
            except Exception:
                _log.exception("a backend can't roll back", extra=self._names())
            del self._sessions[backend]  # not before: an interrupted rollback is done again

    def _trapped(self, fault: _Fault) -> Trapped:
        end = fault.end
        elapsed_ms = self._elapsed_ms()
        meters = self._budget.meters(
            elapsed_ms=self._used_ms,
            fuel=end.fuel,
            memory_bytes=end.memory_bytes,
            fuel_exact=end.fuel_exact if isinstance(end, _core.Trapped) else True,
        )
        trap = Trap(
            **self._names(),
            elapsed_ms=elapsed_ms,
            meters=meters,
            cause=fault.cause,
            limit=fault.limit,
            detail=fault.detail,
            backtrace=_frames(end),
            host_call=self._host_call,
            http_requests=tuple(self._http_requests),
            deadline_shared=self._deadline_shared and fault.limit == Limit.TIMEOUT,
        )
        return Trapped(**self._names(), elapsed_ms=elapsed_ms, meters=meters, trap=trap)

    def _skipped(self, reason: SkipReason) -> Skipped:
        elapsed_ms = self._elapsed_ms()
        meters = self._budget.meters(elapsed_ms=elapsed_ms)
        return Skipped(**self._names(), elapsed_ms=elapsed_ms, meters=meters, reason=reason)

    # ── words ────────────────────────────────────────────────────────────────────────────────────

    def _names(self) -> dict[str, Any]:
        return {
            "plugin": self._plugin.slug,
            "hook": self._subscriber.hook.name,
            "request_id": self._request.request_id,
            "scope": self._request.scope,
        }

    def _call_info(self) -> bytes:
        return msgspec.json.encode(self._names())

    def _elapsed_ms(self) -> float:
        return (self._services.clock() - self._started) * 1e3

    def _log_lines(self, lines: list[tuple[int, str]]) -> None:
        for level, text in lines:
            self._plugin.logger.log(_LOG_LEVELS[level], "%s", text, extra=self._names())


def _frames(end: _core.Completed | _core.Trapped) -> tuple[Frame, ...]:
    return tuple(Frame(*frame) for frame in end.backtrace) if isinstance(end, _core.Trapped) else ()


def _check_bytes(body: object) -> None:
    if not isinstance(body, bytes):
        raise TypeError(f"a body must be bytes, not {type(body).__name__}")


def _error_code(error: BackendError) -> int:
    return error.code if error.code in _ERROR_CODES else AnswerCode.BACKEND_FAILED


def _as_text(reason: object) -> str:
    """A reason as JSON can hold it: the texts of operating systems' errors can have lone surrogates."""
    return str(reason).encode(errors="replace").decode()


def _printable(error: Exception) -> str:
    """An error's text in one line and of a bounded length: a guest's own words can be in it."""
    text = str(error)[:MAX_DETAIL]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
