from __future__ import annotations

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import done, policy

from isthmus.model.client_traffic import NO_POLICY, ClientTraffic, TlsVersion
from isthmus.model.mesh import Mesh

V13 = "{minVersion: '1.3'}"


def traffic(mesh: Mesh) -> dict[str, ClientTraffic]:
    return {server.port_name: server.client_traffic for server in mesh.gateways[0].servers}


def test_a_policy_of_one_server() -> None:
    found = done(policy(V13, "simple", "mutual"))
    assert found.found == []
    held = traffic(found.mesh)
    assert {name for name, one in held.items() if one != NO_POLICY} == {"simple", "mutual"}
    assert str(held["simple"].origin) == "ClientTrafficPolicy/shop/corp (<stdin>:1:1)"
    assert held["simple"].minimum_version is TlsVersion.TLSV1_3


def test_the_servers_own_comes_before_the_gateways() -> None:
    found = done(policy("{ecdhCurves: [P-384]}"), policy("{maxVersion: '1.2'}", "mutual", name="own"))
    assert [one.partition(" ")[2] for one in found.found] == ["warning ISM2241", "warning ISM2241"]
    held = traffic(found.mesh)
    assert held["simple"].ecdh_curves == ("P-384",)
    assert (held["mutual"].ecdh_curves, held["mutual"].maximum_version) == ((), TlsVersion.TLSV1_2)


def test_the_first_of_two_holds() -> None:
    found = done(policy(V13, "simple", name="z"), policy("{maxVersion: '1.2'}", "simple", name="a"))
    assert found.found == ["12:16 warning ISM2240"]
    assert "it has no effect at Gateway/shop/edge/simple: ClientTrafficPolicy/shop/z comes first" in found.messages
    assert traffic(found.mesh)["simple"].minimum_version is TlsVersion.TLSV1_3


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (policy(V13, target="egde"), "5:38 error IST0101"),
        (policy(V13, "simpel"), "5:57 error IST0101"),
        (policy(V13).replace("kind: Gateway,", "kind: Service,"), "5:23 error ISM1106"),
        (
            policy(V13).replace("{kind: Gateway,", "{group: gateway.networking.k8s.io, kind: Gateway,"),
            "5:24 error ISM1106",
        ),
        (policy(V13) + "  targetSelectors: []\n", "7:3 error ISM1105"),
    ],
)
def test_targets_that_are_none(written: str, found: str) -> None:
    assert found in done(written).found


def test_without_a_good_last_version_a_broken_policy_denies() -> None:
    found = done(policy("{minVersion: '1.0'}"))
    assert found.found == ["1:1 error ISM2006", "6:21 error ISM1106"]
    assert found.mesh.policies.broken[0].scope.namespace == "shop"
