"""The application's own functions: how they are declared, what reaches them, what a guest gets, and `on_commit`."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseboard._errors import BackendError, UsageError
from fuseboard._function_sessions import Functions
from fuseboard._functions import Call, HostFunction, host_function, is_async
from fuseboard._grants import Grants
from fuseboard.backends import AnswerCode, Backend, FunctionCall, FunctionResult, Identity, KvGet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from decimal import Decimal as NotAtRunTime

    from fuseboard.backends import Session

IDENTITY = Identity("blog", "post.title", "site-1", "request-1", Grants(functions=["mail.send"]))
DEADLINE = 1234.5
AT_LEAST_1 = msgspec.Meta(ge=1)


@dataclass
class Address:
    """A type of the application's."""

    street: str
    zip: Annotated[int, AT_LEAST_1] = 1


@host_function("mail.send", per_invocation=2)
def send_mail(to: str, subject: str = "none", *, call: Call) -> dict[str, object]:
    """Return what it was told."""
    return {"to": to, "subject": subject, "plugin": call.plugin, "deadline": call.deadline}


def called(function: Callable[..., Any], arguments: bytes = b"{}") -> bytes:
    declared = function if isinstance(function, HostFunction) else host_function("f")(function)
    answer = Functions([declared]).session(IDENTITY).answer(FunctionCall(declared.name, arguments), DEADLINE)
    assert isinstance(answer, FunctionResult)
    return answer.json


def refusal(function: Callable[..., Any], arguments: bytes) -> BackendError:
    with pytest.raises(BackendError) as caught:
        called(function, arguments)
    return caught.value


# ── declaring ────────────────────────────────────────────────────────────────────────────────────


def test_declared_function_is_still_callable() -> None:
    """A declared function keeps its name, limit and plain form, and the application calls it as before."""

    @host_function("math.add", per_invocation=3)
    def add(a: int, b: int = 1) -> int:
        return a + b

    assert (add.name, add.per_invocation, add.function(1), add(2, b=3)) == ("math.add", 3, 2, 5)
    with pytest.raises(AttributeError):
        add.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", "Mail", "1a", "a b", "a/b", "a" * 129, "a\n", None, 7])
def test_bad_names_are_refused(name: Any) -> None:
    """A name that manifests couldn't hold is refused when it is declared, with the pattern."""
    with pytest.raises(UsageError, match=r"host function .* must match \[a-z\]"):
        host_function(name)


@pytest.mark.parametrize("count", [-1, 1.0, True, "2"])
def test_bad_per_invocation_is_refused(count: Any) -> None:
    """A limit that isn't a whole number from 0 is refused, with its value."""
    with pytest.raises(UsageError, match=r"host function 'f': per_invocation=.* whole number"):
        host_function("f", per_invocation=count)(send_mail.function)


def test_decorating_without_a_name_is_refused() -> None:
    """`@host_function` without its name says how it is written."""
    with pytest.raises(UsageError, match=r'@host_function\("some\.name"\)'):
        host_function(lambda: None)  # type: ignore[arg-type]


def positional_only(a: int, /) -> None: ...
def any_arguments(*a: int) -> None: ...
def any_names(**a: int) -> None: ...
def positional_call(call: Call) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (positional_only, "'a' is positional-only"),
        (any_arguments, "'a' takes any number"),
        (any_names, "'a' takes any name"),
        (positional_call, "'call' gets the Call and must be keyword-only"),
        (7, "can't be called"),
        (type, "signature can't be read"),
    ],
)
def test_bad_signatures_are_refused(function: Any, problem: str) -> None:
    """A signature that guests can't call by name is refused, naming function and parameter."""
    with pytest.raises(UsageError, match=f"host function 'f': .*{problem}"):
        host_function("f")(function)


def unresolved(a: NotAtRunTime) -> None: ...
def unreadable(a: list[Session_]) -> None: ...


class Session_:  # noqa: N801  a type that JSON doesn't know
    pass


@pytest.mark.parametrize(
    ("function", "problem"), [(unresolved, "outside `if TYPE_CHECKING:`"), (unreadable, "can't be read from JSON")]
)
def test_bad_annotations_are_refused(function: Any, problem: str) -> None:
    """Annotations that don't exist at run time or that JSON can't hold are refused when a host gets the function."""
    declared = host_function("f")(function)
    with pytest.raises(UsageError, match=f"host function 'f': .*{problem}"):
        Functions([declared])


