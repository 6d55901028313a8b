"""Files, folders and standard input to documents; what has not changed is neither read nor parsed again."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from isthmus.config.documents import Broken, Read, drop_duplicates, guess, read
from isthmus.config.parse import parse
from isthmus.config.resource import Document
from isthmus.config.split import Piece, split
from isthmus.diag import Code, Diagnostic, Place, Report, Severity, Source
from isthmus.state import is_state

EMPTY_FOLDER = Code(
    "ISM1007",
    Severity.WARNING,
    "No manifests in a folder",
    "no manifest (*.yaml, *.yml, *.json) in this folder",
    what="A folder that was given has no manifest in it or below it.",
    why="It may be the wrong folder. Hidden files and folders, state directories and editors' backups do not count.",
    example="isthmus analyze docs/   # the manifests are in deploy/",
    fix="Give the folder that holds the manifests, or name the file itself: a named file may be called anything.",
)
NO_SUCH_PATH = Code(
    "ISM1008",
    Severity.ERROR,
    "No such file or folder",
    "no such file or folder",
    what="A path that was given does not exist.",
    why="What it should have held is not in force.",
    example="isthmus analyze shop.yml   # the file is shop.yaml",
    fix="Correct the path.",
)
UNREADABLE = Code(
    "ISM1009",
    Severity.ERROR,
    "File cannot be read",
    "cannot be read: {reason}",
    what="A file or folder is there, but the system refuses to let it be read.",
    why="What it holds is not known; while watching, what it gave before stays in force.",
    example="chmod 000 shop.yaml",
    fix="Give the user who runs Isthmus the right to read it.",
)
EMPTY_FILE = Code(
    "ISM1010",
    Severity.WARNING,
    "Empty file",
    "the file is empty; while watching, what it gave before stays in force",
    what="A manifest file has no text.",
    why="Many editors empty a file before they write it anew, so emptiness does not remove anything.",
    example="truncate -s 0 shop.yaml",
    fix="To remove what the file gave, delete the file, or leave a comment in it.",
)
NOT_UTF8 = Code(
    "ISM1014",
    Severity.ERROR,
    "Not UTF-8",
    "the file is not UTF-8 text (byte 0x{byte:02x})",
    what="A file has bytes that are not UTF-8 text.",
    why="Its letters would be a guess. While watching, what it gave before stays in force.",
    example="iconv -t utf-16 shop.yaml > shop-copy.yaml",
    fix="Save the file as UTF-8.",
)

STDIN: Final = "-"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
# A file changed this shortly before it was read may change again within one tick of the file system's clock.
_RACY_NS = 50_000_000
_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the paths hold.

    ``documents`` are in the order of loading: of the arguments, inside a folder by path, inside a file as written.
    ``broken`` are the documents that cannot be used. ``unsure`` are the files that say nothing of what is absent from
    them: those with a document that does not parse, the empty and the unreadable ones.
    """

    documents: tuple[Document, ...]
    report: Report
    broken: tuple[Broken, ...] = ()
    unsure: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Parsed:
    read: Read
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """What one file gave, by the place and digest of its documents."""

    pieces: Mapping[tuple[int, str], _Parsed] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def unsure(self) -> bool:
        return bool(self.diagnostics) or any(piece.read.broken for piece in self.pieces.values())


