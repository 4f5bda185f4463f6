"""The host calls of one invocation: refuse, charge, ask, in that order.

Rules:
* A call that is malformed or outside the grants is answered with an error code. A charge that doesn't fit
  trips before a backend is touched. After each answer the deadline is looked at again.
* A redirect is a call of its own: refused, charged and asked like the first.
* Nothing that a backend does raises out of here: the operator is told everything, the guest a code.
"""

from __future__ import annotations

import inspect
import logging
import sys
from typing import Final

from fuseboard._budget import METER_NAMES, Budget
from fuseboard._core import SLEEP, Suspended
from fuseboard._effects import Ask, Flow, Sleep
from fuseboard._errors import BackendError
from fuseboard._hostcalls import (
    HOST_CALLS,
    Answer,
    AnswerCode,
    BadRequestError,
    HostCall,
    HttpRequest,
    HttpResponse,
    Reply,
    Trip,
    error_reply,
)
from fuseboard._limits import Limit
from fuseboard._sessions import Services, Sessions
from fuseboard._values import UNWRITABLE
from fuseboard.backends import Identity

MAX_REDIRECTS: Final = 5
_ERROR_CODES: Final = frozenset(AnswerCode) - {AnswerCode.OK}

_log = logging.getLogger("fuseboard")


class Serving:
    """Answers one invocation's host calls.

    Attributes:
        sessions: what they have open.
        host_call: the import that is being served, or was when the invocation tripped.
        http_requests: what was sent, as `METHOD URL`.
    """

    __slots__ = ("_budget", "_deadline", "_identity", "_services", "host_call", "http_requests", "sessions")

    def __init__(self, identity: Identity, budget: Budget, services: Services, deadline: float) -> None:
        self.sessions = Sessions(identity, services)
        self._identity = identity
        self._budget = budget
        self._services = services
        self._deadline = deadline
        self.host_call: str | None = None
        self.http_requests: list[str] = []

    def serve(self, step: Suspended) -> Flow[Reply | Trip]:
        """Return the reply that a suspended guest waits for, or the trip that ends it."""
        if step.call == "meter_remaining":
            return Reply(self._budget.remaining(METER_NAMES[step.number]))
        self.host_call = step.call
        if step.call == SLEEP:
            return (yield from self._sleep(step.number))
        try:
            call = HOST_CALLS[step.call].parse(step.parts, step.number)
        except BadRequestError as error:
            answer: Answer | Reply | Trip = error_reply(AnswerCode.BAD_REQUEST, str(error))
        else:
            answer = yield from self._fetch(call) if isinstance(call, HttpRequest) else self._refuse_charge_ask(call)
        if isinstance(answer, Trip):
            return answer
        self.host_call = None
        return answer if isinstance(answer, Reply) else self._written(answer)

    def _sleep(self, nanoseconds: int) -> Flow[Reply | Trip]:
        yield Sleep(min(self._deadline, self._services.clock() + nanoseconds / 1e9))
        if self._services.clock() >= self._deadline:
            return Trip(Limit.TIMEOUT)
        self.host_call = None
        return Reply()

    def _fetch(self, call: HttpRequest) -> Flow[Answer | Reply | Trip]:
        for _ in range(1 + MAX_REDIRECTS):
            answer = yield from self._refuse_charge_ask(call)
            if not isinstance(answer, HttpResponse):
                return answer
            try:
                if (location := answer.location()) is None:
                    return answer
                call = call.redirected(answer.status, location)
            except BadRequestError as error:
                return error_reply(AnswerCode.BACKEND_FAILED, f"the server redirects: {error}")
            except Exception:  # noqa: BLE001  a backend may raise anything; it is logged
                return self._failed(call, "answered with headers that can't be read")
        return error_reply(AnswerCode.BACKEND_FAILED, f"the server redirects more than {MAX_REDIRECTS} times")

    def _refuse_charge_ask(self, call: HostCall) -> Flow[Answer | Reply | Trip]:
        reason = call.denial(self._identity.grants)
        if reason is not None:
            return error_reply(AnswerCode.DENIED, reason)
        limit = call.charged_to
        if limit is not None and not self._budget.charge(limit, call.cost()):
            return Trip(limit)
        answer = yield from self._ask(call)
        if self._services.clock() >= self._deadline:
            return Trip(Limit.TIMEOUT)
        return answer

    def _ask(self, call: HostCall) -> Flow[Answer | Reply]:
        if isinstance(call, HttpRequest):
            self.http_requests.append(f"{call.method} {call.url}")
            call = call.with_header("X-Request-ID", self._identity.request_id)
        try:
            session = self.sessions.get(call.kind)
            if session is None:
                session = yield from self.sessions.opened(call.kind, self._deadline)
            answer = yield Ask(session, call, self._deadline)
        except BackendError as error:
            return error_reply(_error_code(error), _as_text(error.reason))
        except Exception:  # noqa: BLE001  a backend may raise anything; it is logged
            return self._failed(call, "raised")
        if not isinstance(answer, call.answered_by):
            if not inspect.iscoroutine(answer):
                return self._failed(call, f"answered with {type(answer).__name__}")
            answer.close()
            return self._failed(call, "answered with a coroutine, which a Host doesn't await: use an AsyncHost")
        return answer

    def _written(self, answer: Answer) -> Reply:
        try:
            reply = answer.reply()
            _check_bytes(reply.body)
        except UNWRITABLE:
            _log.exception("an answer of type %s can't be written", type(answer).__name__, extra=self._identity.names())
            return error_reply(AnswerCode.BACKEND_FAILED, "the answer can't be written")
        most = self._services.caps.reply_bytes
        if len(reply.head) + len(reply.body) > most:
            return error_reply(AnswerCode.TOO_LARGE, f"the reply is larger than {most} bytes")
        return reply

    def _failed(self, call: HostCall, how: str) -> Reply:
        """Tell the operator everything and the guest nothing: the text may hold secrets."""
        raised = sys.exc_info()[0] is not None
        _log.error("the %s backend %s", call.kind, how, extra=self._identity.names(), exc_info=raised)
        return error_reply(AnswerCode.BACKEND_FAILED, "the service failed")


def _check_bytes(body: object) -> None:
    if not isinstance(body, bytes):
        raise TypeError(f"a body must be bytes, not {type(body).__name__}")


def _error_code(error: BackendError) -> int:
    return error.code if error.code in _ERROR_CODES else AnswerCode.BACKEND_FAILED


def _as_text(reason: object) -> str:
    """A reason as JSON can hold it: the texts of operating systems' errors can have lone surrogates."""
    return str(reason).encode(errors="replace").decode()
