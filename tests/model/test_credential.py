from __future__ import annotations

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.model.credential import ClientCredential, find_client_credential
from isthmus.model.mesh import SecretRef


def secret(name: str, *keys: str, namespace: str = "shop") -> SecretRef:
    origin = Origin(Ref("Secret", namespace, name), Source("test.yaml", 1, 1))
    return SecretRef(name, namespace, frozenset(keys), "digest", origin)


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ((), (None, None)),
        ((secret("partner", "tls.crt", "tls.key", "ca.crt"),), ("partner", "partner")),
        ((secret("partner", "cert", "key"), secret("partner-cacert", "cacert")), ("partner", "partner-cacert")),
        ((secret("partner", "tls.crt"),), (None, None)),
        ((secret("partner-cacert", "ca.crt"),), (None, "partner-cacert")),
        ((secret("partner", "tls.crt", "tls.key", namespace="bank"),), (None, None)),
    ],
)
def test_what_a_namespace_has(secrets: tuple[SecretRef, ...], expected: tuple[str | None, str | None]) -> None:
    found = find_client_credential({one.key: one for one in secrets}, "shop", "partner")
    assert (found.certificate, found.ca) == expected


def test_what_a_mode_needs() -> None:
    roots = ClientCredential("shop", None, "partner")
    assert roots.serves(False, verify=True)
    assert not roots.serves(True, verify=True)
    own = ClientCredential("shop", "partner", None)
    assert own.serves(True, verify=False)
    assert not own.serves(False, verify=True)
