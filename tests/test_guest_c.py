"""The C header reads and writes JSON as Python does, in a real host; and it compiles wherever it says it does."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fuseboard as fb
from guests import ROOT, module

HEADERS: Final = ROOT / "guest/c"
EXPORTS: Final = ("copied", "is_json", "is_walked", "member", "bytes", "typed", "string", "not_a_number", "builders")
INFINITY_BITS: Final = 0x7FF << 52
SIGN_BIT: Final = 1 << 63

INTEGERS: Final = st.integers(-(2**63), 2**64 - 1)
FLOATS: Final = st.floats(allow_nan=False, allow_infinity=False)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: Final = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)

RECORD: Final = {
    "int": -(2**63), "uint": 2**64 - 1, "double": 1, "bool": False, "string": "", "array": [], "object": {"inside": 1},
}  # fmt: skip
_WAYS: Final[list[dict[str, Any]]] = [
    {},
    {"ensure_ascii": False},
    {"indent": 1},
    {"indent": "\t", "ensure_ascii": False},
]
"""Ways to write the same JSON."""


class Guest:
    """The test plugin's exports, called with bytes as they are."""

    def __init__(self) -> None:
        self.hooks = {name: fb.Filter(name, bytes) for name in EXPORTS}
        self.host = fb.Host(
            hooks=list(self.hooks.values()),
            breaker=fb.BreakerPolicy(min_traps=1_000_000),
            ceilings=fb.Limits(fuel_per_invocation=10**12),
        )
        manifest = {"manifest": 1, "slug": "c", "version": "1", "hooks": [{"name": name} for name in EXPORTS]}
        limits = fb.Limits(fuel_per_invocation=10**12, invocation_timeout_ms=10_000)
        self.host.load_bytes(module("guest-c"), manifest, limits=limits)

    def given(self, export: str, value: bytes) -> bytes:
        """Return what an export gives for a value."""
        outcome = self.host.invoke("c", self.hooks[export], value)
        assert isinstance(outcome, fb.Completed), outcome
        assert isinstance(outcome.value, bytes)
        return outcome.value

    def said(self, export: str, value: object) -> str:
        """Return the message that an export fails with."""
        written = value if isinstance(value, bytes) else json.dumps(value).encode()
        outcome = self.host.invoke("c", self.hooks[export], written)
        assert isinstance(outcome, fb.Trapped), outcome
        assert outcome.trap.cause == fb.Cause.FAILED, outcome
        return outcome.trap.detail


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """Return the plugin in a host that has patience."""
    guest = Guest()
    yield guest
    guest.host.close()


# ── values ───────────────────────────────────────────────────────────────────────────────────────


def _same(one: object, other: object) -> bool:
    """Whether two values are equal, types and the zero's sign with them."""
    return json.dumps(one) == json.dumps(other)


@settings(deadline=None, max_examples=300)
@given(VALUES, st.sampled_from(_WAYS))
@example([1.0, -0.0, 0, "\u2028😀\x00\x7f", {"": {}}, []], {"ensure_ascii": False})
def test_any_value_comes_back(guest: Guest, value: Any, way: dict[str, Any]) -> None:
    """What is read and written again is equal, to the last digit, however it was written."""
    written = json.dumps(value, **way).encode()
    assert _same(json.loads(guest.given("copied", written)), value)


def _is_json(text: bytes) -> bool:
    """Whether Python takes it for JSON, but for what JSON doesn't have: NaN, and halves of surrogate pairs."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.dumps(json.loads(text.decode(), parse_constant=refuse), ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Return JSON with some of its bytes lost, doubled, replaced or put in."""
    text = bytearray(json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans())).encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        put = draw(
            st.sampled_from(
                [b"", b'"', b"\\", b"\\u", b"\\ud83d", b"[", b"}", b",", b"1", b"-", b".", b"e", b"\xed", b"\x1f"]
            )
        )
        text[at : at + draw(st.integers(0, 3))] = put
    return bytes(text)


