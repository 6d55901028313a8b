from __future__ import annotations

import base64
from typing import Any

from isthmus.control.client_credentials import client_credentials
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy
from tests.real.traffic_credentials import Authority
from tests.xds.making import compiled, entry, networking

AUTHORITY = Authority("clients")


def rule(tls: str, host: str = "api.example.com") -> str:
    there = networking(
        "ServiceEntry",
        host,
        f"{{hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}",
    )
    policy = f"{{host: {host}, trafficPolicy: {{tls: {tls}}}}}"
    return f"{there}---\n{networking('DestinationRule', host, policy)}"


def secret(name: str, namespace: str = "shop") -> str:
    pair = AUTHORITY.certify("partner.example.com")
    data = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": AUTHORITY.pem}
    lines = "".join(f"  {key}: {base64.b64encode(value).decode()}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n{lines}"


def names(mesh: Mesh, proxy: Proxy) -> list[str]:
    return [one.name for one in client_credentials(mesh, proxy)]


def mesh(*texts: str) -> Any:
    return compiled(*texts, entry("users-1")).mesh


def test_files() -> None:
    simple = mesh(rule("{mode: SIMPLE}"))
    (proxy,) = simple.proxies
    assert names(simple, proxy) == ["file-root:system"]
    mutual = mesh(
        rule("{mode: MUTUAL, caCertificates: /ca, caCrl: /crl, clientCertificate: /c, privateKey: /k}"),
    )
    assert names(mutual, mutual.proxies[0]) == ["file-root:/ca~/crl", "file-cert:/c~/k"]
    unverified = mesh(rule("{mode: SIMPLE, insecureSkipVerify: true}"))
    assert names(unverified, unverified.proxies[0]) == []


def test_a_secret_is_for_its_own_namespace() -> None:
    own = mesh(rule("{mode: MUTUAL, credentialName: partner}"), secret("partner"))
    assert names(own, own.proxies[0]) == ["credential:shop/partner", "credential-ca:shop/partner"]
    other = mesh(rule("{mode: MUTUAL, credentialName: partner}"), secret("partner", "bank"))
    assert names(other, other.proxies[0]) == []


def test_a_secret_that_changes_is_fetched_anew() -> None:
    before, after = (mesh(rule("{mode: MUTUAL, credentialName: partner}"), secret("partner")) for _ in range(2))
    versions = [[one.version for one in client_credentials(each, each.proxies[0])] for each in (before, after)]
    assert versions[0] != versions[1]


def test_what_the_meshs_own_tls_needs_is_no_credential() -> None:
    found = mesh(rule("{mode: DISABLE}"), rule("{mode: ISTIO_MUTUAL}", "other.example.com"))
    assert names(found, found.proxies[0]) == []
