"""Plugins in Rust: the SDK's own tests, what its page shows, what it says of mistakes, and the example plugin."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

import fuseboard as fb

ROOT: Final = Path(__file__).resolve().parent.parent
SDK: Final = ROOT / "guest/rust"
PAGE: Final = ROOT / "docs/plugins/rust.md"
CRATES: Final = ("guest/rust", "guest/conformance/rust", "plugins/excerpt")
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fuseboard"
"""Where what is compiled stays, so that serde is compiled once."""

pytestmark = pytest.mark.timeout(300)

_BLOCK: Final = re.compile(r"^```rust\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MANIFEST: Final = """
[package]
name = "author"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
fuseboard-guest = {{ path = "{sdk}" }}
serde = {{ version = "1", features = ["derive"] }}
"""


def _cargo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(CACHE / "guests-natively")}
    command = ("cargo", *arguments)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def author(tmp_path: Path) -> Path:
    """Return the folder of an author's crate, without any sources yet."""
    (tmp_path / "Cargo.toml").write_text(_MANIFEST.format(sdk=SDK.as_posix()))
    (tmp_path / "src").mkdir()
    shutil.copyfile(SDK / "Cargo.lock", tmp_path / "Cargo.lock")
    return tmp_path


# ── what is here ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("crate", CRATES)
@pytest.mark.parametrize(
    "command",
    [
        ("fmt", "--all", "--check"),
        ("clippy", "--locked", "--all-targets", "--", "-D", "warnings"),
        ("test", "--locked"),
    ],
    ids=lambda command: command[0],
)
def test_a_crate_is_in_order(crate: str, command: tuple[str, ...]) -> None:
    """It is formatted, has no lint to complain of, and passes its own tests, by its own lock."""
    done = _cargo(ROOT / crate, *command)

    assert done.returncode == 0, done.stderr + done.stdout


def test_the_sdks_documentation_is_whole() -> None:
    """Rustdoc finds no public item without a text, and no link that leads nowhere."""
    done = _cargo(SDK, "rustdoc", "--locked", "--", "-D", "warnings")

    assert done.returncode == 0, done.stderr


def test_what_the_page_shows_compiles(author: Path) -> None:
    """Each Rust block of the page is a source by itself, and its tests pass."""
    blocks = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    for number, block in enumerate(blocks):
        (author / "src" / f"block_{number}.rs").write_text(block)
    modules = "".join(f"mod block_{number};\n" for number in range(len(blocks)))
    (author / "src/lib.rs").write_text(f"#![forbid(unsafe_code)]\n#![allow(dead_code)]\n{modules}")

    done = _cargo(author, "test", "--offline")

    assert done.returncode == 0, done.stderr + done.stdout
    assert "test result: ok. 1 passed" in done.stdout


_SIGNATURES: Final = """
#![deny(warnings)]
use std::collections::HashMap;
use std::error::Error as StdError;
use fuseboard_guest::{Error, Value, action, filter};

type Outcome<T> = Result<Option<T>, Box<dyn StdError>>;

/// Documented, with other attributes, and seen from elsewhere.
#[filter]
#[inline]
pub(crate) fn map(value: HashMap<String, Vec<(i64, f64)>>) -> HashMap<String, Vec<(i64, f64)>> { value }
#[filter]
fn pair((left, right): (String, i64)) -> (i64, String) { (right, left) }
#[filter]
fn array(mut value: [u8; 3],) -> impl serde::Serialize { value.reverse(); value }
#[filter]
fn alias(value: Value) -> Outcome<Value> { Ok(Some(value)) }
#[filter]
fn or_null(value: Option<String>) -> Option<Option<String>> { Some(value) }
#[filter]
fn r#type() -> Result<std::option::Option<String>, &'static str> { Err("no") }
#[filter(bytes)]
fn text(value: Vec<u8>) -> Result<String, std::string::FromUtf8Error> { String::from_utf8(value) }
#[action]
fn nothing() {}
#[action(bytes)]
fn bytes(_: Vec<u8>) -> Result<(), Error> { Ok(()) }
mod inner {
    #[super::action]
    fn deep(value: super::Value) { drop(value) }
}
"""


def test_hooks_have_many_signatures(author: Path) -> None:
    """Generics with commas, patterns, aliases, raw names and modules all compile without a warning."""
    (author / "src/lib.rs").write_text("#![forbid(unsafe_code)]" + _SIGNATURES)

    done = _cargo(author, "clippy", "--offline", "--", "-D", "warnings")

    assert done.returncode == 0, done.stderr


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────

_BEFORE: Final = """
use fuseboard_guest::{Error, Value, action, db, filter};
pub struct Opaque;
fn main() {}
"""
_CALLS: Final = "`fuseboard_guest::context()`, `settings()` and `call_info()`"
_ACTION: Final = "a function that only does something is an `#[action]`"
_MANIFEST_SAYS: Final = "which hook it is stands in plugin.toml"