@settings(deadline=None, max_examples=1_000)
@given(st.binary(max_size=12) | _damaged())
@example(b"")
@example(b'"\\ud83d\\udc')
@example(b'"\xf0\x9f\x98')
@example(b"[1,]")
@example(b"-")
@example(b"1e")
@example(b'{"a"')
@example(b"[[[[")
@example(b'"\\')
@example(b"tru")
def test_what_is_no_json_is_refused(guest: Guest, text: bytes) -> None:
    """The header takes for JSON what Python does, and never reads behind the text, which ends where memory does."""
    assert guest.given("is_walked", text) == (b"true" if _is_json(text) else b"false")


@pytest.mark.parametrize(("depth", "is_read"), [(128, b"true"), (129, b"false"), (100_000, b"false")])
def test_nesting_has_a_bound(guest: Guest, depth: int, is_read: bytes) -> None:
    """Up to 128 arrays and objects inside each other are read; what is deeper is refused, and is no crash."""
    assert guest.given("is_json", b"[" * depth + b"]" * depth) == is_read
    assert guest.given("is_json", b'{"a":' * depth + b"1" + b"}" * depth) == is_read
    assert guest.given("is_json", b"[" * depth) == b"false"


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=6), TEXTS, st.sampled_from(_WAYS), st.data())
def test_members_are_found(
    guest: Guest, value: dict[str, Any], other: str, way: dict[str, Any], data: st.DataObject
) -> None:
    """A key is found however it is escaped; one that isn't there isn't."""
    for key in (data.draw(st.sampled_from(sorted(value))), other):
        written = json.dumps([value, key], **way).encode()
        assert _same(json.loads(guest.given("member", written)), value.get(key))


def test_the_first_of_two_members_counts(guest: Guest) -> None:
    """Of members with the same key, the first is found."""
    assert guest.given("member", b'[{"a": 1, "\\u0061": 2}, "a"]') == b"1"


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=50))
def test_bytes_are_base64(guest: Guest, raw: bytes) -> None:
    """Bytes are read from base64, and written as it."""
    written = json.dumps(base64.b64encode(raw).decode()).encode()
    assert json.loads(guest.given("bytes", written)) == {"base64": base64.b64encode(raw).decode()}


@pytest.mark.parametrize("text", ["A", "AA", "AAA", "A===", "====", "AA=A", "A-_/", "AAA\n", "=", "AA==AA=="])
def test_what_is_no_base64_is_said(guest: Guest, text: str) -> None:
    """A string that isn't base64 fails with words."""
    assert guest.said("bytes", text) == "the value: not a string in base64"


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


