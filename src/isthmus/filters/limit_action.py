"""By what Envoy tells a request's bucket: the entries of its descriptor, one for each thing that a limit asks about.

Source: envoy.config.route.v3.RateLimit.Action. An entry that cannot be made leaves the request out of the limit, so
each has a value for what is not there: all who lack a thing share one bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import matcher_v3, metadata_v3, protobuf, route_v3
from isthmus.filters import jwt_authn
from isthmus.model.consumer import CLIENT
from isthmus.model.limit import Key, KeyKind, Limit

ROUTE_LIMITS = "isthmus.limits"
"""The metadata of routes: which policies hold there (``namespace/name``: true), and which route it is."""
ROUTE = "route"
SPECIFIC = "specific"
"""Whether anything else holds at the route than what holds for the proxy."""
NOTHING = "-"
"""The value of what is not there."""
YES = "yes"
ADDRESS = "masked_remote_address"
"""The key is Envoy's own."""
_IPV6_NETWORK = 64

_Action = route_v3.RateLimit.Action


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a descriptor. ``values``: those that count, or None for any; ``optional``: it may be missing."""

    key: str
    action: Any
    values: tuple[str, ...] | None = None
    optional: bool = False


def named(name: str) -> Step:
    """Which limit it is."""
    return Step("limit", generic("limit", name), (name,))


def where(held: str | None) -> Step:
    """At routes that have ``held`` in their metadata; None: at those that say nothing of their own."""
    if held is None:
        return Step(SPECIFIC, _of_route(SPECIFIC, SPECIFIC, NOTHING), (NOTHING,))
    return Step("held", _of_route("held", held, ""), (YES,))


def steps(limit: Limit) -> Iterator[Step]:
    """What the limit asks about a request, and by what it tells buckets apart."""
    if limit.methods:
        yield Step("methods", _methods(limit.methods), (YES,))
    if limit.plans:
        yield Step("plans", _metadata("plans", CLIENT, ("plan",)), limit.plans)
    for key in limit.by:
        yield from _of_key(key)


def _of_key(key: Key) -> Iterator[Step]:
    match key.kind:
        case KeyKind.ADDRESS:
            masked = _Action.MaskedRemoteAddress(v6_prefix_mask_len=protobuf.UInt32Value(value=_IPV6_NETWORK))
            yield Step(ADDRESS, _Action(masked_remote_address=masked))
        case KeyKind.HEADER:
            name = f"header:{key.name}"
            header = _Action.RequestHeaders(header_name=key.name, descriptor_key=name, skip_if_absent=True)
            yield Step(name, _Action(request_headers=header), optional=True)
        case KeyKind.ROUTE:
            yield Step(ROUTE, _of_route(ROUTE, ROUTE, NOTHING))
        case KeyKind.CLAIM:
            # Of a token that is a JWT, or of one that its issuer was asked about.
            yield _told(f"claim:{key.name}", jwt_authn.NAME, (jwt_authn.PAYLOAD, key.name))
            yield _told(f"told:{key.name}", CLIENT, ("claims", key.name))
        case KeyKind.CONSUMER:
            yield _told("consumer", CLIENT, ("consumer",))
            yield _told("tenant", CLIENT, ("consumer_namespace",))
        case KeyKind.TENANT:
            yield _told("tenant", CLIENT, ("consumer_namespace",))
        case KeyKind.PLAN:
            yield _told("plan", CLIENT, ("plan",))


def generic(key: str, value: str) -> Any:
    """An entry that is always the same."""
    return _Action(generic_key=_Action.GenericKey(descriptor_key=key, descriptor_value=value))


def from_metadata(key: str, namespace: str, path: tuple[str, ...]) -> Any:
    """An entry of dynamic metadata, without which there is no descriptor at all."""
    return _Action(metadata=_Action.MetaData(descriptor_key=key, metadata_key=_path(namespace, path)))


def never() -> Any:
    """The limits of a route without any: a RateLimit that no request has a descriptor for."""
    there = route_v3.HeaderMatcher(name=":method", present_match=True)
    absent = _Action.HeaderValueMatch(
        descriptor_value="never", expect_match=protobuf.BoolValue(value=False), headers=[there]
    )
    return route_v3.RateLimit(actions=[_Action(header_value_match=absent)])


def _told(key: str, namespace: str, path: tuple[str, ...]) -> Step:
    return Step(key, _metadata(key, namespace, path))


def _metadata(key: str, namespace: str, path: tuple[str, ...]) -> Any:
    return _Action(
        metadata=_Action.MetaData(descriptor_key=key, metadata_key=_path(namespace, path), default_value=NOTHING)
    )


def _of_route(key: str, name: str, otherwise: str) -> Any:
    return _Action(
        metadata=_Action.MetaData(
            descriptor_key=key,
            metadata_key=_path(ROUTE_LIMITS, (name,)),
            default_value=otherwise,
            source=_Action.MetaData.ROUTE_ENTRY,
        )
    )


def _path(namespace: str, path: tuple[str, ...]) -> Any:
    segments = [metadata_v3.MetadataKey.PathSegment(key=step) for step in path]
    return metadata_v3.MetadataKey(key=namespace, path=segments)


def _methods(names: tuple[str, ...]) -> Any:
    wanted = matcher_v3.RegexMatcher(regex="|".join(re.escape(name) for name in names))
    header = route_v3.HeaderMatcher(name=":method", string_match=matcher_v3.StringMatcher(safe_regex=wanted))
    return _Action(
        header_value_match=_Action.HeaderValueMatch(
            descriptor_key="methods",
            descriptor_value=YES,
            expect_match=protobuf.BoolValue(value=True),
            headers=[header],
        )
    )
