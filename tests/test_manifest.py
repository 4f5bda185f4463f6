"""The manifest: every problem at once, each with its field, its value and what is allowed."""

from __future__ import annotations

import os
import time
import tomllib
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseboard._grants import GRANT_CHECKS, Grants
from fuseboard._limits import LIMITS, Limits
from fuseboard._manifest import (
    MAX_MANIFEST_BYTES,
    MAX_PROBLEMS,
    HookEntry,
    Manifest,
    manifest_path,
    parse_manifest,
    read_manifest,
)
from fuseboard._settings import MAX_SETTINGS_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fuseboard._errors import ManifestError

EXAMPLE = """
manifest = 1
slug = "title-case"                  # [a-z][a-z0-9-]{0,62}, unique in a host
name = "Title Case"
version = "1.2.0"
module = "plugin.wasm"               # the default; inside the folder, no ".."
abi = 1

[[hooks]]
name = "post.title"
export = "post_title"                # default: the name with [.-] → _
priority = 10

[server]                             # optional, as is each key: the limits of §2
memory_limit_mb = 32

[server.capabilities]                # requests; none by default
http = ["https://api.example.com", "https://*.example.org:8443"]
db = "write"                         # or "read"
kv = true
functions = ["mail.send"]

[settings]                           # readable by the guest (buffer 4); the operator's settings= merge over it
style = "ap"
"""
EXAMPLE_MANIFEST = Manifest(
    slug="title-case",
    name="Title Case",
    version="1.2.0",
    module="plugin.wasm",
    abi=1,
    initialize=None,
    snapshot=True,
    hooks=(HookEntry("post.title", "post_title", 10),),
    limits=Limits(memory_limit_mb=32),
    capabilities=Grants(
        http=["https://api.example.com", "https://*.example.org:8443"],
        db="write",
        kv=True,
        functions=["mail.send"],
    ),
    settings={"style": "ap"},
)
SMALLEST = 'manifest = 1\nslug = "small"\nversion = "1"\n[[hooks]]\nname = "post.title-v2"\n'


def top(line: str) -> str:
    """Return the smallest manifest with one line more, or replaced, at its top."""
    key = line.partition("=")[0]
    kept = [old for old in SMALLEST.splitlines() if old.partition("=")[0] != key or key == "name "]
    return "\n".join([line, *kept])


def hook(lines: str) -> str:
    """Return the smallest manifest with other lines in its hook."""
    return SMALLEST.partition("name = ")[0] + lines


def server(lines: str) -> str:
    """Return the smallest manifest with a `[server]` table."""
    return f"{SMALLEST}[server]\n{lines}"


def capabilities(line: str) -> str:
    """Return the smallest manifest with a `[server.capabilities]` table."""
    return f"{SMALLEST}[server.capabilities]\n{line}"


def with_settings(line: str) -> str:
    """Return the smallest manifest with a `[settings]` table."""
    return f"{SMALLEST}[settings]\n{line}"