def test_functions_know_names_and_ceilings() -> None:
    """A host's functions tell their names, the ceilings of those that have one, and which are asynchronous."""

    @host_function("later")
    async def later() -> None: ...

    @host_function("never", per_invocation=0)
    def never() -> None: ...

    functions = Functions([send_mail, later, never])
    assert functions.names == {"mail.send", "later", "never"}
    assert functions.ceilings == {"functions.mail.send": 2, "functions.never": 0}
    assert functions.async_names == {"later"}
    backend: Backend = functions
    assert backend is functions


def test_duplicate_names_are_refused() -> None:
    """Two functions with one name are refused, named."""
    with pytest.raises(UsageError, match=r"'mail\.send': 2 functions have this name"):
        Functions([send_mail, send_mail])


def test_undeclared_functions_are_refused() -> None:
    """A plain function is refused with the advice to decorate it."""
    with pytest.raises(UsageError, match="decorate it with @host_function"):
        Functions([print])  # type: ignore[list-item]


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


def test_call_is_injected() -> None:
    """A function gets the guest's arguments by name, its own defaults, and the Call that a guest can't give."""
    assert msgspec.json.decode(called(send_mail, b'{"to": "x@example.com"}')) == {
        "to": "x@example.com",
        "subject": "none",
        "plugin": "blog",
        "deadline": DEADLINE,
    }
    assert "call" in refusal(send_mail, b'{"to": "x", "call": {}}').reason


@pytest.mark.parametrize(
    "arguments",
    [b"", b"[]", b"null", b"{", b'{"to": 1}', b"{}", b'{"to": "x", "cc": "y"}', b'{"to": "\xff"}', b"[" * 100_000],
)
def test_arguments_that_do_not_fit_are_bad_requests(arguments: bytes) -> None:
    """Missing, unknown, ill-typed and unreadable arguments are answered BAD_REQUEST; the function isn't called."""
    assert refusal(send_mail, arguments).code == AnswerCode.BAD_REQUEST


def test_typed_arguments_are_built() -> None:
    """Dataclasses, constraints, optional values and nested types are decoded as annotated."""
    seen: list[object] = []

    def take(address: Address, many: dict[str, list[Address]], maybe: Annotated[int, AT_LEAST_1] | None = 5) -> None:
        seen.extend((address, many, maybe))

    called(take, b'{"address": {"street": "a"}, "many": {"x": [{"street": "b", "zip": 2}]}, "maybe": null}')
    assert seen == [Address("a"), {"x": [Address("b", 2)]}, None]
    assert "$.address.zip" in refusal(take, b'{"address": {"street": "a", "zip": 0}, "many": {}}').reason
    assert "$.maybe" in refusal(take, b'{"address": {"street": "a"}, "many": {}, "maybe": 0}').reason


def test_defaults_are_the_functions_own() -> None:
    """An argument that a guest leaves out keeps the function's own default object, mutable or of any type."""
    default: list[object] = [object()]
    other = object()

    def take(a: list[Any] = default, b: Any = other) -> bool:
        return a is default and b is other

    assert called(take) == b"true"


