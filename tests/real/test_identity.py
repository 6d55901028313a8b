"""Who is let in by whose certificate, and where keys are, on real Envoys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.xds.secret import SVID
from tests.real.backend import Backend, header
from tests.real.fields_peer import Ask, Issuer, inbound, pem, send
from tests.real.fields_wire import ads_bytes, key_of, secrets_of, traces
from tests.real.manifests import service, workload_entry
from tests.real.up import Up, contents, isthmus

pytestmark = pytest.mark.real

WEB = "spiffe://cluster.local/ns/shop/sa/web"
EDGE = "spiffe://cluster.local/ns/shop/sa/edge"
PROXIES = ("gateway~shop~edge", "sidecar~shop~app-1")
MANIFESTS = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [app.example.com]
      tls: {mode: SIMPLE, credentialName: own}
    - port: {number: 8443, name: development, protocol: HTTPS}
      hosts: [app.example.com]
      tls: {mode: SIMPLE, credentialName: of-development}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app, namespace: shop}
spec:
  hosts: [app.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: app}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: shop, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
"""


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    backend: Backend
    issuer: Issuer
    user_key: bytes
    """Of the Secret that the user wrote."""

    @property
    def sidecar(self) -> str:
        return inbound(self.up, "app-1", self.backend.port)

    def presenting(self, certificate: Path | None, **options: tuple[str, ...]) -> int:
        """The status that the sidecar answers with; 0: closed before any answer. Then the app saw nothing."""
        before = len(self.backend.seen)
        status = send(self.sidecar, Ask(certificate=certificate, **options)).status  # type: ignore[arg-type]
        assert len(self.backend.seen) - before == (1 if status == 200 else 0)
        return status


def secret(folder: Path) -> tuple[str, bytes]:
    """A Secret with a certificate of the user's own, and its key."""
    authority = Issuer.new(folder)
    bundle = authority.certificate().read_bytes()
    certificate = x509.load_pem_x509_certificates(bundle)[0].public_bytes(Encoding.PEM)
    key = bundle[bundle.index(b"-----BEGIN PRIVATE KEY") :]
    data = {"tls.crt": certificate.decode(), "tls.key": key.decode()}
    document = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "stringData": data}
    return json.dumps({**document, "metadata": {"name": "own", "namespace": "shop"}}), key


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder, others = tmp_path_factory.mktemp("identity"), tmp_path_factory.mktemp("certificates")
    text, key = secret(others)
    with Backend() as backend:
        app = service("app", "shop") + "---\n" + workload_entry("app-1", "shop", "app", backend.port, account="app")
        with Up(folder, {"mesh.yaml": MANIFESTS + app, "secret.json": text}) as up:
            yield Mesh(up, backend, Issuer.of(up, others), key)


def _intermediate_itself(issuer: Issuer) -> Path:
    file = issuer.folder / "intermediate-itself.pem"
    file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in issuer.chain) + pem(issuer.key))
    return file


def test_one_identity_of_the_mesh_is_let_in(mesh: Mesh) -> None:
    assert mesh.presenting(mesh.issuer.certificate(WEB)) == 200


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda issuer: issuer.certificate(WEB, EDGE), id="two URI SANs"),
        pytest.param(
            lambda issuer: issuer.certificate(WEB, "https://web.example"), id="two URI SANs, one no SPIFFE ID"
        ),
        pytest.param(
            lambda issuer: issuer.certificate("spiffe://other.example/ns/shop/sa/web"), id="other trust domain"
        ),
        pytest.param(
            lambda issuer: issuer.certificate("spiffe://cluster.local.evil/ns/shop/sa/web"), id="a longer name"
        ),
        pytest.param(lambda issuer: issuer.certificate("spiffe://cluster.local"), id="the trust domain itself"),
        pytest.param(lambda issuer: issuer.certificate("spiffe://cluster.local/isthmus/node/local"), id="a node"),
        pytest.param(lambda issuer: issuer.certificate(), id="no URI SAN"),
        pytest.param(lambda issuer: issuer.certificate(WEB, lasts=timedelta(minutes=-5)), id="expired"),
        pytest.param(_intermediate_itself, id="an authority's own"),
        pytest.param(lambda issuer: Issuer.new(issuer.folder).certificate(WEB), id="of another CA"),
        pytest.param(
            lambda issuer: Issuer.new(issuer.folder, issuer.chain[0].subject).certificate(WEB), id="of a CA of its name"
        ),
        pytest.param(lambda issuer: None, id="plaintext"),
    ],
)
def test_any_other_is_closed_before_any_answer(mesh: Mesh, made: Callable[[Issuer], Path | None]) -> None:
    assert mesh.presenting(made(mesh.issuer)) == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_identity_that_a_client_claims_in_a_header_never_arrives(mesh: Mesh, scheme: str) -> None:
    claimed = "By=spiffe://x;Hash=00;URI=spiffe://cluster.local/ns/shop/sa/admin"
    address, port = mesh.up.gateway(80 if scheme == "http" else 8443)
    with mesh.up.client() as client:
        answer = client.get(
            f"{scheme}://{address}:{port}/",
            headers={"host": "app.example.com", "x-forwarded-client-cert": claimed},
            extensions={"sni_hostname": "app.example.com"},
        )
    assert answer.status_code == 200
    arrived = header(answer.json(), "x-forwarded-client-cert") or ""
    assert f"URI={EDGE}" in arrived
    assert "admin" not in arrived
    assert arrived.count("By=") == 1


