"""Two meshes of different trust domains on one machine, federated by their bundle endpoints, on real Envoys."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.fields_peer import Ask, Issuer, inbound, send
from tests.real.pki import Authority
from tests.real.traffic import Caller, Manifest, caller, dump, manifest
from tests.real.up import Up, eventually, free_port, isthmus

pytestmark = pytest.mark.real

KIND = "FederatedTrustDomain.spec."
SHOP, BANK = "shop.example", "bank.example"
WEB, OTHER = f"spiffe://{SHOP}/ns/shop/sa/web", f"spiffe://{SHOP}/ns/shop/sa/other"
LEDGER = f"spiffe://{BANK}/ns/bank/sa/ledger"
PATIENCE = 90.0


def mesh_config(trust_domain: str, *aliases: str) -> Manifest:
    document = manifest("ConfigMap", "istio", None, "istio-system")
    del document["spec"]
    config = {"trustDomain": trust_domain, "trustDomainAliases": list(aliases)}
    return {**document, "data": {"mesh": yaml.safe_dump(config)}}


def program(name: str, namespace: str, port: int) -> Manifest:
    spec = {
        "labels": {"app": name},
        "serviceAccount": name,
        "ports": [{"name": "http", "number": 8080, "listen": port}],
    }
    return manifest("LocalWorkload", name, spec, namespace)


def federated(trust_domain: str, port: int, **more: object) -> Manifest:
    spec = {"trustDomain": trust_domain, "bundleEndpointURL": f"https://localhost:{port}/", **more}
    found = manifest("FederatedTrustDomain", trust_domain, spec, "istio-system")
    return {**found, "apiVersion": "isthmus.dev/v1alpha1"}


def elsewhere(host: str, address: str, *names: str) -> Manifest:
    """A service of the mesh whose server is somewhere else, and must have one of ``names``."""
    ip, _, port = address.rpartition(":")
    endpoint = {"address": ip, "ports": {"http": int(port)}, "labels": {"security.istio.io/tlsMode": "istio"}}
    spec = {
        "hosts": [host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "endpoints": [endpoint],
        "subjectAltNames": list(names),
    }
    return manifest("ServiceEntry", host.partition(".")[0], spec)


def http1(entry: Manifest) -> Manifest:
    """To such a service as to a server that speaks no HTTP/2."""
    pool = {"http": {"h2UpgradePolicy": "DO_NOT_UPGRADE"}}
    policy = {"host": entry["spec"]["hosts"][0], "trafficPolicy": {"connectionPool": pool}}
    return manifest("DestinationRule", entry["metadata"]["name"], policy)


def allow(*principals: str, namespace: str = "bank", **scope: object) -> Manifest:
    rules = [{"from": [{"source": {"principals": list(principals)}}]}]
    return manifest("AuthorizationPolicy", "callers", {"action": "ALLOW", "rules": rules, **scope}, namespace)


STRICT = manifest("PeerAuthentication", "strict", {"mtls": {"mode": "STRICT"}}, "istio-system")


@dataclass(frozen=True, slots=True)
class Meshes:
    shop: Up
    bank: Up
    folder: Path
    bank_port: int
    shop_port: int

    def shows(self, *uris: str, issuer: Up | None = None, ca: bool = False) -> int:
        """The status for a caller of bank's ledger with a certificate of these names."""
        made = Issuer.of(issuer or self.shop, self.folder).certificate(*uris, ca=ca)
        return send(inbound(self.bank, "ledger", 8080), Ask(certificate=made)).status

    def caller(self, name: str) -> Caller:
        return Caller(name, self.folder)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshes]:
    folder = tmp_path_factory.mktemp("federation")
    bank_port, shop_port = free_port(), free_port()
    web = Authority("the web")
    (folder / "web.pem").write_bytes(web.pem)
    leaf = web.issue("localhost")
    (folder / "endpoint.pem").write_bytes(leaf.chain)
    (folder / "endpoint.key").write_bytes(leaf.key)
    with Backend() as backend:
        of_bank = {
            "mesh.yaml": dump(mesh_config(BANK), STRICT),
            "ledger.yaml": dump(program("ledger", "bank", backend.port), program("free", "open", backend.port)),
            "policy.yaml": dump(allow(f"{SHOP}/ns/shop/sa/web")),
        }
        at_bank = ("--bundle-endpoint", f"127.0.0.1:{bank_port}", "--bundle-cert", str(folder / "endpoint.pem"))
        at_bank = (*at_bank, "--bundle-key", str(folder / "endpoint.key"), "--bundle-refresh-hint", "2s")
        of_shop = {
            "mesh.yaml": dump(mesh_config(SHOP, "old.example"), STRICT),
            "till.yaml": dump(
                program("till", "shop", backend.port),
                allow(f"{SHOP}/ns/shop/sa/web", namespace="shop", selector={"matchLabels": {"app": "till"}}),
            ),
            "callers.yaml": dump(
                caller("web", folder, serviceAccount="web"), caller("other", folder, serviceAccount="other")
            ),
            "federation.yaml": dump(federated(BANK, bank_port, bundleEndpointProfile={"type": "https_web"})),
        }
        at_shop = ("--bundle-endpoint", f"127.0.0.1:{shop_port}", "--bundle-refresh-hint", "2s")
        trusting = {"SSL_CERT_FILE": str(folder / "web.pem")}
        with (
            Up(folder / "bank", of_bank, *at_bank) as bank,
            Up(folder / "shop", of_shop, *at_shop, env=trusting) as shop,
        ):
            profile = {"type": "https_spiffe", "endpointSPIFFEID": f"spiffe://{SHOP}/ns/istio-system/sa/isthmus"}
            document = httpx.get(f"https://localhost:{shop_port}/", verify=False, trust_env=False, timeout=30).text
            partner = federated(SHOP, shop_port, bundleEndpointProfile=profile, trustDomainBundle=document)
            bank.write("federation.yaml", dump(partner))
            shop.write("ledger.yaml", dump(elsewhere("ledger.example.com", inbound(bank, "ledger", 8080), LEDGER)))
            found = Meshes(shop, bank, folder, bank_port, shop_port)
            eventually(lambda: found.caller("web").status("http://ledger.example.com/") == 200, PATIENCE)
            yield found


