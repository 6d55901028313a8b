"""One decision as an event of OPA's decision log, without what no log may hold. Pure.

Source: OPA's documentation, "Decision Logs". What a policy masks by ``data.system.log.mask`` goes first; what clients
prove themselves with goes always.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from isthmus.decide.rego.decision import Decision
from isthmus.decide.rego.engine import DROP, MASK
from isthmus.errors import Undecided
from isthmus.model.oidc import HEADER as LOGIN_HEADER

Event = dict[str, Any]

_SECRET_HEADERS: Final = (
    *("authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key", "api-key", "apikey"),
)
_HEADERS: Final = ("input", "attributes", "request", "http", "headers")
_SECRET_PARAMETERS: Final = ("access_token", "api_key", "apikey")
_IN_TEXT: Final = (
    (re.compile(r"\bisk_[A-Za-z0-9_-]{8,}"), "isk_[masked]"),
    (re.compile(r"\b(access_token|api_key|apikey)=[^&#\"\\\s]+"), r"\1=[masked]"),
)
"""Keys of ours wherever they stand, and what clients put into paths."""
_PARTS: Final = ("input", "result", "nd_builtin_cache")
"""Of an event, what may be masked."""


class Unmaskable(ValueError):
    """The policy's mask cannot be applied, so the event must not be told."""


@dataclass(frozen=True, slots=True)
class _Mask:
    parts: tuple[str, ...]
    upsert: bool = False
    value: Any = None

    @property
    def pointer(self) -> str:
        return "/" + "/".join(self.parts)


def build_event(decision: Decision, labels: Mapping[str, str], dropped: int = 0) -> Event | None:
    """JSON values; None: the policy says that this decision is not to be logged. ``dropped``: events lost before it.

    Raises Unmaskable.
    """
    event = _whole(decision, labels, dropped)
    engine = decision.engine
    if engine is not None:
        if engine.has(DROP) and _asked(decision, DROP, event) is True:
            return None
        if engine.has(MASK):
            for mask in _read(_asked(decision, MASK, event)):
                _apply(event, mask)
    for mask in _always(event):
        _apply(event, mask)
    return event


def encode(event: Event) -> bytes:
    """One line without its end."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text.encode("utf-8", "replace")


def _whole(decision: Decision, labels: Mapping[str, str], dropped: int) -> Event:
    # A copy: the same input may be that of other decisions.
    document, result = json.loads(json.dumps([decision.input, decision.result]))
    metrics: dict[str, int] = {"timer_rego_query_eval_ns": int(decision.seconds * 1e9)}
    if dropped:
        metrics["counter_decision_logs_dropped"] = dropped
    bundles = decision.source.bundles if decision.source is not None else {}
    event: Event = {
        "labels": {**labels, "policy": decision.policy},
        "decision_id": decision.decision_id,
        "bundles": {name: {"revision": revision} for name, revision in bundles.items()},
        "path": decision.path,
        "input": document,
        "result": result,
        "requested_by": decision.requested_by,
        "timestamp": decision.timestamp.isoformat().replace("+00:00", "Z"),
        "metrics": metrics,
    }
    if decision.error is not None:
        event["error"] = {"message": decision.error}
    return {name: value for name, value in event.items() if value not in (None, {}, "")}


def _asked(decision: Decision, path: str, event: Event) -> Any:
    """What the policy says about the event. Raises Unmaskable."""
    assert decision.engine is not None
    try:
        return decision.engine.evaluate(path, event)
    except Undecided as fault:
        if path == DROP:
            return None
        raise Unmaskable(str(fault)) from None


def _read(rules: Any) -> Sequence[_Mask]:
    """What ``data.system.log.mask`` gives. Raises Unmaskable."""
    if not isinstance(rules, list | tuple):
        return ()
    return tuple(map(_rule, rules))


def _rule(rule: Any) -> _Mask:
    match rule:
        case str():
            return _Mask(_split(rule))
        case {"op": "remove", "path": str() as path}:
            return _Mask(_split(path))
        case {"op": "upsert", "path": str() as path}:
            return _Mask(_split(path), upsert=True, value=rule.get("value"))
    raise Unmaskable("a mask is a pointer, or an object with op and path")


def _split(pointer: str) -> tuple[str, ...]:
    first, *parts = pointer.split("/")
    if first or not parts or parts[0] not in _PARTS:
        raise Unmaskable("a mask's path begins with /input, /result or /nd_builtin_cache")
    return tuple(parts)


def _always(event: Event) -> Sequence[_Mask]:
    """What clients prove themselves with, whatever the policy says."""
    found = [_Mask((*_HEADERS, name)) for name in _names(_at(event, _HEADERS), _SECRET_HEADERS)]
    query = ("input", "parsed_query")
    found += [_Mask((*query, name)) for name in _names(_at(event, query), _SECRET_PARAMETERS)]
    for place in (("result", "headers"), ("result", "response_headers_to_add")):
        found += [_Mask((*place, name)) for name in _names(_at(event, place), _SECRET_HEADERS)]
    return found


def _names(value: Any, secret: Sequence[str]) -> list[str]:
    names = value if isinstance(value, dict) else ()
    # A CUSTOM policy is asked before a login's ID token is verified, and taken out of the request.
    return [name for name in names if name.lower() in secret or name.lower().startswith(LOGIN_HEADER)]


def _at(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _apply(event: Event, mask: _Mask) -> None:
    """A pointer to what is not there does nothing."""
    done = _upsert(event, mask.parts, mask.value) if mask.upsert else _remove(event, mask.parts)
    if done:
        event.setdefault("masked" if mask.upsert else "erased", []).append(mask.pointer)


def _remove(value: Any, parts: Sequence[str]) -> bool:
    *way, last = parts
    for part in way:
        value = _step(value, part)
    if isinstance(value, dict) and last in value:
        del value[last]
        return True
    if isinstance(value, list) and _is_index(last, value):
        del value[int(last)]
        return True
    return False


def _upsert(event: Event, parts: Sequence[str], new: Any) -> bool:
    *way, last = parts
    if parts[0] not in event or (way and not isinstance(event[parts[0]], dict)):
        return False
    value: Any = event
    for part in way:
        value = value.setdefault(part, {}) if isinstance(value, dict) else _step(value, part)
    if isinstance(value, dict):
        value[last] = new
        return True
    if isinstance(value, list) and _is_index(last, value):
        value[int(last)] = new
        return True
    return False


def _step(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[int(part)] if isinstance(value, list) and _is_index(part, value) else None


def _is_index(part: str, value: Sequence[Any]) -> bool:
    return part.isdecimal() and part.isascii() and int(part) < len(value)
