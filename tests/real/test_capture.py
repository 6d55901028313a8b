"""Programs that know no proxy: their connections are redirected to their sidecar, and so is their DNS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.namespaces import needs_redirection
from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.test_isolation import EDGE, Mesh, entry, probers, probing
from tests.real.traffic import dump, manifest, routes, to
from tests.real.up import Up, eventually

pytestmark = [pytest.mark.real, needs_redirection]

ALLOW = manifest(
    "AuthorizationPolicy",
    "callers",
    {
        "selector": {"matchLabels": {"app": "target"}},
        "rules": [
            {"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/edge", "cluster.local/ns/shop/sa/web"]}}]}
        ],
    },
)


@pytest.fixture(scope="module")
def outside() -> Iterator[Backend]:
    with Backend("outside") as backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, outside: Backend) -> Iterator[Mesh]:
    by_header = {
        "match": [{"headers": {"x-no": {"exact": "thanks"}}}],
        "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
        "route": [to("target")],
    }
    pair = probing("plain", 8080, "Isolated")
    files = {
        "edge.yaml": EDGE,
        "redirected.yaml": probers("Isolated", "target", "web", "intruder", interceptionMode="REDIRECT"),
        "plain.yaml": dump(*pair, routes("plain", ["plain.example.com"], {"route": [to("plain")]}, gateways=["edge"])),
        "outside.yaml": "---\n".join(
            [
                entry("outside", "outside.example.com", 80, "STATIC", "127.0.0.1", outside.port),
                entry("raw", "raw.example.com", 5432, "STATIC", "127.0.0.1", outside.port, "TCP"),
            ]
        ),
        "policy.yaml": dump(ALLOW, routes("target-mesh", ["target"], by_header, {"route": [to("target")]})),
    }
    with Up(tmp_path_factory.mktemp("capture"), files) as up:
        yield Mesh(up)


def called(mesh: Mesh, name: str, url: str) -> int:
    found = mesh.ask(name, do="call", url=url, directly="yes")["result"]
    return int(found["status"])


@enforces("LocalWorkload.spec.interceptionMode")
def test_a_program_that_knows_no_proxy_calls_with_its_identity(mesh: Mesh) -> None:
    assert called(mesh, "web", "http://target/?do=tell") == 200
    told = mesh.ask("web", do="call", url="http://target.shop.svc.cluster.local/", directly="yes")["result"]["body"]
    assert "URI=spiffe://cluster.local/ns/shop/sa/web" in told
    # The same call by somebody whom the callee's policy does not name.
    assert called(mesh, "intruder", "http://target/") == 403


def test_without_redirection_there_is_no_way_but_the_proxy(mesh: Mesh) -> None:
    assert mesh.failed("plain", do="call", url="http://target/", directly="yes") == "URLError"
    assert mesh.call("plain", "http://web/")["status"] == 200


def test_services_outside_have_names_too(mesh: Mesh, outside: Backend) -> None:
    assert called(mesh, "web", "http://outside.example.com/") == 200
    answer = mesh.ask("web", do="connect", host="raw.example.com", port=5432, say="GET / HTTP/1.0\r\n\r\n")["result"]
    assert str(answer).startswith("HTTP/1.1 200")


def test_what_no_service_is_has_neither_name_nor_way(mesh: Mesh) -> None:
    assert mesh.failed("web", do="connect", host="example.com", port=80) == "gaierror"
    # The kernel takes the connection on; nothing comes of it.
    assert mesh.failed("web", do="connect", host="192.0.2.1", port=80, say="GET / HTTP/1.0\r\n\r\n") in (
        None,
        "ConnectionResetError",
    )
    assert not mesh.ask("web", do="connect", host="192.0.2.1", port=80, say="x").get("result")


def test_the_explicit_proxy_goes_on(mesh: Mesh) -> None:
    assert mesh.call("web", "http://target/")["status"] == 200


def test_a_new_service_is_there_without_a_restart(mesh: Mesh, outside: Backend) -> None:
    pid = mesh.ask("web")["result"]["pid"]
    mesh.up.write("late.yaml", entry("late", "late.example.com", 8000, "STATIC", "127.0.0.1", outside.port))
    eventually(lambda: not mesh.failed("web", do="call", url="http://late.example.com:8000/", directly="yes"))
    assert called(mesh, "web", "http://late.example.com:8000/") == 200
    assert mesh.ask("web")["result"]["pid"] == pid


def test_without_nft_it_is_said_and_nothing_goes_past_the_sidecar(tmp_path: Path) -> None:
    files = {"edge.yaml": EDGE, "web.yaml": probers("Isolated", "web", interceptionMode="REDIRECT")}
    with Up(tmp_path, files, env={"PATH": str(tmp_path)}) as up:
        alone = Mesh(up)
        assert "interceptionMode has no effect: nft is not installed" in up.output
        assert alone.failed("web", do="call", url="http://web/", directly="yes") == "URLError"
        assert alone.call("web", "http://web/")["status"] == 200
