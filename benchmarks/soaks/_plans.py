"""What the invocations of `faults` do, and what is held against them.

Rules:
* An answer is what was asked for, or an honest error.
* Each invocation writes a token of its own, so that what is there at the end can be told apart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from benchmarks.soaks._script import Call, Reply, replies, script

import fuseboard as fb
from fuseboard.backends import AnswerCode

_HONEST_ERRORS: Final = frozenset({AnswerCode.BACKEND_FAILED, AnswerCode.CONFLICT})
_FAILING: Final = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """What one invocation does.

    Attributes:
        token: what only this invocation writes, sends and asks for.
        calls: its host calls, in order.
        fails: whether it ends by its own word, after all of them.
    """

    token: str
    calls: tuple[Call, ...]
    fails: bool

    def value(self) -> bytes:
        """Return the guest's script."""
        return script((*self.calls, *([Call("fail", b"by its own word")] if self.fails else [])))


@dataclass(slots=True)
class Writes:
    """What an invocation was told it has written, so far."""

    db: bool = False
    kv: bool = False


def planned(token: str, url: str, choices: Random) -> Plan:
    """Return a random plan: some of the steps, in random order."""
    steps = [
        [_fetch(url, token)],
        [Call("host_db_exec", b"INSERT INTO marks (token) VALUES ($1)", _parameters(token)), _count(token)],
        [Call("host_kv_set", token.encode(), kept_for(token)), Call("host_kv_get", token.encode())],
        [Call("host_kv_increment", b"visits", number=1)],
        [_count(token)],
    ]
    chosen = choices.sample(steps, choices.randint(1, len(steps)))
    return Plan(token, tuple(call for step in chosen for call in step), fails=choices.random() < _FAILING)


def _fetch(url: str, token: str) -> Call:
    return Call("host_http_request", json.dumps({"method": "POST", "url": url}).encode(), token.encode())


def _count(token: str) -> Call:
    return Call("host_db_query", b"SELECT count(*) AS n FROM marks WHERE token = $1", _parameters(token))


def _parameters(token: str) -> bytes:
    return json.dumps([token]).encode()


def kept_for(token: str) -> bytes:
    return f"kept for {token}".encode()


def wrong_answers(plan: Plan, answers: list[Reply], writes: Writes) -> Iterator[str]:
    """Yield what a completed invocation was answered that it must not be, and note what it wrote."""
    if len(answers) != len(plan.calls):
        yield f"{len(plan.calls)} calls and {len(answers)} answers"
    for call, answer in zip(plan.calls, answers, strict=False):
        if answer.code < 0:
            if answer.code not in _HONEST_ERRORS:
                yield f"{call.name} answered {answer}"
        elif not _is_right(plan, call, answer, writes):
            yield f"{call.name} answered {answer} after {writes}"


def _is_right(plan: Plan, call: Call, answer: Reply, writes: Writes) -> bool:
    match call.name:
        case "host_http_request":
            return answer.body == plan.token.encode() and json.loads(answer.head)["status"] == 200  # noqa: PLR2004
        case "host_db_exec":
            writes.db = True
            return bool(json.loads(answer.head) == {"rows_changed": 1})
        case "host_db_query":
            return bool(json.loads(answer.body)["rows"] == [[int(writes.db)]])
        case "host_kv_set":
            writes.kv = True
            return answer.body == b""
        case "host_kv_get":
            return writes.kv and answer.body == kept_for(plan.token)
        case _:
            return int(answer.body) >= 1


def expected_meters(plan: Plan) -> dict[str, int]:
    """Return what the counters of a completed invocation must say."""
    return {
        "http_fetches": sum(call.name == "host_http_request" for call in plan.calls),
        "db_queries": sum(call.name.startswith("host_db") for call in plan.calls),
        "kv_write_bytes": sum(_written_bytes(call) for call in plan.calls),
    }


def _written_bytes(call: Call) -> int:
    """What a call is charged as written: key and value, of an increment key and 8 for the number."""
    if call.name == "host_kv_set":
        return len(call.first) + len(call.second)
    return len(call.first) + 8 if call.name == "host_kv_increment" else 0


@dataclass(slots=True)
class Ledger:
    """What became of the invocations on one pair of stores.

    Attributes:
        promised: by scope and token, what a completed invocation has written.
        in_doubt: tokens whose commit failed: written or not.
        nothing: scopes and tokens of all others, which must have left nothing.
        wrong: what must not be.
    """

    promised: dict[tuple[str | None, str], Writes] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)
    nothing: set[tuple[str | None, str]] = field(default_factory=set)
    ends: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, plan: Plan, outcome: fb.Outcome) -> None:
        """Judge one."""
        match outcome:
            case fb.Completed():
                self.ends["completed"] += 1
                self._judge(plan, outcome)
            case fb.Trapped(trap=trap):
                self.ends[str(trap.limit or trap.cause)] += 1
                if trap.cause == fb.Cause.COMMIT:
                    self.in_doubt.add(plan.token)
                    return
                self.nothing.add((outcome.scope, plan.token))
                if trap.limit is None and trap.cause != fb.Cause.FAILED:
                    self.wrong.append(str(outcome))
            case fb.Skipped():
                self.ends[f"skipped: {outcome.reason}"] += 1
                self.nothing.add((outcome.scope, plan.token))

    def _judge(self, plan: Plan, outcome: fb.Completed[bytes]) -> None:
        writes, answers = Writes(), replies(outcome.value)
        self.wrong += [f"{plan.token}: {each}" for each in wrong_answers(plan, answers, writes)]
        self.errors.update(f"{call.name} {a.code}" for call, a in zip(plan.calls, answers, strict=False) if a.code < 0)
        counted = {name: outcome.meters[name].used for name in expected_meters(plan)}
        if counted != expected_meters(plan):
            self.wrong.append(f"{plan.token}: metered {counted} instead of {expected_meters(plan)}")
        self.promised[outcome.scope, plan.token] = writes

    def check_kept(self, scope: str | None, rows: Counter[str], kept: Callable[[str], bool]) -> None:
        """Hold what is there at the end to what was promised."""
        promised = {token: writes for (of, token), writes in self.promised.items() if of == scope}
        for token, times in rows.items():
            if times != 1 or not (token in self.in_doubt or (token in promised and promised[token].db)):
                self.wrong.append(f"{token}: {times} rows that nobody was told of")
        for token, writes in promised.items():
            if writes.db and not rows[token]:
                self.wrong.append(f"{token}: completed, and its row is lost")
            if writes.kv != kept(token):
                self.wrong.append(f"{token}: its key is {'lost' if writes.kv else 'there, and must not be'}")
        for of, token in self.nothing:
            if of == scope and kept(token):
                self.wrong.append(f"{token}: ended early, and its key is there")
