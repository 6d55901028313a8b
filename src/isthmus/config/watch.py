"""Manifests as they change: a load after every change, without being misled by files that are half written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

from isthmus.config.load import STDIN, Loaded, Loader, is_manifest
from isthmus.config.resource import Document
from isthmus.config.retain import hold, retain

HELD: Final = 0.010
"""Seconds for which the size and the time of change of a file must have held before it is read."""
QUIET: Final = 0.100
"""Seconds without a change after which what has vanished is removed."""
PATIENCE: Final = 0.250
"""Seconds after which a file that goes on changing no longer keeps the others waiting."""
POLL: Final = 2.0
"""Seconds between two looks without an event: some file systems tell nothing, and links lead out of what is watched."""
_STEP_MS: Final = 5


async def watch(
    paths: Sequence[str | Path], *, loader: Loader | None = None, previous: tuple[Document, ...] = ()
) -> AsyncGenerator[Loaded, None]:
    """Load ``paths`` at once, then again after every change that makes a difference.

    ``documents`` of what is yielded are those in force: while a file is broken, empty or unreadable, what it gave
    before stays; what has vanished otherwise goes after ``QUIET``. ``previous`` (a last good version) is what files
    that are broken at the first load gave before. A slow reader misses the states in between, never the last. Close
    the generator (``contextlib.aclosing``) to end the watching.
    """
    loader = loader or Loader()
    clock = asyncio.get_running_loop().time
    bell = _Bell()
    watchers = _Watchers(bell)
    last: Loaded | None = None
    shown: Loaded | None = None
    removal = 0.0
    changed: set[str] = set()
    try:
        watchers.follow(_targets(paths))
        await asyncio.sleep(0)  # the watchers begin before the first load, so that no change falls between
        while True:
            loaded = await asyncio.to_thread(loader.load, paths)
            if watchers.follow(_targets(paths)):
                bell.ring(())
            if loaded != last:
                removal = clock() + QUIET
                if last is not None and not changed:
                    # Found by a look without an event: nothing says yet that the file has held still.
                    await asyncio.sleep(HELD)
                    loaded = await asyncio.to_thread(loader.load, paths)
            last = loaded
            wanted = retain(shown.documents if shown else previous, loaded)
            held = hold(shown.documents, wanted) if shown else wanted
            waiting = len(held) > len(wanted) and clock() < removal
            now = replace(loaded, documents=held if waiting else wanted)
            if now != shown:
                shown = now
                yield now
            changed = await bell.wait(max(0.0, removal - clock()) if waiting else None)
            await _settle(changed)
    finally:
        await watchers.stop()


@dataclass(slots=True)
class _Bell:
    """Rung with the paths that changed; heard once however often it rang."""

    _paths: set[str] = field(default_factory=set)
    _rung: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self, paths: Iterable[str]) -> None:
        self._paths.update(paths)
        self._rung.set()

    async def wait(self, seconds: float | None) -> set[str]:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()
        paths, self._paths = self._paths, set()
        return paths


async def _settle(paths: set[str]) -> None:
    """Wait until the files have held still."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE
    before = _looks(paths)
    while paths and clock() < deadline:
        await asyncio.sleep(HELD)
        now = _looks(paths)
        if now == before:
            return
        before = now


def _looks(paths: set[str]) -> list[tuple[int, int] | None]:
    looks: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            seen = os.stat(path)
            looks.append((seen.st_size, seen.st_mtime_ns))
        except OSError:
            looks.append(None)
    return looks


@dataclass(frozen=True, slots=True)
class _Targets:
    """What to watch. ``trees`` and ``folders`` (not what is below) come with their inodes: made anew is another.

    ``names`` are the entries of ``folders`` that matter: the given paths themselves, and the links they go through.
    """

    trees: frozenset[tuple[str, int]]
    folders: frozenset[tuple[str, int]]
    names: frozenset[str]

    def in_folder(self, change: Change, path: str) -> bool:
        return path in self.names

    def in_tree(self, change: Change, path: str) -> bool:
        for tree, _ in self.trees:
            if path.startswith(tree.rstrip(os.sep) + os.sep):
                return _matters(path, os.path.relpath(path, tree))
        return True


def _matters(path: str, below: str) -> bool:
    """Whether a change at ``path`` may concern manifests: a state directory or a log beside them must not."""
    *_, name = parts = below.split(os.sep)
    # Kubernetes swaps the link "..data" under a mounted ConfigMap.
    if any(part.startswith(".") and not part.startswith("..") for part in parts):
        return False
    return is_manifest(name) or name.startswith("..") or not os.path.isfile(path)


def _targets(paths: Sequence[str | Path]) -> _Targets:
    trees: set[str] = set()
    folders: set[str] = set()
    names: set[str] = set()
    for given in map(str, paths):
        if given == STDIN:
            continue
        path = os.path.abspath(given)
        if os.path.isdir(path):
            trees |= {path, os.path.realpath(path)}
        for step in _way(path):
            name = step
            while not os.path.isdir(folder := os.path.dirname(name)):
                name = folder
            folders.add(folder)
            # Some systems tell the real path of what changed.
            names |= {name, os.path.join(os.path.realpath(folder), os.path.basename(name))}
    return _Targets(_with_inodes(trees), _with_inodes(folders), frozenset(names))


def _way(path: str, most_links: int = 40) -> set[str]:
    """``path`` and every link that is gone through to reach it: a change of any of them changes what is found."""
    steps = {path}
    parts = Path(path).parts
    for end in range(2, len(parts) + 1):
        step = os.path.join(*parts[:end])
        if os.path.islink(step) and most_links:
            target = os.path.join(os.path.dirname(step), os.readlink(step), *parts[end:])
            return steps | {step} | _way(os.path.normpath(target), most_links - 1)
    return steps


def _with_inodes(paths: set[str]) -> frozenset[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for path in paths:
        with suppress(OSError):
            found.add((path, os.stat(path).st_ino))
    return frozenset(found)


@dataclass(slots=True)
class _Watchers:
    """The running watches of some targets."""

    _bell: _Bell
    _targets: _Targets | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def follow(self, targets: _Targets) -> bool:
        """Watch ``targets`` from now on; say whether that is anything new."""
        if targets == self._targets:
            return False
        for task in self._tasks:
            task.cancel()
        self._targets = targets
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks += [
            asyncio.create_task(self._watch(targets, sorted(path for path, _ in watched), recursive))
            for watched, recursive in ((targets.trees, True), (targets.folders, False))
            if watched
        ]
        return True

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, targets: _Targets, paths: list[str], recursive: bool) -> None:
        while True:
            try:
                async for changes in awatch(
                    *paths,
                    watch_filter=targets.in_tree if recursive else targets.in_folder,
                    debounce=10 * _STEP_MS,
                    step=_STEP_MS,
                    rust_timeout=int(POLL * 1000),
                    yield_on_timeout=True,
                    recursive=recursive,
                    ignore_permission_denied=True,
                ):
                    self._bell.ring(path for _, path in changes)
            except (OSError, RuntimeError):
                # No watches left, or what was watched has gone: look now and then instead, and try again.
                await asyncio.sleep(POLL)
                self._bell.ring(())
