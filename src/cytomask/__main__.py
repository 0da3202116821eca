"""The command line's entry: errors for people, exit codes for machines."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0: done. 1: done, and the answer is no (a failed check). 2: wrong input. 130: interrupted.
    """
    from cytomask.cli.app import run

    return run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
