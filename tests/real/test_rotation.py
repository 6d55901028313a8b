"""Leaf, intermediate and root replaced while requests go through gateway and sidecar: none fails."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from isthmus.identity.authority import create_intermediate, create_root, private_key
from isthmus.identity.material import fingerprint, pem_of
from isthmus.xds.secret import ROOT_CA
from tests.real.changing import Changing, changing
from tests.real.load import Load
from tests.real.up import eventually, isthmus

pytestmark = pytest.mark.real

_LONG = 120.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    with changing(tmp_path_factory.mktemp("rotation")) as running:
        yield running


def ca(mesh: Changing, *arguments: str) -> None:
    ran = isthmus("ca", *arguments, "--state", str(mesh.up.state))
    assert ran.returncode == 0, ran.stderr


def shown(mesh: Changing) -> dict[str, Any]:
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(mesh.runtime / "api.sock"), verify=False), timeout=30
    ) as api:
        found: dict[str, Any] = api.get("http://api/v1/ca").json()
    return found


def roots(mesh: Changing) -> dict[str, str]:
    """Fingerprints by role."""
    return {one["role"]: one["sha256"] for one in shown(mesh)["roots"]}


def trusted(admin_socket: str) -> set[str]:
    """Serials of the mesh roots that an Envoy has taken (``/certs`` tells the first of a bundle only)."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=admin_socket, verify=False), timeout=10) as admin:
        dumped = admin.get("http://envoy/config_dump", params={"resource": "dynamic_active_secrets"}).json()["configs"]
    (context,) = (one["secret"]["validation_context"] for one in dumped if one["name"] == ROOT_CA)
    bundle = base64.b64decode(context["trusted_ca"]["inline_bytes"])
    return {f"{root.serial_number:x}" for root in x509.load_pem_x509_certificates(bundle)}


def warm(load: Load) -> None:
    eventually(lambda: load.answers.total() > 50, seconds=_LONG)


def test_an_intermediate_and_a_root_are_replaced_without_a_failed_request(mesh: Changing) -> None:
    sockets = [one["admin_socket"] for one in (*mesh.up.ready["gateways"], *mesh.up.ready["workloads"])]
    before, first = mesh.serials(), roots(mesh)
    assert set(first) == {"active"}
    old = next(iter(shown(mesh)["roots"]))["serial"]
    with mesh.load() as load:
        warm(load)
        ca(mesh, "rotate", "--intermediate")
        assert roots(mesh) == first, "the root stays"

        ca(mesh, "rotate", "--prepare")
        prepared = roots(mesh)
        assert prepared["active"] == first["active"]
        # Trusted everywhere before anything is signed by it.
        eventually(lambda: shown(mesh)["behind"] == [], seconds=_LONG)
        assert all(len(trusted(socket)) == 2 for socket in sockets)
        assert mesh.serials() & before == before, "nothing is signed anew yet"

        ca(mesh, "rotate", "--activate")
        assert roots(mesh) == {"active": prepared["next"], "old": first["active"]}
        eventually(lambda: not mesh.serials() & before, seconds=_LONG)
        # New and old are both good meanwhile; then the old one goes.
        refused = isthmus("ca", "rotate", "--revoke-old", "--state", str(mesh.up.state))
        assert refused.returncode == 1
        assert "may be in use until" in refused.stderr
        eventually(lambda: _signed_by_new(mesh), seconds=_LONG)
        ca(mesh, "rotate", "--revoke-old", "--force")
        eventually(lambda: all(old not in trusted(socket) for socket in sockets), seconds=_LONG)
        sent = load.sent
        eventually(lambda: load.sent > sent + 100, seconds=_LONG)
    assert load.failures == [], load.summary()
    assert load.opened > 10
    assert set(roots(mesh)) == {"active"}


