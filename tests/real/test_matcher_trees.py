"""Trees against lists on a real Envoy: the same routes found, the same verdicts, the same policies named."""

from __future__ import annotations

import http.client
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path as Folder
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from isthmus.envoy_api import Package, any_of, unpack
from isthmus.envoy_api.packages import (
    composite_v3,
    core_v3,
    matcher_v3,
    protobuf,
    rbac_config_v3,
    route_v3,
    set_filter_state_common_v3,
)
from isthmus.filters.filter import http_filter
from isthmus.filters.peer import PEER_STATE
from isthmus.filters.rbac import ALLOW, AUDIT, DENY, METADATA, Allow, Audit, Deny, NamedRule, build_rules
from isthmus.filters.rbac_tree import SMALLEST as FEWEST_RULES
from isthmus.filters.router import ROUTER, Router
from isthmus.model.match import Exact, Prefix, Regex
from isthmus.model.predicate import AnyOf, Header, Host, Method, Not, Path, Peer, Predicate, Sni, all_of
from isthmus.xds.route_tree import SMALLEST, virtual_host
from tests.filters.running import Web, answer, build_listener, running
from tests.xds.route_list import PATHS, REQUESTS, TABLES, Request, first, route

from .backend import Backend
from .manifests import service, workload_entry
from .up import Up, eventually

pytestmark = pytest.mark.real

_set_filter_state_v3 = Package("envoy.extensions.filters.http.set_filter_state.v3")
_LONG = 10_000
# A failure is told as it is: every step of making it smaller would start another Envoy.
_FEW: Any = settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


# Routes


def _listener(hosts: Sequence[Any], folder: Folder) -> Any:
    """One gateway with many virtual hosts, every answer of which says which route gave it."""
    listener = build_listener(Web("web", ROUTER.build(Router())), folder / "none")
    manager: Any = unpack(listener.filter_chains[0].filters[0].typed_config)
    told = core_v3.HeaderValue(key="x-route", value="%ROUTE_NAME%")
    configuration = route_v3.RouteConfiguration(
        name="web",
        virtual_hosts=hosts,
        response_headers_to_add=[core_v3.HeaderValueOption(header=told)],
        max_direct_response_body_size_bytes=protobuf.UInt32Value(value=2 * _LONG),
    )
    manager.route_config.CopyFrom(configuration)
    listener.filter_chains[0].filters[0].typed_config.CopyFrom(any_of(manager))
    return listener


def _sent(connection: http.client.HTTPConnection, host: str, request: Request) -> http.client.HTTPResponse:
    connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"host": host, "content-length": "0", **request.headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def _route(connection: http.client.HTTPConnection, host: str, request: Request) -> tuple[int, str | None, bytes]:
    response = _sent(connection, host, request)
    return response.status, response.headers.get("x-route"), response.read()


