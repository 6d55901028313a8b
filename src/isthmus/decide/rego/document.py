"""Data files of bundles: JSON and YAML to JSON values, as OPA reads them, and their canonical bytes. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

_DEPTH: Final = 200
_VALUES: Final = 5_000_000
"""Of one document, aliases written out: YAML can say a billion values in a kilobyte."""
_LARGEST: Final = 1 << 64
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029"})
"""Go's encoder escapes these two, Python's does not."""


class Unparsable(ValueError):
    """Not a document of JSON values."""


class Literal(float):
    """A number as it was written: a signature is over its digits."""

    text: str

    def __new__(cls, text: str) -> Literal:
        made = super().__new__(cls, text)
        made.text = text
        return made


def read_json(content: bytes, *, literal: bool = False) -> Any:
    """``literal``: numbers are :class:`Literal`. Raises Unparsable."""
    try:
        # As OPA: in UTF-8, and the last of two equal keys counts.
        text = content.decode().removeprefix("\ufeff")
        number: Any = Literal if literal else _finite
        whole: Any = Literal if literal else int
        return json.loads(text, parse_float=number, parse_int=whole, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Unparsable("not UTF-8") from None
    except (ValueError, RecursionError) as fault:
        raise Unparsable(f"not JSON: {fault}") from None


def read_structured(path: str, content: bytes, *, literal: bool = False) -> Any:
    """A data file or manifest: YAML by its name, else JSON. Raises Unparsable."""
    if PurePosixPath(path).suffix not in (".yaml", ".yml"):
        return read_json(content, literal=literal)
    try:
        return _plain(yaml.load(content, Loader=_Loader), _Budget(), 0, literal=literal)  # noqa: S506 (a safe one)
    except RecursionError:
        raise Unparsable("nested too deeply") from None
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise Unparsable(f"not YAML: {str(fault).splitlines()[0]}") from None
    except Unparsable:
        raise
    except ValueError as fault:
        raise Unparsable(f"not YAML: {fault}") from None


def canonical(value: Any) -> Iterator[bytes]:
    """The bytes that OPA hashes of a structured file: keys in order, no white space, numbers as they were written.

    ``value``: read with ``literal``. Source: OPA's documentation, "Bundles", the signature format.
    """
    match value:
        case Mapping():
            yield b"{"
            for at, key in enumerate(sorted(value)):
                yield (b"," if at else b"") + _string(key) + b":"
                yield from canonical(value[key])
            yield b"}"
        case list():
            yield b"["
            for at, item in enumerate(value):
                if at:
                    yield b","
                yield from canonical(item)
            yield b"]"
        case Literal():
            yield value.text.encode()
        case str():
            yield _string(value)
        case _:
            yield json.dumps(value).encode()


def _string(value: str) -> bytes:
    whole = _SURROGATE.sub("\ufffd", value)
    return json.dumps(whole, ensure_ascii=False).translate(_ESCAPED).encode()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _Budget:
    def __init__(self) -> None:
        self._left = _VALUES

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Unparsable(f"more than {_VALUES} values")


def _plain(value: Any, budget: _Budget, depth: int, *, literal: bool) -> Any:
    """JSON values of YAML's; shared parts are written out."""
    budget.take()
    if depth > _DEPTH:
        raise Unparsable("nested too deeply")
    match value:
        case dict():
            return {key: _plain(inner, budget, depth + 1, literal=literal) for key, inner in value.items()}
        case list():
            return [_plain(inner, budget, depth + 1, literal=literal) for inner in value]
        case None | bool() | str():
            return value
        case int() if abs(value) < _LARGEST:
            return Literal(str(value)) if literal else value
        case int() | float() if math.isfinite(value):
            return Literal(_number(float(value))) if literal else _integral(float(value))
    raise Unparsable(f"a value of the type {type(value).__name__}, which JSON has not")


def _key(key: Any) -> str:
    match key:
        case str():
            return key
        case bool():
            return "true" if key else "false"
        case int():
            return str(key)
    raise Unparsable(f"a key of the type {type(key).__name__}")


def _number(value: float) -> str:
    """As Go's encoder writes a float64: the shortest digits that give it back, an exponent below 1e-6 and from 1e21."""
    if value and not 1e-6 <= abs(value) < 1e21:
        return repr(value).replace("e-0", "e-")
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _integral(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:30]} is too large a number")
    return value


class _Loader(yaml.CSafeLoader):
    """Scalars as OPA's reader of YAML takes them: no times, no numbers to the base of 60, ``1e3`` is a number."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Keys are strings before they meet: ``1`` and ``true`` are one key to Python."""
        self.flatten_mapping(node)
        return {
            _key(self.construct_object(key, deep=True)): self.construct_object(value, deep) for key, value in node.value
        }


_TAG: Final = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in (f"{_TAG}timestamp", f"{_TAG}int", f"{_TAG}float")]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^[yYnN]$"), list("yYnN"))
_Loader.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"^[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*|0)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)
_Loader.bool_values = {**yaml.CSafeLoader.bool_values, "y": True, "n": False}
