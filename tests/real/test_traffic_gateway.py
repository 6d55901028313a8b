"""Gateways and the Deployments that carry them: ports, hosts, addresses and redirects, on real Envoys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from isthmus.cli.analyze import findings
from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, isthmus

pytestmark = pytest.mark.real

SERVERS = "Gateway.spec.servers[]."
POD = "Deployment.spec.template."
HTTPS = {"mode": "SIMPLE", "credentialName": "edge"}
REDIRECT = {"httpsRedirect": True}
CLOSED = {
    9000: server(9000, "c0.example.com", protocol="TLS", tls={"mode": "AUTO_PASSTHROUGH"}),
    9001: server(9001, "c1.example.com", protocol="HTTPS", tls={"mode": "AUTO_PASSTHROUGH"}),
    82: server(82, "c2.example.com", name="tcp-on-http", protocol="TCP"),
    7001: server(7001, "*", name="elsewhere", bind="127.0.0.3"),
    81: server(81, "c3.example.com", name="https-on-http", protocol="HTTPS", tls=HTTPS),
}
"""Servers that are not opened."""


def deployment(name: str, labels: dict[str, str], account: str | None = None, **spec: Any) -> Manifest:
    pod: Manifest = {"metadata": {"labels": labels, "annotations": {"sidecar.istio.io/inject": "true"}}}
    if account is not None:
        pod["spec"] = {"serviceAccountName": account, "containers": [{"name": "envoy", "image": "envoy"}]}
    return manifest("Deployment", name, {"selector": {"matchLabels": labels}, "template": pod, **spec})


def manifests(port: int) -> str:
    hosts = ["plain", "ours", "dot", "any", "theirs", "any-two"]
    names = [f"{name}.example.com" for name in hosts]
    bank = {"match": [{"uri": {"prefix": "/bank"}}], "headers": {"response": {"set": {"x-table": "bank"}}}}
    shop = {"headers": {"response": {"set": {"x-table": "shop"}}}}
    return dump(
        deployment("front", {"app": "front", "tier": "edge"}, "front-account", replicas=3),
        gateway(
            "one",
            server(
                80,
                "plain.example.com",
                "shop/ours.example.com",
                "./dot.example.com",
                "*/any.example.com",
                "bank/theirs.example.com",
                "*.wild.example.com",
            ),
            server(81, "*.example.com", tls=REDIRECT),
            server(82, "unsecured.example.org", tls=REDIRECT),
            server(443, "plain.example.com", protocol="HTTPS", tls=HTTPS),
            server(8080, protocol="HTTP2"),
            server(8081, protocol="grpc"),
            server(7001, "*", bind="127.0.0.2"),
            *CLOSED.values(),
            selector={"app": "front"},
        ),
        # Carried by the same proxy, since its pods have this label, too.
        gateway("two", server(80, "two.example.com", name="http-two"), server(8082), selector={"tier": "edge"}),
        gateway("lone", server(7000, bind="127.0.0.2"), server(7002), selector={"app": "nobody"}),
        routes(
            "shop",
            [*names, "*.wild.example.com", "two.example.com", "bound.example.com"],
            {**shop, "route": [to("web")]},
            gateways=["one", "two", "lone"],
        ),
        routes(
            "bank",
            names,
            {**bank, "route": [to("web.shop.svc.cluster.local")]},
            gateways=["shop/one"],
            namespace="bank",
        ),
        service("web"),
        workload("web-1", port, {"app": "web"}),
    )


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Backend() as backend, Up(tmp_path_factory.mktemp("gateway"), {"all.yaml": manifests(backend.port)}) as running:
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


def table(up: Up, client: httpx.Client, name: str, path: str = "/", port: int = 80) -> str | int:
    """The VirtualService that answers, or the status."""
    answer = up.send(client, "GET", f"http://{name}.example.com:{port}{path}")
    return answer.headers.get("x-table", answer.status_code)


def reported(path: Any, *documents: Manifest) -> set[tuple[str, str]]:
    """Severity and code of all that ``isthmus analyze`` says."""
    file = path / "reported.yaml"
    file.write_text(dump(*documents))
    return {(found.severity.word, found.code.id) for found in findings([str(file)])}


@enforces(SERVERS + "hosts")
@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("plain", "/", "shop"),
        ("plain", "/bank", "bank"),
        ("other", "/", 404),
        ("a.wild", "/", "shop"),
        ("wild", "/", 404),
        # A namespace before the host: VirtualServices of that namespace only.
        ("ours", "/", "shop"),
        ("ours", "/bank", "shop"),
        ("dot", "/bank", "shop"),
        ("theirs", "/bank", "bank"),
        ("theirs", "/", 404),
        ("any", "/bank", "bank"),
        ("any", "/", "shop"),
    ],
)
def test_hosts(up: Up, client: httpx.Client, name: str, path: str, expected: str | int) -> None:
    assert table(up, client, name, path) == expected


@enforces(SERVERS + "port.number")
def test_host_is_served_on_its_port_only(up: Up, client: httpx.Client) -> None:
    assert table(up, client, "two") == "shop"
    assert table(up, client, "two", port=8082) == "shop"
    assert table(up, client, "bound") == 404
    assert table(up, client, "bound", port=8082) == "shop"


@enforces("Gateway.spec.selector", POD + "metadata.labels", "Deployment.spec.selector.matchLabels")
def test_selector_says_which_proxy_carries_a_gateway(up: Up, tmp_path: Any) -> None:
    ports = {
        gateway["name"]: {listener["declared_port"] for listener in gateway["listeners"]}
        for gateway in up.ready["gateways"]
    }
    assert ports == {"front": {80, 81, 82, 443, 7001, 8080, 8081, 8082}, "lone": {7000, 7002}}
    wrong = deployment("wrong", {"app": "front"})
    wrong["spec"]["selector"]["matchLabels"] = {"app": "other"}
    assert ("error", "ISM1106") in reported(tmp_path, wrong)


@enforces(POD + "spec")
def test_service_account_of_the_pods_is_the_gateways_identity(up: Up, client: httpx.Client) -> None:
    """What a backend sees: the proxy of a Deployment has its account, one of a Gateway alone the Gateway's name."""

    def identity(host: str, port: int) -> str:
        saw = up.send(client, "GET", f"http://{host}.example.com:{port}/").json()
        return (header(saw, "x-forwarded-client-cert") or "").partition("URI=")[2]

    assert identity("plain", 80) == "spiffe://cluster.local/ns/shop/sa/front-account"
    assert identity("bound", 7002) == "spiffe://cluster.local/ns/shop/sa/lone"