@given(st.lists(TABLES, min_size=6, max_size=6), st.lists(REQUESTS, min_size=60, max_size=60))
@_FEW
def test_a_tree_finds_the_route_that_the_list_gives(tables: list[list[Any]], requests: list[Request]) -> None:
    lists = [route_v3.VirtualHost(name=f"l{at}", domains=[f"l{at}"], routes=table) for at, table in enumerate(tables)]
    trees = [virtual_host(f"t{at}", [f"t{at}"], table) for at, table in enumerate(tables)]
    compared = [at for at, host in enumerate(trees) if host.HasField("matcher")]
    assume(compared)
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(name)
        with (
            running(folder, [], (), [_listener([*lists, *trees], folder)]) as envoy,
            closing(http.client.HTTPConnection("127.0.0.1", envoy.ports["web"], timeout=30)) as connection,
        ):
            for at in compared:
                for request in requests:
                    listed, planted = (_route(connection, f"{kind}{at}", request) for kind in "lt")
                    assert listed == planted, request
                    assert listed[0] == (404 if listed[1] is None else 200)
                    assert listed[1] == first(tables[at], request), "what the tests without an Envoy take for granted"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A gateway with the host ``l``, a list, and ``t``, a tree of the same routes."""
    long = route("long", {"path": "/long"})
    long.direct_response.body.inline_string = "x" * _LONG
    moved = route_v3.Route(
        name="moved",
        match=route_v3.RouteMatch(prefix="/moved/"),
        redirect=route_v3.RedirectAction(prefix_rewrite="/new/"),
    )
    table = [
        route("connect", {"connect_matcher": route_v3.RouteMatch.ConnectMatcher()}),
        *(route(f"p{number:02}", {"prefix": f"/p{number:02}/"}) for number in range(SMALLEST)),
        long,
        moved,
        route("picture", {"safe_regex": matcher_v3.RegexMatcher(regex=r".*\.(png|gif)")}),
    ]
    tree = virtual_host("t", ["t:80", "t"], table)
    assert tree.HasField("matcher")
    folder = tmp_path_factory.mktemp("two")
    lists = route_v3.VirtualHost(name="l", domains=["l:80", "l"], routes=table)
    with running(folder, [], (), [_listener([lists, tree], folder)]) as envoy:
        yield envoy.ports["web"]


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("CONNECT {host}:80", "connect"),
        ("OPTIONS *", None),
        ("GET /long", "long"),
        ("GET /moved/x?y=1", "moved"),
        ("GET /p01/x.png?a", "p01"),
        ("GET /p1/x.png", "picture"),
        ("GET /p1/x", None),
        ("GET /p1/x?.png", None),
        ("GET /P01/", None),
        ("GET /p01", None),
        ("GET /p01?/", None),
        ("GET http://{host}/p02/x", "p02"),
    ],
)
def test_what_random_tables_have_not(two: int, request_line: str, expected: str | None) -> None:
    """No path, a path of no key, a long answer, a redirect, an absolute URL, a query that looks like a path."""
    for host in "lt":
        method, path = request_line.format(host=host).split()
        with closing(http.client.HTTPConnection("127.0.0.1", two, timeout=30)) as connection:
            response = _sent(connection, f"{host}:80" if method == "CONNECT" else host, Request(path, method))
            assert (response.headers.get("x-route"), response.status == 404) == (expected, expected is None)
            if expected == "moved":
                assert (response.status, response.headers["location"]) == (301, f"http://{host}/new/x?y=1")
            if expected == "long":
                assert len(response.read()) == _LONG


# Policies


_ACTION = {
    place: rbac_config_v3.RBAC.Action.Value(name)
    for place, name in {"audit": "LOG", "deny": "DENY", "allow": "ALLOW"}.items()
}
_CONFIGS = {"audit": (AUDIT, Audit), "deny": (DENY, Deny), "allow": (ALLOW, Allow)}
_PEERS = [f"spiffe://td/ns/{namespace}/sa/{account}" for namespace in "ab" for account in ("x", "y", "yy", "z")]
_HOSTS = [f"{name}.example" for name in "abcdefgh"]
_OTHERS = st.sampled_from(
    [Method(Exact("GET")), Header("x", Exact("1")), Not(Header("x", Exact("1"))), Path(Regex("/(a|b)/c.*"))]
)
_NUMBERS = st.integers(0, 200)
_PATH_FACTS = st.one_of(
    _NUMBERS.map(lambda number: Path(Prefix(f"/{number}/"))),
    _NUMBERS.map(lambda number: Path(Exact(f"/{number}"))),
    _NUMBERS.map(lambda number: Path(Regex(rf"/a/{number}\.[a-z]*"))),
    st.sampled_from([Path(Exact(path)) for path in PATHS]),
    # No short ones: what is under them all would be copied to all, and be a list.
    st.sampled_from([Path(Prefix(path)) for path in PATHS if path.count("/") > 1]),
    st.just(Path(Regex("/a/b/.*"))),
)
_PEER_FACTS = st.one_of(
    st.sampled_from([Peer(kind(peer)) for kind in (Exact, Prefix) for peer in _PEERS]),
    st.sampled_from([Peer(Regex(f"spiffe://td/ns/{namespace}/sa/[^,/]+")) for namespace in "abc"]),
    _NUMBERS.map(lambda number: Peer(Exact(f"spiffe://td/ns/c/sa/{number}"))),
    _NUMBERS.map(lambda number: Peer(Regex(f"spiffe://td/ns/{number}/sa/[^,/]+"))),
    _NUMBERS.map(lambda number: Peer(Prefix(f"spiffe://td/ns/d/sa/{number}"))),
)
_HOST_FACTS = st.one_of(
    st.sampled_from([Host(Regex(rf"(?i){name}\.example(:[0-9]+)?")) for name in "abcdefgh"]),
    _NUMBERS.map(lambda number: Host(Exact(f"{number}.Example", ignore_case=True))),
)


def _rule_lists(narrow: st.SearchStrategy[Predicate]) -> st.SearchStrategy[list[Predicate]]:
    """Many rules that one fact tells apart, few that it does not; of some, several policies are made."""
    mixed = AnyOf((Sni(Exact("s")), Peer(Exact(_PEERS[0]))))
    several = st.lists(narrow, min_size=1, max_size=4).map(lambda facts: AnyOf(tuple(facts)))
    rule = st.one_of(narrow, several, st.builds(all_of, several, _OTHERS), st.builds(all_of, several, st.just(mixed)))
    return st.builds(
        lambda many, few: [*few[:1], *many, *few[1:]],
        st.lists(rule, min_size=FEWEST_RULES, max_size=90),
        st.lists(_OTHERS, max_size=2),
    )


_ENFORCED_AND_DRY = st.tuples(
    *(st.tuples(_rule_lists(facts), _rule_lists(facts)) for facts in (_PATH_FACTS, _PEER_FACTS, _HOST_FACTS))
)
_ASKED = st.builds(
    lambda request, path, peer, host: (
        host,
        Request(path or request.path, request.method, {**request.headers, **({"x-peer": peer} if peer else {})}),
    ),
    REQUESTS,
    st.one_of(st.none(), _NUMBERS.map("/{}".format), _NUMBERS.map("/{}/x?y".format), _NUMBERS.map("/a/{}.b".format)),
    st.one_of(
        st.none(),
        st.sampled_from([*_PEERS, ",".join(_PEERS[:2])]),
        _NUMBERS.map("spiffe://td/ns/c/sa/{}".format),
        _NUMBERS.map("spiffe://td/ns/{}/sa/x".format),
        _NUMBERS.map("spiffe://td/ns/d/sa/{}0".format),
    ),
    st.one_of(
        st.sampled_from([*_HOSTS, "A.Example", "b.example:80", "elsewhere"]),
        _NUMBERS.map("{}.example".format),
        _NUMBERS.map("{}.EXAMPLE".format),
    ),
)


def _named(rules: Iterable[Predicate]) -> tuple[NamedRule, ...]:
    """Envoy asks by name, not in order."""
    return tuple(NamedRule(f"rule[{number * 7 % 101}]", rule) for number, rule in enumerate(rules))


def _listed(place: str, rules: tuple[NamedRule, ...], dry_run: tuple[NamedRule, ...]) -> Any:
    """One RBAC filter with all rules, as the filters are without trees."""
    (built,) = _CONFIGS[place][0].build(_config(place, rules[:1], dry_run[:1]))
    config: Any = unpack(built.typed_config)
    config.rules.CopyFrom(build_rules(_ACTION[place], rules))
    if config.HasField("shadow_rules"):
        config.shadow_rules.CopyFrom(build_rules(_ACTION[place], dry_run))
    return http_filter(built.name, config)


def _config(place: str, rules: tuple[NamedRule, ...], dry_run: tuple[NamedRule, ...]) -> Any:
    return Audit(rules) if place == "audit" else _CONFIGS[place][1](rules, dry_run)


def _peer_from_header() -> Any:
    """The handshake's part: the identity that a policy reads, out of ``x-peer``."""
    text = core_v3.DataSource(inline_string="%REQ(x-peer)%")
    value = set_filter_state_common_v3.FilterStateValue(
        object_key=PEER_STATE,
        factory_key="envoy.string",
        format_string=core_v3.SubstitutionFormatString(text_format_source=text, omit_empty_values=True),
        skip_if_empty=True,
    )
    return http_filter("peer", _set_filter_state_v3.Config(on_request_headers=[value]))


