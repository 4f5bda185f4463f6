"""The Rust core: one WebAssembly guest behind a memory, a fuel and a clock limit.

It moves bytes and names and knows nothing of hooks, HTTP, databases or stores. The first slice after
each resume runs with the GIL held (at most 200 µs, or one pulse of 20,000 fuel) where the module is known
to be quick, the others, of 5 ms, without it. Guest text that comes out (details, logs, names) is capped and printable.
"""

from typing import Final, final

__all__ = [
    "BOUNDS",
    "BYTE_FUEL",
    "CHEAP_FUEL",
    "GROW_PAGE_FUEL",
    "HOST_CALLS",
    "HOST_CALL_FUEL",
    "IMPORTS",
    "IMPORT_FUEL",
    "IMPORT_MODULE",
    "LIMIT_NAMES",
    "SLEEP",
    "SNAPSHOT_REFUSALS",
    "VERSION",
    "WASI_FUNCTIONS",
    "WASI_MODULE",
    "Completed",
    "Engine",
    "Entry",
    "Execution",
    "Inspection",
    "Module",
    "Running",
    "Snapshot",
    "Suspended",
    "Trapped",
    "compile",
    "end_with_parent",
    "inspect",
    "scan",
    "snapshot",
]

VERSION: Final[str]
"""The package's version."""
LIMIT_NAMES: Final[list[str]]
"""The names of all limits, in the order of their numbers in the ABI."""
IMPORT_MODULE: Final[str]
"""The module name that guests import from."""
IMPORTS: Final[list[str]]
"""The names of all imports of the ABI."""
HOST_CALLS: Final[list[str]]
"""The names of those imports that suspend the guest until they are answered."""
SLEEP: Final[str]
"""What a sleep suspends the guest as; `Suspended.number` is how long it takes, in nanoseconds."""
WASI_MODULE: Final[str]
"""The module name that guests import WASI from."""
WASI_FUNCTIONS: Final[list[str]]
"""The names of all functions of WASI preview 1."""
BOUNDS: Final[list[tuple[str, int, str]]]
"""What the look at a module before compiling allows: what is counted, the most of it, and what goes wrong above."""
IMPORT_FUEL: Final[int]
"""What any import costs, in fuel."""
HOST_CALL_FUEL: Final[int]
"""What a host call costs beside that, in fuel."""
BYTE_FUEL: Final[int]
"""What a byte costs that is copied, written out or logged, in fuel."""
CHEAP_FUEL: Final[int]
"""Initialisation that takes less fuel than this runs in every instance."""
SNAPSHOT_REFUSALS: Final[list[str]]
"""Why initialisation has to run in every instance: the names of all reasons."""
GROW_PAGE_FUEL: Final[int]
"""What a page of `memory.grow` costs, in fuel."""

@final
class Engine:
    """Compiles modules and lends them memory.

    Args:
        memory_ceiling_bytes: the most memory that an instance can have; address space for `slots` times
            as much is reserved.
        slots: how many instances can live at once.

    Raises:
        RuntimeError: the platform can't run guests.
    """

    def __new__(cls, memory_ceiling_bytes: int, slots: int) -> Engine: ...
    @property
    def pool_problem(self) -> str | None:
        """Why instances don't come from a pool, or `None` where they do. Without one, as where the address
        space is limited, each call costs some 10 µs more, and `slots` bounds nothing.
        """
    @property
    def memory_ceiling_bytes(self) -> int:
        """The most memory that an instance can have."""
    @property
    def fingerprint(self) -> bytes:
        """What artifacts depend on beside the module: the compiler, its version and settings, the processor's features.

        Where those of two engines are equal, one's artifacts fit the other.
        """

def end_with_parent() -> None:
    """Have this process end with the thread that began it, where the system can: on Linux."""

def scan(wasm: bytes, memory_ceiling_bytes: int) -> None:
    """Look at a module without compiling it: some 10 ms a MB of ordinary code, 30 of the densest.

    Raises:
        ModuleRefused: with the list of all problems.
    """

def compile(wasm: bytes, memory_ceiling_bytes: int, is_pooled: bool) -> bytes:  # noqa: A001
    """Compile a module that was scanned, and return an artifact for engines of this ceiling, with a pool or without.

    Raises:
        ModuleRefused: the compiler refuses it; with one problem.
        RuntimeError: the platform has no compiler.
    """