@enforces("Deployment.spec.replicas", POD + "metadata.annotations")
def test_replicas_and_injection_are_one_proxy(up: Up, tmp_path: Any) -> None:
    assert [gateway["name"] for gateway in up.ready["gateways"]].count("front") == 1
    edge = gateway("edge", server(80), selector={"app": "front"})
    several = deployment("front", {"app": "front"}, replicas=3)
    assert ("info", "ISM2114") in reported(tmp_path, edge, several)
    one = deployment("front", {"app": "front"}, replicas=1)
    del one["spec"]["template"]["metadata"]["annotations"]
    assert ("info", "ISM2114") not in reported(tmp_path, edge, one)


@enforces(SERVERS + "bind")
def test_bind_is_the_address(up: Up, client: httpx.Client) -> None:
    address, port = up.gateway(7000)
    assert address == "127.0.0.2"
    assert table(up, client, "bound", port=7000) == "shop"
    with pytest.raises(httpx.ConnectError):
        client.get(f"http://127.0.0.1:{port}/")
    assert up.gateway(7002)[0] == "127.0.0.1"


@enforces(SERVERS + "bind", SERVERS + "port.protocol")
@pytest.mark.parametrize("port", CLOSED)
def test_server_that_cannot_be_opened_as_written_stays_closed(up: Up, port: int) -> None:
    """And says so; a port that another server opens, too, is as that one says."""
    hosts = {
        listener["declared_port"]: listener["hosts"]
        for gateway in up.ready["gateways"]
        for listener in gateway["listeners"]
    }
    name = CLOSED[port]["hosts"][0]
    assert name == "*" or name not in hosts.get(port, [])
    assert f"port {port}" in up.output
    if port == 7001:
        assert up.gateway(port)[0] == "127.0.0.2"


@enforces(SERVERS + "port.protocol")
@pytest.mark.parametrize(("port", "expected"), [(80, "shop"), (8080, "shop"), (8081, "shop")])
def test_http_is_spoken_by_every_protocol_of_its_family(up: Up, client: httpx.Client, port: int, expected: str) -> None:
    assert table(up, client, "plain", port=port) == expected


@enforces(SERVERS + "port.protocol")
def test_https_takes_no_plaintext(up: Up, client: httpx.Client) -> None:
    assert up.send(client, "GET", "https://plain.example.com/").headers["x-table"] == "shop"
    with pytest.raises(httpx.TransportError):
        up.send(client, "GET", "http://plain.example.com:443/")


@enforces(SERVERS + "tls.httpsRedirect")
def test_https_redirect_leads_to_the_published_port(up: Up, client: httpx.Client) -> None:
    answer = up.send(client, "GET", "http://plain.example.com:81/a?q=1")
    published = up.gateway(443)[1]
    assert answer.status_code == 301
    assert answer.headers["location"] == f"https://plain.example.com:{published}/a?q=1"
    nowhere = up.send(client, "GET", "http://unsecured.example.org:82/a")
    assert nowhere.headers["location"].startswith("https://unsecured.example.org")
    assert table(up, client, "plain") == "shop"


@enforces(SERVERS + "port.name")
def test_name_of_a_port_names_its_routes(up: Up, tmp_path: Any) -> None:
    """And is one server's only: what it names would else be two things."""
    shown = isthmus("config", "--state", str(up.state), "front").stdout
    assert "https.443.https-443.one.shop" in shown
    twice = gateway("twice", server(80, name="http"), server(81, name="http"))
    assert ("error", "ISM1106") in reported(tmp_path, twice)
