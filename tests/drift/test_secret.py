from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from isthmus.drift.compare import compare
from isthmus.drift.seen import Credential, Trust
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import admin_v3, core_v3, tls_v3
from isthmus.proxy.federation_secret import federation_secrets
from isthmus.proxy.plan import TrustBundle
from tests.real.pki import Authority

from .looking import OWN, ROOT, seen, svid, wanted

OTHER = Authority("td2")
TD2 = Trust("td2", (OTHER.pem.decode(),))


def source(content: bytes) -> Any:
    return core_v3.DataSource(inline_bytes=content)


def roots(name: str, *authorities: Authority) -> Any:
    pem = b"".join(one.pem for one in authorities)
    return tls_v3.Secret(name=name, validation_context=tls_v3.CertificateValidationContext(trusted_ca=source(pem)))


def shown(chain: bytes) -> Any:
    return tls_v3.Secret(name="default", tls_certificate=tls_v3.TlsCertificate(certificate_chain=source(chain)))


def everybody(*trust: Trust) -> Any:
    bundles = tuple(TrustBundle(one.trust_domain, one.roots, one.aliases) for one in trust)
    packed = next(one.packed for one in federation_secrets(bundles) if one.name == "ALL")
    return tls_v3.Secret.FromString(packed.value)


def told(*secrets: Any, trust: tuple[Trust, ...] = (OWN, TD2)) -> list[str]:
    active = [{"name": one.name, "secret": any_of(one)} for one in secrets]
    look = seen(parts=(admin_v3.SecretsConfigDump(dynamic_active_secrets=active),))
    return [one.difference for one in compare(wanted(trust=trust), look)]


def test_as_declared() -> None:
    right = (shown(svid()), roots("ROOTCA", ROOT), roots("spiffe://td2", OTHER), everybody(OWN, TD2))
    assert told(*right) == []
    assert told(roots("credential-ca:shop/partner", OTHER)) == [], "the business of its Secret"


@pytest.mark.parametrize(
    ("secret", "difference"),
    [
        pytest.param(roots("ROOTCA", ROOT, OTHER), "which is no root of td1", id="a root more"),
        pytest.param(roots("ROOTCA", OTHER), "does not trust the root", id="another root"),
        pytest.param(roots("ROOTCA"), "does not trust the root", id="no root"),
        pytest.param(roots("spiffe://td2", OTHER, ROOT), "which is no root of td2", id="merged"),
        pytest.param(everybody(OWN), "does not trust td2", id="a trust domain less"),
        pytest.param(
            everybody(OWN, TD2, Trust("td3", TD2.roots)), "trusts td3, which nobody", id="a trust domain more"
        ),
        pytest.param(roots("ALL", ROOT), "other means than the SPIFFE validator", id="another validator"),
        pytest.param(shown(svid(uri="spiffe://td1/ns/bank/sa/admin")), "→ spiffe://td1/ns/bank/sa/admin", id="another"),
        pytest.param(shown(svid(OTHER)), "is not by the authority of td1", id="another authority's"),
        pytest.param(shown(b"no"), "is not an X.509-SVID", id="no certificate"),
    ],
)
def test_what_differs(secret: Any, difference: str) -> None:
    (only,) = told(secret)
    assert difference in only


GIVEN = ROOT.issue("spiffe://td1/ns/shop/sa/a")
ANOTHER = OTHER.issue("spiffe://td1/ns/shop/sa/a")
BOTH = (x509.DNSName("shop.example.com"), x509.DNSName("www.example.com"))
DEVELOPMENT = ROOT.issue(*BOTH)


def credential(secret: Any, known: Credential) -> list[str]:
    secret.name = known.name
    packed = [{"name": secret.name, "secret": any_of(secret)}]
    look = seen(parts=(admin_v3.SecretsConfigDump(dynamic_active_secrets=packed),))
    return [one.difference for one in compare(wanted(credentials=(known,)), look)]


def test_a_gateways_certificate() -> None:
    known = Credential("credential:shop/edge", chain=GIVEN.chain)
    assert credential(shown(GIVEN.chain), known) == []
    (told,) = credential(shown(ANOTHER.chain), known)
    assert told.startswith("shows ")
    assert ", and was given " in told


def test_a_gateways_client_authorities_and_what_they_revoked() -> None:
    known = Credential("credential-ca:shop/edge", authorities=ROOT.pem, revoked=b"list")
    right = roots("", ROOT)
    right.validation_context.crl.inline_bytes = b"list"
    assert credential(right, known) == []
    assert credential(roots("", ROOT), known) == ["goes by another list of what was revoked"]
    (told,) = credential(roots("", ROOT, OTHER), known)
    assert told.startswith("trusts ")


def test_a_gateways_development_certificate() -> None:
    names = ("www.example.com", "shop.example.com")
    assert credential(shown(DEVELOPMENT.chain), Credential("c", development_dns=names)) == []
    assert credential(shown(DEVELOPMENT.chain), Credential("c", development_dns=names[:1])) == [
        "www.example.com → shop.example.com, www.example.com"
    ]
    others = OTHER.issue(*BOTH)
    assert credential(shown(others.chain), Credential("c", development_dns=names)) == ["is not by the mesh's authority"]
    assert credential(shown(b""), Credential("c", development_dns=names)) == ["is not a certificate of names"]


def test_a_secret_of_the_bootstrap() -> None:
    static = admin_v3.SecretsConfigDump.StaticSecret(name="ROOTCA", secret=any_of(roots("ROOTCA", ROOT)))
    look = seen(parts=(admin_v3.SecretsConfigDump(static_secrets=[static]),))
    assert [one.difference for one in compare(wanted(), look)] == ["is in the bootstrap, and was not declared"]


def test_before_the_trust_is_known_nothing_is_compared() -> None:
    assert told(roots("ROOTCA", OTHER), trust=()) == []