BAD = [
    (top("manifest = 2"), "manifest", "= 2: this Fuseboard reads manifest version 1"),
    (top("manifest = true"), "manifest", "= True: this Fuseboard reads manifest version 1"),
    (top("manifest = 1.0"), "manifest", "= 1.0: this Fuseboard reads manifest version 1"),
    (top('manifest = "1"'), "manifest", "= '1': this Fuseboard reads manifest version 1"),
    (SMALLEST.replace("manifest = 1\n", ""), "manifest", "is missing: write e.g. manifest = 1"),
    (SMALLEST.replace('slug = "small"\n', ""), "slug", 'is missing: write e.g. slug = "title-case"'),
    (SMALLEST.replace('version = "1"\n', ""), "version", "is missing"),
    (SMALLEST.partition("[[hooks]]")[0], "hooks", "is missing: write e.g. a [[hooks]] table"),
    (top('slug = "Small"'), "slug", "= 'Small': must be a lower-case letter, then at most 62"),
    (top('slug = "small\\n"'), "slug", "must be a lower-case letter"),
    (top(f'slug = "{"a" * 64}"'), "slug", "at most 62"),
    (top("slug = 7"), "slug", "= 7: must be"),
    (top('name = ""'), "name", "text of 1 to 200 printable characters"),
    (top('name = "  "'), "name", "text of 1 to 200 printable characters"),
    (top('name = "a\\u001b[31m"'), "name", "printable"),
    (top('name = "a\\u202eb"'), "name", "printable"),
    (top(f'name = "{"a" * 201}"'), "name", "1 to 200"),
    (top("name = 1.5"), "name", "= 1.5: must be text"),
    (top("version = 1.0"), "version", "= 1.0: must be text of 1 to 64"),
    (top(f'version = "{"1" * 65}"'), "version", "1 to 64"),
    (top('initialize = ""'), "initialize", "= '': must be text of 1 to 256 printable characters"),
    (top("initialize = true"), "initialize", "= True: must be text of 1 to 256"),
    (top('initialize = "post_title_v2"'), "hooks[0].export", "= 'post_title_v2': initialises the module, before any"),
    (hook('name = "post.title"\nexport = "_initialize"\n'), "hooks[0].export", "= '_initialize': initialises the"),
    (top("snapshot = 1"), "snapshot", "= 1: must be true or false"),
    (top('snapshot = "no"'), "snapshot", "= 'no': must be true or false"),
    (server("snapshot = false"), "server.snapshot", "unknown key; it belongs at the file's top level"),
    (top('module = "../plugin.wasm"'), "module", "inside the plugin's folder"),
    (top('module = "a/../../plugin.wasm"'), "module", "inside the plugin's folder"),
    (top('module = ".. /plugin.wasm"'), "module", "inside the plugin's folder"),
    (top('module = "./plugin.wasm"'), "module", "inside the plugin's folder"),
    (top('module = "/plugin.wasm"'), "module", "relative path"),
    (top('module = "a//plugin.wasm"'), "module", "relative path"),
    (top('module = "C:plugin.wasm"'), "module", "relative path"),
    (top("module = 'a\\plugin.wasm'"), "module", "with / and"),
    (top('module = "a\\u0000.wasm"'), "module", "must be a .wasm file's"),
    (top('module = "plugin.wat"'), "module", "must be a .wasm file's"),
    (top('module = ["plugin.wasm"]'), "module", "must be a .wasm file's"),
    (top("abi = 2"), "abi", "= 2: this Fuseboard offers guest ABI 1"),
    (top("abi = false"), "abi", "= False: this Fuseboard offers guest ABI 1"),
    (top("memory_limit_mb = 8"), "memory_limit_mb", "unknown key; it belongs under [server]"),
    (top("kv = true"), "kv", "unknown key; it belongs under [server.capabilities]"),
    (top("priority = 1"), "priority", "unknown key; it belongs under [[hooks]]"),
    (top("sulg = 1"), "sulg", "unknown key (did you mean 'slug'?)"),
    (top("qqq = 1"), "qqq", "unknown key; known here: manifest, slug"),
    (top('"a b\\n" = 1'), "'a b\\n'", "unknown key"),
    (SMALLEST.replace("[[hooks]]", "[hooks]"), "hooks", "at least one [[hooks]] table"),
    (SMALLEST.partition("[[hooks]]")[0] + "hooks = []", "hooks", "at least one [[hooks]] table"),
    (SMALLEST.partition("[[hooks]]")[0] + "hooks = [1]", "hooks[0]", "must be a table, not a number"),
    (hook("priority = 1"), "hooks[0].name", "is missing: write e.g. name ="),
    (hook('name = "Post.Title"'), "hooks[0].name", "a lower-case letter, then at most 127"),
    (hook('name = "a"\nexport = ""'), "hooks[0].export", "1 to 256 printable"),
    (hook('name = "a"\nexport = "a\\tb"'), "hooks[0].export", "1 to 256 printable"),
    (hook('name = "a"\npriority = 1001'), "hooks[0].priority", "= 1001: must be a whole number from -1000 to 1000"),
    (hook('name = "a"\npriority = true'), "hooks[0].priority", "= True: must be a whole number"),
    (hook('name = "a"\npriority = 1.0'), "hooks[0].priority", "= 1.0: must be a whole number"),
    (hook('name = "a"\nprio = 1'), "hooks[0].prio", "(did you mean 'priority'?)"),
    (hook('name = "a"\nabi = 1'), "hooks[0].abi", "belongs at the file's top level, before the first [table]"),
    (SMALLEST + '[[hooks]]\nname = "post.title-v2"', "hooks[1].name", "is subscribed to above"),
    (top("server = 1"), "server", "must be a table, not a number"),
    (server("memory_limit = 1"), "server.memory_limit", "(did you mean 'memory_limit_mb'?)"),
    (server("db = 'read'"), "server.db", "unknown key; it belongs under [server.capabilities]"),
    (server("memory_limit_mb = 257"), "server.memory_limit_mb", "= 257: is above the operator's ceiling"),
    (server("memory_limit_mb = 0"), "server.memory_limit_mb", "= 0: must be from 1 to 256"),
    (server("memory_limit_mb = true"), "server.memory_limit_mb", "= True: must be a whole number from 1 to 256"),
    (server("memory_limit_mb = 1.5"), "server.memory_limit_mb", "= 1.5: must be a whole number"),
    (server("http_fetches_per_invocation = -1"), "server.http_fetches_per_invocation", "from 0 to 64"),
    (server("capabilities = []"), "server.capabilities", "must be a table, not an array"),
    (capabilities('http = "https://a.b"'), "server.capabilities.http", "must be a list of origins"),
    (
        capabilities('http = ["https://a.b", "a.b"]'),
        "server.capabilities.http[1]",
        "= 'a.b': isn't an origin: an origin",
    ),
    (capabilities('http = ["https://a.b/c"]'), "server.capabilities.http[0]", "write 'https://a.b'"),
    (capabilities("db = true"), "server.capabilities.db", '= True: must be "read" or "write"'),
    (capabilities("kv = 1"), "server.capabilities.kv", "= 1: must be true or false"),
    (capabilities('functions = ["a", 1]'), "server.capabilities.functions[1]", "= 1: must be a function's name"),
    (capabilities("htpp = []"), "server.capabilities.htpp", "(did you mean 'http'?)"),
    (capabilities("fuel_per_invocation = 1"), "server.capabilities.fuel_per_invocation", "belongs under [server]"),
    (top("settings = []"), "settings", "must be a table, not an array"),
    (with_settings("a = 2031-05-01"), "settings.a", "write it as text, '2031-05-01'"),
    (with_settings("a = 10:00:00"), "settings.a", "write it as text, '10:00:00'"),
    (with_settings("a.b = [1, nan]"), "settings.a.b[1]", "= nan: must be finite"),
    (with_settings("a = -inf"), "settings.a", "= -inf: must be finite"),
    (with_settings("a = 9223372036854775808"), "settings.a", "must fit into 64 bits"),
    (with_settings(f"a = {'[' * 32}{']' * 32}"), f"settings.a{'[0]' * 31}", "nested deeper than 32 levels"),
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.dates(),
    st.sampled_from([10**4000, "\ud800", "https://a.example.com", "read", "plugin.wasm", "a"]),
)
KNOWN_KEYS = st.sampled_from([
    "manifest", "slug", "name", "version", "module", "abi", "hooks", "server", "settings", "export", "priority",
    "capabilities", *GRANT_CHECKS, *(spec.key for spec in LIMITS),
])  # fmt: skip
KEYS = st.one_of(KNOWN_KEYS, KNOWN_KEYS, st.text(max_size=6), st.integers(), st.none(), st.binary(max_size=2))
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=30,
)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=20,
)