_VERDICT = {
    "case": "%REQ(x-case)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "metadata": f"%DYNAMIC_METADATA({METADATA})%",
}


@given(_ENFORCED_AND_DRY, st.lists(_ASKED, min_size=80, max_size=80))
@_FEW
def test_a_tree_gives_the_verdicts_of_the_list_and_names_the_same_policies(
    rule_lists: tuple[tuple[list[Predicate], list[Predicate]], ...], asked: list[tuple[str, Request]]
) -> None:
    webs = []
    for at, (rules, dry_run) in enumerate(rule_lists):
        for place, (filter_, _) in _CONFIGS.items():
            (built,) = filter_.build(_config(place, _named(rules), _named(dry_run)))
            if built.typed_config.type_url.endswith(composite_v3.Composite.DESCRIPTOR.full_name):
                for kind, one in (("l", _listed(place, _named(rules), _named(dry_run))), ("t", built)):
                    chain = [_peer_from_header(), one, *ROUTER.build(Router())]
                    webs.append(Web(f"{kind}-{place}-{at}", chain, [answer("/")], log=_VERDICT))
    assume(webs)
    with tempfile.TemporaryDirectory() as folder, running(Folder(folder), webs) as envoy:
        for web in webs:
            connection = http.client.HTTPConnection("127.0.0.1", envoy.ports[web.name], timeout=30)
            with closing(connection):
                for number, (host, request) in enumerate(asked):
                    case = Request(request.path, request.method, {**request.headers, "x-case": f"{web.name}-{number}"})
                    _sent(connection, host, case).read()
        verdicts = envoy.logged(*(f"{web.name}-{number}" for web in webs for number in range(len(asked))))
    for case, verdict in verdicts.items():
        if case.startswith("t"):
            listed = verdicts[f"l{case[1:]}"]
            assert {**verdict, "case": ""} == {**listed, "case": ""}, (case, asked[int(case.rpartition("-")[2])])
            assert verdict["metadata"], "every filter ran"


