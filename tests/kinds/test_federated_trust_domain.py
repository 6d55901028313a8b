from __future__ import annotations

import json

import pytest
from tests.real.pki import Authority
from traffic_manifest import Compiled, compiled, core

from isthmus.model.federation import BundleEndpointProfile
from isthmus.model.spiffe_bundle import SpiffeBundle

BUNDLE = SpiffeBundle((Authority("td2").pem.decode(),))
WEB = "bundleEndpointProfile: {type: https_web}"
URL = "bundleEndpointURL: https://td2.example/bundle"
SPIFFE = "bundleEndpointProfile: {type: https_spiffe, endpointSPIFFEID: spiffe://td2.example/endpoint}"


def declared(*fields: str, name: str = "td2.example", config: str = "trustDomain: td1.example") -> Compiled:
    """``trustDomain`` of the federated stands at 5:16."""
    return compiled(
        document(*fields, name=name), core("ConfigMap", f"data: {{mesh: '{config}'}}", "istio", "istio-system")
    )


def document(*fields: str, name: str = "td2.example", object_name: str = "td2") -> str:
    spec = "".join(f"  {field}\n" for field in (f"trustDomain: {name}", *fields))
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: FederatedTrustDomain\n"
        f"metadata: {{name: {object_name}, namespace: istio-system}}\nspec:\n{spec}"
    )


def inline(bundle: str) -> str:
    return f"trustDomainBundle: {json.dumps(bundle)}"


def test_by_a_web_servers_certificate() -> None:
    done = declared(URL, WEB)
    assert done.found == []
    (only,) = done.mesh.federated
    assert (only.trust_domain, only.url) == ("td2.example", "https://td2.example/bundle")
    assert (only.profile, only.endpoint_spiffe_id, only.bundle) == (BundleEndpointProfile.https_web, None, None)
    assert done.mesh.trust_domains.federated == ("td2.example",)


def test_by_an_svid() -> None:
    done = declared(URL, SPIFFE, inline(BUNDLE.to_json()))
    assert done.found == []
    (only,) = done.mesh.federated
    assert (only.endpoint_spiffe_id, only.bundle) == ("spiffe://td2.example/endpoint", BUNDLE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param((URL, SPIFFE), "https_spiffe needs trustDomainBundle", id="no bundle"),
        pytest.param(
            (URL, "bundleEndpointProfile: {type: https_spiffe}"), "needs endpointSPIFFEID", id="no endpointSPIFFEID"
        ),
        pytest.param((URL, SPIFFE.replace("https_spiffe", "https_web")), "https_web has no use for it", id="too much"),
        pytest.param((URL, "bundleEndpointProfile: {type: http}"), "is not one of https_web, https_spiffe", id="http"),
        pytest.param((URL.replace("https", "http"), WEB), "is not an https URL", id="plaintext"),
        pytest.param((URL.replace("//", "//me:secret@"), WEB), "no user and no password", id="userinfo"),
        pytest.param((URL, WEB, inline("{}")), 'no list "keys"', id="no bundle of SPIFFE"),
        pytest.param(
            (URL, SPIFFE.replace("/endpoint", ""), inline(BUNDLE.to_json())), "is not the SPIFFE ID of a", id="no path"
        ),
    ],
)
def test_what_cannot_be(fields: tuple[str, ...], reason: str) -> None:
    done = declared(*fields)
    assert any(reason in str(one) for one in done.diagnostics), done.diagnostics
    assert done.mesh.federated == ()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("td1.example", "trustDomain: td1.example"),
        ("old.example", "{trustDomain: td1.example, trustDomainAliases: [old.example]}"),
        ("cluster.local", "trustDomain: td1.example"),
    ],
)
def test_nobody_else_speaks_for_the_mesh(name: str, config: str) -> None:
    done = declared(URL, WEB, name=name, config=config)
    assert done.found == ["5:16 error ISM2280"]
    assert done.mesh.federated == ()


def test_a_trust_domain_has_one_bundle() -> None:
    done = compiled(document(URL, WEB), document(URL.replace("/bundle", "/2"), WEB, object_name="again"))
    assert [one.split()[-1] for one in done.found] == ["ISM2281"]
    assert [one.url for one in done.mesh.federated] == ["https://td2.example/bundle"]
