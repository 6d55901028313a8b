"""Names of headers that mean claims of the verified token: ``@request.auth.claims.a.b``, or ``[a][b]`` for ``.a.b``.

Source: istio, pkg/jwt/routing.go.
"""

from __future__ import annotations

_CLAIMS = "@request.auth.claims"


def means_claim(name: str) -> bool:
    """Whether ``name`` is meant as a claim, well formed or not: no header may be called so (RFC 9110, 5.1)."""
    return name.lower().startswith(_CLAIMS)


def claim_path(name: str) -> tuple[str, ...] | None:
    """The names of the claim, from the outside in; None if ``name`` is not well formed."""
    rest = name[len(_CLAIMS) :]
    if rest.startswith("[") and rest.endswith("]"):
        path = rest[1:-1].split("][")
    elif rest.startswith("."):
        path = rest[1:].split(".")
    else:
        return None
    return tuple(path) if all(path) else None
