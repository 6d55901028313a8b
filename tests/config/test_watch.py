from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from isthmus.config.load import Loaded, Loader
from isthmus.config.watch import HELD, QUIET, watch

from .writing import documents, service

WITHIN = 60.0


class Watched:
    """What a reader of a watch sees."""

    def __init__(self, states: AsyncIterator[Loaded]) -> None:
        self._states = states
        self.seen: list[Loaded] = []

    async def until(self, reached: Callable[[Loaded], bool]) -> Loaded:
        async with asyncio.timeout(WITHIN):
            async for loaded in self._states:
                self.seen.append(loaded)
                if reached(loaded):
                    return loaded
        raise AssertionError("the watch has ended")

    async def names(self, expected: str) -> Loaded:
        return await self.until(lambda loaded: names(loaded) == expected)


def names(loaded: Loaded) -> str:
    return "".join(f"{document.ref.name}{document.labels['note']}" for document in loaded.documents)


def codes(loaded: Loaded) -> list[str]:
    return [found.code.id for found in loaded.report]


@asynccontextmanager
async def watching(*paths: Path, loader: Loader | None = None) -> AsyncIterator[Watched]:
    async with aclosing(watch(paths, loader=loader)) as states:
        yield Watched(states)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path, text: str) -> None:
    """Write as most editors do: another file, put in the place of the first."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text)
    beside.rename(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / "a.yaml"
    path.write_text(service("a", "1"))
    return path


@pytest.mark.parametrize("save", [write, replace])
@pytest.mark.parametrize("whole_folder", [True, False])
async def test_a_change_is_seen_soon(file: Path, whole_folder: bool, save: Callable[[Path, str], None]) -> None:
    took = []
    async with watching(file.parent if whole_folder else file) as watched:
        await watched.names("a1")
        for note in range(2, 12):
            begun = time.perf_counter()
            save(file, service("a", str(note)))
            await watched.names(f"a{note}")
            took.append((time.perf_counter() - begun) * 1000)
    print(f"change to documents: median {sorted(took)[5]:.0f} ms, worst {max(took):.0f} ms")
    assert sorted(took)[5] < 2000


async def test_nothing_is_told_while_nothing_changes(file: Path) -> None:
    async with watching(file.parent) as watched:
        await watched.names("a1")
        write(file, service("a", "1"))
        file.with_name("access.log").write_text("x")
        file.with_name(".state").mkdir()
        file.with_name(".state").joinpath("b.yaml").write_text(service("hidden"))
        await asyncio.sleep(0.3)
        write(file, service("a", "2"))
        await watched.names("a2")
        assert [names(loaded) for loaded in watched.seen] == ["a1", "a2"]


async def test_a_file_and_a_folder_that_come_later(file: Path) -> None:
    async with watching(file.parent) as watched:
        await watched.names("a1")
        deeper = file.parent / "v1.2" / "deeper"
        deeper.mkdir(parents=True)
        (deeper / "b.yaml").write_text(service("b"))
        await watched.names("a1b")
        (file.parent / "0.yaml").write_text(service("c"))
        await watched.names("ca1b")


async def test_while_a_document_does_not_parse_what_the_file_gave_stays(file: Path) -> None:
    write(file, f"{service('a', '1')}---\n{service('b', '1')}")
    async with watching(file.parent) as watched:
        await watched.names("a1b1")
        write(file, f"{service('a', '2')}---\n\t{service('b', '2')}")
        loaded = await watched.names("a2b1")
        assert codes(loaded) == ["ISM1002"]
        await asyncio.sleep(3 * QUIET)
        write(file, f"{service('a', '3')}---\n{service('b', '3')}")
        assert codes(await watched.names("a3b3")) == []
        assert [names(loaded) for loaded in watched.seen] == ["a1b1", "a2b1", "a3b3"]


async def test_what_vanished_is_removed_after_the_quiet_time(file: Path) -> None:
    write(file, f"{service('a', '1')}---\n{service('b', '1')}")
    async with watching(file.parent) as watched:
        await watched.names("a1b1")
        begun = time.perf_counter()
        write(file, service("a", "2"))
        await watched.names("a2b1")
        await watched.names("a2")
        assert time.perf_counter() - begun >= QUIET


async def test_what_comes_back_within_the_quiet_time_was_never_away(file: Path) -> None:
    async with watching(file.parent) as watched:
        await watched.names("a1")
        for note in range(2, 20):
            begun = time.perf_counter()
            remove(file)
            await asyncio.sleep(QUIET / 3)
            replace(file, service("a", str(note)))
            away = time.perf_counter() - begun
            seen = len(watched.seen)
            await watched.names(f"a{note}")
            if away < QUIET / 2:
                assert "" not in map(names, watched.seen[seen:])
                return
    pytest.skip("this machine is too busy to write a file soon after it was removed")


async def test_a_deleted_file_takes_its_documents_along(file: Path) -> None:
    (file.parent / "b.yaml").write_text(service("b"))
    async with watching(file.parent) as watched:
        await watched.names("a1b")
        remove(file)
        await watched.names("b")


async def test_a_named_file_deleted_and_written_again(file: Path) -> None:
    """What was named and is not there says nothing: a folder that is swapped is no order to stop."""
    async with watching(file) as watched:
        await watched.names("a1")
        remove(file)
        gone = await watched.until(lambda loaded: codes(loaded) == ["ISM1008"])
        assert names(gone) == "a1"
        write(file, service("a", "2"))
        assert codes(await watched.names("a2")) == []


async def test_an_empty_file_removes_nothing(file: Path) -> None:
    async with watching(file.parent) as watched:
        await watched.names("a1")
        write(file, "")
        loaded = await watched.until(lambda loaded: codes(loaded) == ["ISM1010"])
        assert names(loaded) == "a1"
        await asyncio.sleep(2 * QUIET)
        write(file, "# on purpose\n")
        await watched.names("")
        assert {names(loaded) for loaded in watched.seen} == {"a1", ""}


def write_slowly(path: Path, text: str) -> float:
    """Write line by line; say for how long, in seconds, the file held still at most."""
    written = [time.perf_counter()]
    with path.open("w") as writing:
        for line in text.splitlines(keepends=True):
            writing.write(line)
            writing.flush()
            written.append(time.perf_counter())
            time.sleep(0.002)
    return max(after - before for before, after in pairwise(written))


async def test_a_file_is_read_only_when_it_holds_still(file: Path) -> None:
    """Every prefix parses, but only the whole is meant."""
    ports = "spec:\n  ports:\n" + "".join(f"    - {{port: {port}}}\n" for port in range(1, 41))
    async with watching(file.parent) as watched:
        await watched.names("a1")
        for attempt in range(2, 20):
            pause = await asyncio.to_thread(write_slowly, file, service("a", str(attempt)) + ports)
            loaded = await watched.names(f"a{attempt}")
            if pause < HELD:
                assert len(loaded.documents[0].root.at("spec", "ports").items) == 40
                return
    pytest.skip("this machine is too busy to write a file without a pause")


async def test_a_mounted_config_map_swaps_a_link(tmp_path: Path) -> None:
    for version in "12":
        (tmp_path / f"..v{version}").mkdir()
        (tmp_path / f"..v{version}" / "a.yaml").write_text(service("a", version))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with watching(tmp_path) as whole, watching(tmp_path / "a.yaml") as one:
        await whole.names("a1")
        await one.names("a1")
        (tmp_path / "..tmp").symlink_to("..v2")
        os.replace(tmp_path / "..tmp", tmp_path / "..data")
        await whole.names("a2")
        await one.names("a2")


async def test_a_folder_reached_by_a_link_that_is_moved(tmp_path: Path) -> None:
    for version in "12":
        (tmp_path / f"v{version}" / "m").mkdir(parents=True)
        (tmp_path / f"v{version}" / "m" / "a.yaml").write_text(service("a", version))
    (tmp_path / "current").symlink_to("v1")
    async with watching(tmp_path / "current" / "m") as watched:
        await watched.names("a1")
        (tmp_path / "next").symlink_to("v2")
        os.replace(tmp_path / "next", tmp_path / "current")
        await watched.names("a2")
        (tmp_path / "v2" / "m" / "a.yaml").write_text(service("a", "3"))
        await watched.names("a3")


async def test_a_folder_that_is_not_there_yet_goes_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "x" / "m"
    async with watching(folder) as watched:
        assert codes(await watched.names("")) == ["ISM1008"]
        for note in "12":
            folder.mkdir(parents=True)
            (folder / "a.yaml").write_text(service("a", note))
            await watched.names(f"a{note}")
            (folder / "a.yaml").unlink()
            folder.rmdir()
            gone = await watched.until(lambda loaded: codes(loaded) == ["ISM1008"])
            assert names(gone) == f"a{note}"


async def test_a_last_good_version_stands_in_for_what_is_broken_at_the_start(file: Path) -> None:
    previous = documents(service("a", "0"), str(file)) + documents(service("gone"), "elsewhere.yaml")
    write(file, "a: [\n")
    async with aclosing(watch([file], previous=previous)) as states:
        first = await anext(aiter(states))
    assert names(first) == "a0"
    assert codes(first) == ["ISM1001"]


async def test_a_slow_reader_sees_the_last_state(file: Path) -> None:
    async with watching(file.parent) as watched:
        await watched.names("a1")
        for note in range(2, 7):
            write(file, service("a", str(note)))
            await asyncio.sleep(0.02)
        await watched.names("a6")
        assert len(watched.seen) < 7


async def test_nothing_is_left_running_at_the_end(file: Path) -> None:
    before = asyncio.all_tasks()
    async with watching(file.parent, file) as watched:
        await watched.names("a1")
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before
