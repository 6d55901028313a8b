from __future__ import annotations

import asyncio
import os
import resource
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.proxy.log import OLDER, LogFile, Logs


class Heard:
    """Collects what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """What a full disk does to writes, for this process: they end within, and then fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_lines_are_appended_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "log" / "a.log"
    LogFile(path, Logs()).write(b"one\n")
    LogFile(path, Logs()).write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_would_grow_too_large_is_turned_over_and_few_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", Logs(), max_bytes=10)
    for number in range(6):
        log.write(b"line %d..\n" % number)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert kept == {
        "a.log": b"line 5..\n",
        "a.log.1": b"line 4..\n",
        "a.log.2": b"line 3..\n",
        "a.log.3": b"line 2..\n",
    }
    assert len(kept) == OLDER + 1


def test_a_log_that_somebody_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log" / "a.log"
    log = LogFile(path, Logs())
    log.write(b"one\n")
    path.unlink()
    path.parent.rmdir()
    log.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_what_does_not_fit_is_left_out_in_whole_lines_and_told_once(tmp_path: Path) -> None:
    path, heard = tmp_path / "a.log", Heard()
    log = LogFile(path, Logs(heard))
    with largest_file(10):
        log.write(b"one\n")
        log.write(b"two\nthree\nfo")
        log.write(b"ur\nfive\nsi")
        log.write(b"x")
    log.write(b"ty\nseven\n")
    assert path.read_bytes() == b"one\ntwo\nseven\n"
    assert heard.lines == [f"{path} cannot be written (File too large): lines of logs are left out until it can"]


def test_the_beginning_of_a_line_goes_with_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, Logs(Heard()))
    with largest_file(10):
        log.write(b"one\ntw")
        log.write(b"o is much too long\n")
    log.write(b"three\n")
    assert path.read_bytes() == b"one\nthree\n"


def test_the_end_of_a_fault_is_told_when_it_has_been_quiet(tmp_path: Path) -> None:
    heard, now = Heard(), [100.0]
    logs = Logs(heard, clock=lambda: now[0])
    logs.failed(tmp_path, "No space left on device", 7)
    logs.wrote()
    now[0] += 1
    logs.failed(tmp_path, "No space left on device", 5)
    now[0] += 6
    logs.wrote()
    logs.wrote()
    assert heard.lines[1:] == ["logs are written again; 12 bytes of them were left out"]


async def test_what_a_process_prints_is_copied_until_it_ends(tmp_path: Path) -> None:
    path, logs = tmp_path / "a.log", Logs()
    script = "import os\nfor n in range(20000): os.write(1, b'%d\\n' % n)"
    with logs.open(path) as pipe:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=pipe.writer)
    assert await process.wait() == 0
    for _ in range(200):
        if path.stat().st_size == sum(len(str(number)) + 1 for number in range(20000)):
            break
        await asyncio.sleep(0.05)
    assert path.read_text().split() == [str(number) for number in range(20000)]


async def test_two_that_write_to_one_log_share_it(tmp_path: Path) -> None:
    path, logs = tmp_path / "a.log", Logs(max_bytes=1 << 20)
    with logs.open(path) as one, logs.open(path) as other:
        os.write(one.writer, b"one\n")
        os.write(other.writer, b"two\n")
    for _ in range(200):
        if path.stat().st_size == 8:
            break
        await asyncio.sleep(0.05)
    assert sorted(path.read_text().split()) == ["one", "two"]
