"""The command line as `python -m fuseboard`."""

from __future__ import annotations

from fuseboard.cli import main

if __name__ == "__main__":
    main(prog_name="fuseboard")
