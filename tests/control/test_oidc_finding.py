from __future__ import annotations

from isthmus.control.oidc_finding import REDISCOVERED, UNDISCOVERED, UNUSABLE_SECRET, provider_findings, secret_findings
from isthmus.model.oidc import Provider, ProviderEndpoints
from tests.control.oidc_making import GATEWAY, ISSUER, login, secret
from tests.xds.making import compiled

GOOD = ProviderEndpoints("https://a/a", "https://a/t")


def test_what_a_provider_did_not_say() -> None:
    mesh = compiled(GATEWAY, secret(), login()).mesh
    assert provider_findings(mesh, {}) == ()
    assert provider_findings(mesh, {ISSUER: Provider(GOOD)}) == ()
    (never,) = provider_findings(mesh, {ISSUER: Provider(None, "status 404")})
    assert (never.code, "status 404" in never.message) == (UNDISCOVERED, True)
    (again,) = provider_findings(mesh, {ISSUER: Provider(GOOD, "status 404")})
    assert (again.code, ISSUER in again.message) == (REDISCOVERED, True)


def test_a_secret_that_cannot_be_one() -> None:
    assert secret_findings(None) == ()
    assert secret_findings(compiled(GATEWAY, secret(), login())) == ()
    assert secret_findings(compiled(GATEWAY, login())) == (), "one that is not there is found without looking into it"
    (found,) = secret_findings(compiled(GATEWAY, secret("\\u2026"), login()))
    assert (found.code, '"client-secret" in Secret/shop/shop-oidc' in found.message) == (UNUSABLE_SECRET, True)
