"""Text by plugins and services on its way to logs and terminals, and the form of names that travel."""

import re
from typing import Final

DOTTED_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,127}")
"""What hooks and the application's functions are called, e.g. `post.title` and `mail.send`."""

SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
"""Half a character, which UTF-8 can't hold."""


def printable(text: str, most: int | None = None) -> str:
    r"""Return text on one line, cut at `most` characters, with what isn't printable as its escape, e.g. `\x1b`."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:most])