def _double(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def _as_python(text: str) -> str:
    """Return a number of the header as Python writes it: 1e+16 for its 1e16."""
    return re.sub(r"e(-?)(\d+)$", lambda found: f"e{found[1] or '+'}{found[2]:0>2}", text)


def _some_doubles(random: Random) -> Iterator[float]:
    """Yield finite doubles of every size, and those beside powers of two and ten."""
    for _ in range(6_000):
        yield _double(random.getrandbits(63) % INFINITY_BITS | random.getrandbits(1) << 63)
        yield _double(random.getrandbits(52) >> random.randrange(52))  # subnormal
        yield round(random.uniform(-1e6, 1e6), random.randrange(9))
        yield float(random.getrandbits(random.randrange(1, 64)))
    for power in range(-1074, 1024):
        yield from (math.nextafter(2.0**power, end) for end in (0, 2.0**power, math.inf))
    for power in range(-323, 309):
        yield from (math.nextafter(float(f"1e{power}"), end) for end in (0, float(f"1e{power}"), math.inf))


def test_doubles_are_written_as_python_does(guest: Guest) -> None:
    """Each double gets the shortest digits that read back as the same, and of those the nearest."""
    doubles = [number for number in _some_doubles(Random(8)) if math.isfinite(number)]
    for start in range(0, len(doubles), 2_000):
        part = doubles[start : start + 2_000]
        written = guest.given("copied", json.dumps(part).encode()).decode()[1:-1].split(",")
        assert [_as_python(text) for text in written] == [repr(number) for number in part]


def _half_way(random: Random) -> str:
    """Return the decimal number between two doubles, or one a little off it: what only exact arithmetic reads right."""
    bits = random.choice([random.getrandbits(63) % (INFINITY_BITS - 1), random.getrandbits(52)])
    with localcontext(prec=2_000):
        between = (Decimal(_double(bits)) + Decimal(_double(bits + 1))) / 2
    digits, _, exponent = f"{between:e}".partition("e")
    digits += "" if "." in digits else ".0"
    return f"{digits}{random.choice(['', '0', '1', '0' * 30 + '1', '0' * 800 + '1'])}e{exponent}"


def _some_decimals(random: Random) -> Iterator[str]:
    for _ in range(2_000):
        digits = str(random.getrandbits(random.choice([1, 50, 64, 66, 200, 2_500, 2_560, 3_000])))
        point = random.randint(1, len(digits))
        yield f"{digits[:point]}.{digits[point:] or '0'}e{random.randint(-345, 300)}"
        yield _half_way(random)


def test_doubles_are_read_as_python_does(guest: Guest) -> None:
    """However many digits there are, the nearest double is read; half-way, the even one."""
    texts = [text for text in _some_decimals(Random(8)) if math.isfinite(float(text))]
    for start in range(0, len(texts), 200):
        part = texts[start : start + 200]
        read = json.loads(guest.given("copied", f"[{','.join(part)}]".encode()))
        assert [repr(number) for number in read] == [repr(float(text)) for text in part]


@pytest.mark.parametrize("text", ["1e309", "-1e400", "1.7976931348623159e308", "9" * 400, "1e999999999999999999999"])
def test_numbers_above_all_doubles_dont_fit(guest: Guest, text: str) -> None:
    """A number that would be infinite is none."""
    record = json.dumps(RECORD | {"double": 0}).replace('"double": 0', f'"double": {text}')
    assert guest.said("typed", record.encode()) == "double: not a number"


@pytest.mark.parametrize("text", ["0e999999999999", "1e-400", "-1e-999999999999", "0.0000e5", f"0.{'0' * 5_000}1e4900"])
def test_the_smallest_numbers_become_zero(guest: Guest, text: str) -> None:
    """A number nearer to 0 than to any other double is 0, with its sign."""
    assert json.loads(guest.given("copied", text.encode())) == float(text)


def test_what_json_cant_say_is_said(guest: Guest) -> None:
    """NaN, and text that isn't UTF-8, end the invocation with words instead of becoming broken JSON."""
    assert guest.said("not_a_number", b"") == "a number is infinite or NaN, which JSON can't say"
    assert guest.said("string", b"caf\xe9") == "a text isn't UTF-8"
    assert guest.said("string", b"\xed\xa0\x80") == "a text isn't UTF-8"
    assert json.loads(guest.given("string", 'é"\n'.encode())) == 'é"\n'


# ── types ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"int": None}, "int: not an integer of 64 bits"),
        ({"int": 1.0}, "int: not an integer of 64 bits"),
        ({"int": 2**63}, "int: not an integer of 64 bits"),
        ({"int": -(2**63) - 1}, "int: not an integer of 64 bits"),
        ({"int": 10**30}, "int: not an integer of 64 bits"),
        ({"uint": -1}, "uint: not an unsigned integer of 64 bits"),
        ({"uint": 2**64}, "uint: not an unsigned integer of 64 bits"),
        ({"double": "1"}, "double: not a number"),
        ({"bool": 1}, "bool: not true or false"),
        ({"string": 1}, "string: not a string"),
        ({"array": {}}, "array: not an array"),
        ({"object": []}, "object: not an object"),
        ({"object": {}}, "inside: missing"),
        ({"object": {"inside": "x"}}, "inside: not an integer of 64 bits"),
        ({"optional": "x"}, "optional: not an integer of 64 bits"),
    ],
)
def test_what_doesnt_fit_is_named(guest: Guest, changed: dict[str, Any], words: str) -> None:
    """A value of another type ends the invocation, with its key and what it isn't."""
    assert guest.said("typed", RECORD | changed) == words


