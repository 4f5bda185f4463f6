"""The loops that wait: they perform a flow's effects and hold no rule.

An exception from an effect is thrown into the flow, `BaseException` included: the flow undoes what must
be undone, by further effects, and lets it pass.
"""

from __future__ import annotations

import inspect
import time
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from fuseboard._effects import Acquire, Ask, Commit, Continue, Effect, Flow, Open, Pause, Rollback, Sleep
from fuseboard._sessions import Services

T = TypeVar("T")


def drive(flow: Flow[T], services: Services) -> T:
    """Run a flow to its end on the calling thread and return what it returns."""
    thrown: BaseException | None = None
    while True:
        try:
            return _drive(flow, thrown, services)
        except Abandoned as abandoned:
            raise abandoned.args[0] from None
        except BaseException as error:
            if inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED:
                raise
            thrown = error  # Ctrl-C came between two effects: the flow must learn of it


def _drive(flow: Flow[T], thrown: BaseException | None, services: Services) -> T:
    try:
        effect = flow.send(None) if thrown is None else throw(flow, thrown)
        while True:
            try:
                result = _perform(effect, services)
            except BaseException as error:  # noqa: BLE001  the flow decides, and re-raises what isn't its own
                effect = throw(flow, error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value


class Abandoned(BaseException):
    """Stands for a `GeneratorExit`, which would close a flow's inner generators instead of being thrown into them."""


def throw(flow: Flow[T], error: BaseException) -> Effect:
    """Throw an exception into a flow and return the effect that it yields next."""
    return flow.throw(Abandoned(error) if isinstance(error, GeneratorExit) else error)


def _perform(effect: Effect, services: Services) -> Any:
    match effect:
        case Ask(session, call, deadline):
            return session.answer(call, deadline)
        case Continue(execution):
            return execution.resume()
        case Commit(session, deadline):
            _check_nothing("commit", session.commit(deadline))  # type: ignore[func-returns-value]
        case Rollback(session):
            _check_nothing("rollback", session.rollback())  # type: ignore[func-returns-value]
        case Acquire():
            _acquire(effect, services)
        case Sleep(until):
            time.sleep(max(0.0, until - services.clock()))
        case Open():
            raise TypeError("a backend's session is a coroutine, which a Host doesn't await: use an AsyncHost")
        case Pause():  # other threads take their turns themselves
            pass
    return None


def _acquire(effect: Acquire, services: Services) -> None:
    held: SimpleQueue[None] = SimpleQueue()
    services.slots.call_when_held(effect.ticket, partial(held.put, None))
    with suppress(Empty):
        held.get(timeout=max(0.0, effect.deadline - services.clock()))


def _check_nothing(what: str, result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"a session's {what} is a coroutine, which a Host doesn't await: use an AsyncHost")
    if result is not None:
        raise TypeError(f"a session's {what} must return None, not {type(result).__name__}")