@final
class Snapshot:
    """What became of a module's initialisation."""

    @property
    def state(self) -> str:
        """`nothing` (there is none), `cheap`, `taken` or `refused`."""
    @property
    def wasm(self) -> bytes | None:
        """The module that begins where it ended, where it was taken."""
    @property
    def fuel(self) -> int:
        """What it took, where it came to its end."""
    @property
    def frozen_bytes(self) -> int:
        """The bytes of memory that were written down."""
    @property
    def code_shift(self) -> int:
        """How many bytes further from the file's beginning the code stands than it did."""
    @property
    def refusal(self) -> str | None:
        """Why it was refused: one of `SNAPSHOT_REFUSALS`."""
    @property
    def reason(self) -> str:
        """The same as a sentence; empty unless it was refused."""
    @property
    def logs(self) -> list[tuple[int, str]]:
        """What was logged and printed meanwhile, by level, where it was taken."""

def snapshot(
    wasm: bytes,
    initialize: str | None,
    *,
    fuel: int,
    seconds: int,
    memory_bytes: int,
    snapshot_bytes: int,
) -> Snapshot:
    """Initialise a module that was scanned, and write what that leaves behind into it, where it can be and is worth it.

    Compiles the module, which nothing bounds but the scan.

    Args:
        wasm: the module.
        initialize: an export that runs after `_initialize`, or `None`.
        fuel: what running it may take.
        seconds: what running it may take.
        memory_bytes: what running it may take; the module that comes out is held to it too.
        snapshot_bytes: the most that isn't zero in the memory that is written down.
    """

@final
class Module:
    """A guest that was scanned, compiled, audited and linked; shared by threads.

    Raises:
        ModuleRefused: with the list of all problems of the first stage that found any.
    """

    def __new__(cls, engine: Engine, wasm: bytes) -> Module: ...
    @staticmethod
    def from_file(engine: Engine, descriptor: int) -> Module:
        """Map the artifact in an open file, audit and link it.

        Its code is run as it is: only what `compile` made may be given, and nobody may write to the file while the
        module lives. Bytes after the artifact are left alone.

        Raises:
            ModuleRefused: with the list of all problems.
            ValueError: the artifact was cut, or made for another engine, or what is in the file may not be run.
            OSError: the descriptor is none.
        """
    @staticmethod
    def from_artifact(engine: Engine, artifact: bytes) -> Module:
        """Copy an artifact, audit and link it; its code is run as it is, as with `from_file`.

        Raises:
            ModuleRefused: with the list of all problems.
            ValueError: the artifact was cut, or made for another engine.
        """
    @property
    def imports(self) -> list[str]:
        """The ABI's imports that the module uses."""
    @property
    def hook_exports(self) -> list[str]:
        """The exports that can serve a hook: functions without parameters and results."""
    def export_problem(self, name: str) -> str | None:
        """Return what is wrong with an export as a hook's, or `None`."""

@final
class Inspection:
    """What a file is and has, as far as it could be read. All names are capped and printable."""

    @property
    def kind(self) -> str:
        """What the file is, by its first bytes, in words. Of anything but a module only the problem is told."""
    @property
    def is_module(self) -> bool:
        """Whether it begins like a module."""
    @property
    def problems(self) -> list[str]:
        """Why it can't be loaded; what only compiling shows isn't here."""
    @property
    def figures(self) -> list[tuple[str, int, int, int | None]]:
        """Of each bound: what is counted, the most, the largest count found, and the function it was found in."""
    @property
    def sections(self) -> list[tuple[str, str | None, int, int]]:
        """The parts of the file: kind, a custom section's name, where its content begins, its bytes."""
    @property
    def imports(self) -> list[tuple[str, str, str, str]]:
        """What it imports: module, name, kind, type in words."""
    @property
    def exports(self) -> list[tuple[str, str, str]]:
        """What it exports: name, kind, type in words."""
    @property
    def memories(self) -> list[tuple[int, int | None]]:
        """Its memories in pages of 64 KiB: initial, and the most where that is said."""
    @property
    def tables(self) -> list[tuple[int, int | None]]:
        """Its tables in elements: initial, and the most where that is said."""
    @property
    def globals(self) -> int:
        """How many globals it has."""
    @property
    def functions(self) -> list[tuple[int, str | None, int]]:
        """Its own functions, of too many the first: number, name where it has one, bytes of its body."""
    @property
    def code(self) -> tuple[int, int]:
        """How many functions of its own it has, and the bytes in all of them."""
    @property
    def data(self) -> tuple[int, int]:
        """How many data segments it has, and the bytes in all of them."""
    @property
    def elements(self) -> tuple[int, int]:
        """How many element segments it has, and the elements in all of them."""
    @property
    def start(self) -> int | None:
        """The function that runs first in every instance."""
    @property
    def initialises(self) -> bool:
        """Whether a start function or `_initialize` runs before the first hook."""
    @property
    def snapshot_refusal(self) -> str | None:
        """Why that has to run in every instance, as far as it can be seen."""
    @property
    def tools(self) -> list[str]:
        """The tools that made it, as it says itself."""

