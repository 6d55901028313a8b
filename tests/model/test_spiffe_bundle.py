from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from isthmus.errors import BundleUnavailable
from isthmus.identity.authority import create_root
from isthmus.model.spiffe_bundle import SpiffeBundle, public_keys, read_spiffe_bundle
from tests.real.pki import Authority, rsa_key

TD = "td2.example"
EC, RSA = Authority("ec"), Authority("rsa", key=rsa_key())
JWT = json.dumps(
    {"crv": "P-256", "kid": "one", "kty": "EC", "x": "eA", "y": "eQ"}, sort_keys=True, separators=(",", ":")
)


def x5c(authority: Authority) -> str:
    return base64.b64encode(authority.certificate.public_bytes(Encoding.DER)).decode()


def document(*keys: Any, **more: Any) -> str:
    return json.dumps({"keys": list(keys), **more})


def entry(authority: Authority = EC, **more: Any) -> dict[str, Any]:
    return {"kty": "EC", "use": "x509-svid", "x5c": [x5c(authority)], **more}


def test_it_reads_what_it_writes() -> None:
    bundle = SpiffeBundle((EC.pem.decode(), RSA.pem.decode()), (JWT,), 7, timedelta(minutes=5))
    assert read_spiffe_bundle(bundle.to_json(), TD) == bundle
    written = json.loads(bundle.to_json())
    assert [key["use"] for key in written["keys"]] == ["x509-svid", "x509-svid", "jwt-svid"]
    assert [key["kty"] for key in written["keys"]] == ["EC", "RSA", "EC"]
    assert (written["spiffe_sequence"], written["spiffe_refresh_hint"]) == (7, 300)
    assert "kid" not in written["keys"][0]
    assert len(base64.urlsafe_b64decode(written["keys"][0]["x"] + "=")) == 32


def test_what_nobody_knows_is_left_out() -> None:
    strange = ({"kty": "OKP", "use": "x509-svid"}, entry(use="new-svid"), {"kty": "EC"})
    found = read_spiffe_bundle(document(*strange, entry()), TD)
    assert found == SpiffeBundle((EC.pem.decode(),))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("no", "not JSON", id="not JSON"),
        pytest.param("[" * 100_000, "not JSON", id="deep"),
        pytest.param("[]", 'no list "keys"', id="a list"),
        pytest.param(document(), "no authority for X.509", id="empty"),
        pytest.param(document({"kty": "EC", "use": "jwt-svid", "kid": "a"}), "no authority for X.509", id="JWT alone"),
        pytest.param(document("a"), "key 0 is not an object", id="a text"),
        pytest.param(document(entry(d="secret")), "is a private key", id="private"),
        pytest.param(document(entry(x5c=[x5c(EC), x5c(RSA)])), "exactly one certificate", id="two certificates"),
        pytest.param(document(entry(x5c=["@"])), "not the certificate of an authority", id="no certificate"),
        pytest.param(document(entry(), spiffe_sequence=-1), "spiffe_sequence is not a number", id="sequence"),
        pytest.param(document(entry(), spiffe_sequence=True), "spiffe_sequence is not a number", id="boolean"),
        pytest.param(document(entry(), {"kty": "EC", "use": "jwt-svid"}), "has a kid", id="JWT key without a kid"),
        pytest.param(document(*[entry()] * 101), "more than 100 keys", id="many"),
        pytest.param(" " * (1024 * 1024 + 1), "more than 1048576 bytes", id="large"),
    ],
)
def test_what_is_no_bundle(text: str, reason: str) -> None:
    with pytest.raises(BundleUnavailable, match=reason):
        read_spiffe_bundle(text, TD)


def test_a_leaf_is_no_authority() -> None:
    leaf = base64.b64encode(EC.issue("a.example").certificate.public_bytes(Encoding.DER)).decode()
    with pytest.raises(BundleUnavailable, match="not the certificate of an authority"):
        read_spiffe_bundle(document(entry(x5c=[leaf])), TD)


def test_an_authority_whose_key_cannot_be_published_again() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "td2")])
    now = datetime.now(UTC)
    template = x509.CertificateBuilder(name, name, key.public_key(), 5, now, now + timedelta(days=1))
    made = template.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, None)
    written = base64.b64encode(made.public_bytes(Encoding.DER)).decode()
    with pytest.raises(BundleUnavailable, match="another kind than EC and RSA"):
        read_spiffe_bundle(document(entry(), {**entry(), "x5c": [written]}), TD)


def test_an_authority_of_another_trust_domain() -> None:
    certificate = _named("spiffe://td1.example")
    with pytest.raises(BundleUnavailable, match=r"an authority of spiffe://td1\.example, not of td2\.example"):
        read_spiffe_bundle(document(entry(x5c=[certificate])), TD)
    assert read_spiffe_bundle(document(entry(x5c=[_named(f"spiffe://{TD}")])), TD).roots


def _named(uri: str) -> str:
    root, _ = create_root(uri.removeprefix("spiffe://"), datetime.now(UTC))
    return base64.b64encode(root.public_bytes(Encoding.DER)).decode()


def test_bundles_are_compared_by_their_keys() -> None:
    renewed = Authority("another name", key=EC.private)
    ours = public_keys((EC.pem.decode(),))
    assert ours == public_keys((renewed.pem.decode(),))
    assert ours.isdisjoint(public_keys((RSA.pem.decode(),)))
    assert x509.load_pem_x509_certificate(EC.pem) != x509.load_pem_x509_certificate(renewed.pem)


def test_a_hint_of_ages_is_a_year() -> None:
    assert read_spiffe_bundle(document(entry(), spiffe_refresh_hint=10**12), TD).refresh_hint == timedelta(days=366)
