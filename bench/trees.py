"""One against 1,000 routes and policies, in the gateway's processor time a request: as lists, and as trees.

Every contender is a listener of the same Envoy, before the same second Envoy that answers; of a family each gets the
same requests, spread evenly over all routes or policies. A caller's identity comes from a header, as policies find it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path as Folder
from typing import Any

from tests.filters.running import Running, Web, address, build_listener, cluster, forward, running

from bench.chain.process import cpu_nanoseconds
from isthmus.compile import Compiler
from isthmus.config.load import load
from isthmus.control.offline import offline_world
from isthmus.envoy_api import Package, any_of, unpack
from isthmus.envoy_api.packages import core_v3, rbac_config_v3, rbac_v3, route_v3, set_filter_state_common_v3
from isthmus.filters.filter import http_filter
from isthmus.filters.peer import PEER_STATE
from isthmus.filters.rbac import ALLOW, Allow, NamedRule, build_rules
from isthmus.filters.rbac_tree import SMALLEST as FEWEST_RULES
from isthmus.filters.router import ROUTER, Router
from isthmus.model.match import Exact, Prefix, Regex
from isthmus.model.predicate import Host, Path, Peer, Predicate
from isthmus.xds.route_tree import SMALLEST as FEWEST_ROUTES
from isthmus.xds.route_tree import virtual_host
from isthmus.xds.static import build_static
from isthmus.xds.translate import translate

ROUNDS = 10
SECONDS = 2
CONNECTIONS = 8
MANY = 1000

Figure = tuple[str, str, list[float]]

_set_filter_state_v3 = Package("envoy.extensions.filters.http.set_filter_state.v3")


@dataclass(frozen=True)
class Contender:
    name: str
    listener: Any
    requests: int
    """How many different requests it gets."""


@dataclass(frozen=True)
class Rules:
    """Policies that one thing tells apart: the rule of a number, and one that all of its requests meet."""

    name: str
    rule: Callable[[int], Predicate]
    every: Predicate


RULES = (
    Rules("path", lambda number: Path(Prefix(f"/p{number:04}/")), Path(Prefix("/p"))),
    Rules("caller", lambda number: Peer(Exact(f"spiffe://td/ns/n/sa/c{number:04}")), Peer(Prefix("spiffe://td/"))),
    Rules(
        "host",
        lambda number: Host(Regex(rf"(?i)h{number:04}\.example\.com(:[0-9]+)?")),
        Host(Regex(r"(?i)h.*\.example\.com(:[0-9]+)?")),
    ),
)


def measure() -> Iterator[Figure]:
    if shutil.which("wrk") is None:
        print("trees: needs wrk", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        behind, before = Folder(one), Folder(two)
        with running(behind, [Web("answer", ROUTER.build(Router()))]) as answering:
            contenders = [*_routes(before), *(found for rules in RULES for found in _policies(rules, before))]
            contenders += [_gateway(1, "/p"), _gateway(MANY, "/p{:04}/")]
            clusters = [cluster(name, answering.ports["answer"]) for name in ("upstream", _UPSTREAM)]
            with running(before, [], clusters, [one.listener for one in contenders]) as envoy:
                yield from _compared(contenders, _rounds(contenders, envoy, before))


def _compared(contenders: Sequence[Contender], rounds: dict[str, list[float]]) -> Iterator[Figure]:
    for one in contenders:
        yield one.name, "us CPU", rounds[one.name]
    for one in contenders:
        family, _, size = one.name.rpartition(", ")
        base = f"{family}, 1" if one.requests == MANY else f"{family}, {one.requests} as a list"
        if base != one.name:
            ratios = [mine / its for mine, its in zip(rounds[one.name], rounds[base], strict=True)]
            yield f"{family}: {size} against {base.rpartition(', ')[2]}", "ratio", ratios


def _rounds(contenders: Sequence[Contender], envoy: Running, folder: Folder) -> dict[str, list[float]]:
    """Interleaved, every other round backwards: what disturbs the machine disturbs all alike."""
    (pid,) = _pids(folder)
    found: dict[str, list[float]] = {one.name: [] for one in contenders}
    for one in contenders:
        _refuses(envoy, one)
        _microseconds(pid, envoy, one, folder)
    for number in range(ROUNDS):
        for one in contenders if number % 2 == 0 else reversed(contenders):
            found[one.name].append(_microseconds(pid, envoy, one, folder))
        print(f"trees: round {number + 1} of {ROUNDS}", file=sys.stderr)
    return found


def _pids(folder: Folder) -> list[int]:
    """The Envoy whose configuration is in ``folder``."""
    lines = ((int(place.name), place / "cmdline") for place in Folder("/proc").iterdir() if place.name.isdigit())
    return [pid for pid, line in lines if line.exists() and str(folder).encode() in line.read_bytes()]


def _refuses(envoy: Running, one: Contender) -> None:
    """What is measured is enforced: a request that nothing takes is not served."""
    told = envoy.client.get(f"http://127.0.0.1:{envoy.ports[one.name]}/elsewhere")
    assert told.status_code in (403, 404), (one.name, told)


_SCRIPT = """\
local number, headers = 0, {}
request = function()
  number = (number + 7) % COUNT
  local name = string.format("%04d", number)
  headers["x-peer"] = "spiffe://td/ns/n/sa/c" .. name
  headers["Host"] = "h" .. name .. ".example.com"
  return wrk.format("GET", "/p" .. name .. "/x", headers)
