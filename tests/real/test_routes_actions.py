"""What a route does beside forwarding, on real Envoys: mirrors, direct answers, redirects by prefix, delegates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend, Reply, header
from tests.real.fields import enforces
from tests.real.traffic import (
    Caller,
    Manifest,
    Obedient,
    Try,
    caller,
    dump,
    gateway,
    manifest,
    routes,
    server,
    service,
    to,
    within_bounds,
    workload,
)
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

HTTP = "VirtualService.spec.http[]."
NAMES = count()


def host(name: str) -> str:
    return f"{name}.example.com"


COPIES: dict[str, Manifest] = {
    "all": {"mirror": {"host": "copy", "port": {"number": 80}}},
    "none": {"mirror": {"host": "copy"}, "mirrorPercentage": {"value": 0}},
    "quarter": {"mirror": {"host": "copy"}, "mirrorPercentage": {"value": 25}},
    "fifth": {"mirror": {"host": "copy"}, "mirrorPercent": 20},
    "subset": {"mirror": {"host": host("two"), "subset": "v2"}},
    "several": {
        "mirrors": [
            {"destination": {"host": "copy"}, "percentage": {"value": 10}},
            {"destination": {"host": host("two"), "subset": "v1", "port": {"number": 80}}},
        ]
    },
    "closed": {"mirror": {"host": "closed"}},
    "unknown": {"mirror": {"host": "nobody"}},
    "unmirrored": {},
}
TEXT = "gone\n" * 2000
"""More than Envoy's own limit of 4 KiB."""
TABLES: dict[str, list[Manifest]] = {
    **{f"mirror-{name}": [{**fields, "route": [to("web")]}] for name, fields in COPIES.items()},
    "answer": [
        {
            "match": [{"uri": {"prefix": "/text"}}],
            "directResponse": {"status": 410, "body": {"string": TEXT}},
            "headers": {"response": {"set": {"content-type": "text/markdown"}}},
        },
        {"match": [{"uri": {"prefix": "/bytes"}}], "directResponse": {"status": 200, "body": {"bytes": "AP8="}}},
        {"match": [{"uri": {"prefix": "/empty"}}], "directResponse": {"status": 204}},
        {"route": [to("web")]},
    ],
    "prefix": [
        {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"prefixRewrite": "/new"}},
        {
            "match": [{"uri": {"prefix": "/away/"}}],
            "redirect": {"prefixRewrite": "/", "authority": "away.example.com", "redirectCode": 302},
        },
        {"route": [to("web")]},
    ],
    "stats": [
        {"match": [{"uri": {"prefix": "/counted"}, "statPrefix": "counted"}], "route": [to("web")]},
        {"route": [to("web")]},
    ],
    "canary": [
        {"match": [{"headers": {"x-canary": {"exact": "always"}}}], "route": [to(host("two"), subset="v2")]},
        {"route": [to(host("two"), subset="v1", weight=90), to(host("two"), subset="v2", weight=10)]},
    ],
    "cleaned": [{"headers": {"request": {"remove": ["X-User-Id"]}}, "route": [to("web")]}],
    "backoff": [{"retries": {"attempts": 1, "retryOn": "5xx", "backoff": "1500ms"}, "route": [to("web")]}],
    "no-backoff": [{"retries": {"attempts": 1, "retryOn": "5xx"}, "route": [to("web")]}],
    **{
        name: [
            {
                "retries": {"attempts": 1, "retryOn": "5xx", "retryIgnorePreviousHosts": avoid},
                "route": [to(host("mixed"))],
            }
        ]
        for name, avoid in (("avoid", True), ("anywhere", False))
    },
    "rooted": [
        {
            "match": [{"uri": {"prefix": "/orders"}}],
            "name": "root",
            "delegate": {"name": "orders-routes", "namespace": "team"},
            "headers": {"response": {"set": {"x-table": "inherited"}}},
        },
        {"match": [{"uri": {"prefix": "/local"}}], "delegate": {"name": "local-routes"}},
        {"match": [{"uri": {"prefix": "/lost"}}], "delegate": {"name": "lost"}},
        {"route": [to("web")], "headers": {"response": {"set": {"x-table": "rest"}}}},
    ],
}