# Both, as a user meets them


_MANY = max(SMALLEST, FEWEST_RULES)


def _gateway_and_routes() -> str:
    names = (f"r{number:02}" for number in range(_MANY))
    routes = "".join(
        f"    - {{name: {name}, match: [{{uri: {{prefix: /{name}/}}}}], route: [{{destination: {{host: web}}}}]}}\n"
        for name in names
    )
    return f"""\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [web.example.com]
  gateways: [edge]
  http:
{routes}    - {{name: rest, route: [{{destination: {{host: web}}}}]}}
"""


def _policy(name: str, selected: str, action: str, rules: Iterable[str]) -> str:
    return f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{{selected}}}}}
  action: {action}
  rules:
""" + "".join(f"    - {rule}\n" for rule in rules)


def _closed(count: int) -> str:
    rules = (f"{{to: [{{operation: {{paths: [/r{number:02}/closed*]}}}}]}}" for number in range(count))
    return _policy("closed", "istio: edge", "DENY", rules)


def _callers(at: int) -> str:
    """The gateway is one of many, or none of them."""
    accounts = [f"other-{number}" for number in range(_MANY)]
    if at >= 0:
        accounts[at] = "edge"
    rules = (f"{{from: [{{source: {{principals: [cluster.local/ns/shop/sa/{one}]}}}}]}}" for one in accounts)
    return _policy("callers", "app: web", "ALLOW", rules)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Backend() as backend:
        manifests = {
            "routes.yaml": _gateway_and_routes(),
            "web.yaml": service("web", "shop") + "---\n" + workload_entry("web-1", "shop", "web", backend.port),
            "closed.yaml": _closed(1),
            "callers.yaml": _callers(17),
        }
        with Up(tmp_path_factory.mktemp("trees"), manifests) as running:
            yield running


def _dump(socket: str) -> str:
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), timeout=30) as admin:
        return admin.get("http://admin/config_dump").text


_TREE = f'"@type": "type.googleapis.com/{composite_v3.Composite.DESCRIPTOR.full_name}"'


def _get(connection: http.client.HTTPConnection, path: str) -> int:
    response = _sent(connection, "web.example.com", Request(path))
    response.read()
    return response.status


def _logged(up: Up, proxy: str, path: str, **fields: object) -> bool:
    """Whether a request for ``path`` was logged so."""
    lines = (line for line in up.access_log(proxy) if line["path"] == path)
    return any(all(line[name] == value for name, value in fields.items()) for line in lines)


@pytest.mark.parametrize(("path", "name"), [("/r07/named", "r07"), ("/r7/named", "rest")])
def test_routes_of_a_tree_are_logged_under_their_names(up: Up, path: str, name: str) -> None:
    with closing(http.client.HTTPConnection(*up.gateway(80), timeout=30)) as connection:
        assert _get(connection, path) == 200
        eventually(lambda: _logged(up, "gateway~shop~edge", path, route=name))
    assert "envoy.config.route.v3.RouteList" in _dump(up.ready["gateways"][0]["admin_socket"])


def test_rules_become_a_tree_and_a_list_again_under_a_standing_connection(up: Up) -> None:
    socket = up.ready["gateways"][0]["admin_socket"]
    with closing(http.client.HTTPConnection(*up.gateway(80), timeout=30)) as connection:
        assert [_get(connection, path) for path in ("/r00/closed", "/r20/closed", "/r20/open")] == [403, 200, 200]
        standing = connection.sock
        assert _TREE not in _dump(socket)
        up.write("closed.yaml", _closed(_MANY))
        eventually(lambda: _get(connection, "/r20/closed?tree") == 403)
        assert _TREE in _dump(socket)
        assert [_get(connection, path) for path in ("/r00/closed", "/r20/open", "/closed")] == [403, 200, 200]
        eventually(
            lambda: _logged(up, "gateway~shop~edge", "/r20/closed", deny_policy="ns[shop]-policy[closed]-rule[20]")
        )
        up.write("closed.yaml", _closed(1))
        eventually(lambda: _get(connection, "/r20/closed") == 200)
        assert connection.sock is standing, "no connection was drained"


def test_a_caller_is_found_among_many(up: Up) -> None:
    socket = up.workload("web-1")["admin_socket"]
    proxy = "sidecar~shop~web-1"
    assert _TREE in _dump(socket)
    with closing(http.client.HTTPConnection(*up.gateway(80), timeout=30)) as connection:
        assert _get(connection, "/caller/in") == 200
        eventually(lambda: _logged(up, proxy, "/caller/in", allow_policy="ns[shop]-policy[callers]-rule[17]"))
        up.write("callers.yaml", _callers(-1))
        eventually(lambda: _get(connection, "/caller/out") == 403)
        eventually(lambda: _logged(up, proxy, "/caller/out", allow_result="denied"))
        up.write("callers.yaml", _callers(3))
        eventually(lambda: _get(connection, "/caller/back") == 200)
        eventually(lambda: _logged(up, proxy, "/caller/back", allow_policy="ns[shop]-policy[callers]-rule[3]"))
