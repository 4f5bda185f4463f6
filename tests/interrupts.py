"""Interrupt dispatches at random moments for two seconds; a script, as an interrupt may hit anything in the process."""

import random
import signal
import sys
import time

from guests import TEXT, Application

app = Application()
app.load("write_and_finish")
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupts, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0008))
        for _ in range(200):  # not for ever: where SQLite calls back, an interrupt can get lost
            app.host.apply_filter(TEXT, "x")
    except KeyboardInterrupt:
        interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    locks = [*(each.lock for each in app.db._databases.values()), *(each.lock for each in app.kv._stores.values())]
    if app.host._running._callers or app.host._services.slots.held or any(lock._owner is not None for lock in locks):
        sys.exit(f"something was left behind by interrupt {interrupts}")
outcome = app.host.invoke("hostile", TEXT, "x")
app.host.close()
print(f"{interrupts:,} interrupts")
sys.exit(interrupts < 100 or type(outcome).__name__ != "Completed")
