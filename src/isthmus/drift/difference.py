"""Where two messages differ, in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from isthmus.envoy_api import Message, to_json

_MOST = 3
"""Places named; one is mostly enough to find the rest."""
_LONGEST = 80
_NOTHING = object()
_REDACTED = "[redacted]"
"""What Envoy shows of fields that its API marks as sensitive, such as the context extensions of an ext_authz route."""


def difference(wanted: Message, seen: Message) -> str | None:
    """The first places where they differ, each ``path: declared → runs``; None: they are the same message.

    Values that may be credentials, and long ones, are not shown.
    """
    if wanted.SerializeToString(deterministic=True) == seen.SerializeToString(deterministic=True):
        return None
    places = list(_places(to_json(wanted), to_json(seen), ""))
    if not places:
        return None
    more = f"; and {len(places) - _MOST} more" if len(places) > _MOST else ""
    return "; ".join(places[:_MOST]) + more


def _places(wanted: Any, seen: Any, path: str) -> Iterator[str]:
    if wanted == seen or (seen == _REDACTED and isinstance(wanted, str)):
        return
    if isinstance(wanted, dict) and isinstance(seen, dict):
        for name in sorted(wanted.keys() | seen.keys()):
            below = f"{path}.{name}" if path else name
            yield from _places(wanted.get(name, _NOTHING), seen.get(name, _NOTHING), below)
    elif isinstance(wanted, list) and isinstance(seen, list):
        for index in range(max(len(wanted), len(seen))):
            one, other = (some[index] if index < len(some) else _NOTHING for some in (wanted, seen))
            yield from _places(one, other, f"{path}[{index}]")
    else:
        yield f"{path}: {_shown(wanted)} → {_shown(seen)}"


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return f'"{value["name"][:_LONGEST]}"'
    text = json.dumps(value)
    if len(text) > _LONGEST:
        return "(something longer)"
    # The outbound proxy's credential stands in its configuration.
    return "[redacted]" if "Basic " in text else text
