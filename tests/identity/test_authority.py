from __future__ import annotations

import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from isthmus.errors import CsrRejected, Refused, SpiffeIdInvalid
from isthmus.identity.authority import (
    Authority,
    control_plane_dns_name,
    create_intermediate,
    private_key,
    signature_hash,
)
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.template import root_template
from isthmus.identity.validate import encoded_key, peer_identity, read_csr

from .making import DOMAIN, HOUR, NOW, make_authority, new_csr, new_key, request_pem

ORDERS = SpiffeId.workload(DOMAIN, "shop", "orders")


def openssl_verify(folder: Path, chain: tuple[str, ...], root: str, purpose: str, *, at: datetime = NOW) -> str:
    """What the openssl command says about a chain, the leaf first and its root apart."""
    (folder / "leaf.pem").write_text(chain[0])
    (folder / "between.pem").write_text("".join(chain[1:]))
    (folder / "root.pem").write_text(root)
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(at.timestamp()))),
            *("-CAfile", "root.pem", "-untrusted", "between.pem", "leaf.pem"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return (done.stdout + done.stderr).strip()


def text_of(folder: Path, pem: str) -> str:
    (folder / "shown.pem").write_text(pem)
    return subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", "shown.pem"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    "key",
    [new_key(), ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "P-384", "RSA"],
)
def test_openssl_accepts_an_issued_chain(tmp_path: Path, key) -> None:
    authority = make_authority()
    svid = authority.issue(read_csr(request_pem(key).encode()), ORDERS, HOUR, NOW)
    (root,) = authority.bundle.roots
    assert len(svid.chain) == 2, "the leaf and the intermediate, not the root"
    for purpose in ("sslserver", "sslclient"):
        assert openssl_verify(tmp_path, svid.chain, root, purpose) == "leaf.pem: OK"
    assert f"URI:{ORDERS}" in text_of(tmp_path, svid.chain[0])
    stranger = make_authority().bundle.roots[0]
    assert "OK" not in openssl_verify(tmp_path, svid.chain, stranger, "sslserver")
    assert "expired" in openssl_verify(tmp_path, svid.chain, root, "sslserver", at=NOW + HOUR + timedelta(seconds=1))


def test_openssl_accepts_a_server_certificate_for_servers_only(tmp_path: Path) -> None:
    authority = make_authority()
    made = authority.issue_server(new_csr(), ("shop.example.com", "*.shop.example.com"), HOUR, NOW)
    (root,) = authority.bundle.roots
    assert openssl_verify(tmp_path, made.chain, root, "sslserver") == "leaf.pem: OK"
    assert "OK" not in openssl_verify(tmp_path, made.chain, root, "sslclient")
    shown = text_of(tmp_path, made.chain[0])
    assert "DNS:shop.example.com, DNS:*.shop.example.com" in shown
    assert "URI:" not in shown


def test_the_name_comes_from_the_caller_never_from_the_request() -> None:
    csr = read_csr(request_pem(new_key(), "spiffe://cluster.local/ns/istio-system/sa/isthmus").encode())
    assert identity_of(make_authority().issue(csr, ORDERS, HOUR, NOW).chain[0]) == ORDERS


@pytest.mark.parametrize(
    ("wish", "given"),
    [
        (HOUR, HOUR),
        (timedelta(seconds=0), timedelta(seconds=10)),
        (timedelta(seconds=-5), timedelta(seconds=10)),
        (timedelta(seconds=9), timedelta(seconds=10)),
        (timedelta(days=90), timedelta(days=90)),
        (timedelta(days=91), timedelta(days=90)),
    ],
)
def test_a_ttl_is_between_ten_seconds_and_ninety_days(wish: timedelta, given: timedelta) -> None:
    svid = make_authority().issue(new_csr(), ORDERS, wish, NOW)
    assert svid.expires == NOW + given
    assert x509.load_pem_x509_certificate(svid.chain[0].encode()).not_valid_after_utc == svid.expires


def test_nothing_outlives_the_authority() -> None:
    authority = make_authority()
    late = authority.expires - timedelta(minutes=3)
    assert authority.issue(new_csr(), ORDERS, HOUR, late).expires == authority.expires
    assert authority.issue_server(new_csr(), ("a.example.com",), HOUR, late).expires == authority.expires
    # Less than the floor is left: what is left is given.
    assert (
        authority.issue(new_csr(), ORDERS, HOUR, authority.expires - timedelta(seconds=4)).expires == authority.expires
    )


def test_an_authority_that_has_ended_or_not_begun_issues_nothing() -> None:
    authority = make_authority()
    for when, why in ((authority.expires, "ended on"), (NOW - timedelta(minutes=2), "clock is behind")):
        with pytest.raises(Refused, match=why):
            authority.issue(new_csr(), ORDERS, HOUR, when)
        with pytest.raises(Refused, match=why):
            authority.issue_server(new_csr(), ("a.example.com",), HOUR, when)


