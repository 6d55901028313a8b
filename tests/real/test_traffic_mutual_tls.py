"""How callers speak to a service: the TLS modes of DestinationRules, on real Envoys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.traffic import Caller, Manifest, caller, dump, manifest, routes, service, to, workload
from tests.real.up import Up

pytestmark = pytest.mark.real

POLICY = "DestinationRule.spec.trafficPolicy."
SECURED = "spiffe://cluster.local/ns/shop/sa/front"
PLAIN = "plaintext"
REFUSED = 503
PORTS = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "http-more", "port": 81, "targetPort": "http"}]


def mode(written: str) -> Manifest:
    return {"tls": {"mode": written}}


def rule(name: str, host: str, namespace: str = "shop", **spec: object) -> Manifest:
    return manifest("DestinationRule", name, {"host": host, **spec}, namespace)


def manifests(port: int, folder: Path) -> str:
    """``open`` takes plaintext, too; ``strict`` does not. Each service has a rule of its own name."""
    found: list[Manifest] = [
        manifest("PeerAuthentication", "default", {"mtls": {"mode": "PERMISSIVE"}}),
        manifest(
            "PeerAuthentication",
            "strict",
            {"selector": {"matchLabels": {"app": "strict"}}, "mtls": {"mode": "STRICT"}},
        ),
        workload("open", port, {"app": "open", "version": "v1"}),
        workload("strict", port, {"app": "strict", "version": "v1"}),
        caller("front", folder, serviceAccount="front"),
    ]
    for app in ("open", "strict"):
        behind = {"selector": {"app": app}, "ports": PORTS}
        found += [
            service(f"{app}-auto", **behind),
            service(f"{app}-disable", **behind),
            rule(f"{app}-disable", f"{app}-disable", trafficPolicy=mode("DISABLE")),
            service(f"{app}-port", **behind),
            rule(
                f"{app}-port",
                f"{app}-port",
                trafficPolicy={"portLevelSettings": [{"port": {"number": 81}, **mode("DISABLE")}]},
            ),
            service(f"{app}-port-back", **behind),
            rule(
                f"{app}-port-back",
                f"{app}-port-back",
                trafficPolicy={
                    **mode("DISABLE"),
                    "portLevelSettings": [{"port": {"number": 81}, **mode("ISTIO_MUTUAL")}],
                },
            ),
            service(f"{app}-subset", **behind),
            rule(
                f"{app}-subset",
                f"{app}-subset",
                subsets=[{"name": "plain", "labels": {"version": "v1"}, "trafficPolicy": mode("DISABLE")}],
            ),
            routes(
                f"{app}-subset",
                [f"{app}-subset"],
                {"match": [{"uri": {"prefix": "/plain"}}], "route": [to(f"{app}-subset", 80, "plain")]},
                {"route": [to(f"{app}-subset", 80)]},
            ),
            service(f"{app}-by-root", "shop", **behind),
            rule(f"{app}-root", f"{app}-by-root.shop.svc.cluster.local", "istio-system", trafficPolicy=mode("DISABLE")),
            external(f"{app}-external", app),
            external(f"{app}-external-mutual", app),
            rule(f"{app}-external-mutual", f"{app}-external-mutual.example.com", trafficPolicy=mode("ISTIO_MUTUAL")),
        ]
    # Nobody is known to be there: a mutual handshake that is demanded must not become plaintext.
    found += [
        manifest(
            "ServiceEntry",
            "unknown",
            {
                "hosts": ["unknown.example.com"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}}],
            },
        ),
        rule("unknown", "unknown.example.com", trafficPolicy=mode("ISTIO_MUTUAL")),
        rule("wild", "*.wild.example.com", trafficPolicy=mode("ISTIO_MUTUAL")),
        external("a.wild", "open"),
    ]
    return dump(*found)


def external(name: str, app: str) -> Manifest:
    """Workloads of the mesh, declared as if they were outside."""
    spec = {
        "hosts": [f"{name}.example.com"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "location": "MESH_EXTERNAL",
        "workloadSelector": {"labels": {"app": app}},
    }
    return manifest("ServiceEntry", name, spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutual")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    with Backend() as backend, Up(folder, {"all.yaml": manifests(backend.port, folder)}) as running:
        yield running


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def how(front: Caller, name: str, path: str = "/") -> str | int:
    """As whom the backend saw the caller, or the status."""
    url = f"http://{name}{path}" if "." in name else f"http://{name.replace(':', '.shop:')}{path}"
    answer = front.get(url)
    if answer.status_code != 200:
        return answer.status_code
    xfcc = header(answer.json(), "x-forwarded-client-cert")
    return PLAIN if xfcc is None else xfcc.partition("URI=")[2]


@pytest.mark.parametrize(
    ("name", "path", "to_open", "to_strict"),
    [
        ("auto", "/", SECURED, SECURED),
        pytest.param("disable", "/", PLAIN, REFUSED, marks=enforces(POLICY + "tls.mode", "DestinationRule.spec.host")),
        pytest.param(
            "port:81",
            "/",
            PLAIN,
            REFUSED,
            marks=enforces(POLICY + "portLevelSettings[].port.number", POLICY + "portLevelSettings[].tls.mode"),
        ),
        pytest.param("port", "/", SECURED, SECURED, marks=enforces(POLICY + "portLevelSettings[].port.number")),
        pytest.param("port-back", "/", PLAIN, REFUSED, marks=enforces(POLICY + "tls.mode")),
        pytest.param("port-back:81", "/", SECURED, SECURED, marks=enforces(POLICY + "portLevelSettings[].tls.mode")),
        pytest.param(
            "subset",
            "/plain",
            PLAIN,
            REFUSED,
            marks=enforces("DestinationRule.spec.subsets[].trafficPolicy.tls.mode"),
        ),
        pytest.param(
            "subset", "/", SECURED, SECURED, marks=enforces("DestinationRule.spec.subsets[].trafficPolicy.tls.mode")
        ),
        pytest.param("by-root", "/", PLAIN, REFUSED, marks=enforces("DestinationRule.spec.host")),
        ("external.example.com", "/", PLAIN, REFUSED),
        pytest.param("external-mutual.example.com", "/", SECURED, SECURED, marks=enforces(POLICY + "tls.mode")),
    ],
)
def test_mode(front: Caller, name: str, path: str, to_open: str | int, to_strict: str | int) -> None:
    assert [how(front, f"{app}-{name}", path) for app in ("open", "strict")] == [to_open, to_strict]


@enforces(POLICY + "tls.mode")
def test_mutual_tls_to_nobody_known_is_not_plaintext(front: Caller) -> None:
    assert how(front, "unknown.example.com") == REFUSED


@enforces("DestinationRule.spec.host")
def test_wildcard_host(front: Caller) -> None:
    assert how(front, "a.wild.example.com") == SECURED
