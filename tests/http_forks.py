"""Fork where a plugin has a connection open; a script, as other threads must not be there."""

import os
import sys
import time

from fetching import identity
from fuseboard._urls import parse_url
from fuseboard.backends import HttpRequest, HttpResponse
from fuseboard.backends.http import Http


def main() -> None:
    """Ask a server in another process, before the fork, in the child, and after it, and print the connections made."""
    read_end, write_end = os.pipe()
    server = os.fork()
    if server == 0:
        _serve(write_end)
    port = int(os.read(read_end, 10))
    http = Http(inner=[f"http://127.0.0.1:{port}"])
    call = HttpRequest("GET", parse_url(f"http://127.0.0.1:{port}/"))

    def connections() -> int:
        answer = http.session(identity()).answer(call, time.monotonic() + 10)
        assert isinstance(answer, HttpResponse)
        return int(answer.body)

    first = connections()
    child = os.fork()
    if child == 0:
        http.after_fork_in_child()
        made = connections() - first
        http.close()
        os._exit(made)
    _, status = os.waitpid(child, 0)
    made = os.waitstatus_to_exitcode(status)
    print(f"parent {first}, child {made}, parent again {connections() - first - made}")
    http.close()
    os.kill(server, 9)
    os.waitpid(server, 0)


def _serve(write_end: int) -> None:
    """Answer each request with how many connections there were."""
    from web import BEHAVIOURS, Web  # noqa: PLC0415  the server's own process

    web = Web()
    BEHAVIOURS["/"] = lambda talk, _: talk.reply(str(web.connections).encode())
    os.write(write_end, str(web.port).encode())
    time.sleep(60)
    sys.exit()


if __name__ == "__main__":
    main()