def test_certificates_rotate_without_a_failed_request(tmp_path: Path) -> None:
    """With the certificates the connections that stand on them: three times at least, for each of the two proxies."""
    with changing(tmp_path, "--svid-ttl", "12s") as mesh, mesh.load() as load:
        shown = set[str]()

        def rotated() -> bool:
            shown.update(mesh.serials())
            return len(shown) >= 2 * 4

        eventually(rotated, _LONG, every=0.5)
        warm(load)
    assert load.failures == [], load.summary()
    assert load.opened > 20


def _signed_by_new(mesh: Changing) -> bool:
    """Whether the node's own certificate, which the agent speaks to the control plane with, is of the new root too."""
    node = json.loads((mesh.up.state / "agent" / "local" / "node.json").read_text())
    held = x509.load_pem_x509_certificates(node["chain"][-1].encode())[0]
    active = x509.load_pem_x509_certificates((mesh.up.state / "ca" / "root.pem").read_bytes())[0]
    return held == active


def test_a_root_is_rotated_with_one_command_and_a_control_plane_that_is_killed_goes_on(mesh: Changing) -> None:
    first = roots(mesh)["active"]
    with mesh.load() as load:
        warm(load)
        ca(mesh, "rotate")
        assert roots(mesh)["old"] == first
        before = mesh.kill("serve")
        eventually(lambda: mesh.pid("serve") != before and mesh.in_sync(), seconds=_LONG)
        assert roots(mesh)["old"] == first, "what was trusted is remembered"
        sent = load.sent
        eventually(lambda: load.sent > sent + 100, seconds=_LONG)
    assert load.failures == [], load.summary()


def test_clients_outside_get_every_trusted_root(mesh: Changing, tmp_path: Path) -> None:
    bundle = x509.load_pem_x509_certificates(Path(mesh.up.ready["ca_bundle"]).read_bytes())
    printed = isthmus("ca", "root", "--state", str(mesh.up.state)).stdout
    assert x509.load_pem_x509_certificates(printed.encode()) == bundle
    assert [f"{one.serial_number:x}" for one in bundle] == [one["serial"] for one in shown(mesh)["roots"]]


def test_what_was_signed_by_hand_is_used_and_seen(mesh: Changing, tmp_path: Path) -> None:
    ca(mesh, "issue", "--dns", "db.example.com", "--ttl", "1m", "--out", str(tmp_path))
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600
    told = isthmus("ca", "inspect", str(tmp_path / "tls.crt"))
    assert "DNS:db.example.com" in told.stdout
    held = isthmus("ca", "inspect", "gateway~shop~edge", "--state", str(mesh.up.state))
    assert "spiffe://cluster.local/ns/shop/sa/edge" in held.stdout, held.stderr
    host, port = mesh.up.gateway(443)
    shown_by_server = isthmus("ca", "inspect", f"{host}:{port}", "--sni", "app.example.com")
    assert "DNS:app.example.com" in shown_by_server.stdout, shown_by_server.stderr


def test_a_rotation_without_its_steps_is_refused(mesh: Changing) -> None:
    ran = isthmus("ca", "rotate", "--activate", "--state", str(mesh.up.state))
    assert ran.returncode == 1
    assert "no next root is prepared" in ran.stderr


def authority_in(folder: Path, *, known_by: tuple[x509.Certificate, ...] = ()) -> x509.Certificate:
    """A certificate authority as cert-manager mounts it; its root."""
    now = datetime.now(UTC)
    root, root_key = create_root("cluster.local", now)
    signing, key = create_intermediate("cluster.local", root, root_key, now)
    folder.mkdir()
    (folder / "tls.crt").write_bytes(pem_of(signing))
    (folder / "tls.key").write_bytes(private_key(key).pem)
    (folder / "ca.crt").write_bytes(pem_of(root, *known_by))
    return root