@enforces(
    f"{KIND}trustDomain",
    f"{KIND}bundleEndpointURL",
    f"{KIND}bundleEndpointProfile.type",
    "ServiceEntry.spec.subjectAltNames",
)
def test_a_sidecar_calls_one_of_the_other_mesh(meshes: Meshes) -> None:
    answer = meshes.caller("web").get("http://ledger.example.com/")
    assert answer.status_code == 200
    assert f"URI={WEB}" in (header(answer.json(), "x-forwarded-client-cert") or "")
    assert meshes.caller("other").status("http://ledger.example.com/") == 403


def test_a_revoked_certificate_is_refused_though_this_validator_goes_by_no_list(meshes: Meshes) -> None:
    stolen, other = (
        Issuer.of(meshes.bank, meshes.folder).certificate(f"spiffe://{BANK}/ns/open/sa/web") for _ in range(2)
    )

    def status(certificate: Path) -> int:
        return send(inbound(meshes.bank, "free", 8080), Ask(certificate=certificate)).status

    revoke = ("ca", "revoke", "--serial", str(stolen), "--state", str(meshes.bank.state))
    assert (status(stolen), status(other)) == (200, 200)
    assert isthmus(*revoke, "--reason", "certificateHold").returncode == 0
    try:
        eventually(lambda: status(stolen) == 0, PATIENCE)
        assert status(other) == 200
        eventually(lambda: meshes.caller("web").status("http://ledger.example.com/") == 200, PATIENCE)
    finally:
        assert isthmus(*revoke, "--take-back").returncode == 0
    eventually(lambda: status(stolen) == 200, PATIENCE)


def test_nobody_speaks_for_another_trust_domain(meshes: Meshes) -> None:
    """The certificates are by the authority of one domain, the names of the other."""
    assert meshes.shows(WEB) == 200
    assert meshes.shows(OTHER) == 403
    assert meshes.shows(LEDGER) == 0
    assert meshes.shows(f"spiffe://{BANK}/ns/bank/sa/web", WEB) == 0
    assert meshes.shows(WEB, LEDGER) == 0, "two names, the first of which is the issuer's to give"
    assert meshes.shows(WEB, OTHER) == 0
    assert meshes.shows(WEB, ca=True) == 0
    assert meshes.shows(WEB, issuer=meshes.bank) == 0
    assert meshes.shows("spiffe://third.example/ns/shop/sa/web") == 0
    assert meshes.shows() == 0


