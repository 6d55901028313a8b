from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.control.asked import Asked
from isthmus.control.introspection import introspection_settings
from isthmus.decide.client.introspection import read_providers
from isthmus.model.mesh import Mesh
from isthmus.model.world import World
from tests.xds.making import compiled

POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientAuthentication
metadata: {name: tokens}
spec:
  methods:
  - introspection:
      issuer: https://idp
      endpoint: https://idp/introspect
      clientId: shop
      clientSecretRef: {name: provider, key: password}
      caSecretRef: {name: ca}
      cacheFor: 10s
"""
MESH = compiled(POLICY).mesh
SECRETS = {("shop/provider", "password"): b"s3cret\n", ("shop/ca", "ca.crt"): b"PEM"}


def settings(
    secrets: dict[tuple[str, str], bytes], mesh: Mesh = MESH, node: str = "local"
) -> dict[str, dict[str, object]]:
    def secret(key: str, names: tuple[str, ...]) -> bytes | None:
        return next((secrets[key, name] for name in names if (key, name) in secrets), None)

    return introspection_settings(Asked(mesh, World(), node, secret))


def test_the_process_is_told_all_it_needs() -> None:
    (method,) = MESH.policies.clients[0].introspection
    told = settings(SECRETS)
    (provider,) = read_providers(told).values()
    assert list(told) == [method.key]
    assert (provider.client_secret, provider.ca, provider.cache_for) == ("s3cret", "PEM", method.cache_for)


@pytest.mark.parametrize("missing", SECRETS)
def test_without_a_secret_nobody_is_asked(missing: tuple[str, str]) -> None:
    told = settings({key: value for key, value in SECRETS.items() if key != missing})
    assert len(told) == 1
    assert read_providers(told) == {}


def test_without_introspection_there_is_nothing_to_tell() -> None:
    assert settings(SECRETS, Mesh()) == {}


def test_a_machine_is_told_no_secret_of_policies_that_hold_elsewhere() -> None:
    assert settings(SECRETS, node="other") == {}, "it has no proxy"
    entry = "apiVersion: isthmus.dev/v1alpha1\nkind: LocalWorkload\nmetadata: {name: web, namespace: shop}\n"
    entry += "spec: {labels: {app: web}, ports: [{name: http, number: 80, listen: 8080}]}\n"
    compiled_mesh = compiled(POLICY, entry).mesh
    proxies = tuple(replace(proxy, node="other") for proxy in compiled_mesh.proxies)
    mesh = replace(compiled_mesh, proxies=proxies)
    assert len(settings(SECRETS, mesh, "other")) == 1
    assert settings(SECRETS, mesh, "third") == {}
