from __future__ import annotations

import json

from cryptography import x509

from isthmus.envoy_api.packages import tls_v3
from isthmus.identity.jwt_keys import JwtKeys
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import read_csr
from isthmus.proxy.credential import certificate, request_for_identity
from isthmus.proxy.plan import TrustBundle
from isthmus.proxy.workload_api.entitlement import Declared, Entitlement
from isthmus.proxy.workload_api.offer import Offer, jwt_bundles, secrets, x509_bundles, x509_svids
from tests.identity.making import DOMAIN, HOUR, NOW, make_authority

AUTHORITY, OTHER = make_authority(), make_authority(trust_domain="other.example")
KEYS = JwtKeys().advanced(NOW)
TRUST = (
    TrustBundle(DOMAIN, AUTHORITY.bundle.roots, ("old.example",), KEYS.public),
    TrustBundle("other.example", OTHER.bundle.roots),
)
WEB = SpiffeId.workload(DOMAIN, "shop", "web")
ENTITLED = Entitlement(WEB.uri, 60, hint="inner")


def offered() -> Offer:
    request = request_for_identity(WEB.uri)
    made = AUTHORITY.issue(read_csr(request.csr_pem.encode()), WEB, HOUR, NOW)
    held = certificate(request.key_pem, [*made.chain, *AUTHORITY.bundle.roots])
    return Offer(Declared({}, (), 60), TRUST, {(WEB.uri, 60): held})


def test_a_response_is_whole_or_none() -> None:
    offer = offered()
    response = x509_svids(offer, (ENTITLED,))
    assert response is not None
    [svid] = response.svids
    assert (svid.spiffe_id, svid.hint) == (WEB.uri, "inner")
    assert x509.load_der_x509_certificate(svid.bundle) == AUTHORITY.root
    assert list(response.federated_bundles) == ["spiffe://other.example"]
    assert x509_svids(offer, (ENTITLED, Entitlement("spiffe://cluster.local/ns/shop/sa/db", 60))) is None


def test_bundles_are_never_merged() -> None:
    bundles = x509_bundles(TRUST).bundles
    assert x509.load_der_x509_certificate(bundles["spiffe://other.example"]) == OTHER.root
    assert x509.load_der_x509_certificate(bundles[f"spiffe://{DOMAIN}"]) == AUTHORITY.root
    found = jwt_bundles(TRUST).bundles
    assert list(found) == [f"spiffe://{DOMAIN}"], "only where there are keys"
    [key] = json.loads(found[f"spiffe://{DOMAIN}"])["keys"]
    assert (key["use"], key["kid"]) == ("jwt-svid", KEYS.keys[0].kid)
    assert "d" not in key


def test_secrets_have_the_names_that_spire_gives_them() -> None:
    found = secrets(offered(), (ENTITLED,))
    names = {"default", WEB.uri, "ROOTCA", "ALL", f"spiffe://{DOMAIN}", "spiffe://other.example"}
    assert found.planned == found.served.keys() == names
    read = {name: tls_v3.Secret.FromString(one.packed.value) for name, one in found.served.items()}
    assert read["default"].tls_certificate == read[WEB.uri].tls_certificate
    roots = "".join(AUTHORITY.bundle.roots).encode()
    assert read["ROOTCA"].validation_context.trusted_ca.inline_bytes == roots
    packed = read["ALL"].validation_context.custom_validator_config.typed_config
    validator = tls_v3.SPIFFECertValidatorConfig.FromString(packed.value)
    assert {one.name: one.trust_bundle.inline_bytes for one in validator.trust_domains} == {
        DOMAIN: roots,
        "old.example": roots,
        "other.example": "".join(OTHER.bundle.roots).encode(),
    }


def test_what_is_not_there_yet_is_waited_for() -> None:
    offer = Offer(Declared({}, (), 60), TRUST)
    found = secrets(offer, (ENTITLED,))
    assert {"default", WEB.uri} <= found.planned
    assert not {"default", WEB.uri} & found.served.keys()
