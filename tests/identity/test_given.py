from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.errors import Refused
from isthmus.identity.authority import private_key, signature_hash
from isthmus.identity.given import Given, read_given
from isthmus.identity.material import pem_of
from isthmus.identity.spiffe_id import SpiffeId

from .making import DOMAIN, HOUR, NOW, leaf, new_csr, uri
from .test_authority import openssl_verify

YEAR = timedelta(days=365)
Key = ec.EllipticCurvePrivateKey
Pair = tuple[x509.Certificate, Key]


def authority(
    name: str,
    issuer: Pair | None = None,
    *,
    begins: datetime = NOW - HOUR,
    ends: datetime = NOW + YEAR,
    path_length: int | None = None,
    signs: bool = True,
    ca: bool = True,
) -> Pair:
    """As others make them: without a SPIFFE ID, without the key's hash in the name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(not signs, False, False, False, False, signs, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
        .add_extension(usage, critical=True)
    )
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signing = issuer[1] if issuer else key
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    builder = builder.add_extension(own, critical=False).add_extension(above, critical=False)
    return builder.sign(signing, signature_hash(signing)), key


def istio(signer: Pair, *chain: x509.Certificate, roots: tuple[x509.Certificate, ...] = ()) -> Given:
    """The folder of Istio's "Plug in CA Certificates"."""
    files = {"ca-cert.pem": pem_of(signer[0]), "ca-key.pem": private_key(signer[1]).pem}
    if chain:
        files["cert-chain.pem"] = pem_of(*chain)
    if roots:
        files["root-cert.pem"] = pem_of(*roots)
    return Given("given", files)


ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
SIGNER = authority("signer", MIDDLE)


def check(given: Given, tmp_path: Path) -> None:
    """Whether what is signed so is believed by who trusts the roots."""
    found = read_given(given, DOMAIN, NOW)
    svid = found.issue(new_csr(), SpiffeId.workload(DOMAIN, "shop", "orders"), HOUR, NOW)
    root = found.bundle.roots[0]
    # The root once more: openssl wants a file of what is between, though there may be nothing.
    assert openssl_verify(tmp_path, (*svid.chain, root), root, "sslclient") == "leaf.pem: OK"


class TestTaken:
    def test_istios_cacerts(self, tmp_path: Path) -> None:
        given = istio(SIGNER, SIGNER[0], MIDDLE[0], ROOT[0], roots=(ROOT[0],))
        found = read_given(given, DOMAIN, NOW)
        assert (found.root, found.chain, found.others) == (ROOT[0], (SIGNER[0], MIDDLE[0]), ())
        check(given, tmp_path)

    def test_without_a_chain_the_signer_stands_below_the_root(self, tmp_path: Path) -> None:
        check(istio(MIDDLE, roots=(ROOT[0],)), tmp_path)

    def test_istios_own_self_signed_root(self, tmp_path: Path) -> None:
        given = istio(ROOT)
        found = read_given(given, DOMAIN, NOW)
        assert (found.root, found.chain) == (ROOT[0], (ROOT[0],))
        svid = found.issue(new_csr(), SpiffeId.workload(DOMAIN, "shop", "orders"), HOUR, NOW)
        assert len(svid.chain) == 1, "a root is not shown"
        check(given, tmp_path)

    def test_cert_managers_files(self, tmp_path: Path) -> None:
        files = {"tls.crt": pem_of(SIGNER[0], MIDDLE[0]), "tls.key": private_key(SIGNER[1]).pem}
        check(Given("given", {**files, "ca.crt": pem_of(ROOT[0])}), tmp_path)

    def test_every_root_that_is_given_is_trusted_and_the_chains_own_signs(self) -> None:
        other = authority("the next root")[0]
        found = read_given(istio(MIDDLE, roots=(other, ROOT[0])), DOMAIN, NOW)
        assert (found.root, found.others) == (ROOT[0], (other,))

    def test_no_repr_shows_the_key(self) -> None:
        given = istio(ROOT)
        assert "PRIVATE" not in repr((given, read_given(given, DOMAIN, NOW)))


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "why"),
        [
            pytest.param(Given("given", {}), r"given: no ca-cert\.pem", id="nothing"),
            pytest.param(Given("given", {"ca-cert.pem": pem_of(ROOT[0])}), r"given: no ca-key\.pem", id="no key"),
            pytest.param(istio((ROOT[0], SIGNER[1])), r"ca-key\.pem: not the key of ca-cert\.pem", id="another key"),
            pytest.param(
                istio(SIGNER, MIDDLE[0], SIGNER[0], roots=(ROOT[0],)), r"cert-chain\.pem: the wrong order", id="order"
            ),
            pytest.param(
                istio(SIGNER, SIGNER[0], ROOT[0], MIDDLE[0], roots=(authority("x")[0],)),
                r"cert-chain\.pem: the wrong order: each certificate is issued by the next",
                id="order above",
            ),
            pytest.param(
                istio(MIDDLE, roots=(authority("stranger")[0],)), "no root that is given with it signed it", id="root"
            ),
            pytest.param(istio(MIDDLE), r"no root-cert\.pem, and the last certificate is not its own root", id="alone"),
            pytest.param(
                istio(authority("leaf", ROOT, ca=False), roots=(ROOT[0],)), "not an authority's certificate", id="no CA"
            ),
            pytest.param(
                istio(authority("idle", ROOT, signs=False), roots=(ROOT[0],)),
                "not an authority's certificate",
                id="no keyCertSign",
            ),
            pytest.param(
                istio(authority("late", ROOT, ends=NOW), roots=(ROOT[0],)), "ended on 2026-03-01 12:00Z", id="ended"
            ),
            pytest.param(
                istio(authority("early", ROOT, begins=NOW + HOUR), roots=(ROOT[0],)), "not valid before", id="not yet"
            ),
            pytest.param(
                istio(MIDDLE, roots=(ROOT[0], authority("root")[0])), "two roots of the name 'CN=root'", id="one name"
            ),
            pytest.param(
                Given("given", {"ca-cert.pem": b"x", "ca-key.pem": private_key(ROOT[1]).pem}),
                r"ca-cert\.pem: not a certificate in PEM",
                id="garbage",
            ),
        ],
    )
    def test_with_the_file_and_the_reason(self, given: Given, why: str) -> None:
        with pytest.raises(Refused, match=why):
            read_given(given, DOMAIN, NOW)

    def test_a_path_that_is_too_long(self) -> None:
        narrow = authority("narrow", path_length=0)
        below = authority("below", narrow)
        with pytest.raises(Refused, match="allows 0 authorities below it"):
            read_given(istio(below, roots=(narrow[0],)), DOMAIN, NOW)

    def test_a_leaf_for_a_workload(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        made = leaf(uri("spiffe://cluster.local/ns/shop/sa/orders"), key=key)
        with pytest.raises(Refused, match="not an authority's certificate"):
            read_given(istio((made, key), roots=(made,)), DOMAIN, NOW)
