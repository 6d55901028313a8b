"""Becomes another program that gets SIGTERM when its parent dies (Linux): ``python -I -S tied.py PARENT PROGRAM ...``.

A program of its own, run by its path and importing nothing of ours, because what a new process needs to do before it is
another program cannot be done safely between fork and exec of a process with threads: those of gRPC crash there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
EXIT_NOT_STARTED = 127
"""As of a shell."""


def main(parent: int, argv: list[str]) -> int:
    """Does not return if all goes well."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        # It died before we asked to hear of it.
        return EXIT_NOT_STARTED
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (there is no shell, and shall be none)
    except OSError as failed:
        print(f"{argv[0]}: {failed.strerror}", file=sys.stderr)
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
