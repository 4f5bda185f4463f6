"""What the operator does with a namespace in Redis: read it, and clear it, a page at a time.

Rule: keys are found by SCAN, which holds up nobody else; what is written meanwhile may be found or not.
"""

from __future__ import annotations

from typing import Final

from fuseboard.backends._kv import KvCaps
from fuseboard.backends._redis_effects import ENVELOPE_BYTES, Flow, Send, Space, is_value
from fuseboard.backends._redis_flow import Invocation
from fuseboard.backends._redis_names import Names

OPERATOR_SECONDS: Final = 10.0
_KEYS_A_PAGE: Final = 500
_VALUES_AT_ONCE: Final = 8


def items(names: Names, caps: KvCaps) -> Flow[dict[bytes, bytes]]:
    """Read all keys and values of a namespace, a page at a time."""
    found: dict[bytes, bytes] = {}
    most = _VALUES_AT_ONCE * (caps.max_value_bytes + ENVELOPE_BYTES)
    for page in (yield from _pages(names, caps)):
        for first in range(0, len(page), _VALUES_AT_ONCE):
            some = page[first : first + _VALUES_AT_ONCE]
            values = yield Send(("MGET", *some), _are_values, most)
            pairs = zip(some, values, strict=False)
            found.update((name.removeprefix(names.values), value) for name, value in pairs if value is not None)
    return found


def clear(space: Space, caps: KvCaps, deadline: float) -> Flow[None]:
    """Remove all keys of a namespace, while no invocation of it can commit."""
    names = space.names
    yield from Invocation(space, caps).hold(b"", deadline)  # given back with all else; else it ends by itself
    for page in (yield from _pages(names, caps)):
        yield Send(("DEL", *page), _is_count, ENVELOPE_BYTES)
    yield Send(("DEL", *names.bookkeeping, names.lock), _is_count, ENVELOPE_BYTES)
    space.used = None


def _pages(names: Names, caps: KvCaps) -> Flow[list[list[bytes]]]:
    pages: list[list[bytes]] = []
    cursor = b"0"
    most = ENVELOPE_BYTES + 4 * _KEYS_A_PAGE * (caps.max_key_bytes + len(names.values))
    while True:
        command = ("SCAN", cursor, "MATCH", names.pattern(), "COUNT", _KEYS_A_PAGE)
        cursor, page = yield Send(command, _is_page, most)
        if page:
            pages.append(page)
        if int(cursor) == 0:
            return pages


def _is_count(reply: object) -> bool:
    return isinstance(reply, int)


def _is_page(reply: object) -> bool:
    if not isinstance(reply, list) or [type(part) for part in reply] != [bytes, list]:
        return False
    return reply[0].isdigit() and all(isinstance(key, bytes) for key in reply[1])


def _are_values(reply: object) -> bool:
    return isinstance(reply, list) and all(map(is_value, reply))