def delegates() -> Iterator[Manifest]:
    new = {"match": [{"uri": {"exact": "/orders/new"}, "method": {"exact": "POST"}}], "route": [to("web")]}
    outside = {"match": [{"uri": {"prefix": "/users"}}], "route": [to("web")]}
    own = {
        "match": [{"uri": {"prefix": "/orders/own"}}],
        "route": [to("web.team.svc.cluster.local")],
        "headers": {"response": {"set": {"x-table": "own"}}},
    }
    spec = {"http": [outside, {**new, "route": [to("web")]}, own]}
    yield manifest("VirtualService", "orders-routes", spec, "team")
    local = {"http": [{"route": [to("web")], "headers": {"response": {"set": {"x-table": "local"}}}}]}
    yield manifest("VirtualService", "local-routes", local)
    yield service("web", "team", selector={"app": "team-web"})


def external(name: str, ports: dict[str, int]) -> Manifest:
    """A service of programs outside of the mesh, by their versions."""
    endpoints = [
        {"address": "127.0.0.1", "ports": {"http": port}, "labels": {"version": version}}
        for version, port in ports.items()
    ]
    opened = [{"name": "http", "number": 80, "protocol": "HTTP"}]
    spec = {"hosts": [host(name)], "ports": opened, "resolution": "STATIC", "endpoints": endpoints}
    return manifest("ServiceEntry", name, {**spec, "location": "MESH_EXTERNAL"})


def manifests(ports: dict[str, int], folder: Path) -> str:
    two = {"host": host("two"), "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]}
    nobody = {"selector": {"matchLabels": {"app": "closed"}}, "action": "ALLOW"}
    return dump(
        gateway("edge", server(80)),
        *(routes(name, [host(name)], *http, gateways=["edge"]) for name, http in TABLES.items()),
        *delegates(),
        *(service(name) for name in ("web", "copy", "closed")),
        workload("web-1", ports["web"], {"app": "web"}),
        workload("team-web-1", ports["team"], {"app": "team-web"}, "team"),
        workload("copy-1", ports["copy"], {"app": "copy"}),
        workload("closed-1", ports["closed"], {"app": "closed"}),
        # Without sidecars of their own: each takes a second to start.
        external("two", {"v1": ports["v1"], "v2": ports["v2"]}),
        external("mixed", {"good": ports["web"], "broken": ports["broken"]}),
        manifest("DestinationRule", "two", two),
        manifest("AuthorizationPolicy", "nobody", nobody),
        manifest("PeerAuthentication", "strict", {"mtls": {"mode": "STRICT"}}),
        # The same in the mesh: what a program's own proxy does.
        routes("meshed", ["meshed"], {"mirror": {"host": "copy"}, "route": [to("web")]}),
        routes("told", ["told"], {"directResponse": {"status": 418, "body": {"string": TEXT}}}),
        routes("tidy", ["tidy"], {"headers": {"request": {"remove": ["x-user-id"]}}, "route": [to("web")]}),
        *(service(name, selector={"app": "web"}) for name in ("meshed", "told", "tidy", "untidy")),
        caller("front", folder),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("actions")


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, Backend]]:
    obedient = Obedient()
    names = ("web", "team", "copy", "v1", "v2", "closed")
    with ExitStack() as stack:
        running = {name: stack.enter_context(Backend(name, obedient)) for name in names}
        running["broken"] = stack.enter_context(Backend("broken", lambda saw: Reply(503)))
        yield running


@pytest.fixture(scope="module")
def up(folder: Path, backends: dict[str, Backend]) -> Iterator[Up]:
    ports = {name: backend.port for name, backend in backends.items()}
    with Up(folder, {"all.yaml": manifests(ports, folder)}) as running:
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def ask(
    up: Up, client: httpx.Client, name: str, path: str = "/", method: str = "GET", **options: Any
) -> httpx.Response:
    return up.send(client, method, f"http://{host(name)}{path}", **options)


def counters(up: Up, pattern: str) -> dict[str, int]:
    """Of the gateway's Envoy."""
    socket = up.ready["gateways"][0]["admin_socket"]
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), timeout=30) as admin:
        answer = admin.get("http://admin/stats", params={"format": "json", "filter": pattern}).json()
    return {one["name"]: one["value"] for one in answer["stats"] if "value" in one}