@pytest.mark.parametrize("spiffe_id", [SpiffeId.workload("other.example", "shop", "orders"), SpiffeId(DOMAIN)])
def test_another_trust_domain_or_no_path_is_refused(spiffe_id: SpiffeId) -> None:
    with pytest.raises(SpiffeIdInvalid, match="not an identity of the trust domain"):
        make_authority().issue(new_csr(), spiffe_id, HOUR, NOW)


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("",),
        ("*",),
        ("a..b",),
        (".a",),
        ("a.",),
        ("a.*.b",),
        ("-a.b",),
        ("a b",),
        ("ä.example.com",),
        ("a.example.com\n",),
        ("a" * 64 + ".b",),
        (".".join(["a" * 60] * 5),),
        tuple(f"a{i}.example.com" for i in range(101)),
        ("spiffe://cluster.local/ns/a/sa/b",),
    ],
)
def test_only_dns_names_are_servers(names: tuple[str, ...]) -> None:
    with pytest.raises(CsrRejected):
        make_authority().issue_server(new_csr(), names, HOUR, NOW)


@pytest.mark.parametrize("name", ["isthmus.istio-system.svc", "Isthmus.Istio-System.SVC", "*.istio-system.svc"])
def test_no_server_certificate_is_the_control_planes(name: str) -> None:
    with pytest.raises(CsrRejected, match="the control plane's"):
        make_authority().issue_server(new_csr(), ("shop.example.com", name), HOUR, NOW)


def test_names_are_written_once_in_lower_case() -> None:
    made = make_authority().issue_server(new_csr(), ("Shop.example.com", "shop.EXAMPLE.com", "localhost"), HOUR, NOW)
    assert made.dns_names == ("shop.example.com", "localhost")


def test_the_control_plane_has_its_identity_its_dns_name_and_its_key(tmp_path: Path) -> None:
    authority = make_authority()
    own = authority.issue_control_plane(NOW)
    assert own.svid.spiffe_id.uri == "spiffe://cluster.local/ns/istio-system/sa/isthmus"
    leaf = x509.load_pem_x509_certificate(own.svid.chain[0].encode())
    key = load_pem_private_key(own.key.pem, None)
    assert encoded_key(leaf.public_key()) == encoded_key(key.public_key())
    assert peer_identity(leaf, NOW) == own.svid.spiffe_id
    assert "DNS:isthmus.istio-system.svc" in text_of(tmp_path, own.svid.chain[0])
    assert openssl_verify(tmp_path, own.svid.chain, authority.bundle.roots[0], "sslserver") == "leaf.pem: OK"


def test_the_root_namespace_is_the_meshs() -> None:
    plain = make_authority()
    other = Authority(plain.trust_domain, plain.root, plain.chain, plain.signing_key, root_namespace="mesh")
    assert other.control_plane_id.uri == "spiffe://cluster.local/ns/mesh/sa/isthmus"
    assert control_plane_dns_name(other.control_plane_id) == "isthmus.mesh.svc"


def test_only_a_workload_has_a_control_planes_dns_name() -> None:
    with pytest.raises(SpiffeIdInvalid):
        control_plane_dns_name(SpiffeId.node(DOMAIN, "local"))


def test_no_repr_shows_a_key() -> None:
    authority = make_authority()
    own = authority.issue_control_plane(NOW)
    secret = own.key.pem.decode().splitlines()[1]
    for shown in (repr(own), f"{own.key}", repr(authority), repr(private_key(authority.signing_key))):
        assert secret not in shown
        assert "PRIVATE" not in shown
        assert "PrivateKey object" not in shown


def test_authorities_of_the_same_certificates_are_equal() -> None:
    authority = make_authority()
    again = Authority(authority.trust_domain, authority.root, authority.chain, new_key())
    assert again == authority
    assert make_authority() != authority


@pytest.mark.parametrize(
    "root_key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 3072),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["Ed25519", "RSA", "P-384"],
)
def test_a_root_may_have_another_sort_of_key(tmp_path: Path, root_key) -> None:
    root = root_template(DOMAIN, root_key.public_key(), NOW).sign(root_key, signature_hash(root_key))
    intermediate, key = create_intermediate(DOMAIN, root, root_key, NOW)
    svid = Authority(DOMAIN, root, (intermediate,), key).issue(new_csr(), ORDERS, HOUR, NOW)
    root_pem = root.public_bytes(Encoding.PEM).decode()
    assert openssl_verify(tmp_path, svid.chain, root_pem, "sslclient") == "leaf.pem: OK"


def identity_of(pem: str) -> SpiffeId:
    return peer_identity(pem.encode(), NOW)
