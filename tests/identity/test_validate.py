from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import CsrRejected, SvidInvalid
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.template import svid_template
from isthmus.identity.validate import CSR_MAX_BYTES, Csr, check_server, check_svid, encoded_key, peer_identity, read_csr

from .making import DOMAIN, HOUR, NOW, leaf, make_authority, new_csr, new_key, request, request_pem, uri

ORDERS = SpiffeId.workload(DOMAIN, "shop", "orders")


class TestReadCsr:
    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(65537, 2048),
        ],
        ids=["P-256", "P-384", "Ed25519", "RSA 2048"],
    )
    def test_strong_keys_in_pem_and_der(self, key) -> None:
        csr = request(key, ORDERS.uri)
        for form in (Encoding.PEM, Encoding.DER):
            assert encoded_key(read_csr(csr.public_bytes(form)).public_key) == encoded_key(key.public_key())

    @pytest.mark.parametrize(
        ("key", "why"),
        [
            (ec.generate_private_key(ec.SECP521R1()), "not EC secp521r1"),
            (ec.generate_private_key(ec.SECP256K1()), "not EC secp256k1"),
            (rsa.generate_private_key(65537, 1024), "not 1024"),
            (dsa.generate_private_key(2048), "not DSA"),
        ],
        ids=["P-521", "secp256k1", "RSA 1024", "DSA"],
    )
    def test_other_keys_are_refused(self, key, why: str) -> None:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        with pytest.raises(CsrRejected, match=why):
            read_csr(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def test_the_requests_names_are_not_kept(self) -> None:
        assert Csr.__slots__ == ("public_key",)
        read_csr(request_pem(new_key(), "spiffe://cluster.local/ns/istio-system/sa/isthmus").encode())

    def test_two_uri_names_are_refused(self) -> None:
        with pytest.raises(CsrRejected, match="at most one URI, not 2"):
            read_csr(request_pem(new_key(), ORDERS.uri, "spiffe://cluster.local/ns/shop/sa/users").encode())

    def test_a_request_signed_by_another_key_is_refused(self) -> None:
        mine, other = new_key(), new_key()
        der = request(mine).public_bytes(Encoding.DER)
        forged = der.replace(encoded_key(mine.public_key()), encoded_key(other.public_key()))
        assert forged != der
        with pytest.raises(CsrRejected, match="not signed by its own key"):
            read_csr(forged)

    @pytest.mark.parametrize(
        "data", [b"", b"hello", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
    )
    def test_garbage_is_refused(self, data: bytes) -> None:
        with pytest.raises(CsrRejected, match="not a readable"):
            read_csr(data)

    def test_too_long_is_refused_unread(self) -> None:
        with pytest.raises(CsrRejected, match="at most"):
            read_csr(request_pem(new_key()).encode() + b"\n" * CSR_MAX_BYTES)

    @given(st.data())
    def test_a_changed_byte_never_escapes_as_another_error(self, data: st.DataObject) -> None:
        der = bytearray(_CSR)
        der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
        # Nothing in a request is outside its signature but the signature's own encoding.
        with pytest.raises(CsrRejected):
            read_csr(bytes(der))


_CSR = request(new_key(), ORDERS.uri).public_bytes(Encoding.DER)


class TestPeerIdentity:
    def test_of_an_svid(self) -> None:
        certificate = leaf(uri(ORDERS.uri))
        assert peer_identity(certificate) == ORDERS
        assert peer_identity(certificate.public_bytes(Encoding.PEM)) == ORDERS

    def test_dns_names_beside_the_uri_are_allowed(self) -> None:
        assert peer_identity(leaf(x509.DNSName("a.example.com"), uri(ORDERS.uri))) == ORDERS

    @pytest.mark.parametrize(
        ("certificate", "why"),
        [
            (leaf(), "exactly one URI name, this has 0"),
            (leaf(x509.DNSName("a.example.com")), "this has 0"),
            (leaf(uri(ORDERS.uri), uri("spiffe://cluster.local/ns/shop/sa/users")), "this has 2"),
            (leaf(uri(ORDERS.uri), uri(ORDERS.uri)), "this has 2"),
            (leaf(uri(ORDERS.uri), uri("https://example.com")), "this has 2"),
            (leaf(uri("https://example.com")), "starts with spiffe"),
            (leaf(uri("spiffe://cluster.local")), "not a workload"),
            (leaf(uri("spiffe://cluster.local/ns/a/sa/b,spiffe://x/y")), "not a SPIFFE ID"),
            (leaf(uri(ORDERS.uri), ca=True), "an authority's"),
            (
                leaf(uri(ORDERS.uri), usage={"digital_signature": True, "key_cert_sign": True}, ca=True),
                "an authority's",
            ),
            (leaf(uri(ORDERS.uri), usage={"digital_signature": True, "crl_sign": True}), "neither certificates"),
            (leaf(uri(ORDERS.uri), usage={"key_agreement": True}), "may sign data"),
        ],
    )
    def test_refused(self, certificate: x509.Certificate, why: str) -> None:
        with pytest.raises(SvidInvalid, match=why):
            peer_identity(certificate)

    def test_our_own_authorities_are_nobody(self) -> None:
        authority = make_authority()
        for certificate in (authority.root, *authority.chain):
            with pytest.raises(SvidInvalid, match="an authority's"):
                peer_identity(certificate)

    def test_garbage_is_refused(self) -> None:
        with pytest.raises(SvidInvalid, match="not a readable"):
            peer_identity(b"not a certificate")

    def test_one_that_has_ended_is_refused_where_the_time_is_known(self) -> None:
        certificate = leaf(uri(ORDERS.uri))
        assert peer_identity(certificate, NOW + timedelta(minutes=59)) == ORDERS
        for when in (NOW + HOUR, NOW - timedelta(seconds=1)):
            with pytest.raises(SvidInvalid, match="not valid now"):
                peer_identity(certificate, when)


class TestOurOwnWork:
    def test_what_the_template_meant_passes(self) -> None:
        made, csr, issuer = _made()
        check_svid(made, ORDERS, csr, issuer, NOW)

    def test_every_difference_is_found(self) -> None:
        made, csr, issuer = _made()
        stranger = make_authority().chain[0]
        users = SpiffeId.workload(DOMAIN, "shop", "users")
        for args, why in (
            ((made, users, csr, issuer, NOW), "another SPIFFE ID"),
            ((made, ORDERS, new_csr(), issuer, NOW), "another key"),
            ((made, ORDERS, csr, stranger, NOW), "not signed by its issuer"),
            ((made, ORDERS, csr, issuer, NOW + HOUR), "not valid now"),
            ((made, ORDERS, csr, issuer, NOW, ("a.example.com",)), "other names"),
        ):
            with pytest.raises(SvidInvalid, match=why):
                check_svid(*args)

    def test_a_leaf_that_outlives_its_issuer_or_has_other_uses_does_not_leave(self) -> None:
        authority = make_authority()
        issuer, key = authority.chain[0], new_key()
        signer = (issuer, authority.signing_key)
        with pytest.raises(SvidInvalid, match="other uses"):
            check_svid(leaf(uri(ORDERS.uri), issuer=signer, key=key), ORDERS, Csr(key.public_key()), issuer, NOW)
        server = leaf(x509.DNSName("a.example.com"), issuer=signer, key=key)
        with pytest.raises(SvidInvalid, match="other uses"):
            check_server(server, ("a.example.com",), Csr(key.public_key()), issuer, NOW)
        late = issuer.not_valid_after_utc - timedelta(minutes=1)
        both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        outliving = leaf(uri(ORDERS.uri), uses=both, now=late, issuer=signer, key=key)
        with pytest.raises(SvidInvalid, match="outlives its issuer"):
            check_svid(outliving, ORDERS, Csr(key.public_key()), issuer, late)


def _made() -> tuple[x509.Certificate, Csr, x509.Certificate]:
    authority, csr = make_authority(), new_csr()
    issuer = authority.chain[0]
    template = svid_template(ORDERS, csr.public_key, issuer, NOW, HOUR)
    return template.sign(authority.signing_key, hashes.SHA256()), csr, issuer