def sent_to(up: Up, name: str, subset: str = "") -> dict[str, int]:
    """What the gateway sent: ``total``, and what is still under way: ``active``, ``pending_active``."""
    full = host(name) if subset else f"{name}.shop.svc.cluster.local"
    cluster = f"outbound.80.{subset}.{full}"
    found = counters(up, f"^cluster.{cluster}.upstream_rq_(total|active|pending_active)$")
    return {name.rpartition("upstream_rq_")[2]: value for name, value in found.items()}


def copied(up: Up, client: httpx.Client, name: str, times: int, copy: Backend, *cluster: str) -> int:
    """How many of ``times`` requests were copied, by the sender's count and by what the copy's backend saw."""
    before = sent_to(up, *cluster)["total"]
    tries = [Try(copy) for _ in range(times)]
    for one in tries:
        answer = ask(up, client, f"mirror-{name}", headers=one.headers)
        assert (answer.status_code, answer.json()["backend"]) == (200, "web"), "the caller has the primary's answer"
    names = {one.headers["x-try"] for one in tries}

    def both_ends() -> bool:
        sender = sent_to(up, *cluster)
        seen = sum(header(saw, "x-try") in names for saw in tuple(copy.seen))
        return sender["active"] == sender["pending_active"] == 0 and sender["total"] - before == seen

    eventually(both_ends)
    return sent_to(up, *cluster)["total"] - before


@enforces(HTTP + "mirror.host", HTTP + "mirror.port.number")
def test_every_request_is_copied(up: Up, client: httpx.Client, backends: dict[str, Backend]) -> None:
    copy = backends["copy"]
    assert copied(up, client, "all", 30, copy, "copy") == 30
    saw = copy.seen[-1]
    assert (header(saw, "host") or "").startswith("mirror-all.example.com-shadow")
    assert "URI=spiffe://cluster.local/ns/shop/sa/edge" in (header(saw, "x-forwarded-client-cert") or ""), "mutual TLS"
    assert copied(up, client, "unmirrored", 30, copy, "copy") == 0


@enforces(HTTP + "mirror.subset")
def test_copies_go_to_a_subset(up: Up, client: httpx.Client, backends: dict[str, Backend]) -> None:
    first = len(backends["v1"].seen)
    assert copied(up, client, "subset", 20, backends["v2"], "two", "v2") == 20
    assert len(backends["v1"].seen) == first


@enforces(HTTP + "mirrorPercentage.value", HTTP + "mirrorPercent")
@pytest.mark.parametrize(("name", "share"), [("quarter", 0.25), ("fifth", 0.2)])
def test_a_share_is_copied(up: Up, client: httpx.Client, backends: dict[str, Backend], name: str, share: float) -> None:
    found = copied(up, client, name, 400, backends["copy"], "copy")
    print(verdict(found, 400, share))
    assert within_bounds(found, 400, share)


@enforces(HTTP + "mirrorPercentage.value")
def test_a_share_of_nothing_copies_nothing(up: Up, client: httpx.Client, backends: dict[str, Backend]) -> None:
    assert copied(up, client, "none", 50, backends["copy"], "copy") == 0


_EACH = HTTP + "mirrors[]."


@enforces(
    _EACH + "percentage.value",
    *(_EACH + "destination." + name for name in ("host", "subset", "port.number")),
)
def test_several_mirrors_have_shares_of_their_own(up: Up, client: httpx.Client, backends: dict[str, Backend]) -> None:
    before = len(backends["copy"].seen), sent_to(up, "two", "v1")["total"], len(backends["v2"].seen)
    some = copied(up, client, "several", 300, backends["copy"], "copy")
    print(verdict(some, 300, 0.1))
    assert within_bounds(some, 300, 0.1)
    assert len(backends["copy"].seen) - before[0] == some
    assert sent_to(up, "two", "v1")["total"] - before[1] == 300
    assert len(backends["v2"].seen) == before[2], "another subset"


def test_a_copy_meets_the_policies_of_who_gets_it(up: Up, client: httpx.Client, backends: dict[str, Backend]) -> None:
    """No copy goes past them, and the caller does not notice."""
    for _ in range(10):
        assert ask(up, client, "mirror-closed").status_code == 200
    eventually(lambda: refusals(up) == 10)
    assert sent_to(up, "closed")["total"] == 10
    assert backends["closed"].seen == []


