"""What the credentials process is told of introspection endpoints: its settings, secrets and all."""

from __future__ import annotations

from typing import Any

from isthmus.control.asked import Asked
from isthmus.model.client_authentication import IntrospectionMethod
from isthmus.model.credential import CA_KEYS


def introspection_settings(asked: Asked) -> dict[str, dict[str, Any]]:
    """By :attr:`IntrospectionMethod.key`, for every policy that holds there. Holds secrets: standard input only."""
    methods = (method for policy in asked.held(asked.mesh.policies.clients) for method in policy.introspection)
    return {method.key: _provider(method, asked) for method in methods}


def _provider(method: IntrospectionMethod, asked: Asked) -> dict[str, Any]:
    """Without its secret, or the CA that it must be certified by, the process asks nobody."""
    secret = asked.secret(method.secret, (method.secret_key,))
    ca = asked.secret(method.ca_secret, CA_KEYS) if method.ca_secret is not None else None
    return {
        "issuer": method.issuer,
        "endpoint": method.endpoint,
        "clientId": method.client_id,
        "clientSecret": None if secret is None else secret.decode(errors="replace").strip(),
        "clientAuth": method.client_auth.value,
        "audiences": list(method.audiences),
        "cacheSeconds": method.cache_for.total_seconds(),
        "timeoutSeconds": method.timeout.total_seconds(),
        "ca": None if ca is None else ca.decode(errors="replace"),
        "caMissing": method.ca_secret is not None and ca is None,
    }
