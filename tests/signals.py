"""Crash guests in a process with unusual signal handling; a script, as what goes wrong here kills the process."""

import faulthandler
import signal
import sys
import threading

import fuseboard as fb
from guests import TEXT, Application

CRASHES = ("unreachable_now", "out_of_bounds", "divide_by_zero", "stack_exhaustion")


def main(kind: str, when: str) -> None:
    """Crash each way and print how many traps came of it."""
    if when in {"before", "on and off"}:
        faulthandler.enable()
    app = Application()
    app.load("echo", slug="first")
    app.host.apply_filter(TEXT, "x")
    if when == "after":
        faulthandler.enable()
    if when == "on and off":
        faulthandler.disable()
    thread = threading.Thread(target=crash, args=(app, kind == "blocked"))
    thread.start()
    thread.join()


def crash(app: Application, blocked: bool) -> None:  # noqa: FBT001  a thread's argument
    """Crash each way, with all signals blocked where asked."""
    if blocked:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    trapped = 0
    for export in CRASHES:
        app.load(export)
        trapped += isinstance(app.host.invoke("hostile", TEXT, "x"), fb.Trapped)
        app.host.unload("hostile")
    print(f"{len(CRASHES)} crashes, {trapped} traps")


main(*sys.argv[1:])