def refusals(up: Up) -> int:
    """By the sidecar of who gets the copies, in its access log."""
    lines = up.access_log("sidecar~shop~closed-1")
    return sum(line["status"] == 403 for line in lines)


def test_a_mirror_that_nobody_declared_is_told_of(up: Up, client: httpx.Client) -> None:
    assert ask(up, client, "mirror-unknown").status_code == 200
    assert 'spec.http[0].mirror.host: no service named "nobody"' in up.output


@enforces(HTTP + "mirror.host")
def test_a_program_s_own_proxy_copies_too(front: Caller, backends: dict[str, Backend]) -> None:
    one = Try(backends["copy"])
    assert front.get("http://meshed.shop/", headers=one.headers).json()["backend"] == "web"
    (saw,) = eventually(lambda: one.seen)
    assert "URI=spiffe://cluster.local/ns/shop/sa/default" in (header(saw, "x-forwarded-client-cert") or "")
    two = Try(backends["copy"])
    assert front.get("http://untidy.shop/", headers=two.headers).status_code == 200
    assert not two.seen


def verdict(found: int, asked: int, share: float) -> str:
    sigmas = abs(found - asked * share) / math.sqrt(asked * share * (1 - share))
    word = "within" if sigmas <= 3 else "outside of"
    return f"{found} of {asked} for a share of {share:g}: {sigmas:.2f} standard deviations, {word} 3"


DIRECT = HTTP + "directResponse."


@enforces(DIRECT + "status", DIRECT + "body.string", DIRECT + "body.bytes")
def test_direct_responses(up: Up, client: httpx.Client) -> None:
    text = ask(up, client, "answer", "/text/x")
    assert (text.status_code, text.text) == (410, TEXT)
    assert text.headers["content-type"] == "text/markdown", "the route's own headers"
    raw = ask(up, client, "answer", "/bytes")
    assert (raw.status_code, raw.content) == (200, b"\x00\xff")
    assert (ask(up, client, "answer", "/empty").status_code, ask(up, client, "answer", "/empty").content) == (204, b"")
    assert ask(up, client, "answer", "/other").json()["backend"] == "web"


@enforces(DIRECT + "status", DIRECT + "body.string")
def test_direct_responses_in_the_mesh(front: Caller, backends: dict[str, Backend]) -> None:
    one = Try(*backends.values())
    answer = front.get("http://told.shop/", headers=one.headers)
    assert (answer.status_code, answer.text, one.seen) == (418, TEXT, [])
    assert front.get("http://untidy.shop/").json()["backend"] == "web"


@enforces(HTTP + "redirect.prefixRewrite")
@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/old/a?b=1", 301, "http://prefix.example.com:PORT/new/a?b=1"),
        ("/old", 301, "http://prefix.example.com:PORT/new"),
        ("/away/a/b?c", 302, "http://away.example.com/a/b?c"),
        ("/other/old", 200, None),
    ],
)
def test_redirects_that_keep_the_rest_of_the_path(
    up: Up, client: httpx.Client, path: str, status: int, location: str | None
) -> None:
    answer = ask(up, client, "prefix", path)
    wanted = location and location.replace("PORT", str(up.gateway(80)[1]))
    assert (answer.status_code, answer.headers.get("location")) == (status, wanted)


@enforces(HTTP + "match[].statPrefix")
def test_a_route_s_own_statistics(up: Up, client: httpx.Client) -> None:
    name = "vhost.stats.example.com:80.route.counted.upstream_rq_total"
    before = counters(up, "route.counted").get(name, 0)
    for path in ("/counted/a", "/counted/b", "/not-counted"):
        assert ask(up, client, "stats", path).status_code == 200
    eventually(lambda: counters(up, "route.counted").get(name, 0) == before + 2)


@enforces(HTTP + "route[].weight", HTTP + "match[].headers.*.exact")
def test_a_canary_by_weight_and_by_header(up: Up, client: httpx.Client) -> None:
    """The header decides before the weights do."""
    chosen = Counter(ask(up, client, "canary").json()["backend"] for _ in range(1000))
    print(verdict(chosen["v2"], 1000, 0.1))
    assert chosen.total() == 1000
    assert within_bounds(chosen["v2"], 1000, 0.1)
    always = {"x-canary": "always"}
    assert {ask(up, client, "canary", headers=always).json()["backend"] for _ in range(50)} == {"v2"}
    never = {"x-canary": "sometimes"}
    assert {ask(up, client, "canary", headers=never).json()["backend"] for _ in range(200)} == {"v1", "v2"}


