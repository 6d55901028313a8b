"""What a decision process complains of in its log, told to the user as well: who sees "ready" looks into no log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

AT_ONCE = 5
"""So many lines may come one after another; then one in :data:`SECONDS`. The log has them all."""
SECONDS = 10.0
_LONGEST = 1 << 16
_LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (?:WARNING|ERROR|CRITICAL) (.+)")
"""A line as ``answering.py`` logs it; what a library prints, or a traceback, is for the log alone."""


class Complaints:
    """Gets what is written to the log at ``log``, in pieces of any size; ``say`` gets each complaint."""

    def __init__(self, say: Callable[[str], None], log: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._log = log
        self._clock = clock
        self._rest = b""
        self._may = float(AT_ONCE)
        self._at = clock()
        self._quiet = False

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data)[-_LONGEST:].split(b"\n")
        for line in lines:
            found = _LINE.fullmatch(line.decode(errors="replace"))
            if found is not None:
                self._tell(found[1])

    def _tell(self, complaint: str) -> None:
        now = self._clock()
        self._may, self._at = min(float(AT_ONCE), self._may + (now - self._at) / SECONDS), now
        if self._may >= 1:
            self._may -= 1
            self._quiet = False
            self._say(complaint)
        elif not self._quiet:
            self._quiet = True
            self._say(f"more of that is in {self._log}")
