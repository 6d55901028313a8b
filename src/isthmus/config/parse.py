"""One document's text to a Node: YAML (and JSON, which is YAML), every value with its place.

Events of libyaml are folded here rather than composed by PyYAML: its composer recurses on the C stack, so a file of
brackets would end the process. Plain scalars are YAML 1.2's: only ``true`` and ``false`` are booleans, dates and
``22:22`` are strings. Integers with a leading zero are octal, as Kubernetes reads them.
"""

from __future__ import annotations

import math
import re
from typing import Final

import yaml

from isthmus.config.node import Node, Scalar, below
from isthmus.diag import Code, Place, Report, Severity, Source

MAX_NODES: Final = 100_000
"""Of one document, aliases counted as what they stand for."""
MAX_DEPTH: Final = 100

NOT_YAML = Code(
    "ISM1001",
    Severity.ERROR,
    "Not YAML",
    "{problem}",
    what="A document is neither YAML nor JSON.",
    why="Nothing of it can be read. The other documents of the file are not affected.",
    example="metadata:\n  name: web\n namespace: shop   # indented by one space",
    fix="Mend the syntax at the line that the message names, or just above it.",
)
TAB = Code(
    "ISM1002",
    Severity.ERROR,
    "Tab in the indentation",
    "a tab is used for indentation; YAML takes only spaces",
    what="A line of YAML begins with a tab character.",
    why="YAML forbids it, because a tab has no agreed width and the indentation is the structure.",
    example="spec:\n\thosts: [shop.example.com]",
    fix="Replace the tab with spaces; let your editor insert spaces in YAML files.",
)
DUPLICATE_KEY = Code(
    "ISM1003",
    Severity.ERROR,
    "Duplicate key",
    'the key "{key}" is here already, at line {first}',
    what="A mapping has the same key twice.",
    why="Programs differ in which of the two they take, so a policy could mean one thing here and another elsewhere.",
    example="metadata:\n  name: web\n  name: shop",
    fix="Keep one of them.",
)
KEY_NOT_A_STRING = Code(
    "ISM1011",
    Severity.ERROR,
    "Key that is not a string",
    "a key must be a string, found {found}",
    what="The key of a mapping is null, a boolean, a fraction, a list or a mapping.",
    why="Kubernetes objects are JSON, whose keys are strings. (A whole number is taken as its digits.)",
    example="labels:\n  true: enabled",
    fix='Put the key in quotes: "true".',
)
CUSTOM_TAG = Code(
    "ISM1012",
    Severity.ERROR,
    "Unsupported tag",
    'the tag "{tag}" is not supported here',
    what="A value has a YAML tag other than those of JSON's types, or one that does not fit the value.",
    why="Kubernetes objects are JSON; a tag for anything else has no meaning in them.",
    example="password: !vault secret/shop",
    fix="Take the tag out and write the value itself.",
)
TOO_LARGE = Code(
    "ISM1013",
    Severity.ERROR,
    "Too large or too deep",
    "the document has {what}",
    what=f"A document has over {MAX_NODES:,} values, aliases counted in full, or nests over {MAX_DEPTH} levels deep.",
    why="A few lines of aliases can stand for billions of values, and no real manifest is near these limits.",
    example="a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]   # and so on",
    fix="Write the document without such aliases, or divide it.",
)

_STR = "tag:yaml.org,2002:str"
_TYPES: dict[str, tuple[type, ...]] = {
    "tag:yaml.org,2002:int": (int,),
    "tag:yaml.org,2002:float": (float, int),
    "tag:yaml.org,2002:bool": (bool,),
    "tag:yaml.org,2002:null": (type(None),),
}
_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OCTAL = re.compile(r"([-+]?)0o?([0-7]+)")
_HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F]+")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NUMBER_STARTS = frozenset("+-.0123456789")
_LONGEST_NUMBER = 400
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


class _Unparsable(Exception):
    """The document cannot be used; why has been reported already."""


