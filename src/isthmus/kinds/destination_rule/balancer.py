"""``loadBalancer``: who of a service's endpoints gets the next request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from isthmus.config.decode import (
    Reader,
    Unreadable,
    boolean,
    checked,
    duration,
    enum_of,
    fail,
    later,
    one_of,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.destination_rule.amount import decimal, whole
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.model.traffic_policy import (
    ConsistentHash,
    CookieHash,
    HeaderHash,
    LoadBalancer,
    Maglev,
    QueryHash,
    RingHash,
    Simple,
    SourceIpHash,
    Warmup,
)

NO_ORIGINAL_DESTINATION = Code(
    "ISM2140",
    Severity.ERROR,
    "PASSTHROUGH without an original destination",
    "PASSTHROUGH sends to the address that the caller connected to, and callers connect to their proxy here",
    what="The load balancer PASSTHROUGH needs the address that a caller meant, which capturing its connections tells.",
    why="A program names its destination to its own proxy instead: there is no other address to pass on to.",
    example="trafficPolicy:\n  loadBalancer: {simple: PASSTHROUGH}",
    fix="For hosts outside, a ServiceEntry with resolution: NONE sends to whatever host the caller names.",
)

_LARGEST_RING = 8 * 2**20
_LARGEST_TABLE = 5_000_011
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class _SimpleWritten(Enum):
    UNSPECIFIED = Simple.LEAST_REQUEST
    LEAST_REQUEST = "LEAST_REQUEST"
    LEAST_CONN = "LEAST_CONN"
    RANDOM = Simple.RANDOM
    ROUND_ROBIN = Simple.ROUND_ROBIN
    PASSTHROUGH = "PASSTHROUGH"


@dataclass(frozen=True, slots=True)
class _Cookie:
    at: Node
    name: str
    path: str
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class _Ring:
    at: Node
    minimum_ring_size: int


@dataclass(frozen=True, slots=True)
class _MaglevWritten:
    at: Node
    table_size: int


@dataclass(frozen=True, slots=True)
class _Hash:
    at: Node
    http_header_name: str | None
    http_cookie: _Cookie | None
    use_source_ip: bool
    http_query_parameter_name: str | None
    ring_hash: _Ring | None
    maglev: _MaglevWritten | None
    minimum_ring_size: int | None


@dataclass(frozen=True, slots=True)
class _WarmupWritten:
    at: Node
    duration: timedelta
    minimum_percent: float
    aggression: float


@dataclass(frozen=True, slots=True)
class _Balancer:
    at: Node
    simple: _SimpleWritten | None
    consistent_hash: ConsistentHash | None
    warmup: _WarmupWritten | None
    warmup_duration_secs: timedelta | None


def _token_problem(name: str) -> str | None:
    return None if _TOKEN.fullmatch(name) else f'"{name}" is not the name of a header or a cookie'


def _is_prime(size: int) -> bool:
    return size > 1 and all(size % divisor for divisor in range(2, int(size**0.5) + 1))


def _table_problem(size: int) -> str | None:
    return None if _is_prime(size) else f"{size} is not a prime number, and only such tables spread evenly"


def _not_empty(name: str) -> str | None:
    return None if name else "a name is needed"


def _hash(written: _Hash, node: Node, report: Report) -> ConsistentHash:
    keys: list[HeaderHash | CookieHash | SourceIpHash | QueryHash] = []
    if written.http_header_name is not None:
        keys.append(HeaderHash(written.http_header_name))
    if written.http_cookie is not None:
        keys.append(CookieHash(written.http_cookie.name, written.http_cookie.ttl, written.http_cookie.path))
    if written.use_source_ip:
        keys.append(SourceIpHash())
    if written.http_query_parameter_name is not None:
        keys.append(QueryHash(written.http_query_parameter_name))
    if len(keys) != 1:
        names = "httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName"
        raise fail(report, node, f"exactly one of {names} is needed")
    if written.maglev is not None:
        return ConsistentHash(keys[0], Maglev(written.maglev.table_size))
    if written.ring_hash is not None:
        return ConsistentHash(keys[0], RingHash(written.ring_hash.minimum_ring_size))
    return ConsistentHash(keys[0], RingHash(written.minimum_ring_size or RingHash().minimum_size))


_RING_SIZE = whole(1, _LARGEST_RING)
_COOKIE = record(
    _Cookie,
    required("name", checked(text, _token_problem)),
    optional("path", text, ""),
    required("ttl", duration, note="of a cookie that the proxy gives; 0s: the client's session"),
    later("attributes"),
)
_HASH = converted(
    checked(
        record(
            _Hash,
            optional("httpHeaderName", checked(text, _token_problem)),
            optional("httpCookie", _COOKIE),
            optional("useSourceIp", boolean, False),
            optional("httpQueryParameterName", checked(text, _not_empty)),
            optional("ringHash", record(_Ring, optional("minimumRingSize", _RING_SIZE, RingHash().minimum_size))),
            optional(
                "maglev",
                record(
                    _MaglevWritten,
                    optional("tableSize", checked(whole(2, _LARGEST_TABLE), _table_problem), Maglev().table_size),
                ),
            ),
            optional("minimumRingSize", _RING_SIZE, note="deprecated by Istio for ringHash.minimumRingSize"),
        ),
        one_of("ringHash", "maglev", "minimumRingSize"),
    ),
    _hash,
)
_WARMUP = record(
    _WarmupWritten,
    required("duration", positive_duration),
    optional("minimumPercent", decimal(0, 100), 10.0),
    optional("aggression", decimal(1), 1.0),
)


def _balancer(written: _Balancer, node: Node, report: Report) -> LoadBalancer:
    if written.simple is _SimpleWritten.PASSTHROUGH:
        report.add(NO_ORIGINAL_DESTINATION, node.at("simple"))
        raise Unreadable
    simple = written.simple.value if written.simple is not None else Simple.LEAST_REQUEST
    simple = simple if isinstance(simple, Simple) else Simple.LEAST_REQUEST
    warmup = None
    if written.warmup is not None:
        warmup = Warmup(written.warmup.duration, written.warmup.minimum_percent, written.warmup.aggression)
    elif written.warmup_duration_secs is not None:
        warmup = Warmup(written.warmup_duration_secs)
    if warmup is not None and (written.consistent_hash is not None or simple is Simple.RANDOM):
        at = node.at("warmup" if written.warmup is not None else "warmupDurationSecs")
        raise fail(report, at, "only ROUND_ROBIN and LEAST_REQUEST warm up new endpoints")
    return LoadBalancer(simple, written.consistent_hash, warmup)


LOAD_BALANCER: Reader[LoadBalancer] = converted(
    checked(
        checked(
            record(
                _Balancer,
                optional("simple", enum_of(_SimpleWritten), note="LEAST_REQUEST by default; PASSTHROUGH is refused"),
                optional("consistentHash", _HASH),
                optional("warmup", _WARMUP),
                optional("warmupDurationSecs", positive_duration, note="deprecated by Istio for warmup"),
                later("localityLbSetting"),
                later("zoneAwareLbSetting"),
            ),
            one_of("simple", "consistentHash"),
        ),
        one_of("warmup", "warmupDurationSecs"),
    ),
    _balancer,
)