@pytest.mark.parametrize("key", [*RECORD])
def test_what_is_missing_is_named(guest: Guest, key: str) -> None:
    """So does a member that isn't there."""
    assert guest.said("typed", {name: value for name, value in RECORD.items() if name != key}) == f"{key}: missing"


def test_what_fits_is_taken(guest: Guest) -> None:
    """The edges of 64 bits fit, an integer is a number, and what is optional may be null or missing."""
    assert guest.given("typed", json.dumps(RECORD).encode()) == json.dumps(RECORD).encode()
    assert guest.given("typed", json.dumps(RECORD | {"optional": None}).encode())


def test_a_value_without_a_key_is_named_too(guest: Guest) -> None:
    """The value itself has no key: the message says so."""
    assert guest.said("typed", [1]) == "the value: not an object"


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1_000, 100_000])
def test_two_texts_can_be_built_in_turns(guest: Guest, length: int) -> None:
    """A text that can't grow where it is moves, and loses nothing."""
    text = bytes(Random(length).randbytes(length))
    assert guest.given("builders", text) == (text + text[::-1] if length else b"")


# ── compilers ────────────────────────────────────────────────────────────────────────────────────

_STRICT: Final = ("-c", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{HEADERS}")


_ZIG: Final = ("-O", "ReleaseSmall", "-fno-entry", "-rdynamic", "--stack", "65536", "-fno-emit-bin")


@pytest.mark.parametrize("target", ["wasm32-freestanding", "wasm32-wasi"])
@pytest.mark.parametrize("standard", ["c11", "c17", "c23", "c++17", "c++20", "c++23"])
def test_it_compiles_without_warnings(tmp_path: Path, target: str, standard: str) -> None:
    """As C and as C++, of each standard, with a C library and without."""
    source = tmp_path / ("plugin.cpp" if "++" in standard else "plugin.c")
    source.write_text('#include "fuseboard.h"\n\nFUSEBOARD_EXPORT(run) { fb_output_string(fb_string(fb_value())); }\n')
    compiler = "c++" if "++" in standard else "cc"
    command = (sys.executable, "-m", "ziglang", compiler, "-target", target, f"-std={standard}", *_STRICT)
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "plugin.o"), str(source)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize(
    ("page", "language", "compiler"),
    [
        ("docs/plugins/c.md", "c", ("cc", "-std=c11")),
        ("README.md", "c", ("cc", "-std=c11")),
        ("docs/plugins/cpp.md", "cpp", ("c++", "-std=c++20")),
    ],
)
def test_blocks_of_pages_compile(tmp_path: Path, page: str, language: str, compiler: tuple[str, ...]) -> None:
    """Each block of a page is a plugin that compiles without warnings."""
    sources = [tmp_path / f"block{number}.{language}" for number, _ in enumerate(_blocks(page, language))]
    for source, block in zip(sources, _blocks(page, language), strict=True):
        source.write_text(block)
    command = (sys.executable, "-m", "ziglang", *compiler, "-target", "wasm32-wasi", *_STRICT)
    done = subprocess.run([*command, *map(str, sources)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, len(sources) > 0) == (0, "", True)


def test_zig_blocks_of_its_page_compile(tmp_path: Path) -> None:
    """So do those in Zig."""
    (tmp_path / "fuseboard.zig").write_bytes((ROOT / "guest/zig/fuseboard.zig").read_bytes())
    blocks = _blocks("docs/plugins/zig.md", "zig")
    for number, block in enumerate(blocks):
        (tmp_path / f"block{number}.zig").write_text(block)
    imports = "".join(f'    _ = @import("block{number}.zig");\n' for number, _ in enumerate(blocks))
    (tmp_path / "plugin.zig").write_text(f"comptime {{\n{imports}}}\n")
    command = (sys.executable, "-m", "ziglang", "build-exe", "plugin.zig", "-target", "wasm32-freestanding", *_ZIG)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