def test_an_authority_from_files_is_followed_when_they_change_under_load(tmp_path: Path) -> None:
    """As Kubernetes mounts a Secret: the link to the folder changes, and every file with it."""
    first = authority_in(tmp_path / "one")
    (tmp_path / "mounted").symlink_to("one")
    with changing(tmp_path / "up", "--ca", str(tmp_path / "mounted")) as mesh:
        assert roots(mesh) == {"active": fingerprint(first)}
        before = mesh.serials()
        second = authority_in(tmp_path / "two", known_by=(first,))
        with mesh.load() as load:
            warm(load)
            (tmp_path / "new").symlink_to("two")
            (tmp_path / "new").replace(tmp_path / "mounted")
            eventually(lambda: roots(mesh).get("active") == fingerprint(second), seconds=_LONG)
            eventually(lambda: not mesh.serials() & before, seconds=_LONG)
        assert load.failures == [], load.summary()
        refused = isthmus("ca", "rotate", "--state", str(mesh.up.state))
        assert refused.returncode == 1
        assert "its roots are rotated there" in refused.stderr
        (tmp_path / "two" / "tls.key").write_bytes((tmp_path / "one" / "tls.key").read_bytes())
        eventually(lambda: "tls.key: not the key of tls.crt" in mesh.up.output, seconds=_LONG)
        assert roots(mesh)["active"] == fingerprint(second), "it goes on as it was"


def test_what_manifests_trust_is_audited(mesh: Changing) -> None:
    now = datetime.now(UTC)
    used, unused = (create_root(f"{name}.example", now)[0] for name in ("used", "unused"))
    mesh.up.write(
        "trust.yaml", "---\n".join((ca_secret("partners", used), ca_secret("forgotten", unused), ORIGINATION))
    )

    def rows() -> dict[str, Any]:
        told = json.loads(isthmus("ca", "audit", "-o", "json", "--state", str(mesh.up.state)).stdout)
        return {one["store"]: one for one in told["certificates"]}

    eventually(lambda: "Secret shop/partners" in rows(), seconds=_LONG)
    found = rows()
    assert set(found["Secret shop/partners"]["used_by"]) == {"gateway~shop~edge", "sidecar~shop~app-1"}
    assert found["Secret shop/forgotten"]["used_by"] == []
    text = isthmus("ca", "audit", "--state", str(mesh.up.state)).stdout
    assert next(line for line in text.splitlines() if "shop/forgotten" in line).endswith("nothing uses it")
    mesh.up.remove("trust.yaml")


def ca_secret(name: str, root: x509.Certificate) -> str:
    return (
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": "shop"},
                "stringData": {"ca.crt": pem_of(root).decode()},
            }
        )
        + "\n"
    )


ORIGINATION = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partners, namespace: shop}
spec:
  hosts: [partners.example.com]
  ports: [{number: 443, name: https, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partners, namespace: shop}
spec:
  host: partners.example.com
  trafficPolicy: {tls: {mode: SIMPLE, credentialName: partners}}
"""


def test_istios_secret_among_the_manifests_is_the_authority(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    root, root_key = create_root("cluster.local", now)
    signing, key = create_intermediate("cluster.local", root, root_key, now)
    files = {
        "ca-cert.pem": pem_of(signing),
        "ca-key.pem": private_key(key).pem,
        "root-cert.pem": pem_of(root),
        "cert-chain.pem": pem_of(signing, root),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cacerts", "namespace": "istio-system"},
        "stringData": {name: data.decode() for name, data in files.items()},
    }
    with changing(tmp_path, extra={"cacerts.json": json.dumps(document)}) as mesh:
        assert roots(mesh) == {"active": fingerprint(root)}
        assert mesh.status() == 200
        assert not (mesh.up.state / "ca" / "root.key").exists()
        files["ca-key.pem"] = private_key(create_root("cluster.local", now)[1]).pem
        document["stringData"] = {name: data.decode() for name, data in files.items()}
        mesh.up.write("cacerts.json", json.dumps(document))
        eventually(lambda: "ca-key.pem: not the key of" in mesh.up.output, seconds=_LONG)
        assert "PRIVATE" not in mesh.up.output