@dataclass(slots=True)
class Loader:
    """Loads again and again, keeping what it has parsed: an unchanged document is the very same object.

    ``namespace`` is for documents that name none. ``stdin`` (default: the process's own) and other things that can be
    read only once, such as pipes, are read at the first load.
    """

    namespace: str = "default"
    stdin: BinaryIO | None = None
    _files: dict[str, tuple[_Stamp | None, _File]] = field(default_factory=dict, init=False)
    _once: dict[str, bytes] = field(default_factory=dict, init=False)

    def load(self, paths: Sequence[str | Path]) -> Loaded:
        """Read ``paths``: files, folders (recursively) and ``-``, standard input. Faults are in the report."""
        report = Report()
        places = _names(paths, report)
        blind = {found.source.file for found in report if found.code in (UNREADABLE, NO_SUCH_PATH)}
        before, self._files = self._files, {}
        files = []
        for name in places:
            stamp, file = self._file(name, *before.get(name, (None, _File())))
            self._files[name] = (stamp, file)
            files.append(file)
        parsed = [piece for file in files for piece in file.pieces.values()]
        report.extend(found for file in files for found in file.diagnostics)
        report.extend(found for piece in parsed for found in piece.diagnostics)
        return Loaded(
            drop_duplicates((document for piece in parsed for document in piece.read.documents), report),
            report,
            tuple(broken for piece in parsed for broken in piece.read.broken),
            frozenset(_shown(name) for name, file in zip(places, files, strict=True) if file.unsure) | blind,
        )

    def _file(self, name: str, known: _Stamp | None, last: _File) -> tuple[_Stamp | None, _File]:
        """Read and parse one file, unless it still has the stamp ``known``; then it is as it was ``last``."""
        try:
            stamp, data = None, self._once.get(name)
            if data is None:
                now = None if name == STDIN else os.stat(name)
                if now is None or not stat.S_ISREG(now.st_mode):
                    data = self._once[name] = self._read_once(name)
                else:
                    stamp = _stamp(now)
                    if stamp is not None and stamp == known:
                        return stamp, last
                    data = Path(name).read_bytes()
        except OSError as error:
            place = _place(name)
            return None, _File(diagnostics=_only(UNREADABLE, place, reason=error.strerror or str(error)))
        return stamp, self._parse(_shown(name), data, last)

    def _read_once(self, name: str) -> bytes:
        if name == STDIN:
            return (self.stdin or sys.stdin.buffer).read()
        return Path(name).read_bytes()

    def _parse(self, name: str, data: bytes, last: _File) -> _File:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            good = data[: error.start].decode("utf-8-sig")
            place = Place(Source(name, good.count("\n") + 1, len(good) - good.rfind("\n")))
            return _File(diagnostics=_only(NOT_UTF8, place, byte=data[error.start]))
        if not text.strip():
            return _File(diagnostics=_only(EMPTY_FILE, _place(name)))
        pieces = {}
        for piece in split(text):
            key = (piece.first_line, piece.digest)
            pieces[key] = last.pieces.get(key) or self._parse_piece(name, piece)
        return _File(pieces)

    def _parse_piece(self, name: str, piece: Piece) -> _Parsed:
        report = Report()
        root = parse(piece.text, name, piece.first_line, report)
        if root is not None:
            given = read(root, piece.digest, self.namespace, report)
        elif len(report):
            given = Read(broken=(guess(piece.text, Source(name, piece.first_line, 1), self.namespace),))
        else:
            given = Read()
        return _Parsed(given, tuple(report))


def load(paths: Sequence[str | Path], *, namespace: str = "default", stdin: BinaryIO | None = None) -> Loaded:
    """Read ``paths`` once; see :meth:`Loader.load`."""
    return Loader(namespace, stdin).load(paths)


def _names(paths: Sequence[str | Path], report: Report) -> list[str]:
    """The files to read, as the user would write them, each once however often it is reached."""
    names: dict[str, str] = {}
    for given in map(str, paths):
        if given == STDIN:
            names.setdefault(STDIN, STDIN)
        elif os.path.isdir(given):
            known = len(report)
            found = _manifests(given, report)
            if not found and len(report) == known:
                report.add(EMPTY_FOLDER, _place(given))
            for name, real in found:
                names.setdefault(real, name)
        elif os.path.exists(given):
            names.setdefault(os.path.realpath(given), given)
        else:
            report.add(NO_SUCH_PATH, _place(given))
    return list(names.values())


def _manifests(folder: str, report: Report) -> list[tuple[str, str]]:
    """The manifests in ``folder`` and below, links followed, sorted by path; each with its real path."""
    found: list[tuple[str, str]] = []
    folders = [os.path.normpath(folder)]
    seen: set[str] = set()
    while folders:
        where = folders.pop()
        real = os.path.realpath(where)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(where), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            report.add(UNREADABLE, _place(where), reason=error.strerror)
            continue
        for entry in entries:
            name = entry.name if where == os.curdir else os.path.join(where, entry.name)
            if os.path.isdir(name) if entry.is_symlink() else entry.is_dir():
                # A state directory of another name than the usual hidden one has JSON files, and none is a manifest.
                if not entry.name.startswith(".") and not is_state(name):
                    folders.append(name)
            elif is_manifest(entry.name) and entry.is_symlink():
                # Also one that leads nowhere: to read it fails, which is better told than passed over.
                found.append((name, os.path.realpath(name)))
            elif is_manifest(entry.name) and entry.is_file():
                found.append((name, os.path.join(real, entry.name)))
    return sorted(found, key=lambda pair: pair[0].split(os.sep))


def is_manifest(name: str) -> bool:
    """Whether a file of this name (without its folder) counts as a manifest: not hidden, no editor's backup."""
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in _SUFFIXES and not name.startswith((".", "#")) and not stem.endswith("~")


def _stamp(now: os.stat_result) -> _Stamp | None:
    # The time of change of the inode is there because a tool can set the other one back.
    if time.time_ns() - max(now.st_mtime_ns, now.st_ctime_ns) < _RACY_NS:
        return None
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def _shown(name: str) -> str:
    return "<stdin>" if name == STDIN else name


def _place(name: str) -> Place:
    return Place(Source(_shown(name), 1, 1))


def _only(code: Code, at: Place, **args: object) -> tuple[Diagnostic, ...]:
    report = Report()
    report.add(code, at, severity=code.severity, **args)
    return tuple(report)
