"""The algebra of facts about a request: the heart of policy.

Every access decision becomes a predicate. Several interpreters must agree on it: Envoy's RBAC (``filters/rbac.py``) and
plain yes or no (``model/facts.py``). What is constant for a listener (port, address) and what a proxy pass knows
otherwise (the peer) are substituted, not rewritten: see :func:`bind` and :func:`bind_peer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from isthmus.model.match import Exact, Prefix, Present, StringMatch, Suffix

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class All:
    """True if every part is; without parts, true."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if one part is; without parts, false."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Predicate


@dataclass(frozen=True, slots=True)
class Method:
    """HTTP method, case-sensitive."""

    match: StringMatch


@dataclass(frozen=True, slots=True)
class Path:
    """The normalised path without query, case-sensitive."""

    match: StringMatch


@dataclass(frozen=True, slots=True)
class PathAndQuery:
    """The path as it was sent on, with its query and without a fragment; case-sensitive."""

    match: StringMatch


@dataclass(frozen=True, slots=True)
class Host:
    """The authority of the request, case-insensitive."""

    match: StringMatch


@dataclass(frozen=True, slots=True)
class Header:
    """A request header; ``name`` in lower case."""

    name: str
    match: StringMatch


@dataclass(frozen=True, slots=True)
class DestinationPort:
    """The workload's (or gateway's declared) port."""

    number: int


@dataclass(frozen=True, slots=True)
class DestinationIp:
    network: Network


@dataclass(frozen=True, slots=True)
class SourceIp:
    """The direct peer's address."""

    network: Network


@dataclass(frozen=True, slots=True)
class RemoteIp:
    """The client's address as x-forwarded-for and the trusted hops tell it."""

    network: Network


@dataclass(frozen=True, slots=True)
class Sni:
    match: StringMatch


@dataclass(frozen=True, slots=True)
class Peer:
    """The peer's SPIFFE ID as proven in the handshake; a plaintext peer has none and never matches.

    ``match`` is over the whole URI. What it is compared to is a binding: the handshake's state, or a constant.
    """

    match: StringMatch


@dataclass(frozen=True, slots=True)
class RequestPrincipal:
    """``iss/sub`` of a verified token. ``*`` demands that both are there."""

    match: StringMatch


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a verified token: a string, or one element of a list. ``path`` goes down nested objects."""

    path: tuple[str, ...]
    match: StringMatch


@dataclass(frozen=True, slots=True)
class FilterMetadata:
    """Dynamic metadata of an Envoy filter (``experimental.envoy.filters.*``)."""

    filter: str
    path: tuple[str, ...]
    match: StringMatch
    listed: bool = False
    """The value is a list, one element of which must match (the policy wrote it in brackets)."""


Leaf = (
    Method
    | Path
    | PathAndQuery
    | Host
    | Header
    | DestinationPort
    | DestinationIp
    | SourceIp
    | RemoteIp
    | Sni
    | Peer
    | RequestPrincipal
    | Claim
    | FilterMetadata
)
Predicate = All | AnyOf | Not | Leaf

TRUE = All(())
FALSE = AnyOf(())

_HTTP_LEAVES = (Method, Path, PathAndQuery, Host, Header, RequestPrincipal, Claim, RemoteIp)


def all_of(*parts: Predicate) -> Predicate:
    """Conjunction, simplified: nested ones flattened, constants folded."""
    flat: list[Predicate] = []
    for part in parts:
        if part == FALSE:
            return FALSE
        flat.extend(part.parts if isinstance(part, All) else (part,))
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def any_of(*parts: Predicate) -> Predicate:
    """Disjunction, simplified."""
    flat: list[Predicate] = []
    for part in parts:
        if part == TRUE:
            return TRUE
        flat.extend(part.parts if isinstance(part, AnyOf) else (part,))
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


def negate(part: Predicate) -> Predicate:
    """Negation, simplified."""
    if part == TRUE:
        return FALSE
    if part == FALSE:
        return TRUE
    return part.part if isinstance(part, Not) else Not(part)


def transform(predicate: Predicate, leaf: Callable[[Leaf], Predicate]) -> Predicate:
    """``predicate`` with every leaf replaced, simplified on the way up."""
    match predicate:
        case All(parts):
            return all_of(*(transform(part, leaf) for part in parts))
        case AnyOf(parts):
            return any_of(*(transform(part, leaf) for part in parts))
        case Not(part):
            return negate(transform(part, leaf))
    return leaf(predicate)


def leaves(predicate: Predicate) -> tuple[Leaf, ...]:
    """Every leaf, in order."""
    match predicate:
        case All(parts) | AnyOf(parts):
            return tuple(leaf for part in parts for leaf in leaves(part))
        case Not(part):
            return leaves(part)
    return (predicate,)


@dataclass(frozen=True, slots=True)
class Destination:
    """What is constant about a listener: the port that policies mean by ``ports`` and the address behind it."""

    port: int
    address: str | None = None
    callers: str | None = None
    """The address that all callers come from, where the connection itself has none (a Unix socket)."""


def bind(predicate: Predicate, destination: Destination) -> Predicate:
    """Substitute what ``destination`` settles. Envoy's own port is a free one of the system, which no policy names."""

    def settle(leaf: Leaf) -> Predicate:
        if isinstance(leaf, DestinationPort):
            return TRUE if leaf.number == destination.port else FALSE
        if isinstance(leaf, DestinationIp):
            known = destination.address is not None and ip_address(destination.address) in leaf.network
            return TRUE if known else FALSE
        if isinstance(leaf, SourceIp | RemoteIp) and destination.callers is not None:
            return _from_callers(leaf, ip_address(destination.callers) in leaf.network)
        return leaf

    return transform(predicate, settle)