@given(st.recursive(st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.text(), st.lists, max_leaves=8))
def test_any_json_passes_through(value: object) -> None:
    """A parameter without annotation takes any JSON, and a result comes back as it was."""

    def echo(value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return value

    assert msgspec.json.decode(called(echo, msgspec.json.encode({"value": value}))) == value


class Mailer:
    """A callable object of the application's."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def __call__(self, to: str) -> int:
        self.sent.append(to)
        return len(self.sent)

    def method(self, to: str, *, call: Call) -> str:
        return f"{to} for {call.plugin}"


def test_other_callables_can_be_declared() -> None:
    """Callable objects, bound methods and partials are declared like functions."""
    mailer = Mailer()
    assert called(mailer, b'{"to": "x"}') == b"1"
    assert called(mailer.method, b'{"to": "x"}') == b'"x for blog"'
    assert called(functools.partial(mailer.method, "y")) == b'"y for blog"'
    assert refusal(mailer, b'{"to": 5}').code == AnswerCode.BAD_REQUEST


# ── results ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("result", "json"),
    [
        (None, b"null"),
        ("null", b'"null"'),
        ([None, 1.5], b"[null,1.5]"),
        (Address("a"), b'{"street":"a","zip":1}'),
        ({"a": None, "b": (1, 2)}, b'{"a":null,"b":[1,2]}'),
    ],
)
def test_results_become_json(result: object, json: bytes) -> None:
    """A result is answered as JSON, None as null."""
    assert called(lambda: result) == json


@dataclass
class Measured:
    """A result with a number."""

    value: float


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": (1, {"b": x})}, Measured])
def test_results_with_nan_are_the_functions_error(wrap: Callable[[float], object], number: float) -> None:
    """NaN and infinities, which JSON can't hold, raise instead of becoming null, however deep they are."""
    with pytest.raises(ValueError, match="NaN and infinities"):
        called(lambda: wrap(number))


def test_results_without_json_are_the_functions_error() -> None:
    """A result that can't be written as JSON raises TypeError."""
    with pytest.raises(TypeError):
        called(lambda: [object()])


def test_exceptions_pass_through() -> None:
    """A function's own exceptions leave the session as they are, for the flow to log."""

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        called(fail)


def test_other_calls_are_refused() -> None:
    """An unknown function is NOT_FOUND; a call of another kind is a TypeError."""
    session = Functions([send_mail]).session(IDENTITY)
    with pytest.raises(BackendError) as caught:
        session.answer(FunctionCall("mail.sent"), DEADLINE)
    assert caught.value.code == AnswerCode.NOT_FOUND
    with pytest.raises(TypeError, match="KvGet"):
        session.answer(KvGet(b"k"), DEADLINE)


def plain_text(value: Any) -> str:
    return value  # type: ignore[no-any-return]


def whole(value: Any) -> int:
    return value  # type: ignore[no-any-return]


def nothing(value: Any) -> None:
    return value  # type: ignore[no-any-return]


def an_address(value: Any) -> Address | None:
    if isinstance(value, list):
        return Address(*value)
    return value  # type: ignore[no-any-return]


def some(value: Any) -> Annotated[list[Annotated[int, AT_LEAST_1]], msgspec.Meta(max_length=2)]:
    return value  # type: ignore[no-any-return]


def when(value: Any) -> str:  # noqa: ARG001
    return dt.datetime.now(dt.UTC)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (plain_text, b"1"), (plain_text, b"null"), (whole, b'"1"'), (whole, b"1.5"), (whole, b"true"),
        (nothing, b"0"), (an_address, b'["a", 0]'), (an_address, b"{}"), (some, b"[1, 2, 3]"),
        (some, b"[0]"), (when, b"1"),
    ],
)  # fmt: skip
def test_results_of_another_type_are_the_functions_error(function: Any, value: bytes) -> None:
    """A result that doesn't fit the annotation never reaches a guest, and the error names the function."""
    with pytest.raises(TypeError, match="host function 'f': its result doesn't fit its annotation"):
        called(function, b'{"value": %b}' % value)


@pytest.mark.parametrize(
    ("function", "value"),
    [(plain_text, b'"1"'), (whole, b"-7"), (nothing, b"null"), (an_address, b'["a", 3]'), (some, b"[1, 2]")],
)
def test_results_of_the_annotated_type_pass(function: Any, value: bytes) -> None:
    """A result that fits its annotation is answered."""
    assert called(function, b'{"value": %b}' % value)


def gives_an_iterator() -> Iterator[int]:
    yield 1


def gives_a_foreign_type() -> Session_: ...  # type: ignore[empty-body]


@pytest.mark.parametrize("function", [gives_an_iterator, gives_a_foreign_type])
def test_results_that_have_no_json_are_refused(function: Any) -> None:
    """An annotation that JSON can't hold is refused when a host gets the function."""
    with pytest.raises(UsageError, match="host function 'f': its result can't be written as JSON"):
        Functions([host_function("f")(function)])


# ── pydantic ─────────────────────────────────────────────────────────────────────────────────────


class Letter(pydantic.BaseModel):
    """A pydantic model of the application's."""

    to: str = pydantic.Field(min_length=3)
    copies: int = pydantic.Field(default=1, ge=1, alias="n")