def test_no_private_key_in_any_byte_log_or_file(mesh: Mesh) -> None:
    """The keys that the agent made, the user's, the authority's: each is where it belongs, and nowhere else."""
    up = mesh.up
    assert up.get("http://app.example.com/").status_code == 200
    credentials = ("credential:shop/own", "credential:shop/of-development")
    held = secrets_of(up, PROXIES[0], SVID, *credentials) | {"app": secrets_of(up, PROXIES[1], SVID)[SVID]}
    keys = {name: key_of(secret) for name, secret in held.items()}
    assert keys[credentials[0]].split() == mesh.user_key.split()
    authority = {f"ca/{name}.key": (up.state / "ca" / f"{name}.key").read_bytes() for name in ("root", "intermediate")}
    looked_for = {name: traces(key) for name, key in {**keys, **authority}.items()}

    shown: dict[str, bytes] = {}
    for proxy in PROXIES:
        socket = (
            up.workload("app-1")["admin_socket"] if proxy == PROXIES[1] else up.ready["gateways"][0]["admin_socket"]
        )
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), timeout=30) as admin:
            shown[f"config_dump of {proxy}"] = admin.get("http://envoy/config_dump?include_eds").content
            shown[f"certs of {proxy}"] = admin.get("http://envoy/certs").content
        shown[f"config of {proxy}"] = isthmus("config", proxy, "--state", str(up.state), "-o", "json").stdout.encode()
        shown[f"ADS of {proxy}"] = ads_bytes(up, proxy, _ads_address(up))
        assert len(shown[f"ADS of {proxy}"]) > 2000
    shown["what up said"] = up.output.encode()
    for file, content in [*contents(up.state), *contents((up.state / "run").readlink())]:
        shown[str(file.relative_to(up.state) if file.is_relative_to(up.state) else file)] = content

    for where, content in shown.items():
        for name, found in looked_for.items():
            if where != name:
                assert not any(one in content for one in found), f"the key {name} is in {where}"
    with_keys = {where for where, content in shown.items() if b"PRIVATE KEY" in content}
    allowed = {"ca/root.key", "ca/intermediate.key", "jwt-svid/keys.json", "agent/local/node.json"}
    assert with_keys - {"tokens/key.pem"} == allowed


def _ads_address(up: Up) -> str:
    ports = json.loads((up.state / "ports.json").read_text())
    return next(f"{one['host']}:{one['port']}" for one in ports if one["purpose"] == "ads")


def test_the_search_for_keys_finds_them(mesh: Mesh) -> None:
    """The test above would fail: a key is found however it is written down."""
    key = key_of(secrets_of(mesh.up, PROXIES[1], SVID)[SVID])
    assert all(any(one in text for one in traces(key)) for text in (key, json.dumps({"key": key.decode()}).encode()))


def test_files_and_folders_are_private(mesh: Mesh) -> None:
    """Sockets are kept by their folder."""
    runtime = (mesh.up.state / "run").readlink()
    for top in (mesh.up.state, runtime):
        for file in (top, *top.rglob("*")):
            # Files come and go meanwhile.
            with suppress(FileNotFoundError):
                assert not (file.is_file() or file.is_dir()) or file.stat().st_mode & 0o077 == 0, file