def parse(text: str, file: str, first_line: int, report: Report) -> Node | None:
    """Read one document (as ``split`` cuts them); None, and the reason in ``report``, if it cannot be used.

    ``first_line`` is where ``text`` begins in ``file``; lines and columns count from 1. Nodes have their paths from
    the document's root and no ``ref``. Anchors, aliases and merge keys (``<<``) are followed; an aliased value keeps
    the place where it is written. A whole number as a key is taken as its digits, as Kubernetes does.
    """
    try:
        return _Builder(text, file, first_line, report).document()
    except _Unparsable:
        return None
    except yaml.YAMLError as error:
        if "Unicode character escape" in str(error) and (joined := _SURROGATES.sub(_join, text)) != text:
            return parse(joined, file, first_line, report)
        _report_syntax(error, text, file, first_line, report)
        return None


def _join(pair: re.Match[str]) -> str:
    """JSON writes a character beyond U+FFFF as two escapes; YAML as one."""
    return f"\\U{0x10000 + ((int(pair[1], 16) - 0xD800) << 10) + int(pair[2], 16) - 0xDC00:08X}"


def plain_scalar(text: str) -> Scalar:
    """What an unquoted scalar stands for. Infinities, NaN and absurdly long numbers stay text: JSON has none."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER:
        return text
    if octal := _OCTAL.fullmatch(text):
        return int(octal[1] + octal[2], 8)
    if _INTEGER.fullmatch(text):
        return int(text)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


class _Builder:
    """Folds the events of one document into a Node."""

    def __init__(self, text: str, file: str, first_line: int, report: Report) -> None:
        self._loader = yaml.CSafeLoader(text)
        self._text = text
        self._lines: list[str] | None = None
        self._file = file
        self._first_line = first_line
        self._report = report
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._nodes = 0
        self._flawed = False

    def document(self) -> Node | None:
        try:
            self._next()
            if isinstance(self._next(), yaml.StreamEndEvent):
                return None
            root = self._node(self._next(), "", 0)
            self._next()
            extra = self._next()
            if not isinstance(extra, yaml.StreamEndEvent):
                self._refuse(NOT_YAML, extra, problem="a second document begins here")
        finally:
            self._loader.dispose()
        return None if self._flawed else root

    def _next(self) -> yaml.Event:
        event = self._loader.get_event()
        assert event is not None  # nobody reads past the end of the stream
        return event

    def _source(self, event: yaml.Event) -> Source:
        mark = event.start_mark
        assert mark is not None  # libyaml marks every event
        return Source(self._file, self._first_line + mark.line, mark.column + 1)

    def _refuse(self, code: Code, event: yaml.Event, **args: str | int | None) -> None:
        """Report what makes the document useless, but read on: the next fault is worth telling too."""
        self._report.add(code, Place(self._source(event)), severity=code.severity, **args)
        self._flawed = True

    def _charge(self, nodes: int, depth: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._refuse(TOO_LARGE, event, what=f"over {MAX_NODES:,} values")
            raise _Unparsable
        if depth > MAX_DEPTH:
            self._refuse(TOO_LARGE, event, what=f"over {MAX_DEPTH} levels")
            raise _Unparsable

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event, path, depth)
        self._charge(1, depth, event)
        before = self._nodes
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self._scalar(event), self._source(event), path, begins=self._begins(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, path, depth)
        else:
            assert isinstance(event, yaml.MappingStartEvent)
            node = self._mapping(event, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._nodes - before + 1, _height(node))
        return node

    def _aliased(self, event: yaml.AliasEvent, path: str, depth: int) -> Node:
        # An anchor counts only once its value is complete, so a value cannot contain itself.
        if event.anchor not in self._anchors:
            self._refuse(NOT_YAML, event, problem=f'no anchor "{event.anchor}" before this alias')
            raise _Unparsable
        node, size, height = self._anchors[event.anchor]
        self._charge(size, depth + height, event)
        return node.moved(path, None)

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text: str = event.value
        plain, quoted = event.implicit
        if plain and event.tag is None:
            return plain_scalar(text)
        if quoted or event.tag in (_STR, "!"):
            return text
        value = plain_scalar(text)
        wanted = _TYPES.get(event.tag or "", ())
        if type(value) not in wanted:
            self._refuse(CUSTOM_TAG, event, tag=event.tag)
        return value

    def _begins(self, event: yaml.ScalarEvent) -> Source | None:
        """Where the text of a quoted scalar or a block begins; of a folded one only its first line can be told so."""
        mark = event.start_mark
        if not event.style or mark is None:
            return None
        if event.style in "'\"":
            return Source(self._file, self._first_line + mark.line, mark.column + 2)
        if event.style not in "|>":
            return None
        if self._lines is None:
            self._lines = self._text.split("\n")
        for line in self._lines[mark.line + 1 :]:
            if line.strip(" "):
                return Source(self._file, self._first_line + mark.line + 1, len(line) - len(line.lstrip(" ")) + 1)
        return None

    def _check_tag(self, event: yaml.CollectionStartEvent, own: str) -> None:
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{own}"):
            self._refuse(CUSTOM_TAG, event, tag=event.tag)

    def _sequence(self, start: yaml.CollectionStartEvent, path: str, depth: int) -> Node:
        self._check_tag(start, "seq")
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return Node(tuple(items), self._source(start), path)

    def _mapping(self, start: yaml.CollectionStartEvent, path: str, depth: int) -> Node:
        self._check_tag(start, "map")
        entries: dict[str, Node] = {}
        keys: dict[str, Source] = {}
        merged: list[Node] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                merged += self._merged(event, path, depth)
                continue
            key = self._key(event, path, depth)
            value = self._node(self._next(), below(path, key), depth + 1)
            if key in keys:
                self._refuse(DUPLICATE_KEY, event, key=key, first=keys[key].line)
            else:
                entries[key], keys[key] = value, self._source(event)
        for source in merged:
            for key, value in source.mapping.items():
                if key not in entries:
                    entries[key], keys[key] = value.moved(below(path, key), None), source.keys[key]
        return Node(entries, self._source(start), path, None, keys)

    def _key(self, event: yaml.Event, path: str, depth: int) -> str:
        value: object
        if isinstance(event, yaml.ScalarEvent) and event.anchor is None:
            value = self._scalar(event)
        else:
            value = self._node(event, path, depth + 1).value
        if isinstance(value, str):
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            found = event.value or "nothing" if isinstance(event, yaml.ScalarEvent) else "a list or a mapping"
            self._refuse(KEY_NOT_A_STRING, event, found=found)
        return str(value)

    def _merged(self, key: yaml.Event, path: str, depth: int) -> tuple[Node, ...]:
        """The mappings that ``<<`` names; what a mapping says itself comes before them, the first before the next."""
        value = self._node(self._next(), path, depth + 1)
        mappings = (value,) if value.is_mapping else value.items
        if not mappings or not all(node.is_mapping for node in mappings):
            self._refuse(NOT_YAML, key, problem='"<<" takes a mapping or a list of mappings')
            return ()
        return mappings


def _height(node: Node) -> int:
    return max((1 + _height(child) for child in (*node.mapping.values(), *node.items)), default=0)


def _report_syntax(error: yaml.YAMLError, text: str, file: str, first_line: int, report: Report) -> None:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        problem = ": ".join(part for part in (error.context, error.problem) if part)
    else:
        # ReaderError: its position counts bytes.
        read = text.encode()[: getattr(error, "position", 0)].decode(errors="ignore")
        line, column = read.count("\n"), len(read) - read.rfind("\n") - 1
        problem = getattr(error, "reason", None) or str(error)
    place = Place(Source(file, first_line + line, column + 1))
    lines = text.split("\n")
    if line < len(lines) and (lines[line][column : column + 1] == "\t" or "tab character" in problem):
        report.add(TAB, place)
    else:
        report.add(NOT_YAML, place, problem=problem)