def _from_callers(leaf: SourceIp | RemoteIp, among: bool) -> Predicate:
    """Envoy itself would say no to every network, which a DENY rule must not rest on."""
    if isinstance(leaf, SourceIp):
        return TRUE if among else FALSE
    # The client's address is the forwarded one; without any, it is the caller's.
    return any_of(leaf, negate(Header("x-forwarded-for", Present()))) if among else leaf


def bind_peer(predicate: Predicate, peer: str | None, matches: Callable[[StringMatch, str], bool]) -> Predicate:
    """Substitute the peer's SPIFFE ID by a constant (None: a plaintext peer), for a pass that knows it beforehand."""

    def settle(leaf: Leaf) -> Predicate:
        if isinstance(leaf, Peer):
            return TRUE if peer is not None and matches(leaf.match, peer) else FALSE
        return leaf

    return transform(predicate, settle)


def needs_http(predicate: Predicate) -> bool:
    """Whether a plain TCP connection cannot answer it."""
    return any(isinstance(leaf, _HTTP_LEAVES) for leaf in leaves(predicate))


def widen_for_tcp(predicate: Predicate) -> Predicate:
    """What a DENY rule means on plain TCP: each field that needs HTTP is dropped, so the rule denies more.

    Istio, pilot/pkg/security/authz: an ALLOW rule with such a field is dropped whole instead (the caller does that).
    """
    match predicate:
        case All(parts):
            return all_of(*(widen_for_tcp(part) for part in parts))
        case AnyOf(parts):
            return any_of(*(widen_for_tcp(part) for part in parts))
        case Not(part):
            return TRUE if needs_http(part) else predicate
    return TRUE if isinstance(predicate, _HTTP_LEAVES) else predicate


def split_request_principal(match: StringMatch) -> tuple[StringMatch, StringMatch]:
    """What a match over ``iss/sub`` asks of ``iss`` and of ``sub``: split at the last slash, as Istio does.

    Both must be there and not be empty. Raises ValueError for a match that AuthorizationPolicy cannot write.
    Source: istio, pilot/pkg/security/authz/model/generator.go, requestPrincipalGenerator.
    """
    match match:
        case Present():
            return Present(), Present()
        case Exact(value, ignore_case):
            issuer, _, subject = value.rpartition("/")
            return Exact(issuer, ignore_case), Exact(subject, ignore_case)
        case Prefix(value, ignore_case) if "/" in value:
            issuer, _, subject = value.rpartition("/")
            return Exact(issuer, ignore_case), Prefix(subject, ignore_case) if subject else Present()
        case Prefix(value, ignore_case):
            return Prefix(value, ignore_case) if value else Present(), Present()
        case Suffix(value, ignore_case) if "/" in value:
            issuer, _, subject = value.rpartition("/")
            return Suffix(issuer, ignore_case) if issuer else Present(), Exact(subject, ignore_case)
        case Suffix(value, ignore_case):
            return Present(), Suffix(value, ignore_case) if value else Present()
    raise ValueError(f"a policy cannot write {match} over an issuer and a subject")
