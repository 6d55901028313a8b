"""Evaluations that never end, or eat the memory: nothing interrupts the engine, so the process has to end. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_SECONDS = 30.0
"""Of one evaluation. The proxy has long given up by then, and a thread is lost to its policy."""
MOST_BYTES = 1 << 30
"""By which evaluations may make the process grow beyond what its policies need."""


class Evaluations:
    """Those that run now. :meth:`one` may be used from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: seconds, monotonic."""
        self._clock = clock
        self._running: dict[object, tuple[str, float]] = {}
        self._settled = 0

    @contextmanager
    def one(self, policies: str) -> Iterator[None]:
        """``policies``: as the log is to name them."""
        key = object()
        self._running[key] = policies, self._clock()
        try:
            yield
        finally:
            del self._running[key]

    def settled(self, resident: int) -> None:
        """What the process needs (bytes) with the policies that it has now."""
        self._settled = resident

    def overrun(self, resident: int) -> str | None:
        """Why the process must end; None: it need not. ``resident``: its memory in bytes."""
        running = tuple(self._running.values())
        for policies, begun in running:
            if self._clock() - begun > LONGEST_SECONDS:
                return f"an evaluation has not ended in {LONGEST_SECONDS:.0f} s ({policies})"
        if running and resident > self._settled + MOST_BYTES:
            names = ", ".join(sorted({policies for policies, _ in running}))
            return f"evaluations take more than {MOST_BYTES >> 20} MiB ({names})"
        return None
