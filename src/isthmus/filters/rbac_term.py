"""Single facts and their combinations as RBAC's Permission or Principal: two message types with the same grammar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import core_v3, matcher_v3, protobuf, rbac_config_v3, route_v3
from isthmus.filters import jwt_authn
from isthmus.filters.peer import PEER_STATE
from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.match import Exact, StringMatch
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
    Network,
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


@dataclass(frozen=True, slots=True)
class _Grammar:
    """How one of the two message types says all, any and not."""

    message: Any
    conjunction: str
    disjunction: str
    negation: str
    members: str


_PERMISSION = _Grammar(rbac_config_v3.Permission, "and_rules", "or_rules", "not_rule", "rules")
_PRINCIPAL = _Grammar(rbac_config_v3.Principal, "and_ids", "or_ids", "not_id", "ids")


def build_permission(predicate: Predicate) -> Any:
    """A Permission. Raises ValueError for a fact that only a Principal can tell (peer, addresses of the caller)."""
    return _build(predicate, _PERMISSION)


def build_principal(predicate: Predicate) -> Any:
    """A Principal. Raises ValueError for a fact that only a Permission can tell (SNI, destination)."""
    return _build(predicate, _PRINCIPAL)


def _build(predicate: Predicate, grammar: _Grammar) -> Any:
    match predicate:
        case All(parts):
            return _combined((_build(part, grammar) for part in parts), grammar, grammar.conjunction)
        case AnyOf(()):
            return _not(grammar.message(any=True), grammar)
        case AnyOf(parts):
            return _combined((_build(part, grammar) for part in parts), grammar, grammar.disjunction)
        case Not(part):
            return _not(_build(part, grammar), grammar)
    return _leaf(predicate, grammar)


def _combined(terms: Iterable[Any], grammar: _Grammar, combination: str) -> Any:
    """Sets need a member: the empty conjunction is ``any``."""
    members = list(terms)
    if len(members) < 2:
        return members[0] if members else grammar.message(any=True)
    return grammar.message(**{combination: grammar.message.Set(**{grammar.members: members})})


def _not(term: Any, grammar: _Grammar) -> Any:
    return grammar.message(**{grammar.negation: term})


def _leaf(leaf: Leaf, grammar: _Grammar) -> Any:
    match leaf:
        case Method(match):
            return grammar.message(header=_header(":method", match))
        case Host(match):
            return grammar.message(header=_header(":authority", match))
        case PathAndQuery(match):
            return grammar.message(header=_header(":path", match))
        case Header(name, match):
            return grammar.message(header=_header(name, match))
        case Path(match):
            return grammar.message(url_path=matcher_v3.PathMatcher(path=build_string_matcher(match)))
        case Claim(path, match):
            return _metadata(jwt_authn.NAME, (jwt_authn.PAYLOAD, *path), _string_or_element(match), grammar)
        case RequestPrincipal(match):
            return _request_principal(match, grammar)
        case FilterMetadata(name, path, match, listed):
            value = _element(match) if listed else _string(match)
            return _metadata(name, path, value, grammar)
        case Sni() | DestinationPort() | DestinationIp():
            return _permission_only(leaf, grammar)
        case Peer() | SourceIp() | RemoteIp():
            return _principal_only(leaf, grammar)


def _permission_only(leaf: Sni | DestinationPort | DestinationIp, grammar: _Grammar) -> Any:
    if grammar is not _PERMISSION:
        raise ValueError(f"a Principal cannot tell {leaf}")
    match leaf:
        case Sni(match):
            return grammar.message(requested_server_name=build_string_matcher(match))
        case DestinationPort(number):
            return grammar.message(destination_port=number)
        case DestinationIp(network):
            return grammar.message(destination_ip=_range(network))


def _principal_only(leaf: Peer | SourceIp | RemoteIp, grammar: _Grammar) -> Any:
    if grammar is not _PRINCIPAL:
        raise ValueError(f"a Permission cannot tell {leaf}")
    match leaf:
        case Peer(match):
            return _peer(match, grammar)
        case SourceIp(network):
            return grammar.message(direct_remote_ip=_range(network))
        case RemoteIp(network):
            return grammar.message(remote_ip=_range(network))


def _peer(match: StringMatch, grammar: _Grammar) -> Any:
    """No match takes a value with a comma: those are the joined URI SANs of a certificate with several."""

    def state(matcher: Any) -> Any:
        return grammar.message(filter_state=matcher_v3.FilterStateMatcher(key=PEER_STATE, string_match=matcher))

    fits = state(build_string_matcher(match))
    if isinstance(match, Exact) and "," not in match.value:
        return fits
    ambiguous = state(matcher_v3.StringMatcher(contains=","))
    return _combined((fits, _not(ambiguous, grammar)), grammar, grammar.conjunction)


def _header(name: str, match: StringMatch) -> Any:
    return route_v3.HeaderMatcher(name=name, string_match=build_string_matcher(match))


def _range(network: Network) -> Any:
    return core_v3.CidrRange(
        address_prefix=str(network.network_address), prefix_len=protobuf.UInt32Value(value=network.prefixlen)
    )


def _metadata(name: str, path: tuple[str, ...], value: Any, grammar: _Grammar) -> Any:
    segments = [matcher_v3.MetadataMatcher.PathSegment(key=step) for step in path]
    matcher = matcher_v3.MetadataMatcher(filter=name, path=segments, value=value)
    return grammar.message(sourced_metadata=rbac_config_v3.SourcedMetadata(metadata_matcher=matcher))


def _string(match: StringMatch) -> Any:
    return matcher_v3.ValueMatcher(string_match=build_string_matcher(match))


def _element(match: StringMatch) -> Any:
    return matcher_v3.ValueMatcher(list_match=matcher_v3.ListMatcher(one_of=_string(match)))


def _string_or_element(match: StringMatch) -> Any:
    either = matcher_v3.OrMatcher(value_matchers=[_element(match), _string(match)])
    return matcher_v3.ValueMatcher(or_match=either)


def _request_principal(match: StringMatch, grammar: _Grammar) -> Any:
    issuer, subject = split_request_principal(match)
    claims = (
        _metadata(jwt_authn.NAME, (jwt_authn.PAYLOAD, name), _string(part), grammar)
        for name, part in (("iss", issuer), ("sub", subject))
    )
    return _combined(claims, grammar, grammar.conjunction)