def parsed(text: str) -> tuple[Manifest | None, list[ManifestError]]:
    """Return what the parser says about TOML."""
    return parse_manifest(tomllib.loads(text))


def valid(**changes: Any) -> dict[str, Any]:
    """Return the data of a manifest without problems, with changes."""
    return {"manifest": 1, "slug": "small", "version": "1", "hooks": [{"name": "a"}]} | changes


def written(folder: Path, content: bytes) -> Path:
    """Return a plugin's folder whose manifest has this content."""
    (folder / "plugin.toml").write_bytes(content)
    return folder


def test_the_full_example_is_read() -> None:
    """The design's example gives a manifest with each of its values."""
    assert parsed(EXAMPLE) == (EXAMPLE_MANIFEST, [])


def test_what_is_left_out_takes_its_default() -> None:
    """The smallest manifest takes name, module, ABI, export and priority from the defaults, and requests nothing."""
    manifest, problems = parsed(SMALLEST)
    assert problems == []
    assert manifest == Manifest(
        slug="small",
        name="small",
        version="1",
        module="plugin.wasm",
        abi=1,
        initialize=None,
        snapshot=True,
        hooks=(HookEntry("post.title-v2", "post_title_v2", 10),),
        limits=Limits(),
        capabilities=Grants(),
        settings={},
    )


