from __future__ import annotations

from traffic_manifest import compiled, core


def test_a_service_account_exists() -> None:
    done = compiled(core("ServiceAccount", "automountServiceAccountToken: false", "orders"))
    assert done.found == []
    assert done.mesh.service_accounts == {("shop", "orders")}


def test_an_unknown_field() -> None:
    done = compiled(core("ServiceAccount", "secretz: []", "orders"))
    assert done.found == ["4:1 error ISM1101"]
    assert not done.mesh.service_accounts
