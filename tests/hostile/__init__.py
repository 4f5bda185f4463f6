"""Files that nobody means well with: what is offered to a host as a plugin, and how that must end.

Rules:
* A case is made anew each time that it is asked for, always the same, from a few lines of code: no file is kept.
* It names its end: which of four, and a part of the sentence (or the outcome) that tells of it.
* Modules of this package import each other only relatively: it is run as `tests.hostile` and tested as `hostile`.
"""