@pytest.mark.parametrize(
    ("text", "field", "fragment"), BAD, ids=[f"{field}: {fragment[:30]}" for _, field, fragment in BAD]
)
def test_a_bad_manifest_is_refused(text: str, field: str, fragment: str) -> None:
    """One mistake gives one problem, with the exact field and a sentence that says what is allowed."""
    manifest, problems = parsed(text)
    assert manifest is None
    assert [problem.field for problem in problems] == [field]
    assert fragment in str(problems[0])


@pytest.mark.parametrize("module", ["plugin.wasm", "build/out/plugin.wasm", "a..b.wasm", "plügin 2.wasm"])
def test_a_module_inside_the_folder_is_accepted(module: str) -> None:
    """A module may lie in the plugin's folder or below it."""
    manifest, _ = parse_manifest(valid(module=module))
    assert manifest is not None
    assert manifest.module == module


def test_all_problems_are_named_in_document_order() -> None:
    """Every problem of a file is named at once, in its order, missing keys at the end of their table."""
    _, problems = parsed("""
abi = 3
slug = "UP"
[server]
memory_limit_mb = 9999
colour = 1
[server.capabilities]
kv = "yes"
[[hooks]]
priority = "high"
[settings]
day = 2031-05-01
""")
    assert [problem.field for problem in problems] == [
        "abi",
        "slug",
        "server.memory_limit_mb",
        "server.colour",
        "server.capabilities.kv",
        "hooks[0].priority",
        "hooks[0].name",
        "settings.day",
        "manifest",
        "version",
    ]


def test_problems_know_slug_path_and_value() -> None:
    """A problem carries the plugin's slug where it could be read, the file and the value at fault."""
    _, problems = parse_manifest(valid(abi=7), path="plugins/small/plugin.toml")
    assert (problems[0].slug, problems[0].path, problems[0].value) == ("small", "plugins/small/plugin.toml", 7)
    _, problems = parse_manifest(valid(slug="No Slug"))
    assert (problems[0].slug, problems[0].path) == (None, None)


@pytest.mark.parametrize("spec", LIMITS, ids=lambda spec: spec.key)
def test_a_request_is_held_to_the_ceiling(spec: Any) -> None:
    """Each limit can be requested up to the operator's ceiling, else the table's, and not one more."""
    for ceilings, ceiling in ((Limits(), spec.ceiling), (Limits(**{spec.key: 7}), 7)):
        manifest, _ = parse_manifest(valid(server={spec.key: ceiling}), ceilings=ceilings)
        assert manifest is not None
        assert getattr(manifest.limits, spec.key) == ceiling
        _, problems = parse_manifest(valid(server={spec.key: ceiling + 1}), ceilings=ceilings)
        assert [problem.field for problem in problems] == [f"server.{spec.key}"]
        assert "above the operator's ceiling" in str(problems[0])


