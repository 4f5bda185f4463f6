"""Use Redis from several processes; a script with a scenario for each name: the server's URL is the second argument."""

import os
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

from fuseboard import BackendTimeout
from fuseboard.backends import KvIncrement, KvNumber
from fuseboard.backends.kv import RedisKv
from kv_contract import Kv, identity, soon


def count(url: str) -> None:
    """Increment 60 times on 3 threads, roll back every third, and print the numbers of those that were committed."""
    with RedisKv(url, prefix="count:", max_connections=4) as store, ThreadPoolExecutor(3) as threads:

        def once(turn: int) -> int | None:
            session = Kv(store).session()
            number = session.increment(b"n", seconds=60)
            session.rollback() if turn % 3 == 0 else session.commit(60)
            return number if turn % 3 else None

        print(*filter(None, threads.map(once, range(60))))


def hold(url: str) -> None:
    """Increment, say so, and never end."""
    session = RedisKv(url, prefix="hold:").session(identity())
    assert session.answer(KvIncrement(b"n", 1), soon(0.5)) == KvNumber(1)
    print("held", flush=True)
    time.sleep(60)


def fork(url: str) -> None:
    """Fork with an idle connection and with a session that holds the lock; both go on, each with its own."""
    store = RedisKv(url, prefix="fork:")
    kv = Kv(store)
    kv.put({b"k": b"parent"})
    session = kv.session()
    session.increment(b"n", 5)
    child = os.fork()
    if child == 0:
        store.after_fork_in_child()
        session.rollback()  # the parent's: nothing is given back
        assert "ended" in session.refusal(KvIncrement(b"n", 1)).reason
        assert kv.session().get(b"k") == b"parent"
        kv.put({b"k": b"child"}, scope="child")
        assert isinstance(kv.session().refusal(KvIncrement(b"n", 1), 0.1), BackendTimeout)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    session.increment(b"n", 1)
    session.commit()
    assert (kv.items(), kv.items(scope="child")) == ({b"k": b"parent", b"n": b"6"}, {b"k": b"child"})
    store.close()


def interrupts(url: str) -> None:
    """Interrupt increments at random moments for three seconds; a thread that counts elsewhere isn't held up."""
    store = RedisKv(url, prefix="interrupts:", max_connections=2)
    turns, is_over = 0, Event()

    def go_on() -> None:
        nonlocal turns
        while not is_over.wait(0.001):
            session = Kv(store).session(scope="elsewhere")
            session.increment(b"n")
            session.commit()
            turns += 1

    thread = Thread(target=go_on, daemon=True)
    thread.start()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        session = store.session(identity())
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.002))
            for _ in range(200):  # not for ever: where a finalizer runs, an interrupt can get lost
                session.answer(KvIncrement(b"n", 1), soon())
                session.commit(soon())
                session = store.session(identity())
        except KeyboardInterrupt:
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        session.rollback()
    is_over.set()
    thread.join(5)
    assert not thread.is_alive(), f"the other thread stands still after {turns} turns"
    assert (len(store.pool._taken), Kv(store).items(scope="elsewhere")) == (0, {b"n": b"%d" % turns})
    store.close()


if __name__ == "__main__":
    {"count": count, "hold": hold, "fork": fork, "interrupts": interrupts}[sys.argv[1]](sys.argv[2])