def test_pydantic_models_are_arguments_and_results() -> None:
    """A model, and a list of them, is validated by pydantic, and written by its aliases."""
    seen: list[object] = []

    def send(letters: list[Letter], first: Letter | None = None) -> list[Letter]:
        seen.append(first)
        return letters

    json = called(send, b'{"letters": [{"to": "you", "n": 2}], "first": {"to": "her"}}')
    assert (json, seen) == (b'[{"to":"you","n":2}]', [Letter(to="her")])
    assert "$.letters[0]" in refusal(send, b'{"letters": [{"to": "u"}]}').reason
    assert refusal(send, b'{"letters": [{"to": "you", "n": 0}]}').code == AnswerCode.BAD_REQUEST


def test_pydantic_results_are_checked() -> None:
    """A model that was made without validation doesn't pass."""

    def make() -> Letter:
        return Letter.model_construct(to="x", copies=0)

    with pytest.raises(TypeError, match="doesn't fit its annotation"):
        called(make)


# ── on_commit ────────────────────────────────────────────────────────────────────────────────────


def session_with(*callbacks: Callable[[], object]) -> Session:
    @host_function("f")
    def register(*, call: Call) -> None:
        for callback in callbacks:
            call.on_commit(callback)

    session = Functions([register]).session(IDENTITY)
    session.answer(FunctionCall("f"), DEADLINE)
    return session


def test_on_commit_runs_in_order_and_once() -> None:
    """Callbacks of all calls run at the commit, in the order in which they were given, and only once."""
    ran: list[int] = []
    session = session_with(*(functools.partial(ran.append, number) for number in range(3)))
    session.answer(FunctionCall("f"), DEADLINE)
    assert ran == []
    session.commit(DEADLINE)
    session.commit(DEADLINE)
    assert ran == [0, 1, 2, 0, 1, 2]


def test_rollback_forgets_callbacks() -> None:
    """After a rollback no callback runs any more."""
    ran: list[int] = []
    session = session_with(lambda: ran.append(1))
    session.rollback()
    session.commit(DEADLINE)
    assert ran == []


def test_failing_callbacks_are_logged_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a callback is logged with traceback and identity; the callbacks after it run."""
    ran: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="fuseboard"):
        session_with(fail, lambda: ran.append(1)).commit(DEADLINE)
    (record,) = caplog.records
    assert (ran, record.name, record.levelname) == ([1], "fuseboard", "ERROR")
    assert (record.exc_info or (None,))[0] is ZeroDivisionError
    assert [vars(record)[key] for key in ("plugin", "hook", "request_id", "scope")] == [
        "blog",
        "post.title",
        "request-1",
        "site-1",
    ]


def test_on_commit_needs_a_callable() -> None:
    """What can't be called is refused when it is given, not at the commit."""
    call = Call(plugin="blog", hook="h", request_id="r", scope=None, deadline=DEADLINE)
    with pytest.raises(UsageError, match="on_commit"):
        call.on_commit(None)  # type: ignore[arg-type]


# ── asynchronous functions ───────────────────────────────────────────────────────────────────────


async def coroutine(a: int) -> None: ...


async def generator() -> AsyncIterator[int]:
    yield 1


class Asynchronous:
    """A callable object whose call is a coroutine."""

    async def __call__(self) -> None: ...

    async def method(self) -> None: ...

    def plain(self) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        generator,
        functools.partial(coroutine, 1),
        Asynchronous(),
        functools.partial(Asynchronous()),
        Asynchronous().method,
        host_function("f")(coroutine),
        functools.partial(functools.partial(coroutine), 1),
    ],
)
def test_asynchronous_functions_are_recognised(function: Callable[..., object]) -> None:
    """Coroutine functions, asynchronous generators, and partials, methods and objects of them, are asynchronous."""
    assert is_async(function)


@pytest.mark.parametrize("function", [len, lambda: None, Mailer(), Asynchronous().plain, Asynchronous, send_mail])
def test_plain_functions_are_not_asynchronous(function: Callable[..., object]) -> None:
    """Plain functions, objects, and classes whose objects are asynchronous, are not."""
    assert not is_async(function)
