"""Facts about one request, and what a predicate says of them: the plain interpreter of the algebra."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from isthmus.model.match import (
    Contains,
    Exact,
    PathTemplate,
    Prefix,
    Present,
    Regex,
    StringMatch,
    Suffix,
    template_regex,
)
from isthmus.model.predicate import (
    All,
    AnyOf,
    Claim,
    DestinationIp,
    DestinationPort,
    FilterMetadata,
    Header,
    Host,
    Leaf,
    Method,
    Not,
    Path,
    PathAndQuery,
    Peer,
    Predicate,
    RemoteIp,
    RequestPrincipal,
    Sni,
    SourceIp,
    split_request_principal,
)

Address = IPv4Address | IPv6Address
Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one request when policy is asked. ``headers`` have lower-case names, one value each."""

    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    address: Address | None = None
    source: Address | None = None
    remote: Address | None = None
    sni: str = ""
    peer: str | None = None
    claims: Mapping[str, Json] | None = None
    """The verified token's payload, scope and permission already split at spaces; None without a valid token."""
    metadata: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


def matches(match: StringMatch, value: str) -> bool:
    """Whether ``value`` fits."""
    if isinstance(match, Present):
        return value != ""
    if isinstance(match, Regex):
        return re.fullmatch(match.value, value) is not None
    if isinstance(match, PathTemplate):
        return re.fullmatch(template_regex(match.value), value) is not None
    wanted, given = (match.value.lower(), value.lower()) if match.ignore_case else (match.value, value)
    match match:
        case Exact():
            return given == wanted
        case Prefix():
            return given.startswith(wanted)
        case Suffix():
            return given.endswith(wanted)
        case Contains():
            return wanted in given


def holds(predicate: Predicate, facts: Facts) -> bool:
    """Whether ``predicate`` is true of ``facts``."""
    match predicate:
        case All(parts):
            return all(holds(part, facts) for part in parts)
        case AnyOf(parts):
            return any(holds(part, facts) for part in parts)
        case Not(part):
            return not holds(part, facts)
    return _leaf_holds(predicate, facts)


def _leaf_holds(leaf: Leaf, facts: Facts) -> bool:
    match leaf:
        case Method(match):
            return matches(match, facts.method)
        case Path(match):
            return matches(match, facts.path.partition("?")[0])
        case PathAndQuery(match):
            return matches(match, facts.path)
        case Host(match):
            return matches(match, facts.host)
        case Header(name, match):
            return name in facts.headers and matches(match, facts.headers[name])
        case DestinationPort(number):
            return facts.port == number
        case DestinationIp(network):
            return facts.address is not None and facts.address in network
        case SourceIp(network):
            return facts.source is not None and facts.source in network
        case RemoteIp(network):
            return facts.remote is not None and facts.remote in network
        case Sni(match):
            return matches(match, facts.sni)
        case Peer(match):
            return facts.peer is not None and matches(match, facts.peer)
        case RequestPrincipal(match):
            return _principal_holds(match, facts)
        case Claim(path, match):
            return _value_holds(_value(facts.claims, path), match)
        case FilterMetadata(name, path, match, listed):
            found = _value(facts.metadata.get(name), path)
            return isinstance(found, list) is listed and _value_holds(found, match)


def _principal_holds(match: StringMatch, facts: Facts) -> bool:
    wanted = split_request_principal(match)
    given = [(facts.claims or {}).get(name) for name in ("iss", "sub")]
    return all(
        isinstance(value, str) and value and matches(part, value) for part, value in zip(wanted, given, strict=True)
    )


def _value(values: Mapping[str, Json] | None, path: tuple[str, ...]) -> object:
    value: object = values
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _value_holds(value: object, match: StringMatch) -> bool:
    """A string, or one string of a list."""
    if isinstance(value, list):
        return any(isinstance(element, str) and matches(match, element) for element in value)
    return isinstance(value, str) and matches(match, value)