def test_a_hundred_problems_are_enough() -> None:
    """A manifest of junk names its first hundred problems and says that there may be more."""
    _, problems = parse_manifest(valid(**{f"junk{index}": 1 for index in range(10_000)}))
    assert len(problems) == MAX_PROBLEMS + 1
    assert "only the first 100 problems" in str(problems[-1])


@given(JUNK)
@settings(max_examples=300)
def test_no_data_makes_the_parser_raise(data: Any) -> None:
    """Whatever the data, the parser returns either a manifest or problems that can be shown."""
    manifest, problems = parse_manifest(data)
    assert (manifest is None) is bool(problems)
    assert all(str(problem) for problem in problems)


@pytest.mark.parametrize("key", ["manifest", "slug", "module", "abi", "hooks", "server", "settings", "unknown"])
def test_a_number_too_long_to_show_is_refused(key: str) -> None:
    """A whole number that Python refuses to write out is a problem like any other, shown without its value."""
    _, problems = parse_manifest(valid(**{key: 10**5000}))
    assert [problem.field for problem in problems] == [key]
    assert "MISSING" not in str(problems[0])


@given(st.dictionaries(KEYS, JUNK, max_size=4))
@settings(max_examples=300)
def test_junk_beside_good_keys_is_found(junk: dict[Any, Any]) -> None:
    """Junk in a good manifest gives a manifest or problems, and a manifest only with known keys."""
    data = valid() | junk
    manifest, problems = parse_manifest(data)
    assert (manifest is None) is bool(problems)
    if manifest:
        assert set(data) <= {"manifest", "slug", "name", "version", "module", "abi", "hooks", "server", "settings"}


@pytest.mark.parametrize("data", [None, [], "manifest = 1", 7, {1: 2}, {None: {}}])
def test_data_that_is_no_table_is_refused(data: Any) -> None:
    """Data that isn't a table with text keys is a problem of the whole file."""
    manifest, problems = parse_manifest(data)
    assert manifest is None
    assert problems[0].field == "plugin.toml"


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_settings_are_kept(data: dict[str, Any]) -> None:
    """Settings that JSON can hold come through unchanged."""
    manifest, problems = parse_manifest(valid(settings=data))
    assert problems == []
    assert manifest is not None
    assert manifest.settings == data


def test_settings_are_the_manifests_own() -> None:
    """Changing the data after parsing doesn't change the manifest."""
    data = valid(settings={"list": [1]})
    manifest, _ = parse_manifest(data)
    data["settings"]["list"].append(2)
    assert manifest is not None
    assert manifest.settings == {"list": [1]}


def test_settings_may_be_32_levels_deep() -> None:
    """Settings may be nested as deep as the limit says, counting `[settings]` itself."""
    inner: Any = 1
    for _ in range(MAX_SETTINGS_DEPTH - 1):
        inner = [inner]
    assert parse_manifest(valid(settings={"a": inner}))[1] == []
    assert len(parse_manifest(valid(settings={"a": [inner]}))[1]) == 1


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        (b"a", "must be a JSON value, not a bytes"),
        ({1, 2}, "must be a JSON value, not a set"),
        ({1: 2}, "has a key that is a number; keys must be text"),
        ({"\ud800": 2}, "has a key that UTF-8 can't hold"),
        ("\ud800", "must be text that UTF-8 can hold"),
        (10**5000, "must fit into 64 bits"),
        (date(2031, 5, 1), "write it as text"),
    ],
    ids=["bytes", "set", "number as key", "surrogate as key", "surrogate", "huge number", "date"],
)
def test_settings_from_python_must_be_json(value: Any, fragment: str) -> None:
    """Values that a dict from Python can hold and JSON can't are refused."""
    _, problems = parse_manifest(valid(settings={"a": value}))
    assert [problem.field for problem in problems] == ["settings.a"]
    assert fragment in str(problems[0])


