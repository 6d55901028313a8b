"""A certificate authority among the manifests: Istio's Secrets ``cacerts`` and ``istio-ca-secret``."""

from __future__ import annotations

from isthmus.control.control_plane import ControlPlane
from isthmus.diag import Ref
from isthmus.identity.given import FILES, SECRETS, Given
from isthmus.kinds.secret import secret_bytes


def given_by_secret(plane: ControlPlane) -> Given | None:
    """What the first of :data:`SECRETS` that the root namespace has holds; None: it has none."""
    compiled, namespace = plane.compiled.value, plane.mesh.settings.root_namespace
    for name in SECRETS:
        resource = compiled.good.get(Ref("Secret", namespace, name)) if compiled is not None else None
        if resource is not None:
            found = {file: secret_bytes(resource.root, file) for file in FILES}
            files = {file: data for file, data in found.items() if data is not None}
            return Given(f"Secret {namespace}/{name} ({resource.source})", files)
    return None
