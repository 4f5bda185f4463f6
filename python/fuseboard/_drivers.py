"""The loops that wait: they perform a flow's effects and hold no rule.

An exception from an effect is thrown into the flow, `BaseException` included: the flow undoes what must
be undone, by further effects, and lets it pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from fuseboard._effects import Ask, Commit, Effect, Flow, Report, Resume, Rollback
from fuseboard._hostcalls import Reply
from fuseboard._outcome import Outcome

T = TypeVar("T")


def drive(flow: Flow[T], report: Callable[[Outcome], None]) -> T:
    """Run a flow to its end on the calling thread and return what it returns."""
    start = partial(flow.send, None)
    while True:
        try:
            return _drive(flow, start, report)
        except BaseException as error:
            if inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED:
                raise
            start = partial(flow.throw, error)  # Ctrl-C came between two effects: the flow must learn of it


def _drive(flow: Flow[T], start: Callable[[], Effect], report: Callable[[Outcome], None]) -> T:
    try:
        effect = start()
        while True:
            try:
                result = _perform(effect, report)
            except BaseException as error:  # noqa: BLE001  the flow decides, and re-raises what isn't its own
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value


def _perform(effect: Effect, report: Callable[[Outcome], None]) -> Any:
    match effect:
        case Resume(execution, None):
            return execution.resume()
        case Resume(execution, Reply(code, head, body)):
            return execution.answer(code, head, body)
        case Ask(session, call, deadline):
            return session.answer(call, deadline)
        case Commit(session, deadline):
            _check_nothing("commit", session.commit(deadline))  # type: ignore[func-returns-value]
        case Rollback(session):
            _check_nothing("rollback", session.rollback())  # type: ignore[func-returns-value]
        case Report(outcome):
            report(outcome)
    return None


def _check_nothing(what: str, result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
    if result is not None:
        raise TypeError(f"a session's {what} must be a plain method that returns None, not {type(result).__name__}")