def test_shared_and_circular_settings_end() -> None:
    """Settings that hold themselves, or unfold to billions of values, are refused in bounded time."""
    circular: dict[str, Any] = {}
    circular["again"] = circular
    assert parse_manifest(valid(settings=circular))[0] is None
    shared: Any = 1
    for _ in range(30):
        shared = [shared, shared]
    _, problems = parse_manifest(valid(settings={"a": shared}, slug=shared))
    assert "at most 100000 values" in str(problems[1])


def test_the_folder_or_the_file_is_named(tmp_path: Path) -> None:
    """A plugin is read by its folder or by its plugin.toml."""
    written(tmp_path, EXAMPLE.encode())
    assert manifest_path(tmp_path) == manifest_path(tmp_path / "plugin.toml") == tmp_path / "plugin.toml"
    assert read_manifest(tmp_path) == read_manifest(tmp_path / "plugin.toml") == (EXAMPLE_MANIFEST, [])


def test_ceilings_hold_for_files(tmp_path: Path) -> None:
    """A file's requests are held to the operator's ceilings, and its problems name the file."""
    _, problems = read_manifest(written(tmp_path, EXAMPLE.encode()), ceilings=Limits(memory_limit_mb=16))
    assert [(one.field, one.path) for one in problems] == [("server.memory_limit_mb", str(tmp_path / "plugin.toml"))]


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    """A manifest that an editor saved with a byte order mark is read."""
    assert read_manifest(written(tmp_path, b"\xef\xbb\xbf" + SMALLEST.encode()))[1] == []


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"manifest = 1\nslug = oops\n", "isn't TOML: Invalid value (at line 2, column 8)"),
        (b"manifest = 1\nmanifest = 1\n", "at line 2"),
        (b'manifest = 1\nname = "\xff"\n', "isn't UTF-8 text (at line 2)"),
        (b"a = " + b"[" * 10_000, "is nested too deeply"),
        (b"a = " + b"1" * 5_000, "4300 digits"),
        (b"a = 1\n" + b".".join([b"a"] * 33) + b" = 1", "more than 32 dotted parts (at line 2)"),
        (b"#" * (MAX_MANIFEST_BYTES + 1), "larger than 1048576 bytes"),
    ],
    ids=["syntax", "twice", "encoding", "nesting", "huge number", "long key", "size"],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes, fragment: str) -> None:
    """A file that can't be read as TOML is one problem of the file, with the line where there is one."""
    manifest, problems = read_manifest(written(tmp_path, content))
    assert manifest is None
    assert [(one.field, one.path) for one in problems] == [("plugin.toml", str(tmp_path / "plugin.toml"))]
    assert fragment in str(problems[0])


def _nothing(_: Path) -> None:
    pass


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_nothing, _folder, os.mkfifo], ids=["nothing", "folder", "fifo"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A missing manifest, a folder or a pipe in its place is a problem, and nothing waits for it."""
    make(tmp_path / "plugin.toml")
    _, problems = read_manifest(tmp_path)
    assert "there is no such file" in str(problems[0])


@pytest.mark.parametrize("key", [".a", '."a\\"b"', ".'a'", " . a"], ids=["bare", "quoted", "literal", "spaced"])
@pytest.mark.parametrize("form", ["a{} = 1", "[a{}]", "[[a{}]]", "x = {{a{} = 1}}", "x = {{b = 1, a{} = 1}}"])
def test_a_key_that_fills_the_file_is_refused_at_once(tmp_path: Path, form: str, key: str) -> None:
    """A dotted key of any form that would keep the TOML reader busy for minutes is refused before it."""
    start = time.monotonic()
    _, problems = read_manifest(written(tmp_path, form.format(key * 50_000).encode()))
    assert "dotted parts" in str(problems[0])
    assert time.monotonic() - start < 5


@given(st.binary(max_size=200))
def test_no_file_makes_the_reader_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever the file holds, the reader returns problems."""
    manifest, problems = read_manifest(written(tmp_path_factory.mktemp("plugin"), content))
    assert manifest is None
    assert problems
