"""What a Secret holds, for the few that may know."""

from __future__ import annotations

from isthmus.compile import Compiled
from isthmus.diag import Ref
from isthmus.kinds.secret import secret_bytes


def secret_value(compiled: Compiled | None, key: str, names: tuple[str, ...]) -> bytes | None:
    """The first of ``names`` that the Secret ``namespace/name`` has; values that could not be used count as missing."""
    namespace, _, name = key.partition("/")
    if compiled is None:
        return None
    resource, known = compiled.good.get(Ref("Secret", namespace, name)), compiled.mesh.secrets.get(key)
    if resource is None or known is None:
        return None
    usable = (secret_bytes(resource.root, wanted) for wanted in names if wanted in known.keys)
    return next((found for found in usable if found is not None), None)
