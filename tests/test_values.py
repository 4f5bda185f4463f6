"""Values on their way to plugins and back: every kind of type, and what is refused in both directions."""

from __future__ import annotations

import datetime as dt
import enum
import math
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fuseboard as fb
from conftest import CRASH, ECHO, SILENT, guest, shows, writes
from fuseboard._values import UNWRITABLE, codec_for, encode_context, write_json
from fuseboard.backends.memory import MemoryKv

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Point:
    """A dataclass."""

    x: int
    label: str = ""
    weight: float = 0.0
    inner: Point | None = None


class Row(TypedDict):
    """A TypedDict."""

    name: str
    count: int


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """A Struct that takes no other fields."""

    x: int
    when: dt.date | None = None


class Pinned(msgspec.Struct):
    """A Struct that holds a dataclass."""

    point: Point


@attrs.define
class Boxed:
    """An attrs class that holds a dataclass."""

    point: Point


@attrs.define
class Item:
    """An attrs class."""

    x: int
    tags: list[str] = attrs.field(factory=list)


class Post(pydantic.BaseModel):
    """A pydantic model."""

    title: str
    score: float = 0.0
    parts: set[float] = pydantic.Field(default_factory=set)


class Aliased(pydantic.BaseModel):
    """A model whose JSON has another name than its field, and a computed field that is no input."""

    model_config = pydantic.ConfigDict(extra="forbid")
    user_id: int = pydantic.Field(alias="userId")

    @pydantic.computed_field
    def doubled(self) -> int:
        """Return what is no input."""
        return 2 * self.user_id


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


@dataclass
class Holder:
    """A dataclass of everything that JSON has no own form for."""

    raw: bytes
    when: dt.datetime
    ident: uuid.UUID
    price: Decimal
    colour: Colour
    seen: set[int]
    by_number: dict[int, str]
    pair: tuple[int, str]
    mode: Literal["a", "b"] = "a"
    posts: list[Row] = field(default_factory=list)


HOLDER = Holder(
    b"\x00\xff", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), uuid.UUID(int=5), Decimal("1.10"), Colour.RED,
    {3}, {1: "one"}, (1, "x"), "b", [{"name": "n", "count": 1}],
)  # fmt: skip

KINDS: list[tuple[Any, Any, Any]] = [
    (str, "hä\x00\U0001f600", "other"),
    (int, -5, 1 << 100),
    (float, 1.5, -2.25),
    (bool, True, False),
    (dict, {"a": [1, None, {"b": "c"}]}, {}),
    (list[int], [1, 2], []),
    (dict[str, list[float]], {"a": [0.5]}, {"b": []}),
    (Point, Point(1, "a", 0.5, Point(2)), Point(3)),
    (Row, {"name": "n", "count": 1}, {"name": "m", "count": 2}),
    (list[Row], [{"name": "n", "count": 1}], []),
    (Record, Record(1, dt.date(2026, 1, 2)), Record(2)),
    (Item, Item(1, ["t"]), Item(2)),
    (Post, Post(title="t", score=0.5, parts={1.5}), Post(title="u")),
    (list[Post], [Post(title="t")], []),
    (dict[str, Post], {"p": Post(title="t")}, {}),
    (Aliased, Aliased(userId=4), Aliased(userId=5)),
    (Holder, HOLDER, HOLDER),
    (Colour, Colour.RED, Colour.RED),
    (int | None, None, 5),
    (int | str, "a", 5),
]
IDS = [str(kind[0]) for kind in KINDS]
kinds = pytest.mark.parametrize(("value_type", "value", "other"), KINDS, ids=IDS)


# ── there and back ───────────────────────────────────────────────────────────────────────────────


@kinds
def test_every_kind_goes_there_and_back(value_type: Any, value: Any, other: Any) -> None:
    """A value of each kind of type becomes JSON, and the JSON an equal value of the same type."""
    codec = codec_for("h", value_type)
    for each in (value, other):
        back = codec.decode(codec.encode(each))
        assert back == each
        assert type(back) is type(each)


