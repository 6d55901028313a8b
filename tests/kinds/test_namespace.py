from __future__ import annotations

from traffic_manifest import compiled


def test_a_namespace_exists() -> None:
    done = compiled(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\nspec: {}"
    )
    assert done.found == []
    assert done.mesh.namespaces == {"shop"}


def test_an_unknown_field() -> None:
    done = compiled("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\nspce: {}")
    assert done.found == ["4:1 error ISM1101"]
    assert not done.mesh.namespaces