end
done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("told %d %d\\n", summary.requests, failed))
end
"""


def _microseconds(pid: int, envoy: Running, one: Contender, folder: Folder) -> float:
    """Processor time a request, of which every one has to be answered with 200."""
    script = folder / "requests.lua"
    script.write_text(_SCRIPT.replace("COUNT", str(one.requests)))
    url = f"http://127.0.0.1:{envoy.ports[one.name]}/"
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script), url]
    before = cpu_nanoseconds([pid])
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    spent = cpu_nanoseconds([pid]) - before
    _, requests, failed = next(line.split() for line in output.splitlines() if line.startswith("told "))
    assert int(requests) > 0, (one.name, output)
    assert int(failed) == 0, (one.name, output)
    return spent / int(requests) / 1e3


def _routes(folder: Folder) -> Iterator[Contender]:
    def table(count: int) -> list[Any]:
        return [_forward(f"/p{number:04}/") for number in range(count)]

    for name, requests, routes, tree in (
        ("1", MANY, [_forward("/p")], False),
        (f"{MANY} as a list", MANY, table(MANY), False),
        (f"{MANY} as a tree", MANY, table(MANY), True),
        (f"{FEWEST_ROUTES} as a list", FEWEST_ROUTES, table(FEWEST_ROUTES), False),
        (f"{FEWEST_ROUTES} as a tree", FEWEST_ROUTES, table(FEWEST_ROUTES), True),
    ):
        host = route_v3.VirtualHost(name="all", domains=["*"], routes=routes)
        planted = virtual_host("all", ["*"], routes) if tree else host
        assert planted.HasField("matcher") is tree
        yield _contender(f"routes, {name}", requests, [], planted, folder)


def _forward(prefix: str) -> Any:
    route = forward(prefix, "upstream")
    route.name = prefix
    return route


def _policies(rules: Rules, folder: Folder) -> Iterator[Contender]:
    def named(count: int) -> tuple[NamedRule, ...]:
        return tuple(NamedRule(f"ns[n]-policy[p{number:04}]-rule[0]", rules.rule(number)) for number in range(count))

    host = route_v3.VirtualHost(name="all", domains=["*"], routes=[_forward("/")])
    for name, requests, filter_ in (
        ("1", MANY, _listed((NamedRule("ns[n]-policy[every]-rule[0]", rules.every),))),
        (f"{MANY} as a list", MANY, _listed(named(MANY))),
        (f"{MANY} as a tree", MANY, _planted(named(MANY))),
        (f"{FEWEST_RULES} as a list", FEWEST_RULES, _listed(named(FEWEST_RULES))),
        (f"{FEWEST_RULES} as a tree", FEWEST_RULES, _planted(named(FEWEST_RULES))),
    ):
        yield _contender(f"policies by {rules.name}, {name}", requests, [_peer_from_header(), filter_], host, folder)


def _listed(rules: tuple[NamedRule, ...]) -> Any:
    config = rbac_v3.RBAC(rules=build_rules(rbac_config_v3.RBAC.ALLOW, rules), rules_stat_prefix="isthmus_allow_")
    return http_filter("isthmus.rbac.allow", config)


def _planted(rules: tuple[NamedRule, ...]) -> Any:
    (built,) = ALLOW.build(Allow(rules))
    assert built.typed_config.type_url.endswith(".Composite")
    return built


_UPSTREAM = "outbound|80||web.example.com"
_EDGE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: n}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: n}
spec:
  hosts: [web.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  location: MESH_EXTERNAL
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: n}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
"""
_ROUTE = "    - {{match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: web.example.com}}}}]}}\n"
_POLICY = """\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p{number:04}, namespace: n}}
spec:
  selector: {{matchLabels: {{istio: edge}}}}
  rules: [{{to: [{{operation: {{methods: [GET], paths: ["{path}*"]}}}}]}}]
"""


def _gateway(count: int, path: str) -> Contender:
    """A gateway as manifests make it, access log and all, with so many routes and as many policies."""
    paths = [path.format(number) for number in range(count)]
    routes = (_ROUTE.format(path=one) for one in paths)
    policies = (_POLICY.format(number=number, path=one) for number, one in enumerate(paths))
    loaded = load(["-"], stdin=BytesIO("".join((_EDGE, *routes, *policies)).encode()))
    compiled = Compiler().compile(loaded.documents)
    assert not compiled.errors, compiled.errors[:3]
    (proxy,) = compiled.mesh.proxies
    snapshot = translate(compiled.mesh, offline_world(compiled.mesh), proxy)
    (listener,) = build_static(snapshot, proxy, "/none").static_resources.listeners
    name = f"routes and policies of a whole gateway, {count}" + (" as a tree" if count > 1 else "")
    listener.name = name
    listener.address.CopyFrom(address())
    return Contender(name, listener, MANY)


def _peer_from_header() -> Any:
    text = core_v3.DataSource(inline_string="%REQ(x-peer)%")
    value = set_filter_state_common_v3.FilterStateValue(
        object_key=PEER_STATE,
        factory_key="envoy.string",
        format_string=core_v3.SubstitutionFormatString(text_format_source=text, omit_empty_values=True),
        skip_if_empty=True,
    )
    return http_filter("peer", _set_filter_state_v3.Config(on_request_headers=[value]))


def _contender(name: str, requests: int, filters: Sequence[Any], host: Any, folder: Folder) -> Contender:
    listener = build_listener(Web(name, [*filters, *ROUTER.build(Router())]), folder / "none")
    manager: Any = unpack(listener.filter_chains[0].filters[0].typed_config)
    manager.route_config.CopyFrom(route_v3.RouteConfiguration(name=name, virtual_hosts=[host]))
    listener.filter_chains[0].filters[0].typed_config.CopyFrom(any_of(manager))
    return Contender(name, listener, requests)