MISTAKES: Final = {
    "two parameters": (
        "#[filter] fn title(title: String, user: String) -> String { title + &user }",
        "user",
        f"an `#[filter]` takes one parameter, the hook's value; {_CALLS} give the rest",
    ),
    "a borrowed value": (
        "#[filter] fn title(title: &str) -> String { title.to_owned() }",
        "&",
        "an `#[filter]` owns its value: take `String` for `&str`, `Vec<u8>` for `&[u8]`, `T` for `&T`",
    ),
    "a filter without a result": (
        "#[filter] fn title(title: String) { drop(title) }",
        "title",
        f"a filter returns the new value, or an `Option` where `None` leaves it as it is; {_ACTION}",
    ),
    "an action with a result": (
        "#[action] fn saved(title: String) -> String { title }",
        "String",
        "an `#[action]` returns nothing, or a `Result<(), …>`",
    ),
    "a value that can't be read": (
        "#[filter] fn title(_: Opaque) -> String { String::new() }",
        "Opaque",
        "the trait bound `Opaque: serde::Deserialize<'de>` is not satisfied",
    ),
    "a result that can't be written": (
        "#[filter] fn title(_: String) -> Result<Option<Opaque>, Error> { Ok(None) }",
        "Result",
        "the trait bound `Opaque: serde::Serialize` is not satisfied",
    ),
    "an error without a text": (
        "#[filter] fn title(title: String) -> Result<String, Opaque> { Ok(title) }",
        "Result",
        "`Opaque` doesn't implement `std::fmt::Display`",
    ),
    "bytes that are no bytes": (
        "#[filter(bytes)] fn image(_: Vec<u8>) -> Value { Value::Null }",
        "Value",
        "the trait bound `Value: AsRef<[u8]>` is not satisfied",
    ),
    "an argument that there isn't": (
        "#[filter(post.title)] fn title(title: String) -> String { title }",
        "post",
        f"write `#[filter]`, or `#[filter(bytes)]` where the hook's type is bytes; {_MANIFEST_SAYS}",
    ),
    "an async function": (
        "#[action] async fn saved(title: String) { drop(title) }",
        "async",
        "an `#[action]` can't be async: host calls return when they are answered",
    ),
    "a generic function": (
        "#[filter] fn title<T>(title: T) -> T { title }",
        "<",
        "an `#[filter]` can't be generic: the hook's value has one type",
    ),
    "a method": (
        "impl Opaque { #[filter] fn title(self) -> String { String::new() } }",
        "self",
        "an `#[filter]` is a free function: it has no `self`",
    ),
    "no function": ("#[filter] struct Title;", "struct", "`#[filter]` stands before a function"),
    "an export that is taken": (
        "#[filter] fn memory(title: String) -> String { title }",
        "memory",
        "`memory` can't be a hook's export: give the function another name",
    ),
    "parameters of SQL that are none": (
        'pub fn of(id: i64) -> Result<Vec<(i64,)>, Error> { db::query("", id) }',
        "id",
        "`i64` can't be the parameters of an SQL statement",
    ),
}
"""By what is wrong: a source, where the compiler's first error stands in it, and what that says."""


def test_mistakes_are_named_where_they_are(author: Path) -> None:
    """The compiler's first error stands at what its author got wrong, in words that are ours or serde's own."""
    (author / "src/lib.rs").write_text("")
    (author / "examples").mkdir()
    for name, (source, _, _) in MISTAKES.items():
        (author / "examples" / f"{_as_file(name)}.rs").write_text(_BEFORE + source)

    said = _first_errors(_cargo(author, "check", "--offline", "--examples", "--keep-going", "--message-format=json"))

    assert said == {_as_file(name): (place, text) for name, (_, place, text) in MISTAKES.items()}


def _as_file(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def _first_errors(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for line in done.stdout.splitlines():
        said = json.loads(line)
        if said["reason"] == "compiler-message" and said["message"]["level"] == "error" and said["message"]["spans"]:
            found.setdefault(said["target"]["name"], (_place(said["message"]["spans"]), said["message"]["message"]))
    return found


def _place(spans: list[dict[str, Any]]) -> str:
    """Return what is underlined."""
    span = next(span for span in spans if span["is_primary"])
    line = span["text"][0]
    return str(line["text"][line["highlight_start"] - 1 : line["highlight_end"] - 1])


# ── the example plugin ───────────────────────────────────────────────────────────────────────────

EXCERPT: Final = fb.Filter("post.excerpt", dict)


@pytest.mark.parametrize(
    ("body", "length", "excerpt"),
    [
        ("One  line.\nAnother.", 160, "One line. Another."),
        ("One. Two! Three is longer.", 12, "One. Two!"),
        ("Words come before sentences end", 12, "Words come…"),
        ("Übergrößen für Ärzte und Köche", 15, "Übergrößen für…"),
        ("🦀🦀🦀🦀", 2, "🦀…"),
        ("", 160, ""),
    ],
)
def test_an_excerpt_is_filled(body: str, length: int, excerpt: str) -> None:
    """It has whole sentences where one fits, else whole words, and never more characters than the setting says."""
    post = {"title": "A title", "body": body, "excerpt": None}
    with fb.Host(hooks=[EXCERPT]) as host:
        host.load(ROOT / "plugins/excerpt", settings={"length": length})
        assert host.apply_filter(EXCERPT, post) == {**post, "excerpt": excerpt}


def test_an_excerpt_that_is_there_stays() -> None:
    """The post comes back as the object that it was."""
    post = {"title": "A title", "body": "A body.", "excerpt": "By hand"}
    with fb.Host(hooks=[EXCERPT]) as host:
        host.load(ROOT / "plugins/excerpt")
        assert host.apply_filter(EXCERPT, post) is post


def test_a_setting_that_is_no_number_is_named() -> None:
    """The invocation fails, and the trap says which setting it is."""
    with fb.Host(hooks=[EXCERPT]) as host:
        host.load(ROOT / "plugins/excerpt", settings={"length": "long"})
        outcome = host.invoke("excerpt", EXCERPT, {"title": "", "body": "", "excerpt": None})
    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.detail == 'settings: wrong_type: length: invalid type: string "long", expected usize'