SPOOFED = [("x-user-id", "admin"), ("X-USER-ID", "root"), ("x-user-id-2", "stays")]


@enforces(HTTP + "headers.request.remove")
def test_a_spoofed_header_does_not_get_in(up: Up, client: httpx.Client) -> None:
    sent = httpx.Headers([("host", host("cleaned")), *SPOOFED])
    saw = ask(up, client, "cleaned", headers=sent).json()
    assert header(saw, "x-user-id") is None
    assert header(saw, "x-user-id-2") == "stays"
    plain = httpx.Headers([("host", host("stats")), *SPOOFED])
    assert header(ask(up, client, "stats", headers=plain).json(), "x-user-id") == "admin, root"


@pytest.mark.parametrize("name", ["x_user_id", "x-user_id", "X_User_Id"])
def test_a_gateway_takes_no_header_with_underscores(up: Up, client: httpx.Client, name: str) -> None:
    assert ask(up, client, "cleaned", headers={name: "admin"}).status_code == 400


@enforces(HTTP + "headers.request.remove")
def test_in_the_mesh_the_twin_with_underscores_goes_too(front: Caller) -> None:
    """A CGI or WSGI program reads both as one."""
    sent = {"x-user-id": "admin", "x_user_id": "admin"}
    saw = front.get("http://tidy.shop/", headers=sent).json()
    assert (header(saw, "x-user-id"), header(saw, "x_user_id")) == (None, None)
    saw = front.get("http://untidy.shop/", headers=sent).json()
    assert (header(saw, "x-user-id"), header(saw, "x_user_id")) == ("admin", "admin")


@enforces(HTTP + "delegate.name", HTTP + "delegate.namespace")
@pytest.mark.parametrize(
    ("method", "path", "status", "table", "backend"),
    [
        ("POST", "/orders/new", 200, "inherited", "team"),
        ("GET", "/orders/own/1", 200, "own", "team"),
        ("GET", "/local/x", 200, "local", "web"),
        # Left by the delegate: the root's later routes.
        ("GET", "/orders/new", 200, "rest", "web"),
        ("GET", "/orders/other", 200, "rest", "web"),
        # The delegate may not take what was not left to it.
        ("GET", "/users", 200, "rest", "web"),
        # A delegate that is not there leaves nothing to others.
        ("GET", "/lost", 503, None, None),
    ],
)
def test_delegated_routes(
    up: Up, client: httpx.Client, method: str, path: str, status: int, table: str | None, backend: str | None
) -> None:
    answer = ask(up, client, "rooted", path, method)
    assert (answer.status_code, answer.headers.get("x-table")) == (status, table)
    if backend is not None:
        assert answer.json()["backend"] == backend


RETRIES = HTTP + "retries."


@enforces(RETRIES + "backoff")
def test_the_wait_before_a_retry(up: Up, client: httpx.Client) -> None:
    """Envoy waits up to ``backoff`` before the first retry, evenly spread; by default up to 25 ms."""

    def waited(name: str) -> float:
        def one(_: int) -> float:
            answer = ask(up, client, name, headers={"x-try": str(next(NAMES)), "x-answer": "503,200"})
            assert answer.status_code == 200
            return answer.elapsed.total_seconds()

        with ThreadPoolExecutor(24) as pool:
            return sum(pool.map(one, range(24)))

    patient, usual = waited("backoff"), waited("no-backoff")
    # 24 waits of 0.75 s on average, each with a standard deviation of 0.43 s.
    assert patient > 24 * 0.25
    assert usual < patient


@enforces(RETRIES + "retryIgnorePreviousHosts")
def test_retries_go_to_other_endpoints(up: Up, client: httpx.Client, backends: dict[str, Backend]) -> None:
    def failed(name: str) -> int:
        return sum(ask(up, client, name).status_code != 200 for _ in range(240))

    # By chance half of the first tries fail, and half of the second: 60 of 240. To avoid an endpoint, Envoy chooses
    # again, up to five times, each time by chance: 4 of 240.
    assert failed("avoid") < 28
    assert failed("anywhere") > 28
