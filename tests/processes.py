"""Serve from the processes of `multiprocessing`; a script with a scenario for each name, like `forks.py`.

Where processes are made anew, each of them runs this file again, and gets a host of its own.
"""

import multiprocessing
from collections.abc import Callable

import pytest

import fuseboard as fb
from sites import Site, perform

SITE = Site()


def serve() -> None:
    """Serve from the host that every process has."""
    SITE.serve(2)
    SITE.check_all_slots_free()
    SITE.hold_all()


def make_and_serve() -> None:
    """Serve from a host that is made here, beside the other."""
    site = Site()
    site.serve(2)
    site.check_all_slots_free()
    site.host.close()
    SITE.serve()


def serve_in_children(method: str) -> None:
    """Have two processes at a time serve, after the host of this one was used, and before."""
    context = multiprocessing.get_context(method)
    SITE.serve()
    targets: tuple[Callable[[], None], ...] = (serve, make_and_serve)
    processes = [context.Process(target=target) for target in targets]  # type: ignore[attr-defined]
    for process in processes:
        process.start()
    SITE.serve()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    SITE.serve()
    SITE.check_all_slots_free()


def fork() -> None:
    """Let children be copies of this process."""
    serve_in_children("fork")


def spawn() -> None:
    """Let children be new processes."""
    serve_in_children("spawn")


def forkserver() -> None:
    """Let children be copies of a new process."""
    serve_in_children("forkserver")


def sending_a_host() -> None:
    """Pass a host of each kind to new processes."""
    for method in ("spawn", "forkserver"):
        for host in (SITE.host, fb.AsyncHost()):
            process = multiprocessing.get_context(method).Process(target=print, args=(host,))  # type: ignore[attr-defined]
            with pytest.raises(TypeError, match="Host can't be sent to another process; make one there"):
                process.start()
    SITE.serve()


if __name__ == "__main__":
    perform(fork, spawn, forkserver, sending_a_host)
