from __future__ import annotations

import base64

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import done, policy

PIN = base64.b64encode(bytes(32)).decode()
NAMES = "{clientValidation: {subjectAltNames: {dnsNames: [{exact: b.corp}]}}}"
PINS = f"{{clientValidation: {{spkiHashes: ['{PIN}']}}}}"
LIST = "{clientValidation: {crl: {refs: [{name: list}]}}}"
FILE = "{clientValidation: {crl: {file: /c/ca.crl}}}"


@pytest.mark.parametrize(
    ("tls", "section", "found"),
    [
        (NAMES, "simple", "6:27 error ISM2111"),
        (NAMES, "mesh", "6:27 error ISM2111"),
        (NAMES, "named", "6:45 error ISM2111"),
        (PINS, "named", "6:40 error ISM2111"),
        (PINS, "mesh", "6:27 error ISM2111"),
        (LIST, "file", "6:33 error ISM2111"),
        (FILE, "mutual", "6:33 error ISM2111"),
        (LIST.replace("list", "other"), "mutual", "6:33 error ISM2111"),
    ],
)
def test_what_a_server_cannot_do_closes_it(tls: str, section: str, found: str) -> None:
    compiled = done(policy(tls, section))
    assert [one for one in compiled.found if "ISM1" not in one] == [found]
    (gateway,) = compiled.mesh.gateways
    assert section not in {server.port_name for server in gateway.servers}
    assert section in {server.port_name for server in gateway.closed}


@pytest.mark.parametrize(("tls", "section"), [(NAMES, "mutual"), (PINS, "mutual"), (LIST, "mutual"), (FILE, "file")])
def test_what_a_server_can_do(tls: str, section: str) -> None:
    compiled = done(policy(tls, section))
    assert compiled.found == []
    assert section in {server.port_name for server in compiled.mesh.gateways[0].servers}


def test_what_the_gateway_narrows_stays() -> None:
    """A policy that says other things takes nothing of it away."""
    compiled = done(policy("{minVersion: '1.3'}", "named"))
    (tls,) = (server.tls for server in compiled.mesh.gateways[0].servers if server.port_name == "named")
    assert tls is not None
    assert tls.validation.sans
    assert tls.validation.certificate_hashes == ("ab" * 32,)


def test_tls_where_none_ends() -> None:
    compiled = done(policy("{ecdhCurves: [P-384]}"))
    assert compiled.found == ["6:8 warning ISM2241", "6:8 warning ISM2241"]
    assert "port 80 of Gateway/shop/edge: it is in plaintext" in compiled.messages
    assert "port 444 of Gateway/shop/edge: TLS is passed through" in compiled.messages


@pytest.mark.parametrize(
    ("tls", "found"),
    [
        ("{minVersion: '1.3'}", "6:21 error ISM2111"),
        ("{compliancePolicy: FIPS_202205}", "6:27 error ISM2111"),
        ("{ecdhCurves: [P-256]}", None),
    ],
)
def test_what_the_gateway_says_of_versions_otherwise(tls: str, found: str | None) -> None:
    compiled = done(policy(tls, "old"))
    assert compiled.found == ([] if found is None else [found])
    assert ("old" in {server.port_name for server in compiled.mesh.gateways[0].servers}) is (found is None)