@kinds
def test_every_kind_goes_through_a_plugin(
    load: Callable[..., fb.Host], value_type: Any, value: Any, other: Any
) -> None:
    """A plugin's value comes back as the declared type, and is what the next plugin gets."""
    hook = fb.Filter("kind", value_type)
    host = load(SILENT, writes(hook.encode(other)), ECHO, hook=hook)
    happened = host.dispatch(hook, value)
    assert happened.value == other
    assert type(happened.value) is type(other)
    assert [isinstance(each, fb.Completed) and each.changed for each in happened.outcomes] == [
        False, hook.encode(value) != hook.encode(other), False,
    ]  # fmt: skip


@kinds
@pytest.mark.parametrize("module", [SILENT, ECHO, CRASH], ids=["no output", "equal output", "trap"])
def test_an_unchanged_value_is_the_same_object(
    load: Callable[..., fb.Host], module: bytes, value_type: Any, value: Any, other: Any
) -> None:
    """Where no plugin gave another value, the caller gets the very object back."""
    hook = fb.Filter("kind", value_type)
    del other
    assert load(module, module, hook=hook).apply_filter(hook, value) is value


def test_bytes_cross_as_they_are(load: Callable[..., fb.Host]) -> None:
    """A hook of bytes has no JSON: what the guest sees and writes is the value itself."""
    hook = fb.Filter("raw", bytes)
    value = bytes(range(256))
    assert hook.encode(value) is value
    assert load(ECHO, hook=hook).apply_filter(hook, value) is value
    assert load(writes(b'"\xff'), hook=hook).apply_filter(hook, value) == b'"\xff'


def test_an_empty_output_is_an_empty_value(load: Callable[..., fb.Host]) -> None:
    """`output_write(p, 0)` is an empty value: empty bytes, and for JSON no value at all."""
    empty = guest('(func (export "run") (call $output_write (i32.const 0) (i32.const 0)))')
    raw = fb.Filter("raw", bytes)
    assert load(empty, hook=raw).apply_filter(raw, b"x") == b""
    outcome = load(empty).invoke("plugin-0", "text", "x")
    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause is fb.Cause.BAD_OUTPUT


def test_an_actions_output_is_ignored(load: Callable[..., fb.Host]) -> None:
    """An action has no value to give, so nothing that its plugin writes is even read."""
    outcome = load(writes("not JSON"), hook=fb.Action("noted", str)).invoke("plugin-0", "noted", "x")
    assert isinstance(outcome, fb.Completed)
    assert (outcome.value, outcome.changed) == (None, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON))
def test_any_json_goes_there_and_back(value: dict[str, Any]) -> None:
    """Every JSON object survives, strings and numbers unchanged."""
    codec = codec_for("h", dict)
    assert codec.decode(codec.encode(value)) == value


@given(st.text())
def test_any_text_goes_there_and_back(value: str) -> None:
    """Every text that UTF-8 can hold survives, each character."""
    codec = codec_for("h", str)
    assert codec.decode(codec.encode(value)) == value


@given(st.builds(Point, st.integers(-(1 << 63), (1 << 63) - 1), st.text(), st.floats(-1e300, 1e300)))
def test_any_dataclass_goes_there_and_back(value: Point) -> None:
    """Every field of a dataclass survives."""
    codec = codec_for("h", Point)
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(
    ("value_type", "data", "written"),
    [
        (Point, b'{"x":1}', b'{"x":1,"label":"","weight":0.0,"inner":null}'),
        (
            dict[str, list[Point]],
            b'{"a":[{"x":1,"label":"b"}]}',
            b'{"a":[{"x":1,"label":"b","weight":0.0,"inner":null}]}',
        ),
        (
            Point,
            b'{"x":1,"label":"b","weight":2.5,"inner":{"x":3}}',
            b'{"x":1,"label":"b","weight":2.5,"inner":{"x":3,"label":"","weight":0.0,"inner":null}}',
        ),
        (Pinned, b'{"point":{"x":1}}', b'{"point":{"x":1,"label":"","weight":0.0,"inner":null}}'),
        (Boxed, b'{"point":{"x":1}}', b'{"point":{"x":1,"label":"","weight":0.0,"inner":null}}'),
    ],
)  # fmt: skip
def test_fields_at_their_defaults_are_sent_on(value_type: Any, data: bytes, written: bytes) -> None:
    """What a plugin left out of a dataclass is there for the next one, as it is for the application."""
    codec = codec_for("h", value_type)
    assert msgspec.json.decode(codec.encode(codec.decode(data))) == msgspec.json.decode(written)