def inspect(wasm: bytes, memory_ceiling_bytes: int) -> Inspection:
    """Return what there is to say of a file without compiling it, whatever its bytes are."""

@final
class Entry:
    """One export with everything that its invocations share.

    Args:
        module: the guest.
        export: the export's name.
        settings: buffer 4, a JSON object.
        memory_bytes: the limit of linear memory and tables.
        fuel: the limit of fuel.
        output_bytes: the cap of the output; more ends the guest with cause `bad_output`.
        request_bytes: the cap of each part of a host call's request; more is answered `TOO_LARGE`.
        log_bytes: the cap of what is logged.
        initialize: an export that runs first, after `_initialize`.
        code_shift: how many bytes further from its file's beginning the code stands than backtraces are to tell.

    Raises:
        ModuleRefused: there is no such export.
    """

    def __new__(
        cls,
        module: Module,
        export: str,
        *,
        settings: bytes,
        memory_bytes: int,
        fuel: int,
        output_bytes: int,
        request_bytes: int,
        log_bytes: int,
        initialize: str | None = None,
        code_shift: int = 0,
    ) -> Entry: ...
    def begin(self, value: bytes, context: bytes, call_info: bytes, seconds: float) -> Execution:
        """Prepare an execution whose deadline is `seconds` away. Nothing runs before the first `resume`."""

@final
class Execution:
    """One instance at work. Every way to move it on returns the next step.

    Raises:
        InstanceBusy: another thread is moving it on; never waits.
        UsageError: it has ended, or waits for an answer, or for none; or it began before a fork of the process.
    """

    def resume(self, *, slices: int = ...) -> Completed | Suspended | Running | Trapped:
        """Begin, or go on after `Running`.

        `slices`: after how many to return `Running`, 2 by default; 1 is the first alone, for who has others to serve.
        0 is the first alone too, but only where it may run with the GIL held, which takes no longer than a moment: the
        module is known to be quick, and the instance holds no more than 32 MiB. Else nothing runs.
        """
    def answer(
        self, code: int, head: bytes, body: bytes, *, slices: int = ...
    ) -> Completed | Suspended | Running | Trapped:
        """Answer a host call: a negative code, or any other for the length of `body`. For
        `meter_remaining`, `code` is the number. `slices` as for `resume`.
        """
    def trip(self, limit: str, *, slices: int = ...) -> Completed | Suspended | Running | Trapped:
        """End the guest that waits for an answer: its call would go over `limit`. `slices` as for `resume`."""
    def interrupt(self) -> None:
        """End a running guest at its next pulse, with cause `interrupted`. From any thread."""
    def close(self) -> None:
        """End the guest and give its memory back: at once, or where another thread is moving it on, at its
        next pulse or when that thread has its step. From any thread.
        """

@final
class Completed:
    """The guest returned."""

    @property
    def output(self) -> bytes | None:
        """What it wrote; `None` where it wrote nothing at all."""
    @property
    def fuel(self) -> int:
        """Fuel spent, exact."""
    @property
    def memory_bytes(self) -> int:
        """The most memory held."""
    @property
    def logs(self) -> tuple[tuple[int, str], ...]:
        """Level (0 to 4: debug to critical) and text of each line since the last step."""

@final
class Suspended:
    """The guest waits for an answer."""

    @property
    def call(self) -> str:
        """The import's name: one of `HOST_CALLS`, `meter_remaining` or `SLEEP`."""
    @property
    def parts(self) -> tuple[bytes, ...]:
        """The byte arguments."""
    @property
    def number(self) -> int:
        """The number argument; 0 without one."""
    @property
    def logs(self) -> tuple[tuple[int, str], ...]:
        """As `Completed.logs`."""

@final
class Running:
    """The slice is over; `resume` goes on."""

    @property
    def logs(self) -> tuple[tuple[int, str], ...]:
        """As `Completed.logs`."""

@final
class Trapped:
    """The guest was ended."""

    @property
    def cause(self) -> str:
        """`limit`, `crash`, `failed`, `bad_output`, `bad_pointer`, `interrupted`, or `saturated` where
        there was no slot or no memory for the instance and nothing ran.
        """
    @property
    def limit(self) -> str | None:
        """Which limit, for cause `limit`."""
    @property
    def detail(self) -> str:
        """One sentence, or an empty string."""
    @property
    def backtrace(self) -> list[tuple[str | None, int, int | None]]:
        """Function name, function index and offset in the module, innermost first."""
    @property
    def fuel(self) -> int:
        """Fuel spent."""
    @property
    def fuel_exact(self) -> bool:
        """`False` where `fuel` is a lower bound: low by what was spent since the last call or pulse."""
    @property
    def memory_bytes(self) -> int:
        """The most memory held."""
    @property
    def logs(self) -> tuple[tuple[int, str], ...]:
        """As `Completed.logs`."""