class Impostor:
    """A TLS server with any certificate, which answers 200."""

    def __init__(self, certificate: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.set_alpn_protocols(["http/1.1"])
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Impostor:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@enforces("ServiceEntry.spec.subjectAltNames")
def test_a_server_is_believed_by_the_roots_of_its_name_alone(meshes: Meshes) -> None:
    issuer = Issuer.of(meshes.bank, meshes.folder)
    own = f"spiffe://{SHOP}/ns/shop/sa/front"
    with (
        Impostor(issuer.certificate(LEDGER)) as honest,
        Impostor(issuer.certificate(own)) as impostor,
        Impostor(issuer.certificate(LEDGER, own)) as two_named,
    ):
        services = (
            elsewhere("honest.example.com", honest.address, LEDGER),
            elsewhere("impostor.example.com", impostor.address, own),
            elsewhere("two-named.example.com", two_named.address, own),
            elsewhere("mixed.example.com", honest.address, LEDGER, own),
            elsewhere("stranger.example.com", honest.address, "spiffe://third.example/ns/bank/sa/ledger"),
        )
        meshes.shop.write("impostors.yaml", dump(*services, *map(http1, services)))
        web = meshes.caller("web")
        eventually(lambda: web.status("http://honest.example.com/") == 200)
        for host in ("impostor", "two-named", "mixed", "stranger"):
            assert web.status(f"http://{host}.example.com/") == 503, host
        meshes.shop.remove("impostors.yaml")


@enforces("ConfigMap.data.mesh.trustDomainAliases")
@pytest.mark.parametrize(
    ("names", "issuer", "status"),
    [
        pytest.param(f"spiffe://{SHOP}/ns/shop/sa/web", "shop", 200, id="the mesh's own name"),
        pytest.param("spiffe://old.example/ns/shop/sa/web", "shop", 200, id="its alias, which no policy names"),
        pytest.param("spiffe://old.example/ns/shop/sa/other", "shop", 403, id="another under the alias"),
        pytest.param("spiffe://old.example/ns/shop/sa/web", "bank", 0, id="the alias, of another trust domain"),
        pytest.param("spiffe://never.example/ns/shop/sa/web", "shop", 0, id="no alias"),
    ],
)
def test_an_alias_is_a_name_of_the_mesh_for_its_own_authority_alone(
    meshes: Meshes, names: str, issuer: str, status: int
) -> None:
    signer = Issuer.of(meshes.shop if issuer == "shop" else meshes.bank, meshes.folder)
    found = send(inbound(meshes.shop, "till", 8080), Ask(certificate=signer.certificate(names)))
    assert found.status == status


@enforces("ConfigMap.data.mesh.trustDomainAliases")
def test_a_server_may_still_have_its_name_of_before(meshes: Meshes) -> None:
    issuer = Issuer.of(meshes.shop, meshes.folder)
    with (
        Impostor(issuer.certificate("spiffe://old.example/ns/shop/sa/front")) as renamed,
        Impostor(issuer.certificate("spiffe://never.example/ns/shop/sa/front")) as never,
    ):
        name = f"spiffe://{SHOP}/ns/shop/sa/front"
        services = (
            elsewhere("renamed.example.com", renamed.address, name),
            elsewhere("never.example.com", never.address, name),
        )
        meshes.shop.write("aliases.yaml", dump(*services, *map(http1, services)))
        web = meshes.caller("web")
        eventually(lambda: web.status("http://renamed.example.com/") == 200)
        assert web.status("http://never.example.com/") == 503
        meshes.shop.remove("aliases.yaml")


@enforces(f"{KIND}trustDomainBundle", f"{KIND}bundleEndpointProfile.endpointSPIFFEID")
def test_only_whom_the_manifest_names_gives_the_bundle(meshes: Meshes) -> None:
    """The bank took the shop's bundle from an endpoint that proved its SPIFFE ID; the shop's is another's by name."""
    assert f"{SHOP} is trusted by" in meshes.bank.output
    document = httpx.get(f"https://localhost:{meshes.shop_port}/", verify=False, trust_env=False, timeout=30).text
    other = {"type": "https_spiffe", "endpointSPIFFEID": f"spiffe://{SHOP}/ns/istio-system/sa/other"}
    meshes.bank.write(
        "federation.yaml",
        dump(federated(SHOP, meshes.shop_port, bundleEndpointProfile=other, trustDomainBundle=document)),
    )
    eventually(lambda: "not spiffe://shop.example/ns/istio-system/sa/other" in meshes.bank.output)
    assert meshes.shows(WEB) == 200, "the bundle of the manifest is in force"


def test_who_is_not_federated_any_more_is_refused(meshes: Meshes) -> None:
    meshes.bank.remove("federation.yaml")
    eventually(lambda: meshes.shows(WEB) == 0)
    # A standing connection ends with its next answer.
    eventually(lambda: meshes.caller("web").status("http://ledger.example.com/") == 503)