@given(
    st.builds(Post, title=st.text(), score=st.floats(-1e300, 1e300), parts=st.sets(st.floats(-1e9, 1e9), max_size=3))
)
def test_any_model_goes_there_and_back(value: Post) -> None:
    """Every field of a pydantic model survives."""
    codec = codec_for("h", Post)
    assert codec.decode(codec.encode(value)) == value


@given(st.binary(max_size=200), st.sampled_from([kind[0] for kind in KINDS]))
def test_what_can_be_read_can_be_sent_on(data: bytes, value_type: Any) -> None:
    """Any bytes of a guest are either refused in the one known way, or a value that the next plugin can get."""
    codec = CODECS[str(value_type)]
    try:
        value = codec.decode(data)
    except UNWRITABLE:
        return
    codec.encode(value)


CODECS = {str(kind[0]): codec_for("h", kind[0]) for kind in KINDS}


def label(value: object) -> str:
    return "huge" if isinstance(value, int) and value > 1 << 100 else ascii(value)[:50]


# ── what the application may not pass ────────────────────────────────────────────────────────────

WRONG: list[tuple[Any, Any]] = [
    (str, 5), (str, None), (str, b"text"), (str, ["a"]), (str, "\ud800"), (str, dt.date(2026, 1, 2)),
    (str, uuid.UUID(int=5)), (str, Decimal(1)), (str, object()),
    (int, "5"), (int, 5.5), (int, True), (int, None), (int, 10**5000),
    (float, "5"), (float, True), (float, None), (float, Decimal("1.5")),
    (bool, 1), (bool, "true"), (bool, None),
    (bytes, "text"), (bytes, bytearray(b"x")), (bytes, memoryview(b"x")), (bytes, None),
    (dict, []), (dict, "{}"), (dict, None), (dict, {"a": object()}), (dict, {(1, 2): 3}), (dict, {"a": {"\udfff": 1}}),
    (list[int], [1, "2"]), (list[int], "12"), (list[int], [1, None]), (list[str], [b"x"]), (list[str], "abc"),
    (dict[str, int], {"a": "b"}), (dict[str, int], {1: 1}),
    (Point, Point("1")), (Point, {"y": 1}), (Point, Point(1, label=b"x")), (Point, None),  # type: ignore[arg-type]
    (Point, Point(1, inner=Point("no"))),  # type: ignore[arg-type]
    (Row, {"name": "n"}), (Row, {"name": "n", "count": "1"}), (Row, None),
    (Record, Record("1")), (Record, {"x": 1, "y": 2}), (Record, Record(1, "2026-13-01")),  # type: ignore[arg-type]
    (Item, Item("1")), (Item, Item(1, [b"t"])),  # type: ignore[arg-type, list-item]
    (Post, {"title": 1}), (Post, "title"), (Post, None), (Post, Post.model_construct(title=5)), (Post, Point(1)),
    (list[Post], [Post(title="a"), 5]), (list[Post], Post(title="a")),
    (Colour, "blue"), (Colour, 5), (int | None, "x"), (int | str, 1.5), (Literal["a"], "b"),
]  # fmt: skip


@pytest.mark.parametrize(("value_type", "value"), WRONG, ids=label)
def test_wrong_values_are_refused(value_type: Any, value: Any) -> None:
    """A value that isn't of the hook's type is the caller's mistake, named with the hook, in either kind of hook."""
    for hook in (fb.Filter("the.hook", value_type), fb.Action("the.hook", value_type)):
        with pytest.raises(fb.HookTypeError, match=r"hook 'the.hook': the value can't be sent to plugins: ."):
            hook.encode(value)


NON_FINITE: list[tuple[Any, Callable[[float], Any]]] = [
    (float, lambda bad: bad),
    (dict, lambda bad: {"a": bad}),
    (dict, lambda bad: {"a": None, "b": [{"c": (1.0, bad)}]}),
    (list[float], lambda bad: [1.0, bad]),
    (set[float], lambda bad: {bad}),
    (float | None, lambda bad: bad),
    (list[float | None], lambda bad: [None, bad]),
    (Point, lambda bad: Point(1, weight=bad)),
    (Point, lambda bad: Point(1, inner=Point(1, weight=bad))),
    (Post, lambda bad: Post(title="t", score=bad)),
    (Post, lambda bad: Post(title="t", parts={1.0, bad})),
    (list[Post], lambda bad: [Post(title="t"), Post(title="t", score=bad)]),
]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(len(NON_FINITE)))
def test_nan_and_infinities_are_refused_anywhere(place: int, bad: float) -> None:
    """No plugin is sent a null where the application has a NaN."""
    value_type, holding = NON_FINITE[place]
    with pytest.raises(fb.HookTypeError, match="NaN and infinities have no JSON form"):
        fb.Filter("h", value_type).encode(holding(bad))


