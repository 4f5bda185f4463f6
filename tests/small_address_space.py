"""Run plugins in a process with 2 GiB of address space; a script, as the limit can't be lifted again."""

import resource

from guests import TEXT, Application

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
app = Application()
for export in ("echo", "loop_forever", "grow_memory"):
    app.load(export, server={"invocation_timeout_ms": 5_000})
    outcome = app.host.invoke("hostile", TEXT, "x")
    trap = getattr(outcome, "trap", None)
    print(type(outcome).__name__, trap and trap.limit)
    app.host.unload("hostile")
