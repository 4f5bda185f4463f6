"""One hook across all its subscribers, as a flow: invoke and settle, in priority order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuseboard._effects import Flow, Pause
from fuseboard._errors import HookFailed
from fuseboard._invocation import Invocation, Request
from fuseboard._outcome import Completed, Dispatch, Outcome
from fuseboard._sessions import Services

if TYPE_CHECKING:
    from fuseboard._hooks import Hook
    from fuseboard._plugin import Subscriber


def dispatch(
    hook: Hook,
    subscribers: tuple[Subscriber, ...],
    value: Any,
    request: Request,
    services: Services,
) -> Flow[Dispatch[Any]]:
    """Pass a value through every subscriber and return the last value with all outcomes.

    Raises:
        HookFailed: a plugin trapped or was skipped, and the hook fails closed.
    """
    outcomes: list[Outcome] = []
    encoded = hook.encode(value)
    for subscriber in subscribers:
        if outcomes:
            yield Pause()
        invocation = Invocation(subscriber, request, value, encoded, services)
        outcome = yield from invocation.run()
        outcomes.append(outcome)
        if not isinstance(outcome, Completed):
            if hook.fails_closed:
                raise HookFailed(outcome)
        elif outcome.changed:
            value, encoded = outcome.value, invocation.encoded
    return Dispatch(value, tuple(outcomes))
