from __future__ import annotations

import json

from isthmus.control.authority_secret import given_by_secret

from .making import ORDERS, plane_of


def secret(name: str, namespace: str = "istio-system") -> str:
    metadata = {"name": name, "namespace": namespace}
    data = {"ca-cert.pem": name, "ca-key.pem": "k3y", "more": "x"}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}) + "\n"


def test_the_root_namespaces_secrets_in_istios_order() -> None:
    assert given_by_secret(plane_of(ORDERS, secret("cacerts", "shop"))) is None
    own = given_by_secret(plane_of(ORDERS, secret("istio-ca-secret")))
    assert own is not None
    assert own.files == {"ca-cert.pem": b"istio-ca-secret", "ca-key.pem": b"k3y"}
    plugged = given_by_secret(plane_of(ORDERS, secret("istio-ca-secret"), secret("cacerts")))
    assert plugged is not None
    assert plugged.files["ca-cert.pem"] == b"cacerts"
    assert plugged.where.startswith("Secret istio-system/cacerts (")
    assert "k3y" not in repr(plugged)
