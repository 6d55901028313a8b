"""What callers write so that it is read in two ways: headers that only the inside may set, and hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.backend import Backend, header
from tests.real.log import logged
from tests.real.traffic import Caller, Manifest, caller, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.tunnel import connect, get
from tests.real.up import Up, development_jwks

pytestmark = pytest.mark.real

WEB = "web.shop.svc.cluster.local"
TWINS = ("x-user-id", "x_user_id", "x-user_id", "x_user-id", "X_User-ID")


def guarded() -> Iterator[Manifest]:
    """Two gateways with a route for one host and one for all; one refuses that host, the other takes but others."""
    hosts = {8080: ("denies", "DENY", "inner.example.com"), 8081: ("allows", "ALLOW", "*.example.org")}
    for port, (name, action, host) in hosts.items():
        yield gateway(name, server(port))
        rules = [{"to": [{"operation": {"hosts": [host]}}]}]
        selector = {"matchLabels": {"istio": name}}
        yield manifest("AuthorizationPolicy", name, {"selector": selector, "action": action, "rules": rules})
    for name, host in {"inner": "inner.example.com", "any": "*"}.items():
        answer = {"directResponse": {"status": 200, "body": {"string": name}}}
        yield routes(f"answer-{name}", [host], answer, gateways=["denies", "allows"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hygiene")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    keys = development_jwks(folder / "state", folder / "jwks.json").read_text()
    claim = {"header": "x-user-id", "claim": "sub"}
    rule = {"issuer": "https://auth.example.com", "jwks": keys, "outputClaimToHeaders": [claim]}
    with Backend("web") as backend:
        documents = dump(
            gateway("edge", server(80)),
            routes("web", ["*"], {"route": [to("web")]}, gateways=["edge"]),
            service("web"),
            workload("web", backend.port, {"app": "web"}),
            manifest("RequestAuthentication", "tokens", {"jwtRules": [rule]}),
            caller("front", folder),
            *guarded(),
        )
        with Up(folder, {"all.yaml": documents}) as up:
            yield up


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


@pytest.mark.parametrize("name", TWINS)
def test_no_caller_sets_a_claim_by_whatever_a_program_reads_as_its_header(front: Caller, name: str) -> None:
    """Of those that CGI and WSGI programs call ``HTTP_X_USER_ID`` only the verified one arrives."""
    saw = front.get(f"http://{WEB}/", headers={name: "admin", "x-user": "alice"}).json()
    assert header(saw, "x-user") == "alice", "which is another name"
    assert [name for name, _ in saw["headers"] if name.replace("_", "-") == "x-user-id"] == []


def test_a_verified_claim_arrives(up: Up, front: Caller) -> None:
    token = {"authorization": f"Bearer {up.token('https://auth.example.com')}", "x-user_id": "admin"}
    saw = front.get(f"http://{WEB}/", headers=token).json()
    assert [pair for pair in saw["headers"] if pair[0].replace("_", "-") == "x-user-id"] == [["x-user-id", "alice"]]


def test_nobody_says_what_path_the_logs_tell(up: Up, front: Caller) -> None:
    """``x-envoy-original-path`` is what Envoy keeps the path in that a route has rewritten."""
    forged = {"x-envoy-original-path": "/forged"}
    assert front.status(f"http://{WEB}/by-front", headers=forged) == 200
    with connect(front.env["http_proxy"], f"{WEB}:80") as there:
        assert get(there, WEB, "/in-tunnel", x_envoy_original_path="/forged")[0] == 200
    assert up.get("http://any.example.com/by-client", headers=forged).status_code == 200
    ways = {"gateway~shop~edge": ("/by-client",), "sidecar~shop~front": ("/by-front", "/in-tunnel")}
    for proxy, paths in {**ways, "sidecar~shop~web": ("/by-client", "/by-front", "/in-tunnel")}.items():
        for path in paths:
            assert logged(up, proxy, path=path)["status"] == 200
        assert "/forged" not in {line["path"] for line in up.access_log(proxy)}


ENDS = ("", ".", "..", ":", ":80", ":080", ":x", ":80:80", ".:1", "..:1")


@pytest.mark.parametrize("end", ENDS)
def test_a_host_is_refused_however_its_port_is_written(up: Up, end: str) -> None:
    """Routes are found without a port, whatever it is; so must rules be."""
    asked = {"host": f"INNER.example.com{end}"}
    assert up.get("http://any.example.com:8080/", headers=asked).status_code == 403
    assert up.get("http://any.example.com:8080/", headers={"host": f"other.example.com{end}"}).text == "any"


@pytest.mark.parametrize("host", ["inner.example.com:.example.org", "inner.example.com:1.example.org:1"])
def test_what_stands_in_the_port_is_no_host(up: Up, host: str) -> None:
    """Envoy would route the first to ``inner.example.com``, which is none of those allowed."""
    assert up.get("http://any.example.com:8081/", headers={"host": host}).status_code == 403
    for allowed in ("a.example.org", "a.example.org:80", "A.EXAMPLE.org:x"):
        assert up.get("http://any.example.com:8081/", headers={"host": allowed}).text == "any"
