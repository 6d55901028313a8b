"""What the limit service of every machine is told: the GLOBAL limits, and the URLs of the stores that count them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.control.asked import Asked
from isthmus.kinds.rate_limit_policy import STORE_KEY
from isthmus.limit.definition import definition, to_json
from isthmus.model.limit import LimitScope, RateLimitPolicy
from isthmus.model.mesh import Mesh

MODULE = "isthmus.limit.server"


def _policies(mesh: Mesh) -> Iterator[RateLimitPolicy]:
    """Those that need the service."""
    for policy in mesh.policies.limits:
        assert isinstance(policy, RateLimitPolicy)
        if any(policy.of(LimitScope.GLOBAL)):
            yield policy


def processes(mesh: Mesh) -> int:
    """One, for what it counts it has in its memory."""
    return 1 if any(_policies(mesh)) else 0


def settings(asked: Asked) -> Mapping[str, Any]:
    """A store whose Secret cannot be read has no URL, and what it should count is not counted."""
    policies = asked.held(_policies(asked.mesh))
    stores: dict[str, str] = {}
    for name in dict.fromkeys(policy.store for policy in policies if policy.store is not None):
        url = asked.secret(name, (STORE_KEY,))
        if url is not None:
            stores[name] = url.decode(errors="replace").strip()
    limits = [
        to_json(definition(policy.id_of(limit), limit, headers=policy.headers, store=policy.store))
        for policy in policies
        for limit in policy.of(LimitScope.GLOBAL)
    ]
    return {"limits": limits, "stores": stores}
