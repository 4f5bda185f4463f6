"""Text by plugins and services on its way to logs and terminals."""


def printable(text: str, most: int | None = None) -> str:
    r"""Return text on one line, cut at `most` characters, with what isn't printable as its escape, e.g. `\x1b`."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:most])