def test_null_is_no_nan() -> None:
    """Values with a null, or with the word, are sent like any other."""
    assert fb.Filter("h", dict).encode({"null": [None, "null"]}) == b'{"null":[null,"null"]}'


def test_values_without_end_are_refused() -> None:
    """A list that holds itself, and one that is nested too deeply, are the caller's mistakes and no crash."""
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (endless, deep):
        with pytest.raises(fb.HookTypeError):
            fb.Filter("h", list).encode(value)
    while deep:
        deep = deep[0]


def test_a_wrong_value_reaches_no_plugin(load: Callable[..., fb.Host]) -> None:
    """The mistake is raised before the first plugin runs, by every way to dispatch."""
    outcomes: list[fb.Outcome] = []
    host = load(SILENT, on_outcome=outcomes.append)
    for call in (host.apply_filter, host.dispatch):
        with pytest.raises(fb.HookTypeError):
            call("text", 5)
    with pytest.raises(fb.HookTypeError):
        host.invoke("plugin-0", "text", 5)
    assert outcomes == []


# ── context ──────────────────────────────────────────────────────────────────────────────────────


def test_context_is_a_json_object(load: Callable[..., fb.Host]) -> None:
    """A plugin reads the context as JSON in buffer 1, and `{}` without one."""
    hook = fb.Filter("any", dict)
    host = load(shows(1), hook=hook)
    assert host.apply_filter(hook, {"a": 1}, context={"post_id": 7, "tags": ["x"]}) == {"post_id": 7, "tags": ["x"]}
    assert host.apply_filter(hook, {"a": 1}) == {}
    assert host.apply_filter(hook, {"a": 1}, context=None) == {}


@pytest.mark.parametrize(
    "context",
    [
        {1: "a"}, {None: 1}, [("a", 1)], "a", 5, {"a": object()}, {"a": math.nan}, {"a": [{"b": -math.inf}]},
        {"a": {"b": (math.inf,)}}, {"\ud800": 1}, {"a": "\udc00"}, {"a": 10**5000},
    ],
    ids=range(12),
)  # fmt: skip
def test_bad_contexts_are_refused(context: Any) -> None:
    """A context that isn't a JSON object, NaN anywhere included, is the caller's mistake."""
    with pytest.raises(fb.HookTypeError, match=r"hook 'h': the context can't be sent to plugins: ."):
        encode_context("h", context)


@given(st.dictionaries(st.text(), JSON))
def test_any_object_can_be_a_context(context: dict[str, Any]) -> None:
    """Every JSON object can be a context."""
    assert msgspec.json.decode(encode_context("h", context)) == context


def test_write_json_refuses_nan() -> None:
    """What the command line writes follows the same rule."""
    assert write_json({"a": (1, None)}) == b'{"a":[1,null]}'
    with pytest.raises(ValueError, match="NaN"):
        write_json([math.nan])


# ── what a plugin may not give ───────────────────────────────────────────────────────────────────

