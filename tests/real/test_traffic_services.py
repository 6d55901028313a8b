"""Services and who stands behind them: Service, WorkloadEntry and ServiceEntry, called from inside the mesh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.traffic import Caller, Manifest, Obedient, caller, dump, manifest, service, within_bounds, workload
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

PORTS = "Service.spec.ports[]."
ENTRY = "ServiceEntry.spec."
WORKLOAD = "WorkloadEntry.spec."
NOT_REGISTERED = "not registered"
NOBODY = 503
NOT_HTTP2 = 502
REGISTRY_ONLY = manifest("ConfigMap", "istio", None, "istio-system")
del REGISTRY_ONLY["spec"]
REGISTRY_ONLY["data"] = {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}


def entry(name: str, spec: Manifest, *ports: Manifest, namespace: str = "shop") -> Manifest:
    """A ServiceEntry for ``name.example.com``, on port 80."""
    opened = list(ports) or [{"number": 80, "name": "http", "protocol": "HTTP"}]
    return manifest("ServiceEntry", name, {"hosts": [f"{name}.example.com"], "ports": opened, **spec}, namespace)


def opened(*ports: tuple[str, int, Any], **more: Any) -> list[Manifest]:
    found = [{"name": name, "port": number} | ({"targetPort": to} if to else {}) | more for name, number, to in ports]
    return found


def services(a: int, b: int) -> Iterator[Manifest]:
    """``a`` and ``b`` are the ports of two backends of these names; both are ports of the workload ``two``."""
    two = {"selector": {"app": "two"}}
    yield workload("two", a, {"app": "two"}, ports={"http": a, "http-b": b})
    yield service("ports", **two, ports=opened(("http", 8080, None)))
    yield service("by-name", **two, ports=opened(("http-b", 80, None), ("http", 81, None)))
    yield service("by-number", **two, ports=opened(("http-x", 80, b), ("http-y", 81, a)))
    yield service("by-target-name", **two, ports=opened(("http-x", 80, "http-b"), ("http-y", 81, "http")))
    yield service("nowhere", **two, ports=opened(("http-x", 80, "nothing")))
    yield service("udp", **two, ports=[*opened(("http", 80, None)), *opened(("http-u", 81, None), protocol="UDP")])
    yield service("tcp-name", **two, ports=opened(("tcp-x", 80, "http")))
    yield service("tcp-app", **two, ports=opened(("http-x", 80, "http"), appProtocol="tcp"))
    # Which version of HTTP a program is spoken to in: these speak HTTP/1.1 only.
    for name, port_name, protocol in (
        ("h2-name", "http2", None),
        ("h2-app", "http", "kubernetes.io/h2c"),
        ("h1-app", "http2", "http"),
    ):
        said = {"appProtocol": protocol} if protocol else {}
        yield workload(name, a, {"app": name}, ports={port_name: a})
        yield service(name, ports=opened((port_name, 80, None), **said))
    yield service("selected", selector={"app": "chosen", "tier": "gold"})
    yield service("empty", selector={"app": "nobody"})
    yield workload("gold", a, {"app": "chosen", "tier": "gold", "more": "yes"}, serviceAccount="golden")
    yield workload("silver", b, {"app": "chosen", "tier": "silver"})
    yield workload("foreign", b, {"app": "chosen", "tier": "gold"}, "bank")
    yield service("node-port", **two, type="NodePort")
    yield service("external-name", **two, type="ExternalName", externalName="ports.shop.svc.cluster.local")
    yield service("sticky", selector={"app": "weighed"}, sessionAffinity="ClientIP")
    yield service("weighed", selector={"app": "weighed"}, sessionAffinity="None")
    yield workload("heavy", a, {"app": "weighed"}, weight=3)
    yield workload("light", b, {"app": "weighed"}, weight=1)
    # An address that is not loopback's is another machine's: no sidecar of ours stands before it.
    yield service("remote")
    yield workload("remote", a, {"app": "remote"}, address="remote.localhost")
    yield service("remote-meshed")
    meshed = {"app": "remote-meshed", "security.istio.io/tlsMode": "istio"}
    yield workload("remote-meshed", a, meshed, address="remote.localhost")
    yield service("by-loopback-name")
    yield workload("by-loopback-name", a, {"app": "by-loopback-name"}, address="localhost")


def entries(a: int, b: int) -> Iterator[Manifest]:
    def at(port: int, address: str = "127.0.0.1", **more: Any) -> Manifest:
        return {"address": address, "ports": {"http": port}, **more}

    static = {"resolution": "STATIC"}
    yield entry("static", {**static, "endpoints": [at(a)]})
    yield entry("unlisted", {**static})
    yield entry("elsewhere", {**static, "endpoints": [at(a, "127.0.0.9")]})
    two = [{"number": 80, "name": "http", "protocol": "HTTP"}, {"number": 81, "name": "http-b", "protocol": "HTTP"}]
    yield entry(
        "two-ports", {**static, "endpoints": [{"address": "127.0.0.1", "ports": {"http": a, "http-b": b}}]}, *two
    )
    target = {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": b}
    yield entry("target", {**static, "endpoints": [{"address": "127.0.0.1"}]}, target)
    for protocol in ("HTTP2", "TCP", "GRPC"):
        name = f"as-{protocol.lower()}"
        yield entry(name, {**static, "endpoints": [at(a)]}, {"number": 80, "name": "http", "protocol": protocol})
    yield entry("shared", {**static, "endpoints": [at(a, weight=3), at(b, weight=1)]})
    yield entry("labelled", {**static, "endpoints": [at(a, labels={"version": "v1"}), at(b, labels={"version": "v2"})]})
    subset = {"host": "labelled.example.com", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]}
    yield manifest("DestinationRule", "labelled", subset)
    destination = {"destination": {"host": "labelled.example.com", "subset": "v2"}}
    yield manifest("VirtualService", "labelled", {"hosts": ["v2.example.com"], "http": [{"route": [destination]}]})
    yield entry("by-dns", {"resolution": "DNS", "endpoints": [at(a, "localhost")]})
    yield entry("dns-nowhere", {"resolution": "DNS", "endpoints": [at(a, "nowhere.invalid")]})
    yield manifest(
        "ServiceEntry",
        "dns-own-name",
        {"hosts": ["localhost"], "ports": [{"number": a, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"},
    )
    yield manifest(
        "ServiceEntry",
        "none",
        {
            "hosts": ["*.localhost", "nowhere.invalid"],
            "ports": [{"number": b, "name": "http", "protocol": "HTTP"}],
            "resolution": "NONE",
        },
    )
    chosen = {"workloadSelector": {"labels": {"app": "chosen"}}, **static}
    yield entry("inside", {**chosen, "location": "MESH_INTERNAL"})
    yield entry("outside", {**chosen, "location": "MESH_EXTERNAL"})
    yield entry("narrow", {**static, "workloadSelector": {"labels": {"tier": "gold"}}, "location": "MESH_INTERNAL"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    with ExitStack() as running:
        obedient = Obedient()
        a, b = (running.enter_context(Backend(name, obedient)).port for name in "ab")
        strict = manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, "istio-system")
        found = [
            REGISTRY_ONLY,
            strict,
            *services(a, b),
            *entries(a, b),
            caller("front", folder, serviceAccount="front"),
        ]
        up = running.enter_context(Up(folder, {"all.yaml": dump(*found)}))
        up.backend_ports = {"a": a, "b": b}
        yield up


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def host(name: str) -> str:
    return f"{name}.shop.svc.cluster.local"


def answers(front: Caller, name: str) -> str | int:
    """The backend behind ``name``, or the status."""
    answer = front.get(f"http://{name}/")
    if answer.text.startswith("not in the registry"):
        assert answer.status_code == 502
        return NOT_REGISTERED
    return answer.json()["backend"] if answer.status_code == 200 else answer.status_code


@enforces(PORTS + "port")
def test_port_of_a_service(front: Caller) -> None:
    assert answers(front, host("ports") + ":8080") == "a"
    assert answers(front, host("ports")) == NOT_REGISTERED
    assert answers(front, host("nobody")) == NOT_REGISTERED


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        pytest.param("by-name", "b", "a", marks=enforces(PORTS + "name", WORKLOAD + "ports")),
        pytest.param("by-number", "b", "a", marks=enforces(PORTS + "targetPort")),
        pytest.param("by-target-name", "b", "a", marks=enforces(PORTS + "targetPort", WORKLOAD + "ports")),
        pytest.param("nowhere", NOBODY, NOT_REGISTERED, marks=enforces(PORTS + "targetPort")),
        pytest.param("udp", "a", NOT_REGISTERED, marks=enforces(PORTS + "protocol")),
        pytest.param("tcp-name", NOT_REGISTERED, NOT_REGISTERED, marks=enforces(PORTS + "name")),
        pytest.param("tcp-app", NOT_REGISTERED, NOT_REGISTERED, marks=enforces(PORTS + "appProtocol")),
    ],
)
def test_where_a_port_leads(front: Caller, name: str, first: str | int, second: str | int) -> None:
    assert [answers(front, host(name)), answers(front, host(name) + ":81")] == [first, second]


@enforces(PORTS + "appProtocol", PORTS + "name")
def test_protocol_of_a_port_is_spoken_to_the_program(front: Caller) -> None:
    assert answers(front, host("h1-app")) == "a"
    assert answers(front, host("h2-app")) in (502, 503)
    assert answers(front, host("h2-name")) in (502, 503)


@enforces("Service.spec.selector", WORKLOAD + "labels")
def test_selector(front: Caller) -> None:
    """All its labels, in its own namespace."""
    assert {answers(front, host("selected")) for _ in range(20)} == {"a"}
    assert answers(front, host("empty")) == NOBODY


@enforces("Service.spec.type")
def test_type(up: Up, front: Caller) -> None:
    assert answers(front, host("node-port")) == "a"
    assert answers(front, host("external-name")) == NOT_REGISTERED
    assert "type: ExternalName" in up.output


@enforces("Service.spec.sessionAffinity")
def test_session_affinity_is_warned_about(up: Up, front: Caller) -> None:
    assert {answers(front, host("sticky")) for _ in range(40)} == {"a", "b"}
    assert up.output.count("sessionAffinity: ClientIP") == 1
    assert "sessionAffinity: None" not in up.output


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(host("weighed"), marks=enforces(WORKLOAD + "weight")),
        pytest.param("shared.example.com", marks=enforces(ENTRY + "endpoints[].weight")),
    ],
)
def test_weights_of_endpoints(front: Caller, name: str) -> None:
    found = Counter(answers(front, name) for _ in range(400))
    assert within_bounds(found["a"], 400, 0.75), found


@enforces(WORKLOAD + "serviceAccount")
def test_service_account_is_the_identity(up: Up, front: Caller) -> None:
    xfcc = header(front.get(f"http://{host('selected')}/").json(), "x-forwarded-client-cert") or ""
    assert "By=spiffe://cluster.local/ns/shop/sa/golden;" in xfcc
    assert xfcc.endswith("URI=spiffe://cluster.local/ns/shop/sa/front")
    assert up.workload("silver")["spiffe_id"] == "spiffe://cluster.local/ns/shop/sa/default"


@enforces(WORKLOAD + "address", WORKLOAD + "labels")
def test_address_tells_whether_a_sidecar_of_ours_stands_before_it(up: Up, front: Caller) -> None:
    """A remote one with the label of a mesh is called over mutual TLS, which this backend does not speak."""
    remote, local = (front.get(f"http://{host(name)}/").json() for name in ("remote", "by-loopback-name"))
    assert header(remote, "x-forwarded-client-cert") is None
    assert "sa/front" in (header(local, "x-forwarded-client-cert") or "")
    assert answers(front, host("remote-meshed")) == NOBODY
    assert {"remote", "remote-meshed"}.isdisjoint(each["name"] for each in up.ready["workloads"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("static.example.com", "a", marks=enforces(ENTRY + "hosts", ENTRY + "endpoints[].address")),
        pytest.param("other.example.com", NOT_REGISTERED, marks=enforces(ENTRY + "hosts")),
        pytest.param("elsewhere.example.com", NOBODY, marks=enforces(ENTRY + "endpoints[].address")),
        pytest.param("two-ports.example.com", "a", marks=enforces(ENTRY + "endpoints[].ports", ENTRY + "ports[].name")),
        pytest.param("two-ports.example.com:81", "b", marks=enforces(ENTRY + "ports[].number")),
        pytest.param("two-ports.example.com:82", NOT_REGISTERED, marks=enforces(ENTRY + "ports[].number")),
        pytest.param("target.example.com", "b", marks=enforces(ENTRY + "ports[].targetPort")),
        pytest.param("as-http2.example.com", NOT_HTTP2, marks=enforces(ENTRY + "ports[].protocol")),
        pytest.param("as-grpc.example.com", NOT_HTTP2, marks=enforces(ENTRY + "ports[].protocol")),
        pytest.param("as-tcp.example.com", NOT_REGISTERED, marks=enforces(ENTRY + "ports[].protocol")),
        pytest.param("by-dns.example.com", "a", marks=enforces(ENTRY + "resolution")),
        pytest.param("dns-nowhere.example.com", NOBODY, marks=enforces(ENTRY + "resolution")),
        pytest.param("unlisted.example.com", NOBODY, marks=enforces(ENTRY + "resolution")),
    ],
)
def test_service_entry(front: Caller, name: str, expected: str | int) -> None:
    assert answers(front, name) == expected


@enforces(ENTRY + "resolution")
def test_resolution_dns_without_endpoints_looks_the_host_itself_up(up: Up, front: Caller) -> None:
    assert answers(front, f"localhost:{up.backend_ports['a']}") == "a"


@enforces(ENTRY + "resolution")
def test_resolution_none_goes_where_the_caller_says(up: Up, front: Caller) -> None:
    port = up.backend_ports["b"]
    assert answers(front, f"any.localhost:{port}") == "b"
    assert answers(front, f"nowhere.invalid:{port}") == NOBODY
    assert answers(front, f"any.localhost:{up.backend_ports['a']}") == NOT_REGISTERED


@enforces(ENTRY + "endpoints[].labels")
def test_labels_of_endpoints(front: Caller) -> None:
    assert {answers(front, "v2.example.com") for _ in range(20)} == {"b"}
    assert {answers(front, "labelled.example.com") for _ in range(40)} == {"a", "b"}


@enforces(ENTRY + "workloadSelector.labels")
def test_workload_selector(front: Caller) -> None:
    assert {answers(front, "inside.example.com") for _ in range(40)} == {"a", "b"}
    assert {answers(front, "narrow.example.com") for _ in range(20)} == {"a"}


@enforces(ENTRY + "location")
def test_location(front: Caller) -> None:
    """To what is outside no automatic mutual TLS is spoken: a STRICT workload refuses it."""
    assert answers(front, "inside.example.com") in ("a", "b")
    assert answers(front, "outside.example.com") == NOBODY


@enforces(ENTRY + "endpoints[].serviceAccount", ENTRY + "endpoints[].labels")
def test_service_account_of_an_endpoint_is_whom_the_caller_demands(up: Up, front: Caller) -> None:
    """The endpoint is a sidecar's own inbound port, as an endpoint on another machine would be."""
    (inbound,) = up.workload("gold")["inbound"].values()
    where = {"address": "127.0.0.1", "ports": {"http": int(inbound.rpartition(":")[2])}}
    meshed = {"labels": {"security.istio.io/tlsMode": "istio"}}
    written = {
        "right": {**where, **meshed, "serviceAccount": "golden"},
        "wrong": {**where, **meshed, "serviceAccount": "other"},
        "plaintext": {**where, "serviceAccount": "golden"},
    }
    internal = {"resolution": "STATIC", "location": "MESH_INTERNAL"}
    up.write("late.yaml", dump(*(entry(name, {**internal, "endpoints": [at]}) for name, at in written.items())))
    eventually(lambda: answers(front, "right.example.com") == "a")
    assert answers(front, "wrong.example.com") == NOBODY
    assert answers(front, "plaintext.example.com") == NOBODY