DEEP = b"[" * 200_000 + b"]" * 200_000
HOSTILE: list[tuple[Any, bytes]] = [
    (str, b""), (str, b"hello"), (str, b'"open'), (str, b'"\xff"'), (str, b'"a" "b"'), (str, b"5"), (str, b"null"),
    (str, b'"\\ud800"'), (str, b'\xef\xbb\xbf"a"'), (str, DEEP), (str, b"NaN"),
    (int, b"1e999"), (int, b"1.5"), (int, b'"1"'), (int, b"9" * 10_000), (int, b"true"), (int, b"1" * 5000),
    (float, b"NaN"), (float, b"Infinity"), (float, b"-Infinity"), (float, b"1e999"), (float, b"nan"), (float, b"null"),
    (dict, b"[]"), (dict, b'{"a":NaN}'), (dict, b'{"a":1e999}'), (dict, b'{"a"}'), (dict, b"{1:2}"), (dict, DEEP),
    (list, DEEP), (list, b"[" * 900 + b"null" + b"]" * 900), (list, b"[" * 500 + b"null" + b"]" * 500),
    (list[int], b'[1,"2"]'), (list[int], b"[1,]"),
    (Point, b'{"x":"1"}'), (Point, b"{}"), (Point, b"[1]"), (Point, b'{"x":1,"inner":' * 3000),
    (Point, b'{"x":1,"inner":' * 600 + b"null" + b"}" * 600),
    (Record, b'{"x":1,"y":2}'), (Record, b'{"x":1,"when":"2026-02-30"}'),
    (Item, b'{"x":1,"tags":[1]}'),
    (Post, b'{"title":"t","score":NaN}'), (Post, b'{"title":"t","score":1e999}'),
    (Post, b'{"title":"t","score":"nan"}'),
    (Post, b'{"title":"t","parts":[1,Infinity]}'), (Post, b'{"title":5}'), (Post, b"{}"), (Post, DEEP),
    (list[Post], b'[{"title":"t"},5]'), (Aliased, b'{"userId":1,"doubled":2}'),
]  # fmt: skip


@pytest.mark.parametrize(("value_type", "output"), HOSTILE, ids=label)
def test_hostile_output_is_bad_output(load: Callable[..., fb.Host], value_type: Any, output: bytes) -> None:
    """Whatever a plugin writes, the caller gets the old value, and the trap says why, in one printable line."""
    hook = fb.Filter("h", value_type)
    value: Any = next((each for kind, each, _ in KINDS if kind == value_type), [])
    host = load(writes(output), SILENT, hook=hook)
    happened = host.dispatch(hook, value)
    assert happened.value is value
    trapped, completed = happened.outcomes
    assert isinstance(trapped, fb.Trapped)
    assert isinstance(completed, fb.Completed)
    assert (trapped.trap.cause, trapped.trap.limit) == (fb.Cause.BAD_OUTPUT, None)
    assert trapped.trap.detail.startswith("the output can't be read: ")
    assert trapped.trap.detail.isprintable()
    assert len(trapped.trap.detail) < 12_000


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_pydantic_reads_no_nan(score: str) -> None:
    """What pydantic by itself would read as NaN or an infinity is no value."""
    with pytest.raises(UNWRITABLE, match="NaN and infinities have no JSON form"):
        codec_for("h", Post).decode(f'{{"title":"t","score":{score}}}'.encode())


def test_guest_text_in_the_reason_can_not_write_log_lines(load: Callable[..., fb.Host]) -> None:
    """A decoder's message quotes the guest; in the trap it is one line, and its control characters are escaped."""
    hook = fb.Filter("h", Record)
    name = "\\n2026 CRITICAL root: \\u001b[31mowned \\u202e" + "x" * 50_000
    outcome = load(writes(f'{{"x":1,"{name}":2}}'), hook=hook).invoke("plugin-0", hook, Record(1))
    assert isinstance(outcome, fb.Trapped)
    assert "owned" in outcome.trap.detail
    assert outcome.trap.detail.isprintable()
    assert len(outcome.trap.detail) < 2_000


class Strict(msgspec.Struct):
    """A type of the application's whose own check raises what it likes."""

    x: int

    def __post_init__(self) -> None:
        """Fail for some values."""
        if self.x > 1:
            raise KeyError(self.x)


def test_what_a_types_own_check_raises_is_bad_output(load: Callable[..., fb.Host]) -> None:
    """A value that makes the application's own validation raise is the plugin's fault, whatever it raises."""
    hook = fb.Filter("h", Strict)
    outcome = load(writes('{"x":2}'), hook=hook).invoke("plugin-0", hook, Strict(1))
    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause is fb.Cause.BAD_OUTPUT


def test_bad_output_is_rolled_back(load: Callable[..., fb.Host]) -> None:
    """What a plugin wrote before its bad output isn't kept."""
    kv = MemoryKv()
    module = guest(
        """(func (export "run")
          (drop (call $host_kv_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
          (call $output_write (i32.const 0) (i32.const 1)))"""
    )
    host = load(module, backends=fb.Backends(kv=kv), server={"capabilities": {"kv": True}})
    assert host.apply_filter("text", "x") == "x"
    assert kv.items("plugin-0") == {}
